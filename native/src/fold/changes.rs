//! The net effect of a batch as what the database is sent: deletes, COPY bytes, statements.
//!
//! Absent to present is a COPY; present to absent is a delete; a record that stayed
//! present is an update, so that columns which are not ours keep their values; a row of
//! a collection's own table that changed is deleted and copied. Names of statements are those
//! of `engine/collections/statements.py` and `engine/sql/indexer.sql`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::apply::Applied;
use super::batch::{Batch, Body, Counts, Kind};
use super::dead;
use super::known::array;
use super::repos::Person;
use super::rows::{self, Facts};
use super::world::{Now, Slot};
use crate::pgcopy::{self, array_texts, ArrayText, Tuple};
use crate::plan::{Plan, TableId, RECORD};

/// The name of a statement and its parameters, each an array literal.
pub type Statement = (String, Vec<String>);

/// What to do, in this order, in one transaction.
#[derive(Debug, Default)]
pub struct Changes {
    pub deletes: Vec<Statement>,
    /// Table, a complete COPY, rows; rows sorted by the bytes of the primary key.
    pub copies: Vec<(String, Vec<u8>, usize)>,
    pub statements: Vec<Statement>,
    /// Shard, `host/generation`, highest seq if there ever was one, ops by outcome.
    pub tally: Vec<(u32, String, Option<i64>, Counts)>,
    /// Of each copy, the op that wrote each line and where the line ends.
    lines: Vec<Vec<(usize, usize)>>,
}

impl Changes {
    /// The op that wrote a line (counted from 1) of a copy.
    pub fn op_of(&self, copy: usize, line: usize) -> Option<usize> {
        Some(self.lines.get(copy)?.get(line.checked_sub(1)?)?.0)
    }

    /// A complete COPY of at most `count` lines of a copy, from one (counted from 1) on.
    pub fn part(&self, copy: usize, first: usize, count: usize) -> Vec<u8> {
        let (Some((_, bytes, _)), Some(lines)) = (self.copies.get(copy), self.lines.get(copy))
        else {
            return pgcopy::part(&[], 0, 0);
        };
        let end_of = |line: usize| {
            let last = line.min(lines.len()).checked_sub(1);
            last.and_then(|last| lines.get(last))
                .map_or(0, |line| line.1)
        };
        let before = first.saturating_sub(1);
        pgcopy::part(bytes, end_of(before), end_of(before.saturating_add(count)))
    }
}

/// Everything that the overlay changed.
pub(crate) fn collect(plan: &Plan, batch: &Batch, applied: Applied<'_>) -> Changes {
    let mut rows = Rows {
        plan,
        batch,
        deletes: BTreeMap::new(),
        lines: BTreeMap::new(),
        updates: vec![ArrayText::default(); rows::updated(plan).count()],
        updated: 0,
    };
    for (uri, slot) in applied.world.into_slots() {
        rows.slot(uri, &slot);
    }
    let mut changes = Changes {
        statements: people(&applied.people.into_sorted()),
        ..Changes::default()
    };
    rows.finish(&mut changes);
    if !applied.dead.is_empty() {
        let parameters = dead::parameters(batch, &applied.dead);
        changes
            .statements
            .push(("insert_dead_letters".into(), parameters));
    }
    for source in applied.sources {
        let key = source.key();
        changes
            .tally
            .push((source.shard, key, source.seq, source.counts));
    }
    changes
}

/// Changes of records and rows, gathered in the order of uris.
struct Rows<'b> {
    plan: &'b Plan,
    batch: &'b Batch,
    deletes: BTreeMap<TableId, Vec<&'b str>>,
    /// Rows to copy, and the op that each is of.
    lines: BTreeMap<TableId, Vec<(Cow<'b, Tuple>, usize)>>,
    updates: Vec<ArrayText>,
    updated: usize,
}

impl<'b> Rows<'b> {
    fn slot(&mut self, uri: &'b str, slot: &Slot<'b>) {
        self.record(uri, slot);
        let Some(collection) = self.plan.collections.get(slot.collection) else {
            return;
        };
        let Some(table) = collection.table else {
            return;
        };
        if slot.row_known && slot.row != Now::Known {
            self.delete(table, uri);
        }
        if slot.sides_stale {
            for (_, side) in &collection.embeds {
                self.delete(*side, uri);
            }
        }
        if let Some(op) = slot.row.written() {
            self.row(table, op);
        }
    }

    fn record(&mut self, uri: &'b str, slot: &Slot<'b>) {
        if slot.record_known && matches!(slot.record, Now::Absent | Now::Fresh(_)) {
            self.delete(RECORD, uri);
        }
        let Some((number, facts)) = slot
            .record
            .written()
            .and_then(|number| Some((number, facts_of(self.batch, number)?)))
        else {
            return;
        };
        if matches!(slot.record, Now::Fresh(_)) {
            let tuple = Cow::Owned(rows::record_row(self.plan, &facts));
            self.lines.entry(RECORD).or_default().push((tuple, number));
        } else {
            for (array, value) in self.updates.iter_mut().zip(rows::updated(self.plan)) {
                array.push(rows::fact(&value.source, &facts));
            }
            self.updated += 1;
        }
    }

