//! Late referents: what is asked for, and what is judged again.

use super::{decode, fold, learned, statement, Log, ShardEntries, Voided};
use crate::plan::Plan;
use std::collections::HashMap;

const X: &str = "at://did:plc:x/app.bsky.feed.post/1";
const POST: &str = "app.bsky.feed.post/1";
const GATE: &str = "app.bsky.feed.threadgate/1";
const Q: &str = "at://did:plc:q/app.bsky.feed.post/1";
const EARLY: &str = "2024-01-01T00:00:01.000Z";
const LATE: &str = "2024-01-01T00:00:02.000Z";

fn plan() -> Plan {
    Plan::parse(include_bytes!("../../../fuzz/plan.json")).unwrap()
}

fn post(reply: &str) -> String {
    format!(
        r#"{{"$type":"app.bsky.feed.post","text":"","createdAt":"{EARLY}"{}}}"#,
        if reply.is_empty() {
            String::new()
        } else {
            format!(r#","reply":{{"root":{{"uri":"{reply}"}},"parent":{{"uri":"{reply}"}}}}"#)
        }
    )
}

fn gate() -> String {
    format!(
        r#"{{"$type":"app.bsky.feed.threadgate","post":"{X}","allow":[],"createdAt":"{EARLY}"}}"#
    )
}

/// Look-ups that were asked for, and statements with their parameters.
type Outcome = (Vec<String>, super::Changes);

fn run(log: Log, answers: &[(&str, &str)]) -> Outcome {
    let plan = plan();
    let entries = log.entries();
    let shard = ShardEntries {
        shard: 3,
        held: HashMap::new(),
        entries,
        is_cut: false,
    };
    let batch = decode(&plan, vec![shard]);
    let (known, asked) = learned(&plan, &batch, answers);
    let changes = fold(&plan, &batch, &known, &Voided::new());
    (asked.into_keys().collect(), changes)
}

/// A reply to X as `lookup_thread` tells it.
fn reply(time: &str) -> String {
    format!(r#"[["{Q}","c","{EARLY}","{X}","{X}",true,false,null,"{time}"]]"#)
}

fn tree() -> String {
    format!(r#"[["{Q}","c","{EARLY}","{X}","{X}",true,false]]"#)
}

/// X comes at `EARLY`, its reply stands there with this time, the latest applied is `latest`.
fn parent_comes(reply_time: &str, latest: i64) -> Outcome {
    let mut log = Log::new();
    log.time = EARLY.into();
    log.write("did:plc:x", &[('+', POST, &post(""))]);
    let latest = format!("[[{latest}]]");
    run(
        log,
        &[
            ("lookup_latest", &latest),
            ("lookup_post_tree", &tree()),
            ("lookup_thread", &reply(reply_time)),
            ("lookup_texts", &format!(r#"[["{Q}",{:?}]]"#, post(X))),
        ],
    )
}

#[test]
fn a_reply_is_judged_again_when_its_parent_comes_late() {
    let (asked, changes) = parent_comes(LATE, 1_704_067_202_000);
    assert!(asked.iter().any(|name| name == "lookup_told"));
    let told = [format!(r#"{{"{Q}"}}"#), "{NULL}".into(), "{NULL}".into()];
    assert_eq!(statement(&changes, "judge_replies"), Some(&told[..]));
    assert_eq!(statement(&changes, "judge_quotes"), None);
    let told = super::copied(&changes, "notification");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0][0], "did:plc:x");
}

#[test]
fn what_is_not_before_a_post_leaves_it_alone() {
    let (_, changes) = parent_comes(EARLY, 1_704_067_202_000);
    assert_eq!(statement(&changes, "judge_replies"), None);
}

#[test]
fn where_nothing_later_was_applied_nothing_is_looked_for() {
    let (asked, changes) = parent_comes(LATE, 1_704_067_201_000);
    assert!(asked.iter().any(|name| name == "lookup_latest"));
    assert!(!asked.iter().any(|name| name == "lookup_thread"));
    assert_eq!(statement(&changes, "judge_replies"), None);
    let reached = statement(&changes, "advance_latest").unwrap();
    assert_eq!(reached, [r#"{"3"}"#, r#"{"1704067201000"}"#]);
}

#[test]
fn a_late_gate_takes_back_what_its_replies_told() {
    let mut log = Log::new();
    log.time = EARLY.into();
    log.write("did:plc:x", &[('+', GATE, &gate())]);
    let (_, changes) = run(
        log,
        &[
            ("lookup_latest", "[[1704067202000]]"),
            ("lookup_thread", &reply(LATE)),
            (
                "lookup_told",
                &format!(
                    r#"[["7","{Q}","did:plc:x","reply","{X}"],["8","{Q}","did:plc:z","mention",null]]"#
                ),
            ),
        ],
    );
    let judged = statement(&changes, "judge_replies").unwrap();
    assert_eq!(
        judged,
        [
            format!(r#"{{"{Q}"}}"#),
            r#"{"true"}"#.into(),
            r#"{"true"}"#.into()
        ]
    );
    assert_eq!(statement(&changes, "delete_told").unwrap(), [r#"{"7"}"#]);
    let counts = statement(&changes, "add_post_counts").unwrap();
    assert_eq!(counts[0], format!(r#"{{"{X}"}}"#));
    assert_eq!(counts[2], r#"{"-1"}"#);
}

#[test]
fn a_reply_of_the_same_batch_is_judged_before_it_is_written() {
    let mut log = Log::new();
    log.time = LATE.into();
    log.write("did:plc:q", &[('+', POST, &post(X))]);
    log.time = EARLY.into();
    log.write("did:plc:x", &[('+', POST, &post(""))]);
    let (_, changes) = run(log, &[("lookup_latest", "[[0]]")]);
    assert_eq!(statement(&changes, "judge_replies"), None);
    assert_eq!(super::copied(&changes, "post").len(), 2);
    let told = super::copied(&changes, "notification");
    assert_eq!(told.len(), 1);
}

#[test]
fn a_late_post_tells_nobody_who_mutes_its_thread() {
    let mutes = format!(r#"[["did:plc:x","{X}"]]"#);
    let mut log = Log::new();
    log.time = EARLY.into();
    // Alone it tells nobody anything.
    log.write("did:plc:x", &[('+', POST, &post(""))]);
    let answers = [
        ("lookup_latest", "[[1704067202000]]"),
        ("lookup_post_tree", &*tree()),
        ("lookup_thread", &*reply(LATE)),
        ("lookup_texts", &*format!(r#"[["{Q}",{:?}]]"#, post(X))),
        ("lookup_some_mutes", &*mutes),
    ];
    let (asked, changes) = run(log, &answers);
    assert!(asked.iter().any(|name| name == "lookup_some_mutes"));
    assert!(statement(&changes, "judge_replies").is_some());
    assert!(super::copied(&changes, "notification").is_empty());
}

#[test]
fn a_late_gate_tells_nobody_who_mutes_its_thread() {
    // The reply quotes what it answers: with the quote's notice gone, the answer's has its place.
    let quote = format!(r#""embed":{{"$type":"app.bsky.embed.record","record":{{"uri":"{X}"}}}}"#);
    let text = post(X).replace(r#""text":"""#, &format!(r#""text":"",{quote}"#));
    let gate = format!(
        r#"{{"$type":"app.bsky.feed.postgate","post":"{X}","createdAt":"{EARLY}",
            "embeddingRules":[{{"$type":"app.bsky.feed.postgate#disableRule"}}]}}"#
    );
    let told = |mutes: &str| {
        let mut log = Log::new();
        log.time = EARLY.into();
        log.write(
            "did:plc:x",
            &[('+', "app.bsky.feed.postgate/1", gate.as_str())],
        );
        let row = r#""c","2024-01-01T00:00:01.000Z""#;
        let reply = format!(r#"["{Q}",{row},"{X}","{X}",null,null,null,"{LATE}"]"#);
        let above = format!(r#"[["{X}",{row},null,null,null,null]]"#);
        let answers = [
            ("lookup_latest", "[[1704067202000]]"),
            ("lookup_quoting", &*format!(r#"[["{X}","c",{reply}]]"#)),
            ("lookup_texts", &*format!(r#"[["{Q}",{text:?}]]"#)),
            ("lookup_post_chain", &*above),
            (
                "lookup_told",
                &*format!(r#"[["7","{Q}","did:plc:x","quote","{X}"]]"#),
            ),
            ("lookup_some_mutes", mutes),
        ];
        let (_, changes) = run(log, &answers);
        assert_eq!(statement(&changes, "delete_told").unwrap(), [r#"{"7"}"#]);
        super::copied(&changes, "notification").len()
    };
    assert_eq!(told("[]"), 1);
    assert_eq!(told(&format!(r#"[["did:plc:x","{X}"]]"#)), 0);
}
