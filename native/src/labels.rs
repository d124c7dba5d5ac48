//! Messages of `com.atproto.label.subscribeLabels`: read, judged, carried, and made into rows.
//!
//! A label is checked as its lexicon has it (`com.atproto.label.defs#label`), and its signature
//! against the key of the labeler that it names. What fails costs that label alone. Labels are
//! kept verbatim, for the data plane's readers are shown what the labeler said.

mod gather;
mod label;
mod sign;
mod wire;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

pub use gather::{gather, Gathered, Row, StreamTally};
pub use label::Label;
pub use wire::{Entry, NotCarried, VERSION};

use crate::cbor::{has_duplicate, CborError, Decoder, Value};
use crate::crypto::PublicKey;
use crate::entry::RAW_LIMIT_BYTES;
use crate::frame::MAX_FRAME_BYTES;
use crate::reason::Reason;
use crate::resp;

/// Sources beyond this many are not asked for at once.
const MAX_UNKNOWN: usize = 32;
const MAX_SEQ: i64 = (1 << 53) - 1;
/// Words of a labeler that are kept.
const MAX_NOTICE_BYTES: usize = 300;

/// What becomes of a label whose signature does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// It is rejected.
    Enforce,
    /// It is counted, and carried.
    Count,
    /// Nobody looks.
    Off,
}

impl Check {
    pub fn named(word: &str) -> Option<Self> {
        Some(match word {
            "enforce" => Self::Enforce,
            "count" => Self::Count,
            "off" => Self::Off,
            _ => return None,
        })
    }
}

/// Whose labels a stream may carry.
#[derive(Debug, Default)]
pub struct Trust {
    /// By DID; None: it may, and its document names no key.
    pub keys: HashMap<String, Option<PublicKey>>,
    /// DIDs whose labels belong to another stream.
    pub foreign: HashSet<String>,
    /// Whether every DID beside these is foreign.
    pub closed: bool,
}

/// Where frames come from, and how they are judged.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub host: &'a str,
    pub generation: i64,
    pub trust: &'a Trust,
    pub check: Check,
}

/// What became of a batch of frames.
#[derive(Debug, Default)]
pub struct LabelBatch {
    pub frames: u64,
    /// All labels received; a frame that could not be read counts one.
    pub labels: u64,
    pub negations: u64,
    /// Highest seq of the frames that had one.
    pub last_seq: Option<i64>,
    /// Kind (`info`, `error`, `unknown`), name, message.
    pub notices: Vec<(&'static str, String, String)>,
    /// Labels that became dead letters, by reason, and the first one's words.
    pub rejected: BTreeMap<Reason, (u64, String)>,
    /// Labels whose signature did not verify, by source, whatever becomes of them.
    pub unverified: BTreeMap<String, u64>,
    /// Sources that nobody told us about; nothing of this batch may be used then.
    pub unknown: BTreeSet<String>,
    buffer: Vec<u8>,
    /// End of each entry in the buffer.
    ends: Vec<usize>,
    /// Labels carried, one at least for each entry.
    pub events: u64,
}

/// Source, uri and CID of a label that is rejected, as far as it has them.
type Named<'a> = [Option<Cow<'a, str>>; 3];

struct Rejection {
    reason: Reason,
    detail: String,
}

impl Rejection {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { reason, detail }
    }
}

impl LabelBatch {
    /// Read frames in order. Never fails: bad data is an outcome.
    pub fn decode(frames: &[&[u8]], source: Source<'_>) -> Self {
        let mut batch = Self::default();
        for bytes in frames {
            batch.frames += 1;
            let mut fields = Fields::default();
            match read_message(bytes, &mut fields) {
                Ok(Message::Labels) => batch.take(&fields, source),
                Ok(Message::Said(said)) => {
                    batch.notices.push(said);
                    continue;
                }
                Err(rejection) => batch.reject_frame(bytes, &fields, source, rejection),
            }
            batch.last_seq = batch.last_seq.max(seq_of(&fields));
        }
        batch
    }

