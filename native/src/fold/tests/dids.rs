//! Repositories, actors, accounts: what events do beside their ops.

use super::log::encode;
use super::*;
use crate::cid::{self, Cid};
use crate::entry::{Commit, Entry, RejectedFrame, RejectedOp};
use crate::reason::Reason;

fn known_at(number: usize) -> String {
    format!(
        r#"[["{A}", "{}", null, null, null, null, null]]"#,
        rev(number)
    )
}

#[test]
fn a_first_commit_makes_the_actor_and_asks_for_its_handle() {
    let mut log = Log::new();
    log.commit(A, PAGE);
    let changes = run(log, &[]);
    let (did, time) = (r#"{"did:plc:a"}"#, r#"{"2024-01-01T00:00:00.000Z"}"#);
    assert_eq!(
        statement(&changes, "insert_actors").unwrap(),
        [did, time, "{NULL}"]
    );
    assert_eq!(
        statement(&changes, "upsert_identity_due").unwrap(),
        [did, r#"{"1"}"#, time, r#"{"false"}"#]
    );
    let rev = format!(r#"{{"{}"}}"#, rev(1));
    let cid = format!(r#"{{"{CID}"}}"#);
    assert_eq!(
        statement(&changes, "upsert_actor_sync").unwrap(),
        [did, &cid, &rev]
    );
    let nothing = ["{NULL}"; 5];
    assert_eq!(
        repo(&changes).unwrap(),
        [&[did, &rev][..], &nothing].concat()
    );
}

#[test]
fn a_rev_that_is_not_newer_is_a_duplicate() {
    for number in [1, 2] {
        let mut log = Log::new();
        log.commit_at(A, &rev(number), None, PAGE);
        let changes = run(log, &[("lookup_repos", &known_at(2))]);
        assert_eq!(tally(&changes), counted(&[("duplicate", 1)]));
        assert!(changes.statements.is_empty() && changes.copies.is_empty());
    }
}

/// The TID of an instant in microseconds since 1970.
fn tid(micros: u64) -> String {
    let digits = b"234567abcdefghijklmnopqrstuvwxyz";
    let value = micros << 10;
    let place = |place: u32| usize::try_from(value >> (5 * place) & 31).unwrap();
    (0..13)
        .rev()
        .map(|each| char::from(digits[place(each)]))
        .collect()
}

#[test]
fn a_rev_from_the_future_moves_nothing() {
    let latest = (1_704_067_200 + 300) * 1_000_000;
    let mut log = Log::new();
    log.commit_at(A, &tid(latest + 1), None, PAGE);
    let changes = run(log, &[]);
    assert_eq!(tally(&changes), counted(&[("rejected:rev_in_future", 1)]));
    let names: Vec<_> = changes
        .statements
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["insert_dead_letters"]);
    assert_eq!(
        statement(&changes, "insert_dead_letters").unwrap()[6],
        "{NULL}"
    );
    let mut log = Log::new();
    log.commit_at(A, &tid(latest), None, PAGE);
    assert_eq!(tally(&run(log, &[])), counted(&[("applied", 1)]));
}

#[test]
fn a_rev_that_is_no_tid_moves_nothing() {
    let mut log = Log::new();
    log.sync(A, "zzzz");
    let changes = run(log, &[]);
    assert_eq!(tally(&changes), counted(&[("rejected:bad_field", 1)]));
    assert!(repo(&changes).is_none());
}

#[test]
fn a_gap_in_since_marks_the_repository() {
    let (one, two) = (rev(1), rev(2));
    let cases = [
        (None, Some(one.as_str()), r#"{"history_unknown"}"#),
        (None, None, "{NULL}"),
        (Some(1), Some(one.as_str()), "{NULL}"),
        (Some(1), Some(two.as_str()), r#"{"since_mismatch"}"#),
        (Some(1), None, r#"{"since_mismatch"}"#),
    ];
    for (known, since, mark) in cases {
        let mut log = Log::new();
        log.commit_at(A, &rev(3), since, PAGE);
        let repos = known.map_or_else(|| "[]".into(), known_at);
        let changes = run(log, &[("lookup_repos", &repos)]);
        assert_eq!(repo(&changes).unwrap()[2], mark, "{known:?} {since:?}");
        assert_eq!(tally(&changes), counted(&[("applied", 1)]));
    }
}

#[test]
fn the_first_reason_of_a_resync_stays() {
    let mut log = Log::new();
    log.commit_at(A, &rev(3), Some(&rev(2)), PAGE);
    let repos = format!(r#"[["{A}", "{}", "sync", null, null, null, null]]"#, rev(1));
    let changes = run(log, &[("lookup_repos", &repos)]);
    assert_eq!(repo(&changes).unwrap()[2], r#"{"sync"}"#);
}

#[test]
fn an_empty_commit_moves_only_the_rev() {
    let mut log = Log::new();
    log.commit(A, &[]);
    let changes = run(log, &[]);
    let names: Vec<_> = changes
        .statements
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["upsert_repos"]);
    assert_eq!(tally(&changes), counted(&[]));
}

#[test]
fn rejected_ops_still_move_actor_and_sync() {
    let mut log = Log::new();
    log.commit(A, &[('+', "t.page/1", &[("bad", "")])]);
    let changes = run(log, &[]);
    assert!(statement(&changes, "upsert_actor_sync").is_some());
    assert!(statement(&changes, "insert_actors").is_some());
}

#[test]
fn a_sync_marks_the_repository_unless_it_is_there_already() {
    for (number, outcome, mark) in [
        (1, "no_effect:stale", None),
        (2, "applied", None),
        (3, "applied", Some(r#"{"sync"}"#)),
    ] {
        let mut log = Log::new();
        log.sync(A, &rev(number));
        let changes = run(log, &[("lookup_repos", &known_at(2))]);
        assert_eq!(tally(&changes), counted(&[(outcome, 1)]));
        assert_eq!(repo(&changes).map(|row| row[2]), mark);
        let synced = statement(&changes, "upsert_actor_sync").is_some();
        assert_eq!(synced, outcome == "applied");
    }
}

#[test]
fn changes_that_a_host_left_out_mark_the_repository() {
    let commit = cid::parse_str(CID).unwrap();
    let commit = Cid::exact(&commit).unwrap();
    let mut log = Log::new();
    log.push(A, |origin| {
        encode(&Entry::Commit(Commit {
            origin,
            rev: "3k22222222222",
            since: None,
            commit,
            data: None,
            prev_data: None,
            part: 0,
            parts: 1,
            filtered: 0,
            ops: vec![],
            rejected: vec![RejectedOp {
                reason: Reason::TooBig,
                path: "".into(),
                cid: None,
            }],
            blocks: vec![],
        }))
    });
    let changes = run(log, &[]);
    assert_eq!(tally(&changes), counted(&[("rejected:too_big", 1)]));
    assert_eq!(repo(&changes).unwrap()[2], r#"{"record_missing"}"#);
    assert!(statement(&changes, "upsert_actor_sync").is_none());
}

#[test]
fn a_seq_is_held_only_once_there_was_one() {
    let letter = |seq| {
        encode(&Entry::RejectedFrame(RejectedFrame {
            relay: "relay.test",
            generation: 1,
            seq,
            did: None,
            reason: Reason::BadHeader,
            detail: "".into(),
            ops: 1,
            raw: b"",
        }))
    };
    for (seqs, held) in [
        (vec![None], None),
        (vec![Some(0)], Some(0)),
        (vec![Some(4), None], Some(4)),
    ] {
        let mut log = Log::new();
        log.entries = seqs.iter().map(|seq| letter(*seq)).collect();
        let changes = run(log, &[]);
        assert_eq!(changes.tally[0].2, held, "{seqs:?}");
        let ops = i64::try_from(seqs.len()).unwrap();
        assert_eq!(tally(&changes), counted(&[("rejected:bad_header", ops)]));
    }
}

#[test]
fn the_repositories_of_a_batch_are_locked_in_order() {
    let plan = plan();
    let mut log = Log::new();
    log.commit(B, PAGE);
    log.identity(A);
    let batch = log.batch(&plan);
    let (_, asked) = learned(&plan, &batch, &[]);
    assert_eq!(asked["lookup_repos"], [r#"{"did:plc:a","did:plc:b"}"#]);
}
