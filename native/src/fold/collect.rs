//! The net effect on records and rows, as deletes and COPY bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::batch::Batch;
use super::changes::Changes;
use super::known::Candidate;
use super::posts::{Flags, Posts};
use super::rows::{self, Facts};
use super::wanted::array;
use super::world::{Content, Now, Slot, Version};
use crate::pgcopy::{self, ArrayText, Tuple};
use crate::plan::{Plan, Source, TableId, RECORD};

/// Changes of rows, gathered in the order of their keys.
pub(super) struct Rows<'b> {
    plan: &'b Plan,
    batch: &'b Batch,
    candidates: &'b [Candidate],
    deletes: BTreeMap<TableId, Vec<&'b str>>,
    /// Deletes by another column than the primary key.
    other_deletes: Vec<(&'static str, String)>,
    /// Rows to copy, and the op that each is of.
    lines: BTreeMap<TableId, Vec<(Cow<'b, Tuple>, usize)>>,
    updates: Vec<ArrayText>,
    updated: usize,
}

impl<'b> Rows<'b> {
    pub fn new(plan: &'b Plan, batch: &'b Batch, candidates: &'b [Candidate]) -> Self {
        Self {
            plan,
            batch,
            candidates,
            deletes: BTreeMap::new(),
            other_deletes: Vec::new(),
            lines: BTreeMap::new(),
            updates: vec![ArrayText::default(); rows::updated(plan).count()],
            updated: 0,
        }
    }

    pub fn slot(&mut self, uri: &'b str, slot: &Slot<'b>, posts: &Posts<'_>) {
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
        if slot.row_known && slot.sides_stale {
            for (_, side) in &collection.embeds {
                self.delete(*side, uri);
            }
        }
        if let Some(content) = slot.row.written() {
            let flags = posts.get(uri).map(|post| post.flags);
            self.row(table, content, slot.by, flags.unwrap_or_default());
        }
    }

    fn record(&mut self, uri: &'b str, slot: &Slot<'b>) {
        if slot.record_known && matches!(slot.record, Now::Absent | Now::Fresh(_)) {
            self.delete(RECORD, uri);
        }
        let Some(Content::Op(number)) = slot.record.written() else {
            return;
        };
        let Some(version) = Version::of_op(self.batch, number) else {
            return;
        };
        let facts = facts_of(&version);
        if matches!(slot.record, Now::Fresh(_)) {
            let tuple = rows::record_row(self.plan, &facts);
            self.line(RECORD, tuple, number);
        } else {
            for (array, value) in self.updates.iter_mut().zip(rows::updated(self.plan)) {
                array.push(rows::fact(&value.source, &facts));
            }
            self.updated += 1;
        }
    }

    fn row(&mut self, table: TableId, content: Content, by: usize, flags: Flags) {
        let version = Version::of(self.batch, self.candidates, content);
        let Some(row) = version.and_then(|version| version.row()) else {
            return;
        };
        let columns = self.plan.tables.get(table).map(|table| &table.columns[..]);
        let judged = columns
            .unwrap_or_default()
            .iter()
            .filter(|column| column.source == Source::Flag)
            .count();
        let tuple = if judged == 0 {
            Cow::Borrowed(&row.tuple)
        } else {
            let mut tuple = row.tuple.clone();
            let [thread_gate, post_gate] = flags.has_gate;
            let values = [
                flags.invalid_root,
                flags.violates_gate,
                flags.violates_embedding,
                thread_gate,
                post_gate,
            ];
            for value in values.into_iter().take(judged) {
                match value {
                    Some(value) => tuple.boolean(value),
                    None => tuple.null(),
                }
            }
            Cow::Owned(tuple)
        };
        self.lines.entry(table).or_default().push((tuple, by));
        for side in &row.sides {
            let lines = self.lines.entry(side.table).or_default();
            lines.push((Cow::Borrowed(&side.tuple), by));
        }
    }

    /// A row made by the fold, after those before it in the order of its table.
    pub fn line(&mut self, table: TableId, tuple: Tuple, by: usize) {
        let lines = self.lines.entry(table).or_default();
        lines.push((Cow::Owned(tuple), by));
    }

    pub fn delete(&mut self, table: TableId, uri: &'b str) {
        self.deletes.entry(table).or_default().push(uri);
    }

    /// A delete that is not by primary key, under its own name.
    pub fn delete_by(&mut self, name: &'static str, keys: impl Iterator<Item = &'b str>) {
        let mut keys = keys.peekable();
        if keys.peek().is_some() {
            self.other_deletes.push((name, array(keys)));
        }
    }

    pub fn finish(self, changes: &mut Changes) {
        for (table, uris) in self.deletes {
            let name = format!("delete_{}", self.plan.table_name(table));
            changes.deletes.push((name, vec![array(uris.into_iter())]));
        }
        for (name, keys) in self.other_deletes {
            changes.deletes.push((name.to_owned(), vec![keys]));
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

/// What the record's row says beside the record's own fields.
fn facts_of<'b>(version: &Version<'b>) -> Facts<'b> {
    Facts {
        uri: version.uri,
        cid: version.cid,
        did: version.did,
        rkey: &version.written.rkey,
        time: version.time,
        rev: version.rev,
        now: "",
        json: &version.written.json,
    }
}
