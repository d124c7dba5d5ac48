//! Dead letters: what was rejected, why, and its bytes.

use super::batch::{Batch, Event, Kind};
use crate::entry::{Commit, Entry, Slice, RAW_LIMIT_BYTES};
use crate::pgcopy::{array_texts, ArrayText};
use crate::reason::Reason;

/// The streams that the entries come from, as dead letters name them.
const LIVE: &str = "firehose_live";
const BACKFILL: &str = "firehose_backfill";
/// Words of an error that are kept: validators quote what they refuse.
const MAX_ERROR_BYTES: usize = 1_000;

/// What a dead letter is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The event as a whole: its bytes are the entry, or the frame it stands for.
    Whole,
    /// One op of a commit, by its position among the entry's ops.
    Op(usize),
    /// One op that the ingester could not carry, by its position.
    NotCarried(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct DeadLetter {
    /// Position in `Batch::events`.
    pub event: usize,
    pub part: Part,
    pub reason: Reason,
    pub error: String,
}

/// Path, CID and bytes of what is rejected.
type Quoted<'e> = (Option<String>, Option<String>, Option<&'e [u8]>);

/// Parameters of `insert_dead_letters`.
pub(crate) fn parameters(batch: &Batch, letters: &[DeadLetter]) -> Vec<String> {
    let mut columns: [ArrayText; 11] = array_texts();
    // Letters of one event follow one another: its entry is read once.
    let mut read: Option<(usize, Option<Entry<'_>>)> = None;
    for letter in letters {
        let Some(event) = batch.events.get(letter.event) else {
            continue;
        };
        let Some(source) = batch.sources.get(event.source) else {
            continue;
        };
        let bytes = batch
            .entries
            .get(event.entry)
            .map_or(&[][..], Vec::as_slice);
        let (_, entry) = match read.take() {
            Some(known) if known.0 == letter.event => read.insert(known),
            _ => read.insert((letter.event, Entry::decode(bytes).ok())),
        };
        let (seq, did) = origin(event, entry.as_ref());
        let (path, cid, raw) = quote(letter.part, entry.as_ref(), bytes);
        let [sources, shards, relays, generations, seqs, dids, paths, cids, reasons, errors, raws] =
            &mut columns;
        sources.push(Some(if is_fetched(event) { BACKFILL } else { LIVE }));
        shards.push(Some(&source.shard.to_string()));
        relays.push(Some(&source.relay));
        generations.push(Some(&source.generation.to_string()));
        seqs.push(seq.map(|seq| seq.to_string()).as_deref());
        dids.push(did.as_deref());
        paths.push(path.as_deref());
        cids.push(cid.as_deref());
        reasons.push(Some(letter.reason.word()));
        errors.push(Some(shorten(&letter.error)));
        raws.push_bytes(raw.map(|raw| raw.get(..RAW_LIMIT_BYTES).unwrap_or(raw)));
    }
    columns.map(ArrayText::finish).into()
}

/// Whether the event is of a fetched repository.
const fn is_fetched(event: &Event) -> bool {
    matches!(
        event.kind,
        Kind::Slice(_) | Kind::Record(_) | Kind::Closing(_)
    )
}

fn origin(event: &Event, entry: Option<&Entry<'_>>) -> (Option<i64>, Option<String>) {
    match entry {
        Some(Entry::RejectedFrame(frame)) => (frame.seq, frame.did.as_deref().map(str::to_owned)),
        _ if is_fetched(event) => (None, Some(event.did.to_string())),
        _ => (Some(event.seq), Some(event.did.to_string())),
    }
}

fn quote<'e>(part: Part, entry: Option<&Entry<'e>>, bytes: &'e [u8]) -> Quoted<'e> {
    match (part, entry) {
        (Part::Whole, Some(Entry::RejectedFrame(frame))) => (None, None, Some(frame.raw)),
        (Part::Op(position), Some(Entry::Commit(commit))) => {
            commit.ops.get(position).map_or((None, None, None), |op| {
                let cid = op.cid.map(|cid| cid.to_string());
                (Some(op.path.to_string()), cid, op.record)
            })
        }
        (Part::Op(position), Some(Entry::Slice(slice))) => {
            let record = slice.records.get(position);
            record.map_or((None, None, None), |record| {
                let cid = record.cid.to_string();
                (Some(record.path.to_owned()), Some(cid), Some(record.record))
            })
        }
        (
            Part::NotCarried(position),
            Some(Entry::Commit(Commit { rejected, .. }) | Entry::Slice(Slice { rejected, .. })),
        ) => rejected.get(position).map_or((None, None, None), |op| {
            let cid = op.cid.map(|cid| cid.to_string());
            (Some(op.path.to_string()), cid, None)
        }),
        _ => (None, None, Some(bytes)),
    }
}

/// What a dead letter says of a frame that could not be read.
pub(crate) fn frame_detail(batch: &Batch, event: &Event) -> String {
    let bytes = batch
        .entries
        .get(event.entry)
        .map_or(&[][..], Vec::as_slice);
    match Entry::decode(bytes) {
        Ok(Entry::RejectedFrame(frame)) => frame.detail.into_owned(),
        _ => String::new(),
    }
}

fn shorten(text: &str) -> &str {
    let end = (0..=MAX_ERROR_BYTES.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or_default();
    text.get(..end).unwrap_or_default()
}