    fn take(&mut self, fields: &Fields<'_>, source: Source<'_>) {
        let mut entry = Entry {
            host: source.host.into(),
            generation: source.generation,
            seq: seq_of(fields),
            labels: Vec::new(),
            rejected: Vec::new(),
            unverified: 0,
        };
        for raw in fields.labels.iter().flatten() {
            self.labels += 1;
            match self.judge(raw, source) {
                Ok((label, is_verified)) => {
                    self.negations += u64::from(label.neg);
                    entry.unverified += u64::from(!is_verified);
                    entry.labels.push(label);
                }
                Err((rejection, named)) => {
                    self.count(&rejection, 1);
                    let [src, uri, cid] = named;
                    entry.rejected.push(NotCarried {
                        reason: rejection.reason,
                        error: rejection.detail.into(),
                        src,
                        uri,
                        cid,
                        raw: raw.bytes.get(..RAW_LIMIT_BYTES).unwrap_or(raw.bytes),
                    });
                }
            }
        }
        self.push(&entry);
    }

    /// The label, and whether its signature was checked and is good.
    fn judge<'a>(
        &mut self,
        raw: &label::Raw<'a>,
        source: Source<'_>,
    ) -> Result<(Label<'a>, bool), (Rejection, Named<'a>)> {
        let named = || ["src", "uri", "cid"].map(|key| raw.text(key));
        let label = Label::read(raw).map_err(|rejection| (rejection, named()))?;
        let trust = source.trust;
        let Some(key) = trust.keys.get(label.src) else {
            if !trust.closed && !trust.foreign.contains(label.src) {
                if self.unknown.len() < MAX_UNKNOWN {
                    self.unknown.insert(label.src.to_owned());
                }
                return Ok((label, false));
            }
            let detail = format!("{} is not of {}", label.src, source.host);
            return Err((Rejection::new(Reason::ForeignSource, detail), named()));
        };
        if source.check == Check::Off {
            return Ok((label, false));
        }
        let Err(detail) = sign::verify(raw, key.as_ref()) else {
            return Ok((label, true));
        };
        *self.unverified.entry(label.src.to_owned()).or_default() += 1;
        if source.check == Check::Count {
            return Ok((label, false));
        }
        Err((Rejection::new(Reason::BadSignature, detail), named()))
    }

    fn reject_frame(
        &mut self,
        bytes: &[u8],
        fields: &Fields<'_>,
        source: Source<'_>,
        rejection: Rejection,
    ) {
        self.labels += 1;
        self.count(&rejection, 1);
        self.push(&Entry {
            host: source.host.into(),
            generation: source.generation,
            seq: seq_of(fields),
            labels: Vec::new(),
            rejected: vec![NotCarried {
                reason: rejection.reason,
                error: rejection.detail.into(),
                src: None,
                uri: None,
                cid: None,
                raw: bytes.get(..RAW_LIMIT_BYTES).unwrap_or(bytes),
            }],
            unverified: 0,
        });
    }

    fn count(&mut self, rejection: &Rejection, labels: u64) {
        let (count, _) = self
            .rejected
            .entry(rejection.reason)
            .or_insert_with(|| (0, rejection.detail.clone()));
        *count += labels;
    }

    fn push(&mut self, entry: &Entry<'_>) {
        entry.encode(&mut self.buffer);
        self.ends.push(self.buffer.len());
        self.events += entry.events();
    }

    pub fn entries_count(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all entries.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Every entry, in the order of the frames.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| self.buffer.get(start..*end).unwrap_or_default())
    }

    /// The commands that append every entry to the source's only stream.
    pub fn xadd(&self, stream: &[u8]) -> Vec<u8> {
        let each = resp::COMMAND_BYTES + stream.len();
        let mut out = Vec::with_capacity(self.buffer.len() + self.ends.len() * each);
        for entry in self.entries() {
            resp::write_xadd(stream, 0, entry, &mut out);
        }
        out
    }
}

/// The fields of a message that matter.
#[derive(Default)]
struct Fields<'a> {
    seq: Option<Value<'a>>,
    name: Option<Value<'a>>,
    error: Option<Value<'a>>,
    message: Option<Value<'a>>,
    /// None if there is no list of maps.
    labels: Option<Vec<label::Raw<'a>>>,
}

