//! Which entries of a batch are to be applied, and in what order.

use std::collections::HashMap;

use super::batch::{source_key, Batch, Counts, Source};
use crate::datetime;
use crate::entry::{Entry, Origin};

/// What is held of a shard before the batch.
pub(super) struct Held {
    pub shard: u32,
    /// Highest seq by `host/generation`.
    pub seqs: HashMap<String, i64>,
    /// More waits in its stream than was read.
    pub is_cut: bool,
}

/// Where an entry stands in the order of effect.
struct Place {
    order: i64,
    entry: usize,
    source: usize,
}

/// Entries to apply with their sources, in order of effect; repetitions are only counted, and
/// what is beyond the front is left out: of each shard the first `weights` entries are taken.
///
/// Inside a shard that is stream order: one relay's seqs ascend there, but
/// for repetitions, which are dropped. Between shards it is the seq, or the
/// frame's time where several relays, whose seqs say nothing of each other, meet.
pub(super) fn admitted(
    batch: &mut Batch,
    bytes: &[Vec<u8>],
    decoded: &[Entry<'_>],
    shard_of_entry: &[usize],
    held: &[Held],
) -> Vec<(usize, usize)> {
    let mut sources: HashMap<(usize, &str, i64), usize> = HashMap::new();
    let mut first = None;
    let one_relay = decoded
        .iter()
        .all(|entry| *first.get_or_insert(relay_of(entry)) == relay_of(entry));
    let orders = orders(decoded, shard_of_entry, held.len(), one_relay);
    let front = front(&orders, shard_of_entry, held);
    let mut places: Vec<Place> = Vec::with_capacity(decoded.len());
    for (entry, (read, &shard)) in decoded.iter().zip(shard_of_entry).enumerate() {
        let (relay, generation) = relay_of(read);
        let order = orders.get(entry).copied().unwrap_or(i64::MIN);
        let Some(Held {
            shard: number,
            seqs,
            ..
        }) = held.get(shard)
        else {
            continue;
        };
        if order > front {
            continue;
        }
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
        if let Some((_, entries, events, size)) = batch.weights.get_mut(shard) {
            *entries += 1;
            *events += read.events() as u64;
            *size += bytes.get(entry).map_or(0, |entry| entry.len() as u64);
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
        places.push(Place {
            order,
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

/// The order of each entry: never less than that of the entry before it in its shard.
fn orders(
    decoded: &[Entry<'_>],
    shard_of_entry: &[usize],
    shards: usize,
    one_relay: bool,
) -> Vec<i64> {
    let mut last = vec![i64::MIN; shards];
    let mut orders = Vec::with_capacity(decoded.len());
    for (read, &shard) in decoded.iter().zip(shard_of_entry) {
        let order = if one_relay {
            seq_of(read)
        } else {
            millis_of(read)
        };
        let Some(last) = last.get_mut(shard) else {
            continue;
        };
        *last = order.map_or(*last, |order| order.max(*last));
        orders.push(*last);
    }
    orders
}

/// How far everything is there: what a stream still holds comes after the last that was read of
/// it, so what others gave beyond that must wait for it.
fn front(orders: &[i64], shard_of_entry: &[usize], held: &[Held]) -> i64 {
    let mut ends = vec![None; held.len()];
    for (order, &shard) in orders.iter().zip(shard_of_entry) {
        if let Some(end) = ends.get_mut(shard) {
            *end = Some(*order);
        }
    }
    let cut = held.iter().zip(ends).filter(|(shard, _)| shard.is_cut);
    cut.filter_map(|(_, end)| end).min().unwrap_or(i64::MAX)
}

pub(super) fn origin_of<'e, 'a>(entry: &'e Entry<'a>) -> Option<&'e Origin<'a>> {
    match entry {
        Entry::Commit(commit) => Some(&commit.origin),
        Entry::Sync(sync) => Some(&sync.origin),
        Entry::Identity(identity) => Some(&identity.origin),
        Entry::Account(account) => Some(&account.origin),
        Entry::RejectedFrame(_) | Entry::Slice(_) | Entry::Closing(_) => None,
    }
}

fn relay_of<'a>(entry: &Entry<'a>) -> (&'a str, i64) {
    match (entry, origin_of(entry)) {
        (_, Some(origin)) => (origin.relay, origin.generation),
        (Entry::RejectedFrame(frame), None) => (frame.relay, frame.generation),
        (_, None) => ("", 0),
    }
}

/// What is of no relay has generation 0 and no seq: it is never a repetition.
fn seq_of(entry: &Entry<'_>) -> Option<i64> {
    match entry {
        Entry::RejectedFrame(frame) => frame.seq,
        _ => origin_of(entry)
            .filter(|origin| origin.generation > 0)
            .map(|origin| origin.seq),
    }
}

fn millis_of(entry: &Entry<'_>) -> Option<i64> {
    datetime::instant(origin_of(entry)?.time).map(super::repos::millis)
}
