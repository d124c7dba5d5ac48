//! The fold as a pure function: batches written down, their net effect read back.

mod accounts;
mod carry;
mod dids;
mod front;
mod late;
mod log;
mod lookups;
mod overlays;
mod records;
mod shared;
mod slices;
mod threads;

use std::collections::{BTreeMap, HashMap};

use log::Log;

use super::{fold, Batch, Changes, Known, ShardEntries, Voided};
use crate::cbor::Value;
use crate::plan::Plan;

pub(super) const CID: &str = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a";
pub(super) const A: &str = "did:plc:a";
pub(super) const B: &str = "did:plc:b";
/// 2024-01-01T00:00:00Z.
const NOW: f64 = 1_704_067_200.0;

/// A link with a unique key, a page with side rows, a gate, a note that is record only.
const PLAN: &str = r#"{
 "record": {"name": "record", "columns": [
  {"name": "uri", "source": "uri", "path": "", "type": "character varying"},
  {"name": "did", "source": "did", "path": "", "type": "character varying"},
  {"name": "json", "source": "json", "path": "", "type": "text"}]},
 "collections": [
  {"nsid": "t.link", "table": {"name": "link", "columns": [
    {"name": "uri", "source": "uri", "path": "", "type": "character varying"},
    {"name": "to", "source": "text", "path": "to", "type": "character varying"},
    {"name": "by", "source": "did", "path": "", "type": "character varying"}]},
   "unique": ["by", "to"], "self_only": false, "validated": true, "belongs": null,
   "uris": [], "insert_uris": ["to"], "embeds": []},
  {"nsid": "t.page", "table": {"name": "page", "columns": [
    {"name": "uri", "source": "uri", "path": "", "type": "character varying"},
    {"name": "text", "source": "text", "path": "text", "type": "character varying"}]},
   "unique": [], "self_only": false, "validated": true, "belongs": null,
   "uris": [], "insert_uris": [], "embeds": [{"kind": "record", "table": {"name": "quote",
    "columns": [
     {"name": "postUri", "source": "embed", "path": "", "type": "character varying"},
     {"name": "uri", "source": "embed", "path": "", "type": "character varying"},
     {"name": "cid", "source": "embed", "path": "", "type": "character varying"}]}}]},
  {"nsid": "t.gate", "table": {"name": "gate", "columns": [
    {"name": "uri", "source": "uri", "path": "", "type": "character varying"},
    {"name": "of", "source": "text", "path": "of", "type": "character varying"}]},
   "unique": ["of"], "self_only": false, "validated": true,
   "belongs": {"path": "of", "reason": "gate_mismatch", "same_rkey": true},
   "uris": ["of"], "insert_uris": [], "embeds": []},
  {"nsid": "t.card", "table": {"name": "card", "columns": [
    {"name": "uri", "source": "uri", "path": "", "type": "character varying"},
    {"name": "text", "source": "text", "path": "text", "type": "character varying"}]},
   "unique": [], "self_only": true, "validated": true, "belongs": null,
   "uris": [], "insert_uris": [], "embeds": []},
  {"nsid": "t.note", "table": null, "unique": [], "self_only": true, "validated": false,
   "belongs": null, "uris": [], "insert_uris": [], "embeds": []}]}"#;

pub(super) fn plan() -> Plan {
    Plan::parse(PLAN.as_bytes()).unwrap()
}

/// The rev of the n-th commit.
pub(super) fn rev(number: usize) -> String {
    let mut rev = String::from("3k2222222");
    let digits = b"234567abcdefghijklmnopqrstuvwxyz";
    for place in (0..4).rev() {
        rev.push(char::from(digits[number >> (5 * place) & 31]));
    }
    rev
}

fn cbor_text(text: &str, out: &mut Vec<u8>) {
    let length = u8::try_from(text.len()).unwrap();
    if length < 24 {
        out.push(0x60 + length);
    } else {
        out.extend([0x78, length]);
    }
    out.extend(text.as_bytes());
}

/// A map of texts as DAG-CBOR.
pub(super) fn record(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = vec![0xa0 + u8::try_from(fields.len()).unwrap()];
    for (key, value) in fields {
        cbor_text(key, &mut out);
        cbor_text(value, &mut out);
    }
    out
}

/// Action (`+`, `~`, `-`), path, record.
pub(super) type Change<'c> = (char, &'c str, &'c [(&'c str, &'c str)]);

pub(super) fn decode(plan: &Plan, shards: Vec<ShardEntries>) -> Batch {
    super::decode(plan, &lexicon, shards, NOW).unwrap()
}

/// A record with `bad` is invalid.
fn lexicon(_: &str, record: &Value<'_>) -> Result<(), String> {
    match record.get("bad") {
        Some(_) => Err(String::from("bad record")),
        None => Ok(()),
    }
}

