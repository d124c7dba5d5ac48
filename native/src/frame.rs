//! One websocket message of `com.atproto.sync.subscribeRepos` becomes one entry.
//!
//! A message is checked as the reference checks it (types, formats and limits of the
//! lexicon); deprecated fields (`rebase`, `tooBig`, `blobs`) may be absent. What fails
//! becomes a rejected frame, with seq and DID where they could be read; a bad op of
//! a good commit costs that op alone. Records are found in the CAR and cut out,
//! never decoded; together they are no larger than a CAR may be, though every op may name
//! the same block. Signatures, proofs and revs are judged downstream.

mod commit;

use std::borrow::Cow;

use crate::car::{self, Car, CarError};
use crate::cbor::{Decoder, Value};
use crate::cid::Cid;
use crate::datetime::is_datetime;
use crate::entry::{Account, Entry, Identity, Origin, RejectedFrame, Sync, RAW_LIMIT_BYTES};
use crate::filter::Filter;
use crate::message::{Field, Fields};
use crate::reason::Reason;
use crate::syntax::{is_did, is_handle};

/// The protocol's limit of one message.
pub const MAX_FRAME_BYTES: usize = 5_000_000;

const COMMIT_CAR: car::Limits = car::Limits {
    bytes: 2_000_000,
    block_bytes: 2_000_000,
    blocks: 60_000,
};
const SYNC_CAR: car::Limits = car::Limits {
    bytes: 10_000,
    block_bytes: 10_000,
    blocks: 300,
};

/// Largest seq that every implementation can hold.
const MAX_SEQ: i64 = (1 << 53) - 1;

/// Where frames come from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Canonical host of the relay.
    pub relay: &'a str,
    /// Of the relay's seq numbers.
    pub generation: i64,
}

/// Something a relay says that is not about a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice<'a> {
    /// `#info`: name, message.
    Info(Cow<'a, str>, Cow<'a, str>),
    /// An error frame, the last of its connection: error, message.
    Error(Cow<'a, str>, Cow<'a, str>),
    /// A message type that this build does not know.
    Unknown(Cow<'a, str>),
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    Entry(Entry<'a>),
    Notice(Notice<'a>),
}

/// One frame, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The relay's sequence number, where one was readable.
    pub seq: Option<i64>,
    /// The frame's time, where a valid one was readable.
    pub time: Option<&'a str>,
    pub outcome: Outcome<'a>,
}

/// Why a frame is rejected.
struct Rejection {
    reason: Reason,
    detail: Cow<'static, str>,
}

impl Rejection {
    fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }

    fn field(name: &'static str) -> Self {
        Self::new(Reason::BadField, name)
    }
}

impl From<CarError> for Rejection {
    fn from(error: CarError) -> Self {
        let reason = match error {
            CarError::TooBig | CarError::BlockTooBig | CarError::TooManyBlocks => Reason::TooBig,
            error if error.is_hash() => Reason::BadBlockHash,
            _ => Reason::BadCar,
        };
        Self::new(reason, error.to_string())
    }
}

/// Read one frame. Never fails: bad data is an outcome.
pub fn read<'a>(bytes: &'a [u8], source: Source<'a>, filter: &Filter) -> Frame<'a> {
    let mut fields = Fields::default();
    let outcome = match read_message(bytes, &mut fields, source, filter) {
        Ok(outcome) => outcome,
        Err(rejection) => Outcome::Entry(Entry::RejectedFrame(RejectedFrame {
            relay: source.relay,
            generation: source.generation,
            seq: seq_of(&fields),
            did: did_of(&fields).map(Cow::Borrowed),
            reason: rejection.reason,
            detail: rejection.detail,
            ops: i64::try_from(fields.ops_count.max(1)).unwrap_or(i64::MAX),
            raw: bytes.get(..RAW_LIMIT_BYTES).unwrap_or(bytes),
        })),
    };
    Frame {
        seq: seq_of(&fields),
        time: time_of(&fields),
        outcome,
    }
}

fn read_message<'a>(
    bytes: &'a [u8],
    fields: &mut Fields<'a>,
    source: Source<'a>,
    filter: &Filter,
) -> Result<Outcome<'a>, Rejection> {
    let mut decoder = Decoder::new(bytes);
    let header = decoder
        .value()
        .map_err(|error| Rejection::new(Reason::BadHeader, error.to_string()))?;
    let kind = kind_of(&header)?;
    let body = fields.read(&mut decoder).and_then(|()| decoder.finish());
    // An error frame and an unknown message say what they can.
    let kind = match kind {
        Kind::Error => return Ok(Outcome::Notice(error_notice(fields))),
        Kind::Unknown(name) => return Ok(Outcome::Notice(Notice::Unknown(name))),
        Kind::Known(kind) => kind,
    };
    if bytes.len() > MAX_FRAME_BYTES {
        let detail = format!("frame of {} bytes", bytes.len());
        return Err(Rejection::new(Reason::TooBig, detail));
    }
    body.map_err(|error| Rejection::new(Reason::BadBody, error.to_string()))?;
    Ok(match kind {
        "#commit" => Outcome::Entry(Entry::Commit(commit::read_commit(fields, source, filter)?)),
        "#sync" => Outcome::Entry(Entry::Sync(read_sync(fields, source)?)),
        "#identity" => Outcome::Entry(Entry::Identity(read_identity(fields, source)?)),
        "#account" => Outcome::Entry(Entry::Account(read_account(fields, source)?)),
        _ => Outcome::Notice(Notice::Info(
            notice_text(&fields.name),
            notice_text(&fields.message),
        )),
    })
}

