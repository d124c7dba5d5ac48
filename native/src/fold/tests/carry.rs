//! What one batch leaves to the next, which looked everything up before the first was written.

use std::sync::Arc;

use super::super::fold_ahead;
use super::*;

const TO: &[(&str, &str)] = &[("to", "at://did:plc:x/t.page/1")];

/// The second batch's changes; no look-up finds anything.
fn second(first: &[Change<'_>], second: &[Change<'_>]) -> Changes {
    let plan = plan();
    let mut log = Log::new();
    log.commit(A, first);
    let begun = Arc::new(decode(&plan, vec![shard(&log.entries)]));
    let (_, carry) = fold_ahead(&plan, &begun, &known(&plan, &begun, &[]), &Voided::new());
    log.commit(A, second);
    let batch = decode(&plan, vec![shard(&log.entries[1..])]);
    let mut known = Known::new(false, Some(&Arc::new(carry)));
    loop {
        let wanted = known.wanted(&plan, &batch);
        if wanted.is_empty() {
            break;
        }
        let told = wanted.into_iter().map(|(name, _)| (name, "[]".to_owned()));
        let told: Vec<_> = told.collect();
        known.learn(&plan, &lexicon, &batch, &told).unwrap();
    }
    assert!(!known.is_blocked());
    fold(&plan, &batch, &known, &Voided::new())
}

fn shard(entries: &[Vec<u8>]) -> ShardEntries {
    ShardEntries {
        entries: entries.to_vec(),
        ..ShardEntries::default()
    }
}

#[test]
fn a_loser_of_the_batch_before_takes_the_place_of_its_winner() {
    let made = [('+', "t.link/1", TO), ('+', "t.link/2", TO)];
    let changes = second(&made, &[('-', "t.link/1", &[])]);
    let links = copied(&changes, "link");
    assert_eq!(links.len(), 1);
    assert_eq!(links[0][0], uri(A, "t.link/2"));
}

#[test]
fn a_loser_that_was_deleted_in_the_batch_before_takes_no_place() {
    let made = [
        ('+', "t.link/1", TO),
        ('+', "t.link/2", TO),
        ('-', "t.link/2", &[]),
    ];
    let changes = second(&made, &[('-', "t.link/1", &[])]);
    assert!(copied(&changes, "link").is_empty());
    let mut deletes = changes.deletes.iter();
    assert!(deletes.any(|(name, _)| name == "delete_link"));
}
