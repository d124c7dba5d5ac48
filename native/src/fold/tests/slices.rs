//! Slices against what is there, and what they do to the fetch that they are of.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::log::Log;
use super::*;
use crate::cid::Cid;
use crate::entry::{Closing, Entry, Slice, SliceRecord};
use crate::fold::{fold_ahead, Slices};

/// Of the n-th record.
fn cid_of(number: u8) -> Vec<u8> {
    [1, 0x71, 0x12, 0x20]
        .into_iter()
        .chain([number; 32])
        .collect()
}

fn text_of(number: u8) -> String {
    Cid::exact(&cid_of(number)).unwrap().to_string()
}

/// A slice of notes-like pages: path, record, number of the CID.
type Page<'p> = (&'p str, &'p [(&'p str, &'p str)], u8);

fn slice(range: (Option<&str>, Option<&str>), pages: &[Page<'_>]) -> Vec<u8> {
    slice_of(7, range, pages, &[])
}

fn slice_of(
    fetch_id: i64,
    (after, through): (Option<&str>, Option<&str>),
    pages: &[Page<'_>],
    collections: &[&str],
) -> Vec<u8> {
    let blocks: Vec<_> = pages
        .iter()
        .map(|(path, fields, number)| (*path, record(fields), cid_of(*number)))
        .collect();
    let rev = rev(5);
    let entry = Entry::Slice(Slice {
        did: A,
        fetch_id,
        rev: &rev,
        after,
        through,
        collections: collections.to_vec(),
        filtered: 0,
        notify: true,
        records: blocks
            .iter()
            .map(|(path, record, cid)| SliceRecord {
                path,
                cid: Cid::exact(cid).unwrap(),
                record,
            })
            .collect(),
        rejected: vec![],
    });
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    bytes
}

fn closing() -> Vec<u8> {
    let (rev, cid) = (rev(5), cid_of(0));
    let cid = Cid::exact(&cid).unwrap();
    let mut bytes = Vec::new();
    Entry::Closing(Closing {
        did: A,
        fetch_id: 7,
        rev: &rev,
        commit: cid,
        data: cid,
        records: 2,
    })
    .encode(&mut bytes);
    bytes
}

fn read(entries: Vec<Vec<u8>>) -> Slices {
    let shards = vec![ShardEntries {
        shard: 3,
        entries,
        ..ShardEntries::default()
    }];
    Slices::read(shards, NOW).unwrap()
}

/// The batch that the slices are, folded while fetch 7 is waited for.
fn folded(entries: Vec<Vec<u8>>, there: &[(&str, &str)], known_rows: &[(&str, &str)]) -> Changes {
    let plan = plan();
    let slices = read(entries);
    let answers: Vec<_> = slices
        .wanted()
        .into_iter()
        .map(|(name, _)| {
            let found = there.iter().find(|(of, _)| *of == name);
            let text = found.map_or("[]", |(_, text)| text);
            (name, text.to_owned())
        })
        .collect();
    let batch = slices.resolve(&plan, &lexicon, &answers, None).unwrap();
    let fetches = format!(r#"[["{A}", 7]]"#);
    let mut rows = vec![("lookup_fetches", fetches.as_str())];
    rows.extend(known_rows);
    let known = known(&plan, &batch, &rows);
    fold(&plan, &batch, &known, &Voided::new())
}

/// The accounts of the one shard.
fn outcomes(changes: &Changes) -> BTreeMap<&str, i64> {
    let [(3, source, None, counts)] = changes.tally.as_slice() else {
        panic!("{:?}", changes.tally);
    };
    assert_eq!(source, "backfill/0");
    let counts = counts.iter();
    counts.map(|(name, ops)| (name.as_str(), *ops)).collect()
}

const TEXT: &[(&str, &str)] = &[("text", "new")];
const WHOLE: (Option<&str>, Option<&str>) = (None, None);

fn there(pages: &[(&str, u8)]) -> String {
    let rows: Vec<_> = pages
        .iter()
        .map(|(path, number)| format!(r#"["{}", "{}"]"#, uri(A, path), text_of(*number)))
        .collect();
    format!("[{}]", rows.join(","))
}

#[test]
fn what_is_not_there_is_created_what_differs_updated_and_what_is_gone_deleted() {
    let held = there(&[("t.page/b", 2), ("t.page/c", 3), ("t.page/d", 4)]);
    let rows = format!(
        r#"[["{}", "x"], ["{}", "x"]]"#,
        uri(A, "t.page/b"),
        uri(A, "t.page/d")
    );
    let records = format!(
        r#"[["{}"], ["{}"]]"#,
        uri(A, "t.page/b"),
        uri(A, "t.page/d")
    );
    let changes = folded(
        vec![slice(
            WHOLE,
            &[
                ("t.page/a", TEXT, 1),
                ("t.page/b", TEXT, 9),
                ("t.page/c", TEXT, 3),
            ],
        )],
        &[("lookup_repo_records", &held)],
        &[("lookup_page", &rows), ("lookup_record", &records)],
    );
    let made: Vec<_> = copied(&changes, "page")
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(made, [uri(A, "t.page/a"), uri(A, "t.page/b")]);
    let gone = format!(r#"{{"{}"}}"#, uri(A, "t.page/d"));
    let deletes: Vec<_> = changes
        .deletes
        .iter()
        .filter(|(name, _)| name == "delete_record")
        .collect();
    assert_eq!(deletes[0].1, [gone]);
    assert_eq!(
        outcomes(&changes),
        counted(&[("applied", 3), ("no_effect:unchanged", 1)])
    );
}

#[test]
fn only_the_range_and_the_listed_collections_lose_rows() {
    let held = there(&[("t.note/self", 1), ("t.page/b", 2), ("t.page/z", 3)]);
    let range = (None, Some("t.page/c"));
    let changes = folded(
        vec![slice_of(7, range, &[], &["t.page"])],
        &[("lookup_repo_records", &held)],
        &[("lookup_record", &format!(r#"[["{}"]]"#, uri(A, "t.page/b")))],
    );
    let deleted = changes
        .deletes
        .iter()
        .find(|(name, _)| name == "delete_record");
    assert_eq!(
        deleted.unwrap().1,
        [format!(r#"{{"{}"}}"#, uri(A, "t.page/b"))]
    );
    let begun = statement(&changes, "begin_fetches").unwrap();
    assert_eq!(
        begun,
        [
            r#"{"did:plc:a"}"#.to_owned(),
            format!(r#"{{"{}"}}"#, uri(A, "t.page/c"))
        ]
    );
}

#[test]
fn what_live_ops_touched_after_the_snapshot_is_left_alone() {
    let held = there(&[("t.page/a", 1), ("t.page/c", 3)]);
    let touched = format!(
        r#"[["{A}", "{}", "{}"], ["{A}", "{}", "{}"], ["{A}", "{}", "{}"]]"#,
        uri(A, "t.page/a"),
        rev(6),
        uri(A, "t.page/b"),
        rev(6),
        uri(A, "t.page/c"),
        rev(4),
    );
    let changes = folded(
        vec![slice(WHOLE, &[("t.page/b", TEXT, 2)])],
        &[("lookup_repo_records", &held), ("lookup_touched", &touched)],
        &[("lookup_record", &format!(r#"[["{}"]]"#, uri(A, "t.page/c")))],
    );
    assert!(copied(&changes, "page").is_empty());
    let deleted = changes
        .deletes
        .iter()
        .find(|(name, _)| name == "delete_record");
    assert_eq!(
        deleted.unwrap().1,
        [format!(r#"{{"{}"}}"#, uri(A, "t.page/c"))]
    );
    assert_eq!(
        outcomes(&changes),
        counted(&[("applied", 1), ("no_effect:touched", 1)])
    );
}

#[test]
fn entries_of_another_fetch_do_nothing() {
    let changes = folded(
        vec![slice_of(6, WHOLE, &[("t.page/a", TEXT, 1)], &[])],
        &[],
        &[],
    );
    assert!(changes.copies.is_empty() && changes.statements.is_empty());
    assert_eq!(outcomes(&changes), counted(&[("no_effect:other_fetch", 1)]));
}

#[test]
fn a_slice_moves_the_rev_and_the_closing_entry_ends_the_fetch() {
    let known = format!(r#"[["{A}", "{}", "sync", null, null, null, null]]"#, rev(2));
    let rows: &[(&str, &str)] = &[("lookup_repos", &known)];
    let did = r#"{"did:plc:a"}"#;
    let of_rev = format!(r#"{{"{}"}}"#, rev(5));
    let changes = folded(vec![slice(WHOLE, &[])], &[], rows);
    let moved = repo(&changes).unwrap();
    assert_eq!(moved[..3], [did, &of_rev, r#"{"sync"}"#]);
    assert_eq!(changes.fetches, [(A.to_owned(), 7)]);
    assert!(statement(&changes, "close_fetches").is_none());
    let changes = folded(vec![slice(WHOLE, &[]), closing()], &[], rows);
    assert_eq!(repo(&changes).unwrap()[..3], [did, &of_rev, "{NULL}"]);
    let data = format!(r#"{{"{}"}}"#, text_of(0));
    assert_eq!(
        statement(&changes, "close_fetches").unwrap(),
        [did, &of_rev, r#"{"2"}"#, &data, "{NULL}"]
    );
    assert!(statement(&changes, "begin_fetches").is_none());
}

#[test]
fn a_snapshot_from_the_future_ends_its_fetch_and_changes_nothing_else() {
    let before = format!(r#"[["{A}", "{}", "sync", null, null, null, null]]"#, rev(2));
    let plan = plan();
    let entries = vec![slice(WHOLE, &[("t.page/a", TEXT, 1)]), closing()];
    let shards = vec![ShardEntries {
        shard: 3,
        entries,
        ..ShardEntries::default()
    }];
    // As if the clock stood in 2001.
    let slices = Slices::read(shards, 1e9).unwrap();
    let empty = |(name, _)| (name, "[]".to_owned());
    let answers: Vec<_> = slices.wanted().into_iter().map(empty).collect();
    let batch = slices.resolve(&plan, &lexicon, &answers, None).unwrap();
    let fetches = format!(r#"[["{A}", 7]]"#);
    let rows = [
        ("lookup_fetches", fetches.as_str()),
        ("lookup_repos", &before),
    ];
    let known = known(&plan, &batch, &rows);
    let changes = fold(&plan, &batch, &known, &Voided::new());
    assert!(changes.copies.is_empty());
    let of_rev = format!(r#"{{"{}"}}"#, rev(2));
    assert_eq!(repo(&changes).unwrap()[1..3], [&of_rev, r#"{"sync"}"#]);
    let closed = statement(&changes, "close_fetches").unwrap();
    assert!(closed[4].contains("five minutes ahead"), "{closed:?}");
    assert_eq!(
        outcomes(&changes),
        BTreeMap::from([
            ("no_effect:rev_in_future", 1),
            ("rejected:rev_in_future", 1)
        ])
    );
}

#[test]
fn what_was_missed_after_the_snapshot_still_has_to_be_mended() {
    let known = format!(r#"[["{A}", "{}", "sync", null, null, null, null]]"#, rev(9));
    for (missed, left) in [(6, r#"{"sync"}"#), (5, "{NULL}")] {
        let touched = format!(r#"[["{A}", "at://{A}", "{}"]]"#, rev(missed));
        let changes = folded(
            vec![slice(WHOLE, &[]), closing()],
            &[("lookup_touched", &touched)],
            &[("lookup_repos", &known)],
        );
        let of_rev = format!(r#"{{"{}"}}"#, rev(9));
        assert_eq!(repo(&changes).unwrap()[1..3], [of_rev.as_str(), left]);
    }
}

#[test]
fn a_poison_record_costs_itself() {
    let bad: &[(&str, &str)] = &[("bad", "x")];
    let pages = [("t.page/a", bad, 1), ("t.page/b", TEXT, 2)];
    let changes = folded(vec![slice(WHOLE, &pages)], &[], &[]);
    assert_eq!(copied(&changes, "page").len(), 1);
    let letters = statement(&changes, "insert_dead_letters").unwrap();
    assert_eq!(letters[0], r#"{"firehose_backfill"}"#);
    assert_eq!(letters[4], "{NULL}");
    assert_eq!(letters[6], r#"{"t.page/a"}"#);
}

#[test]
fn later_slices_ask_for_their_own_range_and_wait_for_the_first() {
    let (a, b) = ("t.page/a", "t.page/b");
    let later = || read(vec![slice((Some(a), Some(b)), &[(b, TEXT, 2)]), closing()]);
    let wanted: Vec<_> = later().wanted().into_iter().map(|(name, _)| name).collect();
    assert_eq!(wanted, ["lookup_touched", "lookup_cids", "lookup_stale"]);
    let plan = plan();
    let batch = read(vec![slice((None, Some(a)), &[])]);
    let answers: Vec<_> = batch
        .wanted()
        .into_iter()
        .map(|(name, _)| (name, "[]".into()))
        .collect();
    let batch = Arc::new(batch.resolve(&plan, &lexicon, &answers, None).unwrap());
    let fetches = format!(r#"[["{A}", 7]]"#);
    let known = known(&plan, &batch, &[("lookup_fetches", &fetches)]);
    let (_, carry) = fold_ahead(&plan, &batch, &known, &Voided::new());
    assert!(later().is_blocked(Some(&carry)));
    assert!(!later().is_blocked(None));
}

#[test]
fn ranges_that_end_before_they_begin_are_empty() {
    for (after, through) in [("t.page/b", "t.page/a"), ("t.page/a", "t.page/a")] {
        let entry = slice((Some(after), Some(through)), &[("t.page/a", TEXT, 1)]);
        let changes = folded(vec![entry], &[], &[]);
        assert_eq!(copied(&changes, "page").len(), 1);
    }
}

#[test]
fn times_are_those_of_record_keys_that_are_not_later_than_the_snapshot() {
    let (older, later) = (
        String::from("t.page/3j22222222222"),
        format!("t.page/{}", rev(6)),
    );
    let pages = [
        (older.as_str(), TEXT, 1),
        (later.as_str(), TEXT, 2),
        ("t.page/x", TEXT, 3),
    ];
    let plan = plan();
    let slices = read(vec![slice(WHOLE, &pages)]);
    let answers: Vec<_> = slices
        .wanted()
        .into_iter()
        .map(|(name, _)| (name, "[]".into()))
        .collect();
    let batch = slices.resolve(&plan, &lexicon, &answers, None).unwrap();
    let times: Vec<_> = batch
        .events
        .iter()
        .skip(1)
        .map(|event| &*event.time)
        .collect();
    assert_eq!(times[1], times[2]);
    assert!(
        times[0] < times[1] && times[0].ends_with('Z') && times[0].len() == 24,
        "{times:?}"
    );
}

#[test]
fn what_a_host_says_of_an_account_comes_among_the_slices() {
    let mut log = Log::new();
    log.account(A, false, Some("takendown"));
    let entries = vec![log.entries.remove(0), closing()];
    let actor = format!(r#"[["{A}", true, "2024-01-01T00:00:00.000Z", null]]"#);
    let changes = folded(entries, &[], &[("lookup_actors", &actor)]);
    let set = statement(&changes, "update_actor_status").unwrap();
    assert_eq!(set[1], r#"{"takendown"}"#);
    assert_eq!(outcomes(&changes), BTreeMap::from([("applied", 2)]));
}

#[test]
fn entries_in_the_wrong_stream_are_not_read() {
    let shards = |entry: Vec<u8>| {
        vec![ShardEntries {
            entries: vec![entry],
            ..ShardEntries::default()
        }]
    };
    let plan = plan();
    assert!(super::super::decode(&plan, &lexicon, shards(closing()), NOW).is_err());
    let mut log = Log::new();
    log.commit(A, PAGE);
    assert!(Slices::read(shards(log.entries.remove(0)), NOW).is_err());
}
