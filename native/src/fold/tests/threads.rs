//! Replies: judged by their gates, counted, told of.

use super::*;

const ROOT: &str = "at://did:plc:a/app.bsky.feed.post/r";
const R: &str = "app.bsky.feed.post/r";
const TOP: &str = r#"{"text": "", "createdAt": "2023-01-01T00:00:00Z"}"#;

/// A reply to this parent in the thread of the root.
fn reply(parent: &str) -> String {
    format!(
        r#"{{"text": "", "createdAt": "2023-01-01T00:00:00Z", "reply": {{
        "root": {{"uri": "{ROOT}", "cid": "c"}}, "parent": {{"uri": "{parent}", "cid": "c"}}}}}}"#
    )
}

fn gate(rules: &str) -> String {
    format!(r#"{{"post": "{ROOT}", "createdAt": "2023-01-01T00:00:00Z", {rules}}}"#)
}

const GATE: &str = "app.bsky.feed.threadgate/r";
const POST: &str = "app.bsky.feed.post/1";
const FOLLOWERS: &str = r#""allow": [{"$type": "app.bsky.feed.threadgate#followerRule"}]"#;

/// The root with this gate, then a reply of B.
fn gated(rules: &str) -> Log {
    let mut log = Log::new();
    log.write(A, &[('+', R, TOP), ('+', GATE, &gate(rules))]);
    log.write(B, &[('+', POST, &reply(ROOT))]);
    log
}

/// The five flags of a post that is written: invalid root, gate, embedding, has gates.
fn flags(changes: &Changes, of: &str) -> Vec<String> {
    let rows = copied(changes, "post");
    let row = rows.iter().find(|row| row[0] == of).unwrap();
    row[12..].to_vec()
}

fn told(changes: &Changes) -> Vec<[String; 2]> {
    let rows = copied(changes, "notification");
    rows.into_iter()
        .map(|row| [row[0].clone(), row[2].clone()])
        .collect()
}

#[test]
fn a_reply_in_its_thread_is_not_judged_and_counts() {
    let mut log = Log::new();
    log.write(A, &[('+', R, TOP)]);
    log.write(B, &[('+', POST, &reply(ROOT))]);
    let changes = run_real(log, &[]);
    assert_eq!(flags(&changes, &uri(B, POST)), ["NULL"; 5]);
    assert_eq!(counts_of(&changes, "add_post_counts")[0].1[1], "1");
    assert_eq!(told(&changes), [[A.to_owned(), uri(B, POST)]]);
}

#[test]
fn a_reply_to_nothing_stands_in_no_thread() {
    let mut log = Log::new();
    log.write(B, &[('+', POST, &reply(ROOT))]);
    let changes = run_real(log, &[]);
    assert_eq!(flags(&changes, &uri(B, POST))[..2], ["\u{1}", "\0"]);
    assert!(told(&changes).is_empty());
}

#[test]
fn a_gate_keeps_out_whom_it_does_not_let_in() {
    let changes = run_real(gated(r#""allow": []"#), &[]);
    assert_eq!(flags(&changes, &uri(B, POST))[..2], ["\0", "\u{1}"]);
    assert_eq!(counts_of(&changes, "add_post_counts")[0].1[1], "0");
    assert!(told(&changes).is_empty());
    assert_eq!(flags(&changes, ROOT)[3], "\u{1}", "the root has a gate");
}

#[test]
fn a_gate_lets_followers_in() {
    let follows = r#"[["did:plc:b", "did:plc:a", "at://did:plc:b/app.bsky.graph.follow/1"]]"#;
    for (follows, violates) in [(follows, "NULL"), ("[]", "\u{1}")] {
        let changes = run_real(gated(FOLLOWERS), &[("lookup_follow_key", follows)]);
        assert_eq!(flags(&changes, &uri(B, POST))[1], violates);
    }
}

#[test]
fn a_gate_lets_in_whom_the_root_mentions() {
    let mentioning = r#"{"text": "@b", "createdAt": "2023-01-01T00:00:00Z", "facets": [
        {"index": {"byteStart": 0, "byteEnd": 2}, "features": [
        {"$type": "app.bsky.richtext.facet#mention", "did": "did:plc:b"}]}]}"#;
    let rules = r#""allow": [{"$type": "app.bsky.feed.threadgate#mentionRule"}]"#;
    for (did, violates) in [(B, "NULL"), ("did:plc:c", "\u{1}")] {
        let mut log = Log::new();
        log.write(A, &[('+', R, mentioning), ('+', GATE, &gate(rules))]);
        log.write(did, &[('+', POST, &reply(ROOT))]);
        let changes = run_real(log, &[]);
        assert_eq!(flags(&changes, &uri(did, POST))[1], violates);
    }
}

#[test]
fn the_gate_in_force_is_the_last_one_written() {
    let mut log = gated(r#""allow": []"#);
    log.write(A, &[('~', GATE, &gate(FOLLOWERS))]);
    log.write(A, &[('-', GATE, "")]);
    log.write(B, &[('+', "app.bsky.feed.post/2", &reply(ROOT))]);
    let changes = run_real(log, &[]);
    assert_eq!(flags(&changes, &uri(B, POST))[1], "\u{1}");
    assert_eq!(flags(&changes, &uri(B, "app.bsky.feed.post/2"))[1], "NULL");
    assert_eq!(
        flags(&changes, ROOT)[3],
        "\0",
        "the root has no gate any more"
    );
}

#[test]
fn a_gate_marks_the_known_post_that_it_guards() {
    let mut log = Log::new();
    log.write(A, &[('+', GATE, &gate(FOLLOWERS))]);
    let changes = run_real(log, &[]);
    let marks = statement(&changes, "mark_thread_gates").unwrap();
    assert_eq!(marks, [format!("{{\"{ROOT}\"}}"), r#"{"true"}"#.to_owned()]);
    assert!(statement(&changes, "mark_post_gates").is_none());
}

#[test]
fn a_post_that_others_may_not_embed_is_marked_and_not_told_of() {
    let rules = r#""embeddingRules": [{"$type": "app.bsky.feed.postgate#disableRule"}]"#;
    let quoting = format!(
        r#"{{"text": "", "createdAt": "2023-01-01T00:00:00Z", "embed": {{
        "$type": "app.bsky.embed.record", "record": {{"uri": "{ROOT}", "cid": "{CID}"}}}}}}"#
    );
    let mut log = Log::new();
    let postgate = "app.bsky.feed.postgate/r";
    log.write(A, &[('+', R, TOP), ('+', postgate, &gate(rules))]);
    log.write(B, &[('+', POST, &quoting)]);
    let changes = run_real(log, &[]);
    assert_eq!(flags(&changes, &uri(B, POST))[2], "\u{1}");
    assert_eq!(flags(&changes, ROOT)[4], "\u{1}");
    assert_eq!(copied(&changes, "quote").len(), 1);
    assert!(told(&changes).is_empty());
}