enum Kind<'a> {
    Error,
    Known(&'static str),
    Unknown(Cow<'a, str>),
}

fn kind_of<'a>(header: &Value<'a>) -> Result<Kind<'a>, Rejection> {
    let bad = |detail| Rejection::new(Reason::BadHeader, detail);
    if header.as_map().is_none() {
        return Err(bad("not a map"));
    }
    match header.get("op").and_then(Value::as_int) {
        Some(-1) => return Ok(Kind::Error),
        Some(1) => {}
        Some(op) => return Ok(Kind::Unknown(Cow::Owned(format!("op {op}")))),
        None => return Err(bad("no op")),
    }
    let Some(Value::Text(name)) = header.get("t") else {
        return Err(bad("no t"));
    };
    Ok(match name.as_ref() {
        "#commit" => Kind::Known("#commit"),
        "#sync" => Kind::Known("#sync"),
        "#identity" => Kind::Known("#identity"),
        "#account" => Kind::Known("#account"),
        "#info" => Kind::Known("#info"),
        _ => Kind::Unknown(name.clone()),
    })
}

fn error_notice<'a>(fields: &Fields<'a>) -> Notice<'a> {
    Notice::Error(notice_text(&fields.error), notice_text(&fields.message))
}

fn notice_text<'a>(field: &Field<'a>) -> Cow<'a, str> {
    field.text().ok().flatten().unwrap_or_default()
}

fn seq_of(fields: &Fields<'_>) -> Option<i64> {
    let seq = fields.seq.int()?;
    (0..=MAX_SEQ).contains(&seq).then_some(seq)
}

/// Commits name it `repo`, all others `did`.
fn did_of<'a>(fields: &Fields<'a>) -> Option<&'a str> {
    let did = fields
        .repo
        .identifier()
        .or_else(|| fields.did.identifier())?;
    is_did(did).then_some(did)
}

fn time_of<'a>(fields: &Fields<'a>) -> Option<&'a str> {
    fields.time.identifier().filter(|time| is_datetime(time))
}

fn text_or_absent<'a>(
    field: &Field<'a>,
    name: &'static str,
) -> Result<Option<Cow<'a, str>>, Rejection> {
    field.text().map_err(|_| Rejection::field(name))
}

fn link_or_absent<'a>(field: &Field<'a>, name: &'static str) -> Result<Option<Cid<'a>>, Rejection> {
    field.link().map_err(|_| Rejection::field(name))
}

fn origin_of<'a>(
    fields: &Fields<'a>,
    did: &Field<'a>,
    source: Source<'a>,
) -> Result<Origin<'a>, Rejection> {
    let did = did.identifier().filter(|did| is_did(did));
    Ok(Origin {
        relay: source.relay,
        generation: source.generation,
        seq: seq_of(fields).ok_or(Rejection::field("seq"))?,
        did: did.ok_or(Rejection::field("did"))?,
        time: time_of(fields).ok_or(Rejection::field("time"))?,
    })
}

fn car_of<'a>(fields: &Fields<'a>, limits: car::Limits) -> Result<Car<'a>, Rejection> {
    let bytes = fields.blocks.bytes().ok_or(Rejection::field("blocks"))?;
    Ok(car::read(bytes, limits)?)
}

fn read_sync<'a>(fields: &Fields<'a>, source: Source<'a>) -> Result<Sync<'a>, Rejection> {
    let origin = origin_of(fields, &fields.did, source)?;
    let rev = text_or_absent(&fields.rev, "rev")?.ok_or(Rejection::field("rev"))?;
    let car = car_of(fields, SYNC_CAR)?;
    let &[commit] = car.roots.as_slice() else {
        let detail = format!("{} roots, expected one", car.roots.len());
        return Err(Rejection::new(Reason::BadCar, detail));
    };
    Ok(Sync {
        origin,
        rev,
        commit,
        blocks: Vec::new(),
    })
}

fn read_identity<'a>(fields: &Fields<'a>, source: Source<'a>) -> Result<Identity<'a>, Rejection> {
    let origin = origin_of(fields, &fields.did, source)?;
    let handle = text_or_absent(&fields.handle, "handle")?;
    if handle.as_ref().is_some_and(|handle| !is_handle(handle)) {
        return Err(Rejection::field("handle"));
    }
    Ok(Identity { origin, handle })
}

fn read_account<'a>(fields: &Fields<'a>, source: Source<'a>) -> Result<Account<'a>, Rejection> {
    let origin = origin_of(fields, &fields.did, source)?;
    Ok(Account {
        origin,
        active: fields.active.bool().ok_or(Rejection::field("active"))?,
        status: text_or_absent(&fields.status, "status")?,
    })
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
