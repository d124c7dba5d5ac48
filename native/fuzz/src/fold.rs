//! Any entries are folded, or refused because one of them is no entry; over any known rows
//! the accounts add up, every COPY and parameter can be read, every line has its op, and the
//! same fold gives the same changes; an op that is voided leaves no line. Entries that are held
//! already change nothing. A batch leaves what its entries leave one by one, in every table,
//! and asks for nothing that Postgres would refuse: no key twice, no update of what is not
//! there, no rev backwards. To be told more than was asked for changes nothing. What an honest
//! log leaves, it leaves also where creates are believed, and cut over shards in any way. Every
//! number is the sum of its rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use _native::entry::{Entry, EntryError};
use _native::fold::{self, Batch, Changes, Known, ShardEntries};
use _native::plan::Plan;

use crate::lexicon::CATALOG;

use crate::tape::Tape;

use crate::{batches, heap, wire, Verdict};

/// All collections, as `engine.collections.to_plan` encodes them.
pub static PLAN: LazyLock<Plan> =
    LazyLock::new(|| Plan::parse(include_bytes!("../plan.json")).expect("a plan"));

/// 2026-11-21T18:00:00Z: when the entries of the seeds were made, and a little later.
pub const NOW: f64 = 1_795_284_000.0;
/// What a batch holds of an entry, its changes included.
const EACH: usize = 400;

