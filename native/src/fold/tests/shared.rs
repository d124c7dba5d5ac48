//! Rows that several records make, and the numbers that they add up to.

use super::*;

const P: &str = "at://did:plc:b/app.bsky.feed.post/p";
const LIKE: &str = "app.bsky.feed.like/1";
const OTHER_LIKE: &str = "app.bsky.feed.like/2";
const POST: &str = "app.bsky.feed.post/1";

fn about_p(more: &str) -> String {
    format!(
        r#"{{"subject": {{"uri": "{P}", "cid": "c"}}, "createdAt": "2023-01-01T00:00:00Z"{more}}}"#
    )
}

fn written(changes: &[(char, &str, &str)], answers: &[(&str, &str)]) -> Changes {
    let mut log = Log::new();
    log.write(A, changes);
    run_real(log, answers)
}

fn reasons(changes: &Changes) -> Vec<[String; 3]> {
    let rows = copied(changes, "notification");
    rows.into_iter()
        .map(|row| [row[0].clone(), row[4].clone(), row[5].clone()])
        .collect()
}

#[test]
fn a_like_counts_and_tells() {
    let changes = written(&[('+', LIKE, &about_p(""))], &[]);
    let counts = counts_of(&changes, "add_post_counts");
    assert_eq!(
        counts,
        [(P.to_owned(), ["1", "0", "0"].map(str::to_owned).to_vec())]
    );
    assert_eq!(reasons(&changes), [["did:plc:b", "like", P]]);
}

#[test]
fn a_second_like_of_the_same_is_a_duplicate_that_neither_counts_nor_tells() {
    let like = about_p("");
    let changes = written(&[('+', LIKE, &like), ('+', OTHER_LIKE, &like)], &[]);
    assert_eq!(counts_of(&changes, "add_post_counts")[0].1[0], "1");
    assert_eq!(reasons(&changes).len(), 1);
    let lost = copied(&changes, "duplicate_record");
    assert_eq!(lost[0][0], uri(A, OTHER_LIKE));
    assert_eq!(lost[0][2], uri(A, LIKE));
}

#[test]
fn a_deleted_winner_gives_its_place_to_the_loser() {
    let like = about_p("");
    let ops = [
        ('+', LIKE, &*like),
        ('+', OTHER_LIKE, &*like),
        ('-', LIKE, ""),
    ];
    let changes = written(&ops, &[]);
    let likes = copied(&changes, "like");
    assert_eq!(likes.len(), 1);
    assert_eq!(likes[0][0], uri(A, OTHER_LIKE));
    assert_eq!(counts_of(&changes, "add_post_counts")[0].1[0], "1");
    assert_eq!(
        copied(&changes, "duplicate_record").len(),
        1,
        "it stays among the losers"
    );
}

/// The loser in the database, and the winner's row.
fn lost() -> [(&'static str, &'static str); 4] {
    [
        (
            "lookup_record",
            r#"[["at://did:plc:a/app.bsky.feed.like/1"]]"#,
        ),
        (
            "lookup_candidates",
            r#"[["at://did:plc:a/app.bsky.feed.like/2", "c", "at://did:plc:a/app.bsky.feed.like/1", "t", "c",
            "{\"subject\":{\"uri\":\"at://did:plc:b/app.bsky.feed.post/p\",\"cid\":\"c\"},\"createdAt\":\"2023-01-01T00:00:00Z\"}", "t"]]"#,
        ),
        (
            "lookup_like_key",
            r#"[["at://did:plc:b/app.bsky.feed.post/p", "did:plc:a", "at://did:plc:a/app.bsky.feed.like/1"]]"#,
        ),
        (
            "lookup_like",
            r#"[["at://did:plc:a/app.bsky.feed.like/1", "c", "at://did:plc:b/app.bsky.feed.post/p", "did:plc:a"]]"#,
        ),
    ]
}

#[test]
fn a_known_loser_takes_the_place_of_its_winner() {
    let changes = written(&[('-', LIKE, "")], &lost());
    let likes = copied(&changes, "like");
    assert_eq!(likes.len(), 1);
    assert_eq!(likes[0][0], uri(A, OTHER_LIKE));
    assert_eq!(counts_of(&changes, "add_post_counts")[0].1[0], "0");
}

#[test]
fn a_loser_that_has_a_row_by_now_takes_no_place() {
    let mut answers = lost();
    answers[3].1 = r#"[
        ["at://did:plc:a/app.bsky.feed.like/1", "c", "at://did:plc:b/app.bsky.feed.post/p", "did:plc:a"],
        ["at://did:plc:a/app.bsky.feed.like/2", "c", "at://did:plc:b/app.bsky.feed.post/q", "did:plc:a"]]"#;
    let changes = written(&[('-', LIKE, "")], &answers);
    assert!(copied(&changes, "like").is_empty());
    assert_eq!(counts_of(&changes, "add_post_counts")[0].1[0], "-1");
}

