//! The second half of the target `fold`: logs of events over a database, in batches of all kinds.

use std::collections::HashMap;
use std::sync::Arc;

use _native::fold::{self, Batch, Carry, Changes, Known, ShardEntries};

use crate::database::Database;
use crate::fold::{is_sound, learned, learned_more, same, NOW, PLAN};
use crate::lexicon::CATALOG;
use crate::log::{Log, Manner};
use crate::tape::Tape;
use crate::Verdict;

const SHARDS: usize = 2;

/// How a batch learns what there is.
#[derive(Clone, Copy)]
struct Learning {
    trusting: bool,
    /// It is told everything, asked for or not.
    more: bool,
}

const ASKING: Learning = Learning {
    trusting: false,
    more: false,
};
const TRUSTING: Learning = Learning {
    trusting: true,
    ..ASKING
};
const TOLD_MORE: Learning = Learning {
    more: true,
    ..ASKING
};

/// Choices of events, some there before; then one batch, or several in one way or another.
pub fn any_events(flags: u8, tape: &mut Tape<'_>) -> Verdict {
    let is_honest = flags & 8 != 0;
    let mut log = Log::new(if is_honest {
        Manner::Honest
    } else {
        Manner::Wild
    });
    let mutes = tape.byte();
    while !tape.is_empty() && log.entries.len() < 40 {
        log.event(tape);
    }
    let before = log.entries.len() * usize::from(flags >> 1 & 3) / 4;
    let mut start = Database {
        mutes: Log::mutes(mutes).into_iter().collect(),
        ..Database::default()
    };
    index(&mut start, &log.entries[..before], ASKING);
    let entries = &log.entries[before..];

    let mut whole = start.clone();
    let changes = index(&mut whole, entries, ASKING);
    whole.is_sound(&PLAN);
    let more = index(&mut start.clone(), entries, TOLD_MORE);
    assert!(same(&changes, &more), "a look-up is missing");
    for count in [1, 3] {
        let mut pieces = start.clone();
        for entries in entries.chunks(count) {
            index(&mut pieces, entries, ASKING);
        }
        are_same(&whole, &pieces);
    }
    for count in [1, 2] {
        for seen in [Seen::None, Seen::All, Seen::Some] {
            are_same(&whole, &ahead(start.clone(), entries, count, seen));
        }
    }
    if is_honest {
        let mut trusting = start.clone();
        for entries in entries.chunks(4) {
            index(&mut trusting, entries, TRUSTING);
        }
        are_same(&whole, &trusting);
        let authors = &log.authors[before..];
        cut_over_shards(&start, entries, authors, usize::from(flags >> 4), &whole);
    }
    let again = index(&mut whole.clone(), entries, ASKING);
    assert!(again.copies.is_empty() && again.deletes.is_empty());
    Verdict::of(whole.counts.contains_key("applied"))
}

/// Each DID in its own shard, so much read of each at a time.
fn cut_over_shards(
    start: &Database,
    entries: &[Vec<u8>],
    authors: &[usize],
    read: usize,
    whole: &Database,
) {
    let mut streams = [const { Vec::new() }; SHARDS];
    for (entry, author) in entries.iter().zip(authors) {
        streams[author % SHARDS].push(entry.clone());
    }
    let mut database = start.clone();
    let mut at = [0; SHARDS];
    while at.iter().zip(&streams).any(|(at, of)| *at < of.len()) {
        let shards = streams
            .iter()
            .zip(&at)
            .enumerate()
            .map(|(shard, (of, at))| {
                // Another number of each shard, so that their ends seldom meet.
                let end = (at + 1 + (read + shard) % 7).min(of.len());
                ShardEntries {
                    shard: u32::try_from(shard).expect("a number"),
                    // All is held of the shards' common past.
                    held: start.held.get(&0).cloned().unwrap_or_default(),
                    entries: of[*at..end].to_vec(),
                    is_cut: end < of.len(),
                }
            });
        let batch = fold::decode(&PLAN, &*CATALOG, shards.collect(), NOW).expect("entries");
        settle(&mut database, &batch, ASKING);
        let mut taken = 0;
        for (shard, entries, ..) in batch.weights() {
            at[*shard as usize] += usize::try_from(*entries).expect("a number");
            taken += entries;
        }
        assert!(taken > 0, "nothing is taken");
    }
    // Which shard holds what is another question.
    database.held.clone_from(&whole.held);
    are_same(whole, &database);
}

