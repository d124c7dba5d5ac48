//! What is asked for, and when.

use std::collections::BTreeMap;

use super::*;

type Asked = BTreeMap<String, Vec<String>>;

/// What a batch asks for that trusts, over one repository.
fn asked(log: Log, repo: &str) -> Asked {
    let plan = plan();
    let batch = log.batch(&plan);
    let mut known = Known::new(true, None);
    let mut asked = Asked::new();
    loop {
        let wanted = known.wanted(&plan, &batch);
        if wanted.is_empty() {
            return asked;
        }
        let mut answers = Vec::new();
        for (name, parameters) in wanted {
            let answer = if name == "lookup_repos" { repo } else { "[]" };
            answers.push((name.clone(), answer.to_owned()));
            asked.insert(name, parameters);
        }
        known.learn(&plan, &lexicon, &batch, &answers).unwrap();
    }
}

fn looks(asked: &Asked, path: &str) -> bool {
    let records = asked.get("lookup_record");
    records.is_some_and(|arrays| arrays[0].contains(&format!("\"{}\"", uri(A, path))))
}

/// Of a repository whose rev is the first commit's.
fn at_first(resync: &str) -> String {
    format!(
        r#"[["{A}", "{}", {resync}, null, null, null, null]]"#,
        rev(1)
    )
}

/// The first commit is applied already: the log goes on from it.
fn after_first() -> Log {
    let mut log = Log::new();
    log.commit(A, PAGE);
    log.entries.clear();
    log.entries.push(Vec::new());
    log
}

fn one_more(mut log: Log, repo: &str) -> Asked {
    log.entries.remove(0);
    asked(log, repo)
}

const NEW: &[Change<'static>] = &[('+', "t.page/2", &[("text", "")])];

#[test]
fn a_create_that_follows_what_is_applied_is_not_looked_up() {
    let mut log = after_first();
    log.commit(A, NEW);
    log.commit(
        A,
        &[('+', "t.link/3", &[("to", "at://did:plc:x/t.page/1")])],
    );
    let asked = one_more(log, &at_first("null"));
    assert!(!asked.contains_key("lookup_record") && !asked.contains_key("lookup_page"));
    assert!(
        asked.contains_key("lookup_link_key"),
        "keys are of other records"
    );
}

#[test]
fn nobody_is_believed_who_is_not_to_be_trusted() {
    let plan = plan();
    let mut log = Log::new();
    log.commit(A, NEW);
    let batch = log.batch(&plan);
    let (_, asked) = learned(&plan, &batch, &[]);
    assert!(looks(&asked, "t.page/2"));
}

#[test]
fn updates_and_deletes_are_looked_up() {
    let mut log = after_first();
    log.commit(
        A,
        &[('~', "t.page/2", &[("text", "")]), ('-', "t.page/3", &[])],
    );
    let asked = one_more(log, &at_first("null"));
    assert!(looks(&asked, "t.page/2") && looks(&asked, "t.page/3"));
}

#[test]
fn a_create_after_another_rev_than_the_one_applied_is_looked_up() {
    let mut log = after_first();
    log.commit_at(A, &rev(9), Some(&rev(8)), NEW);
    log.commit_at(
        A,
        &rev(10),
        Some(&rev(9)),
        &[('+', "t.page/3", &[("text", "")])],
    );
    let asked = one_more(log, &at_first("null"));
    assert!(looks(&asked, "t.page/2"));
    assert!(looks(&asked, "t.page/3"), "the gap stays");
}

#[test]
fn a_create_in_a_repository_with_a_gap_is_looked_up() {
    let mut log = after_first();
    log.commit(A, NEW);
    let asked = one_more(log, &at_first("\"since_mismatch\""));
    assert!(looks(&asked, "t.page/2"));
}

#[test]
fn a_create_after_a_sync_event_is_looked_up() {
    let mut log = after_first();
    log.sync(A, &rev(5));
    log.commit_at(A, &rev(6), Some(&rev(5)), NEW);
    let asked = one_more(log, &at_first("null"));
    assert!(looks(&asked, "t.page/2"));
}

#[test]
fn a_rev_from_the_future_proves_nothing_and_moves_nothing() {
    let mut log = after_first();
    log.commit_at(A, "3zzzzzzzzzzzz", Some(&rev(1)), NEW);
    log.commit_at(
        A,
        &rev(6),
        Some(&rev(1)),
        &[('+', "t.page/3", &[("text", "")])],
    );
    let asked = one_more(log, &at_first("null"));
    assert!(looks(&asked, "t.page/2"), "no proof");
    assert!(
        !looks(&asked, "t.page/3"),
        "the commit after it follows the one applied"
    );
}

#[test]
fn a_repository_never_seen_is_believed_from_its_first_commit_on() {
    let mut log = Log::new();
    log.commit(A, NEW);
    assert!(!looks(&asked(log, "[]"), "t.page/2"));
    let mut log = Log::new();
    log.commit_at(A, &rev(2), Some(&rev(1)), NEW);
    assert!(looks(&asked(log, "[]"), "t.page/2"));
}

#[test]
fn a_batch_of_nothing_asks_for_nothing() {
    assert_eq!(asked(Log::new(), "[]"), Asked::new());
}

#[test]
fn answers_to_what_was_not_asked_are_our_own_mistake() {
    let plan = plan();
    let batch = Log::new().batch(&plan);
    let mut known = Known::new(false, None);
    for (name, text) in [
        ("lookup_nothing", "[]"),
        ("lookup_nothing_key", "[]"),
        ("page", "[]"),
        ("lookup_repos", "[[1]]"),
        ("lookup_page", "{"),
    ] {
        let answer = [(name.to_owned(), text.to_owned())];
        let result = known.learn(&plan, &lexicon, &batch, &answer);
        assert!(result.is_err(), "{name}");
    }
}

#[test]
fn a_loser_that_may_take_a_place_is_looked_up_with_its_row() {
    let plan = plan();
    let mut log = Log::new();
    log.commit(A, &[('-', "t.link/1", &[])]);
    let batch = log.batch(&plan);
    let candidates = r#"[["at://did:plc:a/t.link/2", "c", "at://did:plc:a/t.link/1", "t",
        "c", "{\"to\": \"at://did:plc:x/t.page/1\"}", "t"]]"#;
    let (_, asked) = learned(&plan, &batch, &[("lookup_candidates", candidates)]);
    assert_eq!(asked["lookup_link"], [r#"{"at://did:plc:a/t.link/2"}"#]);
    assert_eq!(asked["lookup_link_key"].len(), 2, "who holds its key now");
}

/// A reply of B in a thread of A.
const REPLY: &str = r#"{"text": "", "createdAt": "2024-01-01T00:00:00Z", "reply": {
    "root": {"uri": "at://did:plc:a/app.bsky.feed.post/r", "cid": ""},
    "parent": {"uri": "at://did:plc:c/app.bsky.feed.post/p", "cid": ""}}}"#;