#[test]
fn a_like_by_way_of_a_repost_tells_both() {
    let via = r#", "via": {"uri": "at://did:plc:c/app.bsky.feed.repost/r", "cid": "c"}"#;
    let changes = written(&[('+', LIKE, &about_p(via))], &[]);
    let repost = "at://did:plc:c/app.bsky.feed.repost/r";
    let both = [
        ["did:plc:b", "like", P],
        ["did:plc:c", "like-via-repost", repost],
    ];
    assert_eq!(reasons(&changes), both);
}

#[test]
fn what_was_told_of_a_like_goes_with_it() {
    let changes = written(&[('-', LIKE, "")], &lost()[3..]);
    let gone = statement(&changes, "delete_notifications_of").unwrap();
    assert_eq!(gone, [format!("{{\"{}\"}}", uri(A, LIKE))]);
}

#[test]
fn a_repost_has_a_feed_item_even_where_it_lost() {
    let repost = about_p("");
    let ops = [
        ('+', "app.bsky.feed.repost/1", &*repost),
        ('+', "app.bsky.feed.repost/2", &*repost),
    ];
    let changes = written(&ops, &[]);
    assert_eq!(copied(&changes, "repost").len(), 1);
    assert_eq!(copied(&changes, "feed_item").len(), 2);
    assert_eq!(counts_of(&changes, "add_post_counts")[0].1[2], "1");
}

#[test]
fn follows_count_on_both_sides() {
    let follow = r#"{"subject": "did:plc:b", "createdAt": "2023-01-01T00:00:00Z"}"#;
    let changes = written(&[('+', "app.bsky.graph.follow/1", follow)], &[]);
    let counts = counts_of(&changes, "add_profile_counts");
    assert_eq!(
        counts[0],
        (A.to_owned(), ["0", "1", "0"].map(str::to_owned).to_vec())
    );
    assert_eq!(
        counts[1],
        (B.to_owned(), ["1", "0", "0"].map(str::to_owned).to_vec())
    );
    assert_eq!(reasons(&changes), [["did:plc:b", "follow", "NULL"]]);
}

#[test]
fn a_verification_that_goes_is_told_too() {
    let verification = r#"{"subject": "did:plc:b", "handle": "b.test", "displayName": "b",
        "createdAt": "2023-01-01T00:00:00Z"}"#;
    let path = "app.bsky.graph.verification/1";
    let changes = written(&[('+', path, verification), ('-', path, "")], &[]);
    let told = [
        ["did:plc:b", "verified", "NULL"],
        ["did:plc:b", "unverified", "NULL"],
    ];
    assert_eq!(reasons(&changes), told);
}

fn quoting(uri: &str) -> String {
    format!(
        r#"{{"text": "", "createdAt": "2023-01-01T00:00:00Z", "embed": {{
        "$type": "app.bsky.embed.record", "record": {{"uri": "{uri}", "cid": "{CID}"}}}}}}"#
    )
}

#[test]
fn a_quote_counts_by_its_cid_and_tells() {
    let changes = written(&[('+', POST, &quoting(P))], &[]);
    assert_eq!(copied(&changes, "quote")[0][2..4], [P, CID]);
    let counted = statement(&changes, "set_quote_counts").unwrap();
    let [cid, p] = [CID, P].map(|of| format!("{{\"{of}\"}}"));
    assert_eq!(counted, [&cid, r#"{"1"}"#, &p, &cid, r#"{"1"}"#]);
    assert_eq!(
        counts_of(&changes, "add_post_counts")[0].0,
        P,
        "it has a row"
    );
    assert_eq!(reasons(&changes), [["did:plc:b", "quote", P]]);
}

#[test]
fn what_is_embedded_and_no_post_is_no_quote() {
    let list = "at://did:plc:b/app.bsky.graph.list/l";
    let changes = written(&[('+', POST, &quoting(list))], &[]);
    assert_eq!(copied(&changes, "post_embed_record").len(), 1);
    assert!(copied(&changes, "quote").is_empty());
    assert!(statement(&changes, "set_quote_counts").is_none());
    assert!(reasons(&changes).is_empty());
}

#[test]
fn nobody_is_told_in_a_thread_that_they_mute() {
    let post = format!(r#"[["{P}", "c", "t", null, null, null, null]]"#);
    let mutes = format!(r#"[["did:plc:b", "{P}"]]"#);
    let answers = [("lookup_some_mutes", &*mutes), ("lookup_posts", &*post)];
    let changes = written(&[('+', LIKE, &about_p(""))], &answers);
    assert_eq!(copied(&changes, "like").len(), 1);
    assert!(reasons(&changes).is_empty());
}
