//! Any bytes are a frame: an entry, a notice or a rejected frame, and never an error. What
//! is carried says what the strict reader of whole trees sees in the same bytes; every op is
//! carried, filtered or rejected; a record that is carried has the hash of its CID; what
//! Redis is sent reads back as the same; memory stays below a constant times the input.

use std::borrow::Cow;

use _native::batch::FrameBatch;
use _native::car;
use _native::cbor::{self, CborError, Value};
use _native::datetime::is_datetime;
use _native::entry::{shard_of, Action, Commit, Entry, Origin, RAW_LIMIT_BYTES};
use _native::filter::Filter;
use _native::frame::{self, Outcome, Source, MAX_FRAME_BYTES};
use _native::reason::Reason;
use _native::syntax::{is_did, is_tid};

use crate::{heap, Verdict};

const SOURCE: Source<'_> = Source {
    relay: "relay.test",
    generation: 7,
};
/// Ops, blocks and fields that nobody asked for all take less.
const EACH: usize = 120;

/// The collections that are carried here; of others only the count.
pub fn filter() -> Filter {
    Filter::new(["app.bsky.feed.*", "app.bsky.actor.profile"])
}

pub fn check(data: &[u8]) -> Verdict {
    let filter = filter();
    let read = || frame::read(data, SOURCE, &filter);
    let frame = heap::bounded(crate::cbor::NESTING_BYTES, EACH, data.len(), read);
    assert!(frame.seq.is_none_or(|seq| (0..1 << 53).contains(&seq)));
    assert!(frame.time.is_none_or(is_datetime));
    let verdict = match &frame.outcome {
        Outcome::Notice(_) => Verdict::Accepted,
        Outcome::Entry(Entry::RejectedFrame(rejected)) => {
            assert_eq!(rejected.seq, frame.seq);
            assert!(rejected.did.as_deref().is_none_or(is_did));
            assert!(rejected.ops >= 1);
            assert_eq!(rejected.raw, &data[..data.len().min(RAW_LIMIT_BYTES)]);
            strict_reader_agrees(data, rejected.reason);
            Verdict::Rejected
        }
        Outcome::Entry(entry) => {
            carried_as_sent(data, entry, &filter);
            Verdict::Accepted
        }
    };
    let entry = match &frame.outcome {
        Outcome::Entry(entry) => Some(entry),
        Outcome::Notice(_) => None,
    };
    sent_to_redis(data, entry, &filter);
    verdict
}

/// Header and body, as the reader of whole trees sees them.
fn strictly(data: &[u8]) -> Result<(Value<'_>, Value<'_>), CborError> {
    let (header, length) = cbor::decode_prefix(data)?;
    Ok((header, cbor::decode_record(&data[length..])?))
}

fn strict_reader_agrees(data: &[u8], reason: Reason) {
    let read = strictly(data);
    match reason {
        Reason::BadBody => assert!(read.is_err(), "{read:?}"),
        Reason::BadHeader => {
            let header = cbor::decode_prefix(data).map(|(header, _)| header);
            let is_good = header.is_ok_and(|header| {
                let known = header.get("op").and_then(Value::as_int) == Some(1);
                known && matches!(header.get("t"), Some(Value::Text(_)))
            });
            assert!(!is_good);
        }
        Reason::TooBig if data.len() > MAX_FRAME_BYTES => {}
        _ => assert!(read.is_ok(), "{reason:?}, but {read:?}"),
    }
}

