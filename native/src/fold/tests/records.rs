//! Ops on records and rows.

use super::*;

const ONE: &str = "t.link/1";
const TWO: &str = "t.link/2";
const X: &[(&str, &str)] = &[("to", "at://did:plc:x/t.page/1")];
const Y: &[(&str, &str)] = &[("to", "at://did:plc:y/t.page/1")];

fn link(path: &str, to: &[(&str, &str)]) -> Vec<String> {
    vec![uri(A, path), to[0].1.into(), A.into()]
}

fn one_commit(changes: &[Change<'_>], answers: &[(&str, &str)]) -> Changes {
    let mut log = Log::new();
    log.commit(A, changes);
    run(log, answers)
}

fn records(changes: &Changes) -> Vec<String> {
    let rows = copied(changes, "record");
    rows.into_iter().map(|mut row| row.swap_remove(0)).collect()
}

/// Answers for a row of link 1 that points to X.
fn has_one() -> [(&'static str, &'static str); 2] {
    [
        ("lookup_record", r#"[["at://did:plc:a/t.link/1"]]"#),
        (
            "lookup_link",
            r#"[["at://did:plc:a/t.link/1", "c", "did:plc:a", "at://did:plc:x/t.page/1"]]"#,
        ),
    ]
}

const HOLDS_X: (&str, &str) = (
    "lookup_link_key",
    r#"[["did:plc:a", "at://did:plc:x/t.page/1", "at://did:plc:a/t.link/1"]]"#,
);

#[test]
fn the_first_create_of_a_uri_wins() {
    let changes = one_commit(&[('+', ONE, X), ('+', ONE, Y)], &[]);
    assert_eq!(copied(&changes, "link"), [link(ONE, X)]);
    assert_eq!(copied(&changes, "record").len(), 1);
    assert_eq!(
        tally(&changes),
        counted(&[("applied", 1), ("no_effect:exists", 1)])
    );
}

#[test]
fn a_create_of_a_known_uri_changes_nothing() {
    let changes = one_commit(&[('+', ONE, Y)], &has_one());
    assert!(changes.copies.is_empty() && changes.deletes.is_empty());
    assert_eq!(tally(&changes), counted(&[("no_effect:exists", 1)]));
}

#[test]
fn an_update_sets_a_known_record_and_replaces_its_row() {
    let changes = one_commit(&[('~', ONE, Y)], &[&has_one()[..], &[HOLDS_NONE]].concat());
    assert_eq!(records(&changes), [""; 0]);
    let update = statement(&changes, "update_record").unwrap();
    assert_eq!(update[0], r#"{"at://did:plc:a/t.link/1"}"#);
    assert_eq!(update[1], r#"{"{\"to\":\"at://did:plc:y/t.page/1\"}"}"#);
    assert!(statement(&changes, "delete_record").is_none());
    assert!(statement(&changes, "delete_link").is_some());
    assert_eq!(copied(&changes, "link"), [link(ONE, Y)]);
}

const HOLDS_NONE: (&str, &str) = ("lookup_link_key", "[]");

#[test]
fn an_update_of_an_unknown_uri_is_a_create() {
    let changes = one_commit(&[('~', ONE, X)], &[]);
    assert_eq!(records(&changes), [uri(A, ONE)]);
    assert_eq!(copied(&changes, "link"), [link(ONE, X)]);
}

#[test]
fn delete_and_create_make_a_record_anew() {
    let changes = one_commit(&[('-', ONE, &[]), ('+', ONE, Y)], &has_one());
    assert!(statement(&changes, "delete_record").is_some());
    assert!(statement(&changes, "update_record").is_none());
    assert_eq!(records(&changes), [uri(A, ONE)]);
    assert_eq!(copied(&changes, "link"), [link(ONE, Y)]);
}

#[test]
fn what_came_and_went_leaves_nothing() {
    let ops = [('+', ONE, X), ('~', ONE, Y), ('-', ONE, &[][..])];
    let changes = one_commit(&ops, &[]);
    assert!(changes.copies.is_empty() && changes.deletes.is_empty());
    assert_eq!(tally(&changes), counted(&[("applied", 3)]));
}

#[test]
fn a_delete_of_nothing_has_no_effect() {
    let changes = one_commit(&[('-', ONE, &[])], &[]);
    assert!(changes.deletes.is_empty());
    assert_eq!(tally(&changes), counted(&[("no_effect:absent", 1)]));
}

#[test]
fn a_loser_of_a_unique_key_keeps_only_its_record() {
    let changes = one_commit(&[('+', ONE, X), ('+', TWO, X)], &[]);
    assert_eq!(records(&changes), [uri(A, ONE), uri(A, TWO)]);
    assert_eq!(copied(&changes, "link"), [link(ONE, X)]);
    let known = one_commit(&[('+', TWO, X)], &[HOLDS_X]);
    assert_eq!(records(&known), [uri(A, TWO)]);
    assert!(copied(&known, "link").is_empty());
}

#[test]
fn a_deleted_winner_frees_its_key() {
    let changes = one_commit(
        &[('-', ONE, &[]), ('+', TWO, X)],
        &[&has_one()[..], &[HOLDS_X]].concat(),
    );
    assert_eq!(copied(&changes, "link"), [link(TWO, X)]);
    assert_eq!(
        statement(&changes, "delete_link").unwrap(),
        [r#"{"at://did:plc:a/t.link/1"}"#]
    );
}

#[test]
fn an_update_into_an_occupied_key_is_lost() {
    let ops = [('+', ONE, X), ('+', TWO, Y), ('~', TWO, X)];
    let changes = one_commit(&ops, &[]);
    assert_eq!(copied(&changes, "link"), [link(ONE, X), link(TWO, Y)]);
    let texts = copied(&changes, "record");
    assert!(texts[1][2].contains("did:plc:y"), "{texts:?}");
    assert_eq!(
        tally(&changes),
        counted(&[("applied", 2), ("rejected:key_occupied", 1)])
    );
    let letters = statement(&changes, "insert_dead_letters").unwrap();
    assert_eq!(letters[6], r#"{"t.link/2"}"#);
    assert_eq!(letters[8], r#"{"key_occupied"}"#);
    assert!(letters[10].starts_with(r#"{"\\xa1"#), "{}", letters[10]);
}

#[test]
fn a_row_left_over_does_not_bring_its_record_back() {
    let row = [has_one()[1], HOLDS_NONE];
    let changes = one_commit(&[('~', ONE, Y)], &row);
    assert!(records(&changes).is_empty());
    assert!(statement(&changes, "update_record").is_none());
    assert_eq!(copied(&changes, "link"), [link(ONE, Y)]);
}

#[test]
fn keys_are_looked_up_whole() {
    let plan = plan();
    let mut log = Log::new();
    log.commit(A, &[('+', ONE, X), ('+', "t.page/1", &[("text", "")])]);
    let batch = log.batch(&plan);
    let (_, asked) = learned(&plan, &batch, &[]);
    assert_eq!(
        asked["lookup_link_key"],
        [r#"{"did:plc:a"}"#, r#"{"at://did:plc:x/t.page/1"}"#]
    );
    assert_eq!(asked["lookup_page"], [r#"{"at://did:plc:a/t.page/1"}"#]);
    assert!(!asked.contains_key("lookup_note"));
}

#[test]
fn a_bad_uri_costs_an_insert_but_not_a_replacement() {
    let bad: &[(&str, &str)] = &[("to", "at://did:web:a_b/t.page/1")];
    let changes = one_commit(&[('+', ONE, bad)], &[]);
    assert_eq!(tally(&changes), counted(&[("rejected:bad_uri", 1)]));
    assert!(changes.copies.is_empty());
    let changes = one_commit(&[('+', ONE, X), ('~', ONE, bad)], &[]);
    assert_eq!(copied(&changes, "link"), [link(ONE, bad)]);
}

#[test]
fn gates_must_be_of_their_own_post() {
    let own: &[(&str, &str)] = &[("of", "at://did:plc:a/t.page/1")];
    let changes = one_commit(
        &[
            ('+', "t.gate/1", own),
            ('+', "t.gate/2", own),
            ('+', "t.page/1", &[("text", "")]),
        ],
        &[],
    );
    assert_eq!(copied(&changes, "gate").len(), 1);
    assert_eq!(
        tally(&changes),
        counted(&[("applied", 2), ("rejected:gate_mismatch", 1)])
    );
    let mut log = Log::new();
    log.commit(B, &[('+', "t.gate/1", own)]);
    assert_eq!(
        tally(&run(log, &[])),
        counted(&[("rejected:gate_mismatch", 1)])
    );
}

#[test]
fn only_self_has_a_row() {
    let text: &[(&str, &str)] = &[("text", "x")];
    let nul: &[(&str, &str)] = &[("text", "\0")];
    let ops = [('+', "t.card/self", text), ('~', "t.card/other", nul)];
    let changes = one_commit(&ops, &[]);
    assert_eq!(
        copied(&changes, "card"),
        [[uri(A, "t.card/self"), "x".into()]]
    );
    assert_eq!(
        records(&changes),
        [uri(A, "t.card/other"), uri(A, "t.card/self")]
    );
}

#[test]
fn an_update_of_a_note_never_created_stores_nothing() {
    let ops = [('~', "t.note/self", &[][..]), ('~', "t.note/1", &[])];
    let changes = one_commit(&ops, &[]);
    assert_eq!(records(&changes), [uri(A, "t.note/1")]);
    assert_eq!(
        tally(&changes),
        counted(&[("applied", 1), ("no_effect:never_created", 1)])
    );
    let ops = [
        ('+', "t.note/self", &[][..]),
        ('~', "t.note/self", &[("a", "b")]),
    ];
    assert!(copied(&one_commit(&ops, &[]), "record")[0][2].contains("\"b\""));
}

#[test]
fn nul_costs_a_column_but_not_a_field() {
    let ops = [
        ('+', "t.page/1", &[("text", "a\0b")][..]),
        ('+', "t.page/2", &[("text", "ab"), ("other", "\0")]),
    ];
    let changes = one_commit(&ops, &[]);
    assert_eq!(records(&changes), [uri(A, "t.page/2")]);
    assert!(copied(&changes, "record")[0][2].contains(r"\u0000"));
    assert_eq!(
        tally(&changes),
        counted(&[("applied", 1), ("rejected:nul_in_text", 1)])
    );
}

#[test]
fn an_invalid_write_leaves_the_old_state() {
    let bad: &[(&str, &str)] = &[("bad", ""), ("to", "y")];
    let changes = one_commit(&[('+', ONE, X), ('~', ONE, bad), ('+', TWO, bad)], &[]);
    assert_eq!(copied(&changes, "link"), [link(ONE, X)]);
    assert_eq!(
        tally(&changes),
        counted(&[("applied", 1), ("rejected:invalid_record", 2)])
    );
}

#[test]
fn other_collections_are_counted_and_not_stored() {
    let changes = one_commit(&[('+', "t.other/1", X)], &[]);
    assert!(changes.copies.is_empty());
    assert_eq!(
        tally(&changes),
        counted(&[("no_effect:unindexed_collection", 1)])
    );
    assert!(statement(&changes, "upsert_actor_sync").is_some());
    assert!(statement(&changes, "insert_actors").is_some());
}

#[test]
fn paths_that_make_no_uri_are_rejected() {
    let changes = one_commit(&[('+', "t.page/a b", X), ('-', "t.page/a?b", &[])], &[]);
    assert_eq!(tally(&changes), counted(&[("rejected:bad_path", 2)]));
}

#[test]
fn side_rows_of_a_changed_page_are_dropped_first() {
    let page: &[(&str, &str)] = &[("text", "")];
    let ops = [
        ('~', "t.page/1", page),
        ('-', "t.page/2", &[]),
        ('+', "t.page/3", page),
        ('-', "t.page/4", &[]),
    ];
    let pages = r#"[["at://did:plc:a/t.page/1", "c"], ["at://did:plc:a/t.page/2", "c"]]"#;
    let changes = one_commit(&ops, &[("lookup_page", pages)]);
    let both = [r#"{"at://did:plc:a/t.page/1","at://did:plc:a/t.page/2"}"#];
    assert_eq!(statement(&changes, "delete_quote").unwrap(), both);
    assert_eq!(statement(&changes, "delete_page").unwrap(), both);
}

#[test]
fn a_voided_op_was_never_there() {
    let plan = plan();
    let mut log = Log::new();
    log.commit(A, &[('+', ONE, X), ('+', TWO, X)]);
    let batch = log.batch(&plan);
    let known = known(&plan, &batch, &[]);
    let first = fold(&plan, &batch, &known, &Voided::new());
    assert_eq!(first.op_of(1, 1), Some(0));
    assert_eq!(first.op_of(0, 2), Some(1));
    assert_eq!(
        (first.op_of(1, 2), first.op_of(9, 1), first.op_of(0, 0)),
        (None, None, None)
    );
    let voided = Voided::from([(0, String::from("too long"))]);
    let second = fold(&plan, &batch, &known, &voided);
    assert_eq!(copied(&second, "link"), [link(TWO, X)]);
    assert_eq!(
        tally(&second),
        counted(&[("applied", 1), ("rejected:refused_by_database", 1)])
    );
    let letters = statement(&second, "insert_dead_letters").unwrap();
    assert_eq!(
        (letters[9].as_str(), letters[4].as_str()),
        (r#"{"too long"}"#, r#"{"1"}"#)
    );
}

#[test]
fn shards_are_merged_by_seq_and_held_seqs_are_skipped() {
    let plan = plan();
    let mut log = Log::new();
    log.commit(A, &[('+', ONE, X)]);
    log.commit(B, &[('+', ONE, X)]);
    log.commit(A, &[('~', ONE, Y)]);
    log.commit(B, &[('-', ONE, &[])]);
    let entries = log.entries();
    let part = |shard, held: &[(&str, i64)], which: &[usize]| ShardEntries {
        shard,
        held: held
            .iter()
            .map(|(name, seq)| ((*name).into(), *seq))
            .collect(),
        entries: which.iter().map(|index| entries[*index].clone()).collect(),
        is_cut: false,
    };
    let batch = decode(
        &plan,
        vec![
            part(0, &[("relay.test/1", 2)], &[1, 3, 3]),
            part(1, &[("relay.test/2", 9)], &[0, 2, 0]),
        ],
    );
    assert_eq!(batch.weight(), 6);
    let weighed = batch.weights().iter();
    let weighed: Vec<_> = weighed
        .map(|(shard, entries, events, _)| (*shard, *entries, *events))
        .collect();
    assert_eq!(weighed, [(0, 3, 3), (1, 3, 3)]);
    let changes = fold(
        &plan,
        &batch,
        &super::known(&plan, &batch, &[]),
        &Voided::new(),
    );
    assert_eq!(copied(&changes, "link"), [link(ONE, Y)]);
    let seqs: Vec<_> = changes
        .tally
        .iter()
        .map(|(shard, _, seq, counts)| (*shard, *seq, counts.clone()))
        .collect();
    let counts = |pairs: &[(&str, i64)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(name, ops)| ((*name).to_owned(), *ops))
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!(
        seqs,
        [
            (
                0,
                Some(4),
                counts(&[("duplicate", 2), ("no_effect:absent", 1)])
            ),
            (1, Some(3), counts(&[("applied", 2), ("duplicate", 1)])),
        ]
    );
}

#[test]
fn a_copy_can_be_had_in_parts() {
    let all: &[Change<'_>] = &[
        ('+', "t.card/self", &[("text", "a")]),
        ('+', "t.page/1", &[("text", "b")]),
        ('+', "t.page/2", &[("text", "longer")]),
        ('+', "t.page/3", &[("text", "")]),
    ];
    let changes = one_commit(all, &[]);
    let pages = changes.copies.iter().position(|(name, ..)| name == "page");
    let pages = pages.unwrap();
    let whole = &changes.copies[pages].1;
    assert_eq!(&changes.part(pages, 1, 3), whole);
    assert_eq!(&changes.part(pages, 1, usize::MAX), whole);
    let (header, tuples) = whole.split_at(19);
    let tuples = &tuples[..tuples.len() - 2];
    let parts = [1, 2, 3, 4].map(|line| changes.part(pages, line, 1));
    for part in &parts {
        assert!(part.starts_with(header) && part.ends_with(&[0xff, 0xff]));
    }
    let inner = parts.map(|part| part[19..part.len() - 2].to_vec());
    assert_eq!(inner.concat(), tuples);
    assert_eq!(inner[3], b"");
    assert_eq!(changes.part(9, 1, 1).len(), 21);
}