enum Message {
    Labels,
    Said((&'static str, String, String)),
}

fn read_message<'a>(bytes: &'a [u8], fields: &mut Fields<'a>) -> Result<Message, Rejection> {
    let mut decoder = Decoder::new(bytes);
    let header = decoder
        .value()
        .map_err(|error| Rejection::new(Reason::BadHeader, error.to_string()))?;
    let bad = |detail| Rejection::new(Reason::BadHeader, detail);
    if header.as_map().is_none() {
        return Err(bad("not a map"));
    }
    let op = header.get("op").and_then(Value::as_int);
    let kind = header.get("t").and_then(Value::as_text);
    let is_labels = op == Some(1) && kind == Some("#labels");
    let body = if is_labels && bytes.len() > MAX_FRAME_BYTES {
        let detail = format!("frame of {} bytes", bytes.len());
        return Err(Rejection::new(Reason::TooBig, detail));
    } else {
        fields.read(&mut decoder).and_then(|()| decoder.finish())
    };
    let said = |kind, name: Cow<'_, str>, message: Cow<'_, str>| {
        Ok(Message::Said((kind, words(&name), words(&message))))
    };
    match (op, kind) {
        (None, _) => return Err(bad("no op")),
        (Some(-1), _) => {
            return said(
                "error",
                text(fields.error.as_ref()),
                text(fields.message.as_ref()),
            )
        }
        (Some(1), None) => return Err(bad("no t")),
        (Some(1), Some("#labels")) => {}
        (Some(1), Some("#info")) => {
            return said(
                "info",
                text(fields.name.as_ref()),
                text(fields.message.as_ref()),
            )
        }
        (Some(1), Some(name)) => return said("unknown", name.into(), "".into()),
        (Some(op), _) => return said("unknown", format!("op {op}").into(), "".into()),
    }
    body.map_err(|error| Rejection::new(Reason::BadBody, error.to_string()))?;
    if seq_of(fields).is_none() {
        return Err(Rejection::new(Reason::BadField, "seq"));
    }
    if fields.labels.is_none() {
        return Err(Rejection::new(Reason::BadField, "labels"));
    }
    Ok(Message::Labels)
}

impl<'a> Fields<'a> {
    /// Read one message; on an error the fields read so far remain.
    fn read(&mut self, decoder: &mut Decoder<'a>) -> Result<(), CborError> {
        let mut seen = Vec::new();
        for _ in 0..decoder.map_start()? {
            let key = decoder.key()?;
            match key.as_ref() {
                "labels" => self.labels = read_labels(decoder)?,
                "seq" => self.seq = Some(decoder.value()?),
                "name" => self.name = Some(decoder.value()?),
                "error" => self.error = Some(decoder.value()?),
                "message" => self.message = Some(decoder.value()?),
                _ => drop(decoder.value()?),
            }
            seen.push(key);
        }
        decoder.end();
        if has_duplicate(seen.iter().map(AsRef::as_ref).collect()) {
            return Err(CborError::DuplicateKey);
        }
        Ok(())
    }
}

fn read_labels<'a>(decoder: &mut Decoder<'a>) -> Result<Option<Vec<label::Raw<'a>>>, CborError> {
    if !decoder.at_list() {
        decoder.value()?;
        return Ok(None);
    }
    let count = decoder.list_start()?;
    let mut labels = Vec::with_capacity(count.min(256));
    for _ in 0..count {
        labels.push(label::Raw::read(decoder)?);
    }
    decoder.end();
    Ok(Some(labels))
}

/// Seqs begin at 1: a cursor of 0 asks for all of them.
fn seq_of(fields: &Fields<'_>) -> Option<i64> {
    let seq = fields.seq.as_ref()?.as_int()?;
    (1..=MAX_SEQ).contains(&seq).then_some(seq)
}

fn text<'v>(field: Option<&'v Value<'_>>) -> Cow<'v, str> {
    field.and_then(Value::as_text).unwrap_or_default().into()
}

/// A stranger's words, short enough to be kept.
fn words(text: &str) -> String {
    text.chars().take(MAX_NOTICE_BYTES).collect()
}

#[cfg(test)]
#[path = "labels_tests.rs"]
mod tests;