#[test]
fn those_above_are_told_until_a_hidden_reply() {
    let hidden = uri("did:plc:c", POST);
    let rules = format!(r#""hiddenReplies": ["{hidden}"]"#);
    for (rules, whom) in [(&*rules, 1), (r#""hiddenReplies": []"#, 2)] {
        let mut log = Log::new();
        log.write(A, &[('+', R, TOP), ('+', GATE, &gate(rules))]);
        log.write("did:plc:c", &[('+', POST, &reply(ROOT))]);
        log.write(B, &[('+', POST, &reply(&hidden))]);
        let changes = run_real(log, &[]);
        let of_b = told(&changes)
            .into_iter()
            .filter(|[_, of]| *of == uri(B, POST));
        assert_eq!(of_b.count(), whom);
    }
}

#[test]
fn replies_before_their_parent_tell_whom_a_hidden_reply_left_untold() {
    let hidden = uri("did:plc:c", POST);
    let known = format!(
        r#"[["{}", "c", "t", "{}", "{ROOT}", null, null]]"#,
        uri("did:plc:d", POST),
        uri(B, POST)
    );
    let rules = format!(r#""hiddenReplies": ["{hidden}"]"#);
    let mut log = Log::new();
    log.write(A, &[('+', R, TOP), ('+', GATE, &gate(&rules))]);
    log.write("did:plc:c", &[('+', POST, &reply(ROOT))]);
    log.write(B, &[('+', POST, &reply(&hidden))]);
    let changes = run_real(log, &[("lookup_post_tree", &known)]);
    let early = [A.to_owned(), uri("did:plc:d", POST)];
    assert!(told(&changes).contains(&early), "{:?}", told(&changes));
}

#[test]
fn a_reply_of_the_threads_author_is_kept_apart_and_stays_when_deleted() {
    let mut log = Log::new();
    log.write(
        A,
        &[('+', R, TOP), ('+', POST, &reply(ROOT)), ('-', POST, "")],
    );
    let changes = run_real(log, &[]);
    let inserted = statement(&changes, "insert_op_thread_replies").unwrap();
    assert_eq!(inserted[1], format!("{{\"{ROOT}\"}}"));
    assert_eq!(inserted[2], format!("{{\"{}\"}}", uri(A, POST)));
    assert_eq!(
        inserted[3], r#"{"2024-01-01T00:00:00.000Z"}"#,
        "when it was deleted"
    );
    assert!(copied(&changes, "post").iter().all(|row| row[0] == ROOT));
}

#[test]
fn a_post_that_goes_takes_its_feed_items_and_quotes_with_it() {
    let known = format!(r#"[["{ROOT}", "c"]]"#);
    let mut log = Log::new();
    log.write(A, &[('-', R, "")]);
    let changes = run_real(log, &[("lookup_post", &known)]);
    for name in [
        "delete_feed_items_of",
        "delete_quotes_of",
        "delete_post",
        "delete_post_embed_record",
    ] {
        assert_eq!(
            statement(&changes, name),
            Some(&[format!("{{\"{ROOT}\"}}")][..]),
            "{name}"
        );
    }
    let counts = counts_of(&changes, "add_profile_counts");
    assert_eq!(
        counts,
        [(A.to_owned(), ["0", "0", "-1"].map(str::to_owned).to_vec())]
    );
}
