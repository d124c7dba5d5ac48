//! Entries to a batch: read, order, validate, prepare rows. Each entry is read once.

use super::admit::{admitted, origin_of, Held};
use super::batch::{Batch, Body, Commit, Event, Kind, Op, ShardEntries, Target};
use super::rows::Facts;
use super::written;
use crate::cbor::Value;
use crate::datetime;
use crate::entry::{self, Entry, EntryError};
use crate::lexicon::Catalog;
use crate::plan::Plan;
use crate::reason::Reason;
use crate::syntax;

/// What is this far ahead of the clock is from the future (microseconds).
const TOLERANCE_MICROS: u64 = 5 * 60 * 1_000_000;

/// Validates a record of a collection: what is wrong with it, in words.
pub trait Validate {
    fn validate(&self, nsid: &str, record: &Value<'_>) -> Result<(), String>;
}

impl<F: Fn(&str, &Value<'_>) -> Result<(), String>> Validate for F {
    fn validate(&self, nsid: &str, record: &Value<'_>) -> Result<(), String> {
        self(nsid, record)
    }
}

impl Validate for Catalog {
    fn validate(&self, nsid: &str, record: &Value<'_>) -> Result<(), String> {
        self.validate_record(nsid, record)
    }
}

/// Decode what waits in some shards into one batch.
///
/// `now` is the clock in seconds since 1970: it judges revs and dates profiles
/// without a date. An entry that this build cannot read is an error of all of it.
pub fn decode(
    plan: &Plan,
    lexicons: &impl Validate,
    shards: Vec<ShardEntries>,
    now: f64,
) -> Result<Batch, EntryError> {
    let clock = Clock::at(now);
    let mut batch = Batch {
        latest: clock.latest(),
        now: clock.text,
        ..Batch::default()
    };
    let mut held = Vec::with_capacity(shards.len());
    let mut shard_of_entry = Vec::new();
    for (index, shard) in shards.into_iter().enumerate() {
        held.push(Held {
            shard: shard.shard,
            seqs: shard.held,
            is_cut: shard.is_cut,
        });
        batch.weights.push((shard.shard, 0, 0, 0));
        shard_of_entry.resize(shard_of_entry.len() + shard.entries.len(), index);
        batch.entries.extend(shard.entries);
    }
    let entries = std::mem::take(&mut batch.entries);
    let decoded = entries
        .iter()
        .map(|bytes| Entry::decode(bytes))
        .collect::<Result<Vec<_>, _>>()?;
    if decoded
        .iter()
        .any(|read| matches!(read, Entry::Slice(_) | Entry::Closing(_)))
    {
        // They have a stream of their own.
        return Err(EntryError::Malformed);
    }
    let places = admitted(&mut batch, &entries, &decoded, &shard_of_entry, &held);
    let mut reading = Decoder {
        records: Records { plan, lexicons },
        batch,
    };
    for (entry, source) in places {
        if let Some(read) = decoded.get(entry) {
            reading.event(entry, source, read);
        }
    }
    let mut batch = reading.batch;
    drop(decoded);
    batch.entries = entries;
    Ok(batch)
}

/// The given time in the two forms that rules need.
pub(super) struct Clock {
    micros: u64,
    pub text: String,
}

impl Clock {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, by design
    pub fn at(now: f64) -> Self {
        let micros = (now * 1e6) as u64;
        let seconds = i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX);
        let millis = u32::try_from(micros / 1_000 % 1_000).unwrap_or_default();
        Self {
            micros,
            text: datetime::print(seconds, millis),
        }
    }

    /// Revs and times after this instant are from the future.
    pub const fn latest(&self) -> u64 {
        self.micros.saturating_add(TOLERANCE_MICROS)
    }
}

struct Decoder<'p, L> {
    records: Records<'p, L>,
    batch: Batch,
}

/// Reads ops.
pub(super) struct Records<'p, L> {
    pub plan: &'p Plan,
    pub lexicons: &'p L,
}