/// What look-ups see of the batch before, which is being written.
#[derive(Clone, Copy)]
enum Seen {
    None,
    All,
    /// Every other look-up sees it.
    Some,
}

/// Each batch is folded before the one before it is written, where that does not block it.
fn ahead(mut database: Database, entries: &[Vec<u8>], count: usize, seen: Seen) -> Database {
    let mut held = database.held.get(&0).cloned().unwrap_or_default();
    let mut writing: Option<(Changes, Arc<Carry>)> = None;
    for entries in entries.chunks(count) {
        let shard = ShardEntries {
            shard: 0,
            held: held.clone(),
            entries: entries.to_vec(),
            is_cut: false,
        };
        let batch = fold::decode(&PLAN, &*CATALOG, vec![shard], NOW).expect("entries");
        let batch = Arc::new(batch);
        let carry = writing.as_ref().map(|(_, carry)| carry);
        let mut known = Known::new(false, carry);
        let mut written = database.clone();
        if let Some((changes, _)) = &writing {
            written.write(&PLAN, changes);
        }
        known = learned_more(known, &batch, |name, parameters| {
            let is_written = match seen {
                Seen::None => false,
                Seen::All => true,
                Seen::Some => name.len() % 2 == 0,
            };
            let database = if is_written { &written } else { &database };
            database.answer(&PLAN, name, parameters, false)
        });
        database = written;
        if known.is_blocked() {
            known = learned(&batch, false, |name, parameters| {
                database.answer(&PLAN, name, parameters, false)
            });
        }
        let (changes, carry) = fold::fold_ahead(&PLAN, &batch, &known, &HashMap::new());
        is_sound(&batch, &changes);
        for (_, source, seq, _) in &changes.tally {
            held.extend(seq.map(|seq| (source.clone(), seq)));
        }
        writing = Some((changes, Arc::new(carry)));
    }
    if let Some((changes, _)) = writing {
        database.write(&PLAN, &changes);
    }
    database
}

/// Decode, look up, fold and write one batch of one shard.
fn index(database: &mut Database, entries: &[Vec<u8>], learning: Learning) -> Changes {
    let shard = ShardEntries {
        shard: 0,
        held: database.held.get(&0).cloned().unwrap_or_default(),
        entries: entries.to_vec(),
        is_cut: false,
    };
    let batch = fold::decode(&PLAN, &*CATALOG, vec![shard], NOW).expect("entries");
    assert_eq!(batch.entries(), entries.len());
    settle(database, &batch, learning)
}

fn settle(database: &mut Database, batch: &Batch, learning: Learning) -> Changes {
    let known = learned(batch, learning.trusting, |name, parameters| {
        database.answer(&PLAN, name, parameters, learning.more)
    });
    let changes = fold::fold(&PLAN, batch, &known, &HashMap::new());
    is_sound(batch, &changes);
    database.write(&PLAN, &changes);
    changes
}

/// One table after another, so that a finding names what differs.
fn are_same(left: &Database, right: &Database) {
    assert_eq!(left.counts, right.counts);
    assert!(left.tables.keys().eq(right.tables.keys()));
    for (name, rows) in &left.tables {
        assert_eq!(rows, &right.tables[name], "{name}");
    }
    assert_eq!(left.notifications, right.notifications);
    assert_eq!(left.post_agg, right.post_agg);
    assert_eq!(left.op_threads, right.op_threads);
    assert_eq!(left.quote_count, right.quote_count);
    assert_eq!(left.deletions_asked(), right.deletions_asked());
    // The latest time is a bound, to which ops count that come to nothing.
    let left = Database {
        latest: right.latest.clone(),
        deletions: right.deletions.clone(),
        ..left.clone()
    };
    // Said in one word: both are long.
    assert!(left == *right, "something else differs");
}
