//! Which entries of a batch are to be applied, and in what order.

use std::collections::HashMap;

use super::batch::{source_key, Batch, Counts, Source};
use crate::datetime;
use crate::entry::{Entry, Origin};

/// Where an entry stands in the order of effect.
struct Place {
    order: i64,
    entry: usize,
    source: usize,
}

/// Entries to apply with their sources, in order of effect; others are counted.
///
/// Inside a shard that is stream order: one relay's seqs ascend there, but
/// for repetitions, which are dropped. Between shards it is the seq, or the
/// frame's time where several relays, whose seqs say nothing of each other, meet.
pub(super) fn admitted(
    batch: &mut Batch,
    decoded: &[Entry<'_>],
    shard_of_entry: &[usize],
    held: &[(u32, HashMap<String, i64>)],
) -> Vec<(usize, usize)> {
    let mut sources: HashMap<(usize, &str, i64), usize> = HashMap::new();
    let mut first = None;
    let one_relay = decoded
        .iter()
        .all(|entry| *first.get_or_insert(relay_of(entry)) == relay_of(entry));
    let mut places: Vec<Place> = Vec::with_capacity(decoded.len());
    let mut last = vec![i64::MIN; held.len()];
    for (entry, (read, &shard)) in decoded.iter().zip(shard_of_entry).enumerate() {
        let (relay, generation) = relay_of(read);
        let Some(((number, seqs), last)) = held.get(shard).zip(last.get_mut(shard)) else {
            continue;
        };
        let source = *sources
            .entry((shard, relay, generation))
            .or_insert_with(|| {
                batch.sources.push(Source {
                    shard: *number,
                    relay: relay.to_owned(),
                    generation,
                    seq: seqs.get(&source_key(relay, generation)).copied(),
                    counts: Counts::new(),
                });
                batch.sources.len() - 1
            });
        if let Some((_, entries, events, _)) = batch.weights.get_mut(shard) {
            *entries += 1;
            *events += read.events() as u64;
        }
        let weight = read.weight();
        batch.weight = batch.weight.saturating_add(weight);
        let Some(known) = batch.sources.get_mut(source) else {
            continue;
        };
        let seq = seq_of(read);
        if seq.is_some() && seq <= known.seq {
            known.count("duplicate", weight);
            continue;
        }
        known.seq = seq.or(known.seq);
        let order = if one_relay { seq } else { millis_of(read) };
        *last = order.map_or(*last, |order| order.max(*last));
        places.push(Place {
            order: *last,
            entry,
            source,
        });
    }
    places.sort_by_key(|place| place.order);
    places
        .into_iter()
        .map(|place| (place.entry, place.source))
        .collect()
}

pub(super) fn origin_of<'e, 'a>(entry: &'e Entry<'a>) -> Option<&'e Origin<'a>> {
    match entry {
        Entry::Commit(commit) => Some(&commit.origin),
        Entry::Sync(sync) => Some(&sync.origin),
        Entry::Identity(identity) => Some(&identity.origin),
        Entry::Account(account) => Some(&account.origin),
        Entry::RejectedFrame(_) => None,
    }
}

fn relay_of<'a>(entry: &Entry<'a>) -> (&'a str, i64) {
    match (entry, origin_of(entry)) {
        (_, Some(origin)) => (origin.relay, origin.generation),
        (Entry::RejectedFrame(frame), None) => (frame.relay, frame.generation),
        (_, None) => ("", 0),
    }
}

fn seq_of(entry: &Entry<'_>) -> Option<i64> {
    match entry {
        Entry::RejectedFrame(frame) => frame.seq,
        _ => origin_of(entry).map(|origin| origin.seq),
    }
}

fn millis_of(entry: &Entry<'_>) -> Option<i64> {
    datetime::instant(origin_of(entry)?.time).map(super::repos::millis)
}