/// Known rows as the look-ups' answers: what is not given is empty.
pub(super) fn known(plan: &Plan, batch: &Batch, answers: &[(&str, &str)]) -> Known {
    let (known, asked) = learned(plan, batch, answers);
    for (name, _) in answers {
        assert!(asked.contains_key(*name), "{name} is not asked for");
    }
    known
}

/// What is asked for in all rounds, and known then.
pub(super) fn learned(
    plan: &Plan,
    batch: &Batch,
    answers: &[(&str, &str)],
) -> (Known, BTreeMap<String, Vec<String>>) {
    let mut known = Known::new(false, None);
    let mut asked = BTreeMap::new();
    loop {
        let wanted = known.wanted(plan, batch);
        if wanted.is_empty() {
            return (known, asked);
        }
        let told = wanted.into_iter().map(|(name, parameters)| {
            let answer = answers.iter().find(|(of, _)| *of == name);
            let text = answer.map_or("[]", |(_, text)| text).to_owned();
            asked.insert(name.clone(), parameters);
            (name, text)
        });
        let told: Vec<_> = told.collect();
        known.learn(plan, &lexicon, batch, &told).unwrap();
    }
}

/// All collections as they are.
pub(super) fn real() -> Plan {
    Plan::parse(include_bytes!("../../../fuzz/plan.json")).unwrap()
}

/// Fold a log of real collections over known rows.
pub(super) fn run_real(log: Log, answers: &[(&str, &str)]) -> Changes {
    let plan = real();
    let batch = log.batch(&plan);
    let known = known(&plan, &batch, answers);
    fold(&plan, &batch, &known, &Voided::new())
}

/// The only key of a statement of counts, and its differences.
pub(super) fn counts_of(changes: &Changes, name: &str) -> Vec<(String, Vec<String>)> {
    let Some(parameters) = statement(changes, name) else {
        return Vec::new();
    };
    let elements = |array: &String| -> Vec<String> {
        let inside = array.trim_matches(['{', '}']).split(',');
        inside
            .map(|each| each.trim_matches('"').to_owned())
            .collect()
    };
    let columns: Vec<_> = parameters.iter().map(elements).collect();
    (0..columns[0].len())
        .map(|row| {
            let rest = columns[1..].iter().map(|column| column[row].clone());
            (columns[0][row].clone(), rest.collect())
        })
        .collect()
}

/// Fold a log over known rows.
pub(super) fn run(log: Log, answers: &[(&str, &str)]) -> Changes {
    let plan = plan();
    let batch = log.batch(&plan);
    let known = known(&plan, &batch, answers);
    fold(&plan, &batch, &known, &Voided::new())
}

pub(super) fn uri(did: &str, path: &str) -> String {
    format!("at://{did}/{path}")
}

/// The texts of every tuple of a COPY.
pub(super) fn copied(changes: &Changes, table: &str) -> Vec<Vec<String>> {
    let copy = changes.copies.iter().find(|(name, ..)| name == table);
    let Some((_, bytes, rows)) = copy else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut at = 19;
    let number = |at: usize, size: usize| {
        bytes[at..at + size]
            .iter()
            .fold(0_usize, |value, byte| value << 8 | usize::from(*byte))
    };
    while number(at, 2) != 0xffff {
        let mut row = Vec::new();
        let fields = number(at, 2);
        at += 2;
        for _ in 0..fields {
            let length = number(at, 4);
            at += 4;
            if length == 0xffff_ffff {
                row.push("NULL".into());
                continue;
            }
            row.push(String::from_utf8(bytes[at..at + length].to_vec()).unwrap());
            at += length;
        }
        found.push(row);
    }
    assert_eq!(found.len(), *rows);
    found
}

/// The parameters of a delete or statement, if it is there.
pub(super) fn statement<'c>(changes: &'c Changes, name: &str) -> Option<&'c [String]> {
    changes
        .deletes
        .iter()
        .chain(&changes.statements)
        .find(|(found, _)| found == name)
        .map(|(_, parameters)| parameters.as_slice())
}

/// The accounts of the one shard and relay.
pub(super) fn tally(changes: &Changes) -> BTreeMap<&str, i64> {
    let [(3, source, _, counts)] = changes.tally.as_slice() else {
        panic!("{:?}", changes.tally);
    };
    assert_eq!(source, "relay.test/1");
    counts
        .iter()
        .map(|(name, ops)| (name.as_str(), *ops))
        .collect()
}

pub(super) fn counted<'c>(outcomes: &[(&'c str, i64)]) -> BTreeMap<&'c str, i64> {
    outcomes.iter().copied().collect()
}

pub(super) const PAGE: &[Change<'static>] = &[('+', "t.page/1", &[("text", "")])];

/// did, rev, resync, account time, identity time, active, status of the one repository.
pub(super) fn repo(changes: &Changes) -> Option<Vec<&str>> {
    let row = statement(changes, "upsert_repos")?;
    Some(row.iter().map(String::as_str).collect())
}
