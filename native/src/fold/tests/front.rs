//! How much of a batch is taken where more waits in some of its streams.

use super::*;

/// Entries with these seqs, of one commit each.
fn entries(seqs: &[i64]) -> Vec<Vec<u8>> {
    let mut log = Log::new();
    for seq in seqs {
        log.seq = seq - 1;
        log.commit(A, PAGE);
    }
    log.entries()
}

fn shard(shard: u32, seqs: &[i64], is_cut: bool) -> ShardEntries {
    ShardEntries {
        shard,
        held: HashMap::new(),
        entries: entries(seqs),
        is_cut,
    }
}

fn taken(shards: Vec<ShardEntries>) -> Vec<(u32, u64)> {
    let batch = decode(&plan(), shards);
    let weights = batch.weights().iter();
    let taken: Vec<_> = weights
        .map(|(shard, entries, ..)| (*shard, *entries))
        .collect();
    let all: u64 = taken.iter().map(|(_, entries)| entries).sum();
    assert_eq!(batch.entries() as u64, all);
    taken
}

#[test]
fn everything_is_taken_of_streams_read_to_their_end() {
    let shards = vec![shard(1, &[1, 4], false), shard(2, &[2, 3, 5], false)];
    assert_eq!(taken(shards), [(1, 2), (2, 3)]);
}

#[test]
fn nothing_is_taken_beyond_the_end_of_a_cut_stream() {
    let shards = vec![shard(1, &[1, 4], true), shard(2, &[2, 3, 5, 6], false)];
    assert_eq!(taken(shards), [(1, 2), (2, 2)]);
}

#[test]
fn the_nearest_end_of_several_cut_streams_counts() {
    let shards = vec![shard(1, &[1, 9], true), shard(2, &[2, 3, 5], true)];
    assert_eq!(taken(shards), [(1, 1), (2, 3)]);
}

#[test]
fn something_is_always_taken() {
    let shards = vec![shard(1, &[7], true), shard(2, &[2, 3, 8], true)];
    assert_eq!(taken(shards), [(1, 1), (2, 2)]);
}

#[test]
fn what_is_left_is_counted_nowhere() {
    let plan = plan();
    let left = entries(&[5]);
    let shards = vec![shard(1, &[1, 2], true), shard(2, &[5], false)];
    let batch = decode(&plan, shards);
    assert_eq!(batch.weight(), 2);
    let (entries, events, bytes) = batch.weights().iter().fold((0, 0, 0), |sum, of| {
        (sum.0 + of.1, sum.1 + of.2, sum.2 + of.3)
    });
    assert_eq!((entries, events), (2, 2));
    assert!(bytes > 0 && bytes < 3 * left[0].len() as u64);
    let known = known(&plan, &batch, &[]);
    let changes = fold(&plan, &batch, &known, &Voided::new());
    assert_eq!(changes.tally.len(), 1, "the other source has no part in it");
}