/// Answers that no database gives: of nobody's DIDs and uris, with nonsense in every field.
const ODD: [(&str, &str); 11] = [
    (
        "lookup_repos",
        r#"[["did:plc:ewvi7nxzyoun6zhxrhs64oiz", "~", "", "soon", "9999-12-31T23:59:60Z", null, "odd"],
            ["nobody", null, null, null, null, true, null]]"#,
    ),
    (
        "lookup_actors",
        r#"[["did:plc:ewvi7nxzyoun6zhxrhs64oiz", true, "never", null], ["", false, "", "\u0000"]]"#,
    ),
    (
        "lookup_record",
        r#"[["at://nobody"], ["at://nobody"], [""]]"#,
    ),
    (
        "lookup_posts",
        r#"[["", "", "", "", "", true, true], ["a", "", "~", "a", null, null, false]]"#,
    ),
    (
        "lookup_post_tree",
        r#"[["a", "", "", "b", "b", true, null], ["b", "", "", "a", "a", null, true], ["c", "", "", "c", null, null, null]]"#,
    ),
    (
        "lookup_own_posts",
        r#"[["a", "", null, null, ""], ["b", null, null, "a", "a"]]"#,
    ),
    ("lookup_quoted", r#"[["a", "a", -9], ["", "", 0]]"#),
    (
        "lookup_candidates",
        r#"[["at://nobody", "", "", "", null, "{", null], ["at://did:plc:a/app.bsky.feed.like/a", "", "", "", "", "{\"a\": [1e9, {\"$link\": 1}]}", ""]]"#,
    ),
    (
        "lookup_texts",
        r#"[["", ""], ["a", "[[[["], ["b", "{\"allow\": [1], \"hiddenReplies\": {}}"]]"#,
    ),
    ("lookup_feed_items", r#"[["", ""], ["a", "a"], ["a", "b"]]"#),
    ("_key", r#"[["a"], ["", "", "", ""], []]"#),
];

/// An even first byte: entries in runs. An odd one: choices of events.
pub fn check(data: &[u8]) -> Verdict {
    let mut tape = Tape::new(data);
    let flags = tape.byte();
    if flags & 1 == 0 {
        any_entries(flags, &mut tape)
    } else {
        batches::any_events(flags, &mut tape)
    }
}

fn any_entries(flags: u8, tape: &mut Tape<'_>) -> Verdict {
    let mut entries = Vec::new();
    while !tape.is_empty() && entries.len() < 64 {
        entries.push(tape.run().to_vec());
    }
    let shards = in_shards(&entries, 1 + usize::from(flags >> 1 & 1), &HashMap::new());
    let bytes: usize = entries.iter().map(Vec::len).sum();
    let refused: Vec<EntryError> = entries
        .iter()
        .filter_map(|entry| Entry::decode(entry).err())
        .collect();
    let decoded = heap::bounded(4 << 20, EACH, bytes, || {
        fold::decode(&PLAN, &*CATALOG, shards, NOW)
    });
    let batch = match decoded {
        Err(error) => {
            assert!(refused.contains(&error));
            return Verdict::Rejected;
        }
        Ok(batch) => batch,
    };
    assert_eq!(refused, []);
    assert_eq!(batch.entries(), entries.len());
    let weighed: u64 = batch.weights().iter().map(|(.., bytes)| bytes).sum();
    assert_eq!(weighed, bytes as u64);
    let odd = flags & 4 != 0;
    let known = learned(&batch, flags & 8 != 0, |name, parameters| {
        wire::rows(parameters);
        let fits = |(known, _): &&(&str, &str)| {
            name == *known || (*known == "_key" && name.ends_with("_key"))
        };
        let odd = ODD.iter().find(fits).filter(|_| odd);
        odd.map_or("[]", |(_, rows)| rows).to_owned()
    });
    let changes = fold::fold(&PLAN, &batch, &known, &HashMap::new());
    is_sound(&batch, &changes);
    assert!(same(
        &changes,
        &fold::fold(&PLAN, &batch, &known, &HashMap::new())
    ));
    if !odd {
        // What was there before nobody knows; only what may have followed from it goes.
        let gone = changes.deletes.iter().map(|(name, _)| name.as_str());
        assert!(gone
            .into_iter()
            .all(|name| name.starts_with("delete_post_embed") || name.ends_with("s_of")));
        voided_op_leaves_no_line(&batch, &known, &changes);
    }
    held_entries_change_nothing(&entries, &changes);
    Verdict::of(
        changes
            .tally
            .iter()
            .any(|(.., counts)| counts.contains_key("applied")),
    )
}

/// Everything there is to learn for a batch.
pub fn learned(batch: &Batch, trusting: bool, answer: impl Fn(&str, &[String]) -> String) -> Known {
    learned_more(Known::new(trusting, None), batch, answer)
}

/// What is still to learn.
pub fn learned_more(
    mut known: Known,
    batch: &Batch,
    answer: impl Fn(&str, &[String]) -> String,
) -> Known {
    for _ in 0..8 {
        let wanted = known.wanted(&PLAN, batch);
        if wanted.is_empty() {
            return known;
        }
        let answers = wanted.into_iter().map(|(name, parameters)| {
            let answer = answer(&name, &parameters);
            (name, answer)
        });
        let answers: Vec<_> = answers.collect();
        known
            .learn(&PLAN, &*CATALOG, batch, &answers)
            .expect("answers");
    }
    panic!("there is no end of questions");
}

/// Entry after entry into this many shards, all of which hold the same.
fn in_shards(entries: &[Vec<u8>], shards: usize, held: &HashMap<String, i64>) -> Vec<ShardEntries> {
    let mut shards: Vec<_> = (0..u32::try_from(shards).unwrap_or(1))
        .map(|shard| ShardEntries {
            shard,
            held: held.clone(),
            entries: Vec::new(),
            is_cut: false,
        })
        .collect();
    let count = shards.len();
    for (number, entry) in entries.iter().enumerate() {
        shards[number % count].entries.push(entry.clone());
    }
    shards
}

/// What can be read of changes without a database.
pub fn is_sound(batch: &Batch, changes: &Changes) {
    let counts = || {
        changes
            .tally
            .iter()
            .flat_map(|(.., counts)| counts.values())
    };
    let told: i128 = counts().map(|ops| i128::from(*ops)).sum();
    // Sums saturate; no commit has that many ops.
    if counts().all(|ops| ops.unsigned_abs() < 1 << 56) {
        assert_eq!(
            told,
            i128::from(batch.weight()),
            "the accounts do not add up"
        );
    }
    for (name, parameters) in changes.deletes.iter().chain(&changes.statements) {
        // Counts by CID, and after them those by uri: each list has its own length.
        let lists = if name == "set_quote_counts" {
            2
        } else {
            parameters.len()
        };
        let (first, rest) = parameters.split_at(lists);
        let may_be_of_nothing = name == "set_quote_counts"; // what went is counted where it goes
        assert!(
            may_be_of_nothing || !wire::rows(first).is_empty(),
            "{name} of nothing"
        );
        wire::rows(rest);
    }
    for (number, (table, bytes, count)) in changes.copies.iter().enumerate() {
        let columns = PLAN.tables.iter().find(|each| each.name == *table);
        let columns = &columns.expect("a table of the plan").columns;
        let rows = wire::tuples(bytes, columns.len());
        assert_eq!(rows.len(), *count);
        for (column, cell) in rows.iter().flat_map(|row| columns.iter().zip(row)) {
            let Some(cell) = cell else { continue };
            if matches!(column.source, _native::plan::Source::Texts(_)) {
                assert!(!cell.is_empty());
            } else {
                let is_flag = matches!(column.source, _native::plan::Source::Flag);
                assert!(
                    is_flag || !cell.contains(&0),
                    "NUL in {table}.{}",
                    column.name
                );
                assert!(std::str::from_utf8(cell).is_ok());
            }
        }
        assert!((1..=*count).all(|line| changes.op_of(number, line).is_some()));
        assert_eq!(changes.op_of(number, 0), None);
        assert_eq!(changes.op_of(number, count + 1), None);
        let half = count / 2;
        let parts = [(1, half), (half + 1, usize::MAX), (count + 1, 1)];
        let parts = parts
            .map(|(first, most)| wire::tuples(&changes.part(number, first, most), columns.len()));
        assert_eq!(parts.map(|part| part.len()), [half, count - half, 0]);
        assert_eq!(changes.part(number, 1, *count), *bytes);
    }
}

pub fn same(left: &Changes, right: &Changes) -> bool {
    let all = |changes: &Changes| {
        (
            changes.deletes.clone(),
            changes.copies.clone(),
            changes.statements.clone(),
            changes.tally.clone(),
        )
    };
    all(left) == all(right)
}

fn voided_op_leaves_no_line(batch: &Batch, known: &Known, changes: &Changes) {
    let Some(op) = changes.op_of(0, 1) else {
        return;
    };
    let voided = HashMap::from([(op, String::from("refused \0\"\\"))]);
    let without = fold::fold(&PLAN, batch, known, &voided);
    is_sound(batch, &without);
    for (number, (.., count)) in without.copies.iter().enumerate() {
        assert!((1..=*count).all(|line| without.op_of(number, line) != Some(op)));
    }
    let refused =
        |counts: &BTreeMap<String, i64>| counts.contains_key("rejected:refused_by_database");
    assert!(without.tally.iter().any(|(.., counts)| refused(counts)));
}

/// All but frames without a seq: those have nothing to be known by.
fn held_entries_change_nothing(entries: &[Vec<u8>], changes: &Changes) {
    let mut held: HashMap<String, i64> = HashMap::new();
    for (_, source, seq, _) in &changes.tally {
        let seq = seq.unwrap_or_default();
        let known = held.entry(source.clone()).or_insert(seq);
        *known = seq.max(*known);
    }
    let again = in_shards(entries, 1, &held);
    let batch = fold::decode(&PLAN, &*CATALOG, again, NOW).expect("what was decoded");
    let known = learned(&batch, false, |name, _| panic!("{name} is asked for"));
    let changes = fold::fold(&PLAN, &batch, &known, &HashMap::new());
    is_sound(&batch, &changes);
    assert!(changes.copies.is_empty() && changes.deletes.is_empty());
    assert!(changes
        .statements
        .iter()
        .all(|(name, _)| name == "insert_dead_letters"));
}
