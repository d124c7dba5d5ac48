//! Accounts and identities: status, look-ups that become due, what is held by time.

use super::log::encode;
use super::*;
use crate::entry::{Entry, Identity, Origin};

/// Whether an event at a time makes a known actor's look-up due.
fn is_due(time: &str, has_handle: bool, due: &str) -> bool {
    let mut log = Log::new();
    log.time = time.into();
    log.commit(A, PAGE);
    let actor = format!(r#"[["{A}", {has_handle}, "2024-01-01T00:00:00.000Z", {due}]]"#);
    let changes = run(log, &[("lookup_actors", &actor)]);
    assert!(statement(&changes, "insert_actors").is_none());
    statement(&changes, "upsert_identity_due").is_some()
}

#[test]
fn handles_are_looked_up_again_strictly_after_their_time() {
    assert!(!is_due("2024-01-02T00:00:00.000Z", true, "null"));
    assert!(is_due("2024-01-02T00:00:00.001Z", true, "null"));
    assert!(!is_due("2024-01-01T01:00:00.000Z", false, "null"));
    assert!(is_due("2024-01-01T01:00:00.001Z", false, "null"));
    assert!(!is_due("2023-12-01T00:00:00.000Z", false, "null"));
}

#[test]
fn a_look_up_that_is_due_counts_as_done() {
    let due = "\"2024-01-01T00:30:00.000Z\"";
    assert!(!is_due("2024-01-01T02:00:00.000Z", false, due));
    assert!(is_due("2024-01-02T00:30:00.001Z", false, due));
}

#[test]
fn an_identity_event_forces_a_look_up_and_the_last_wins() {
    let mut log = Log::new();
    log.identity(A);
    log.time = "2024-01-01T00:00:01.000Z".into();
    log.identity(A);
    log.commit(A, PAGE);
    let changes = run(log, &[]);
    let due = statement(&changes, "upsert_identity_due").unwrap();
    assert_eq!(
        due[1..],
        [r#"{"2"}"#, r#"{"2024-01-01T00:00:01.000Z"}"#, r#"{"true"}"#]
    );
    let actors = statement(&changes, "insert_actors").unwrap();
    assert_eq!(actors[1], r#"{"2024-01-01T00:00:00.000Z"}"#);
}

#[test]
fn account_and_identity_events_must_be_newer_as_instants() {
    let known = format!(
        r#"[["{A}", null, null, "2024-01-01T00:00:00Z", "2024-01-01T01:00:00+01:00", true, null]]"#
    );
    let mut log = Log::new();
    log.identity(A);
    log.account(A, false, Some("takendown"));
    log.time = "2024-01-01T00:00:00.001Z".into();
    log.account(A, false, Some("suspended"));
    let changes = run(log, &[("lookup_repos", &known)]);
    assert_eq!(
        tally(&changes),
        counted(&[("applied", 1), ("duplicate", 2)])
    );
    assert_eq!(repo(&changes).unwrap()[6], r#"{"suspended"}"#);
}

#[test]
fn a_time_from_the_future_does_not_silence_what_comes_after() {
    let known = format!(
        r#"[["{A}", null, null, "2024-01-01T00:05:00.001Z", "9999-01-01T00:00:00Z", false, null]]"#
    );
    for (time, outcomes) in [
        ("2024-01-01T00:00:00Z", [("applied", 2), ("", 0)]),
        (
            "2024-01-01T00:05:00.001Z",
            [("applied", 1), ("duplicate", 1)],
        ),
        ("9999-01-01T00:00:00Z", [("applied", 1), ("duplicate", 1)]),
    ] {
        let mut log = Log::new();
        log.time = time.into();
        log.identity(A);
        log.account(A, true, None);
        let changes = run(log, &[("lookup_repos", &known)]);
        let outcomes = outcomes.into_iter().filter(|(_, ops)| *ops > 0);
        assert_eq!(tally(&changes), outcomes.collect(), "{time}");
    }
    let mut log = Log::new();
    log.account(A, true, None);
    let known = known.replace("00:05:00.001Z", "00:05:00.000Z");
    let changes = run(log, &[("lookup_repos", &known)]);
    assert_eq!(tally(&changes), counted(&[("duplicate", 1)]));
}

#[test]
fn the_last_event_asks_whatever_seq_its_relay_gave_it() {
    let origin = |relay, seq, time| Origin {
        relay,
        generation: 1,
        seq,
        did: A,
        time,
    };
    let entries = [
        ("one.test", 900, "2024-01-01T00:00:00Z"),
        ("two.test", 7, "2024-01-01T00:00:01Z"),
    ]
    .map(|(relay, seq, time)| {
        encode(&Entry::Identity(Identity {
            origin: origin(relay, seq, time),
            handle: None,
        }))
    });
    let plan = plan();
    let batch = decode(
        &plan,
        vec![ShardEntries {
            shard: 3,
            held: HashMap::new(),
            entries: entries.to_vec(),
            is_cut: false,
        }],
    );
    let known = known(&plan, &batch, &[]);
    let changes = fold(&plan, &batch, &known, &Voided::new());
    let due = statement(&changes, "upsert_identity_due").unwrap();
    assert_eq!(
        due[1..],
        [r#"{"7"}"#, r#"{"2024-01-01T00:00:01Z"}"#, r#"{"true"}"#]
    );
}

#[test]
fn accounts_set_the_status_of_their_actor() {
    for (active, status, outcome, kept) in [
        (true, None, "applied", Some("{NULL}")),
        (true, Some("deactivated"), "applied", Some("{NULL}")),
        (
            false,
            Some("takendown"),
            "applied",
            Some(r#"{"takendown"}"#),
        ),
        (
            false,
            Some("deleted"),
            "no_effect:account_deletion_unconfirmed",
            None,
        ),
        (true, Some("throttled"), "no_effect:ignored_status", None),
        (false, None, "rejected:bad_status", None),
    ] {
        let actor = format!(r#"[["{A}", true, "2024-01-01T00:00:00.000Z", null]]"#);
        let mut log = Log::new();
        log.account(A, active, status);
        let changes = run(log, &[("lookup_actors", &actor)]);
        assert_eq!(tally(&changes), counted(&[(outcome, 1)]), "{status:?}");
        let set = statement(&changes, "update_actor_status").map(|row| row[1].as_str());
        assert_eq!(set, kept, "{status:?}");
        assert!(statement(&changes, "upsert_identity_due").is_none());
        let remembered = repo(&changes).map(|row| row[6] != "{NULL}");
        assert_eq!(
            remembered,
            (outcome != "rejected:bad_status").then_some(status.is_some())
        );
    }
}

#[test]
fn an_account_event_can_be_the_first_of_its_did() {
    let mut log = Log::new();
    log.account(A, false, Some("takendown"));
    log.account(B, false, Some("deleted"));
    let changes = run(log, &[]);
    let actors = statement(&changes, "insert_actors").unwrap();
    assert_eq!(
        (actors[0].as_str(), actors[2].as_str()),
        (r#"{"did:plc:a"}"#, r#"{"takendown"}"#)
    );
    assert!(statement(&changes, "update_actor_status").is_none());
}

/// What is noted of the deletion that a log asks for.
fn deletion(log: Log) -> Option<Vec<String>> {
    let known = format!(r#"[["{A}", "3jaaaaaaaaa22", null, null, null, true, null]]"#);
    let changes = run(log, &[("lookup_repos", &known)]);
    statement(&changes, "upsert_deletions").map(<[String]>::to_vec)
}

#[test]
fn a_deletion_is_noted_with_its_event_and_the_rev_before_it() {
    let mut log = Log::new();
    log.account(A, false, Some("deleted"));
    let noted = deletion(log).unwrap();
    assert_eq!(noted[0], r#"{"did:plc:a"}"#);
    assert_eq!(noted[1], r#"{"3"}"#);
    assert_eq!(noted[3..5], [r#"{"1"}"#, r#"{"1"}"#]);
    assert_eq!(noted[5], r#"{"2024-01-01T00:00:00.000Z"}"#);
    assert_eq!(noted[6], r#"{"3jaaaaaaaaa22"}"#);
}

#[test]
fn what_comes_after_a_deletion_calls_it_off() {
    for then in ["account", "commit", "nothing"] {
        let mut log = Log::new();
        log.account(A, false, Some("deleted"));
        log.time = "2024-01-01T00:00:01.000Z".into();
        match then {
            "account" => log.account(A, true, None),
            "commit" => log.commit(A, PAGE),
            _ => log.identity(A),
        }
        assert_eq!(deletion(log).is_some(), then == "nothing", "{then}");
    }
}