/// What an op's record says beside its own fields.
#[derive(Clone, Copy)]
pub(super) struct Said<'a> {
    pub did: &'a str,
    /// T.
    pub time: &'a str,
    pub rev: &'a str,
    /// The clock, as an ISO string.
    pub now: &'a str,
}

impl<L: Validate> Decoder<'_, L> {
    fn event(&mut self, entry: usize, source: usize, read: &Entry<'_>) {
        let (did, time, seq) = match origin_of(read) {
            Some(origin) => (origin.did, origin.time, origin.seq),
            None => ("", "", 0),
        };
        let kind = match read {
            Entry::Commit(commit) => Kind::Commit(self.commit(commit)),
            Entry::Sync(sync) => Kind::Sync {
                rev: sync.rev.as_ref().into(),
                commit: sync.commit.to_string().into(),
            },
            Entry::Identity(_) => Kind::Identity,
            Entry::Account(account) => Kind::Account {
                active: account.active,
                status: account.status.as_deref().map(Box::from),
            },
            Entry::RejectedFrame(frame) => Kind::RejectedFrame(frame.reason),
            Entry::Slice(_) | Entry::Closing(_) => return, // refused before
        };
        self.batch.events.push(Event {
            source,
            entry,
            did: did.into(),
            time: time.into(),
            seq,
            weight: read.weight(),
            kind,
        });
    }

    fn commit(&mut self, commit: &entry::Commit<'_>) -> Commit {
        let first = self.batch.ops.len();
        let event = self.batch.events.len();
        for (position, op) in commit.ops.iter().enumerate() {
            let said = Said {
                did: commit.origin.did,
                time: commit.origin.time,
                rev: commit.rev,
                now: &self.batch.now,
            };
            let body = self.records.body(said, op);
            self.batch.ops.push(Op {
                event,
                position,
                action: op.action,
                body,
            });
        }
        Commit {
            rev: commit.rev.into(),
            since: commit.since.map(Box::from),
            cid: commit.commit.to_string().into(),
            ops: first..self.batch.ops.len(),
            filtered: commit.filtered,
            rejected: commit.rejected.iter().map(|op| op.reason).collect(),
        }
    }
}

impl<L: Validate> Records<'_, L> {
    pub fn body(&self, said: Said<'_>, op: &entry::Op<'_>) -> Body {
        self.read(said, op)
            .unwrap_or_else(|(reason, error)| Body::Rejected(reason, error))
    }

    fn read(&self, said: Said<'_>, op: &entry::Op<'_>) -> Result<Body, (Reason, String)> {
        let (nsid, rkey) = op.path.split_once('/').unwrap_or((&op.path, ""));
        let found = self
            .plan
            .collection(nsid)
            .and_then(|position| Some((position, self.plan.collections.get(position)?)));
        let Some((position, collection)) = found else {
            return Ok(Body::Unindexed);
        };
        let uri = format!("at://{}/{}", said.did, op.path);
        if !syntax::has_plain_authority(&uri) {
            return Err((Reason::BadUri, format!("cannot take {uri} apart")));
        }
        if op.path.contains(|letter: char| {
            letter.is_whitespace() || matches!(letter, '?' | '#' | '\0' | '\u{feff}')
        }) {
            return Err((
                Reason::BadPath,
                format!("not a path of a record: {}", op.path),
            ));
        }
        let target = Target {
            collection: position,
            uri: uri.into(),
            // Further segments stay in the uri; the rkey is the second.
            is_self: rkey.split('/').next() == Some("self"),
        };
        if op.action == entry::Action::Delete {
            return Ok(Body::Delete(target));
        }
        let (Some(cid), Some(block)) = (op.cid, op.record) else {
            return Err((Reason::MissingBlock, "the entry holds no record".into()));
        };
        let facts = Facts {
            uri: &target.uri,
            cid: &cid.to_string(),
            did: said.did,
            rkey: rkey.split('/').next().unwrap_or(""),
            time: said.time,
            rev: said.rev,
            now: said.now,
            json: "",
        };
        let written = written::read(self.plan, self.lexicons, collection, &facts, block)?;
        Ok(Body::Write(target, Box::new(written)))
    }
}