    fn row(&mut self, table: TableId, number: usize) {
        let op = self.batch.ops.get(number);
        let Some(row) = op.and_then(|op| op.body.row()) else {
            return;
        };
        let lines = self.lines.entry(table).or_default();
        lines.push((Cow::Borrowed(&row.tuple), number));
        let mut sides: Vec<_> = row.sides.iter().collect();
        sides.sort_by_key(|side| &side.key);
        for side in sides {
            let lines = self.lines.entry(side.table).or_default();
            lines.push((Cow::Borrowed(&side.tuple), number));
        }
    }

    fn delete(&mut self, table: TableId, uri: &'b str) {
        self.deletes.entry(table).or_default().push(uri);
    }

    fn finish(self, changes: &mut Changes) {
        for (table, uris) in self.deletes {
            let name = format!("delete_{}", self.plan.table_name(table));
            changes.deletes.push((name, vec![array(uris.into_iter())]));
        }
        for (table, lines) in self.lines {
            let name = self.plan.table_name(table).to_owned();
            let bytes = pgcopy::copy(lines.iter().map(|(tuple, _)| tuple.as_ref()));
            changes.copies.push((name, bytes, lines.len()));
            let ends = lines.iter().scan(0, |end, (tuple, op)| {
                *end += tuple.as_bytes().len();
                Some((*op, *end))
            });
            changes.lines.push(ends.collect());
        }
        if self.updated > 0 {
            let parameters = self.updates.into_iter().map(ArrayText::finish).collect();
            changes
                .statements
                .push(("update_record".into(), parameters));
        }
    }
}

/// What the rows of an op say beside the record's fields.
fn facts_of(batch: &Batch, number: usize) -> Option<Facts<'_>> {
    let op = batch.ops.get(number)?;
    let Body::Write(target, written) = &op.body else {
        return None;
    };
    let event = batch.events.get(op.event)?;
    let Kind::Commit(commit) = &event.kind else {
        return None;
    };
    Some(Facts {
        uri: &target.uri,
        cid: &written.cid,
        did: &event.did,
        rkey: "",
        time: &event.time,
        rev: &commit.rev,
        now: "",
        json: &written.json,
    })
}

/// Statements about DIDs, each sorted by DID.
fn people(people: &[(&str, Person<'_>)]) -> Vec<Statement> {
    let mut repos: [ArrayText; 7] = array_texts();
    let mut actors: [ArrayText; 3] = array_texts();
    let mut statuses: [ArrayText; 2] = array_texts();
    let mut syncs: [ArrayText; 3] = array_texts();
    let mut dues: [ArrayText; 4] = array_texts();
    for (did, person) in people {
        if person.repo_changed {
            let repo = &person.repo;
            let active = repo.active.map(boolean);
            push(
                &mut repos,
                [
                    Some(*did),
                    repo.rev,
                    repo.resync,
                    repo.account_time,
                    repo.identity_time,
                    active,
                    repo.status,
                ],
            );
        }
        if let Some((time, status)) = person.new_actor() {
            push(&mut actors, [Some(*did), Some(time), status]);
        }
        if let Some(status) = person.new_status() {
            push(&mut statuses, [Some(*did), status.word()]);
        }
        if let Some((commit, rev)) = person.sync {
            push(&mut syncs, [Some(*did), Some(commit), Some(rev)]);
        }
        if let Some(due) = &person.due {
            let seq = due.seq.to_string();
            let forced = boolean(due.forced);
            push(
                &mut dues,
                [Some(*did), Some(&seq), Some(due.time), Some(forced)],
            );
        }
    }
    let mut statements = Vec::new();
    add("upsert_repos", repos, &mut statements);
    add("insert_actors", actors, &mut statements);
    add("update_actor_status", statuses, &mut statements);
    add("upsert_actor_sync", syncs, &mut statements);
    add("upsert_identity_due", dues, &mut statements);
    statements
}

fn push<const N: usize>(arrays: &mut [ArrayText; N], row: [Option<&str>; N]) {
    for (array, value) in arrays.iter_mut().zip(row) {
        array.push(value);
    }
}

fn add<const N: usize>(name: &str, arrays: [ArrayText; N], statements: &mut Vec<Statement>) {
    if arrays.first().is_some_and(|array| !array.is_empty()) {
        let parameters = arrays.map(ArrayText::finish).into();
        statements.push((name.into(), parameters));
    }
}

const fn boolean(value: bool) -> &'static str {
    if value {
        "true"
    } else {
        "false"
    }
}