fn reply_asks(gate: &str) -> Asked {
    let plan = real();
    let mut log = Log::new();
    log.write(B, &[('+', "app.bsky.feed.post/1", REPLY)]);
    let batch = log.batch(&plan);
    let gate = serde_json::json!([["at://did:plc:a/app.bsky.feed.threadgate/r", gate]]);
    learned(&plan, &batch, &[("lookup_texts", &gate.to_string())]).1
}

#[test]
fn a_gate_asks_for_what_its_rules_name() {
    let gate = r#"{"allow": [
        {"$type": "app.bsky.feed.threadgate#followerRule"},
        {"$type": "app.bsky.feed.threadgate#mentionRule"},
        {"$type": "app.bsky.feed.threadgate#listRule", "list": "l"}]}"#;
    let asked = reply_asks(gate);
    assert_eq!(
        asked["lookup_follow_key"],
        [r#"{"did:plc:b"}"#, r#"{"did:plc:a"}"#]
    );
    assert_eq!(
        asked["lookup_list_item_key"],
        [r#"{"l"}"#, r#"{"did:plc:b"}"#]
    );
    assert!(asked["lookup_texts"][0].contains("did:plc:a/app.bsky.feed.post/r"));
    assert!(asked["lookup_texts"][0].contains("did:plc:c/app.bsky.feed.post/p"));
}

#[test]
fn a_gate_without_rules_asks_for_nothing() {
    for gate in [r#"{"allow": []}"#, "{}", "[", r#"{"allow": {}}"#] {
        let asked = reply_asks(gate);
        assert!(!asked.contains_key("lookup_follow_key"), "{gate}");
        assert!(!asked.contains_key("lookup_list_item_key"), "{gate}");
    }
}

#[test]
fn mutes_are_asked_one_by_one_only_where_there_are_many() {
    let plan = real();
    let parent = r#"[["at://did:plc:c/app.bsky.feed.post/p", "c", "t", null, null, null, null]]"#;
    for (count, is_asked) in [(999, false), (1_000, true)] {
        let mut log = Log::new();
        log.write(B, &[('+', "app.bsky.feed.post/1", REPLY)]);
        let batch = log.batch(&plan);
        let mutes: Vec<_> = (0..count).map(|n| [n.to_string(), String::new()]).collect();
        let mutes = serde_json::to_string(&mutes).unwrap();
        let answers = [
            ("lookup_some_mutes", mutes.as_str()),
            ("lookup_post_chain", parent),
        ];
        let (_, asked) = learned(&plan, &batch, &answers);
        assert_eq!(asked.contains_key("lookup_mutes"), is_asked);
        if let Some(pairs) = asked.get("lookup_mutes") {
            assert!(pairs[0].contains("did:plc:c"), "{pairs:?}");
            assert!(
                pairs[1].contains("at://did:plc:c/app.bsky.feed.post/p"),
                "{pairs:?}"
            );
        }
    }
}