fn carried_as_sent(data: &[u8], entry: &Entry<'_>, filter: &Filter) {
    let (header, body) = strictly(data).expect("the strict reader refuses what was carried");
    let text = |name: &str| body.get(name).and_then(Value::as_text);
    let (kind, origin, did) = match entry {
        Entry::Commit(commit) => {
            commit_as_sent(commit, &body, filter);
            ("#commit", &commit.origin, text("repo"))
        }
        Entry::Sync(sync) => {
            assert_eq!(Some(sync.rev.as_ref()), text("rev"));
            ("#sync", &sync.origin, text("did"))
        }
        Entry::Identity(identity) => {
            assert_eq!(identity.handle.as_deref(), text("handle"));
            ("#identity", &identity.origin, text("did"))
        }
        Entry::Account(account) => {
            assert_eq!(
                Some(account.active),
                body.get("active").and_then(Value::as_bool)
            );
            assert_eq!(account.status.as_deref(), text("status"));
            ("#account", &account.origin, text("did"))
        }
        Entry::RejectedFrame(_) => unreachable!("looked at elsewhere"),
        Entry::Slice(_) | Entry::Closing(_) => unreachable!("no frame makes one"),
    };
    assert_eq!(header.get("t").and_then(Value::as_text), Some(kind));
    let Origin {
        relay, generation, ..
    } = origin;
    assert_eq!((*relay, *generation), (SOURCE.relay, SOURCE.generation));
    assert_eq!(Some(origin.seq), body.get("seq").and_then(Value::as_int));
    assert_eq!(Some(origin.did), did);
    assert_eq!(Some(origin.time), text("time"));
    assert!(is_did(origin.did) && is_datetime(origin.time));
}

fn commit_as_sent(commit: &Commit<'_>, body: &Value<'_>, filter: &Filter) {
    let sent = body.get("ops").and_then(Value::as_list).unwrap_or_default();
    assert!(is_tid(commit.rev) && commit.since.is_none_or(is_tid));
    assert_eq!(
        body.get("commit").and_then(Value::as_link),
        Some(commit.commit)
    );
    assert_eq!(
        body.get("prevData").and_then(Value::as_link),
        commit.prev_data
    );
    // A host of old leaves its ops out and says so: one more that is not carried.
    let rejected = commit.rejected.iter();
    let left_out = rejected.filter(|op| op.reason == Reason::TooBig && op.path.is_empty());
    let told = commit.rejected.len() - left_out.count();
    let filtered = usize::try_from(commit.filtered).expect("not negative");
    assert_eq!(commit.ops.len() + filtered + told, sent.len());
    let mut unseen = sent.iter();
    for op in &commit.ops {
        let (collection, _) = op.path.split_once('/').expect("a path");
        assert!(filter.admits(collection));
        let is_it = |each: &Value<'_>| {
            let text = |name: &str| each.get(name).and_then(Value::as_text);
            let cid = each.get("cid").and_then(Value::as_link);
            let same = text("path") == Some(&op.path)
                && text("action").and_then(Action::named) == Some(op.action);
            same && (op.action == Action::Delete || cid == op.cid)
        };
        assert!(
            unseen.any(is_it),
            "an op that was not sent, or not in order"
        );
        match (op.cid, op.record) {
            (Some(cid), Some(record)) => assert_eq!(car::check_hash(cid, record), Ok(())),
            (cid, record) => {
                assert!(op.action == Action::Delete && cid.is_none() && record.is_none());
            }
        }
    }
}

fn sent_to_redis(data: &[u8], entry: Option<&Entry<'_>>, filter: &Filter) {
    let shards = 16;
    let batch = FrameBatch::decode(&[data, data], SOURCE, shards, filter);
    assert_eq!(batch.counts.frames, 2);
    let Some(entry) = entry else {
        assert_eq!((batch.entries_count(), batch.notices.len()), (0, 2));
        return;
    };
    let bytes = crate::entry::round_trip(entry);
    let (weight, did) = match entry {
        Entry::Commit(commit) => {
            let carried = commit.ops.len() + commit.rejected.len();
            (
                i64::try_from(carried).unwrap() + commit.filtered,
                commit.origin.did,
            )
        }
        Entry::RejectedFrame(frame) => (
            frame.ops,
            frame.did.as_ref().map_or(SOURCE.relay, Cow::as_ref),
        ),
        Entry::Sync(sync) => (1, sync.origin.did),
        Entry::Identity(identity) => (1, identity.origin.did),
        Entry::Account(account) => (1, account.origin.did),
        Entry::Slice(_) | Entry::Closing(_) => unreachable!("no frame makes one"),
    };
    assert_eq!(i64::try_from(batch.counts.ops()), Ok(2 * weight));
    let shard = shard_of(did, shards);
    assert!(batch.entries().all(|each| each == (shard, &bytes[..])));
    assert_eq!(batch.entries().count(), 2);
    let weights = &batch.weights()[&shard];
    assert_eq!(weights.bytes, 2 * bytes.len() as u64);
    assert_eq!(weights.events, 2 * entry.events() as u64);
}
