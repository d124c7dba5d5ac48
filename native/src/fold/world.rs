//! The overlay over known records and rows: what an op sees, and what is left at the end.

use std::collections::HashMap;

use super::batch::{Batch, Body, Row, Written};
use super::known::{Candidate, Known};
use crate::plan::TableId;

/// Where the content of a record or row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// In this op.
    Op(usize),
    /// In this candidate, which the database holds as a record.
    Candidate(usize),
}

/// What a record or row is at this moment of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Now {
    Absent,
    /// As the database holds it.
    Known,
    /// The database's record with this content: columns of others stay.
    Updated(Content),
    /// New, with this content.
    Fresh(Content),
}

impl Now {
    pub const fn is_present(self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// The content that must be written.
    pub const fn written(self) -> Option<Content> {
        match self {
            Self::Updated(content) | Self::Fresh(content) => Some(content),
            Self::Absent | Self::Known => None,
        }
    }
}

/// One version of a record, wherever it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version<'b> {
    pub uri: &'b str,
    pub did: &'b str,
    pub cid: &'b str,
    /// T of the event that brought it.
    pub time: &'b str,
    pub rev: &'b str,
    pub written: &'b Written,
}

impl<'b> Version<'b> {
    pub fn of(batch: &'b Batch, candidates: &'b [Candidate], content: Content) -> Option<Self> {
        match content {
            Content::Op(number) => Self::of_op(batch, number),
            Content::Candidate(at) => {
                let found = candidates.get(at)?;
                Some(Self {
                    uri: &found.uri,
                    did: &found.did,
                    cid: &found.cid,
                    time: &found.time,
                    rev: "",
                    written: found.written.as_ref()?,
                })
            }
        }
    }

    pub fn of_op(batch: &'b Batch, number: usize) -> Option<Self> {
        let op = batch.ops.get(number)?;
        let Body::Write(target, written) = &op.body else {
            return None;
        };
        let event = batch.events.get(op.event)?;
        Some(Self {
            uri: &target.uri,
            did: &event.did,
            cid: &written.cid,
            time: &event.time,
            rev: event.rev()?,
            written,
        })
    }

    pub fn row(&self) -> Option<&'b Row> {
        self.written.row.as_ref()
    }
}

/// One uri: its record, and the row of its collection.
#[derive(Debug)]
pub(crate) struct Slot<'b> {
    pub collection: usize,
    pub record_known: bool,
    pub record: Now,
    pub row_known: bool,
    pub row: Now,
    /// The op that made the row what it is.
    pub by: usize,
    /// Unique key of the row as it is now.
    key: Option<&'b str>,
    /// CID of the row in the database.
    cid: &'b str,
    /// Side rows that the database may hold must go.
    pub sides_stale: bool,
}

impl<'b> Slot<'b> {
    pub fn key(&self) -> Option<&'b str> {
        self.key
    }

    /// CID of the row that the database has.
    pub fn known_cid(&self) -> &'b str {
        self.cid
    }

    fn absent(collection: usize) -> Self {
        Self {
            collection,
            record_known: false,
            record: Now::Absent,
            row_known: false,
            row: Now::Absent,
            by: 0,
            key: None,
            cid: "",
            sides_stale: false,
        }
    }
}

/// A row that was removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Removed<'b> {
    /// `Known` or `Fresh`.
    pub was: Now,
    pub key: Option<&'b str>,
    /// CID of a row that was `Known`.
    pub cid: &'b str,
    /// The database had a row of this uri before the batch.
    pub was_known: bool,
}

/// Who holds a unique key.
#[derive(Clone, Copy, Debug)]
struct Holder<'b> {
    uri: Option<&'b str>,
    is_changed: bool,
}

/// Everything the batch's ops can see of records and rows.
#[derive(Debug)]
pub(crate) struct World<'b> {
    slots: HashMap<&'b str, Slot<'b>>,
    keys: HashMap<(TableId, &'b str), Holder<'b>>,
    /// JSON text of records that no op of the batch is about.
    texts: HashMap<&'b str, &'b str>,
}

impl<'b> World<'b> {
    pub fn new(batch: &'b Batch, known: &'b Known) -> Self {
        let mut slots: HashMap<&str, Slot<'_>> = HashMap::with_capacity(batch.ops.len());
        for target in batch.ops.iter().filter_map(|op| op.body.target()) {
            slots
                .entry(&target.uri)
                .or_insert_with(|| Slot::absent(target.collection));
        }
        for candidate in &known.candidates {
            let slot = slots
                .entry(&candidate.uri)
                .or_insert_with(|| Slot::absent(candidate.collection));
            slot.record_known = true;
            slot.record = Now::Known;
        }
        for (uri,) in &known.records {
            if let Some(slot) = slots.get_mut(uri.as_str()) {
                slot.record_known = true;
                slot.record = Now::Known;
            }
        }
        for row in &known.rows {
            if let Some(slot) = slots.get_mut(row.uri.as_str()) {
                slot.row_known = true;
                slot.row = Now::Known;
                slot.key = row.key.as_deref();
                slot.cid = &row.cid;
            }
        }
        let keys = known
            .keys
            .iter()
            .map(|(table, key, uri)| {
                let holder = Holder {
                    uri: Some(uri.as_str()),
                    is_changed: false,
                };
                ((*table, key.as_str()), holder)
            })
            .collect();
        let texts = known
            .texts
            .iter()
            .map(|(uri, json)| (uri.as_str(), json.as_str()))
            .collect();
        Self { slots, keys, texts }
    }

    pub fn has_record(&self, uri: &str) -> bool {
        self.slots
            .get(uri)
            .is_some_and(|slot| slot.record.is_present())
    }

    /// The record of a uri that others are judged by: none, one of the batch, or the JSON text
    /// that the database holds (empty if it was not asked for).
    pub fn seen(&self, uri: &str) -> Seen<'b> {
        let text = || self.texts.get(uri).copied();
        match self.slots.get(uri).map(|slot| slot.record) {
            Some(Now::Absent) => Seen::Nothing,
            Some(Now::Updated(content) | Now::Fresh(content)) => Seen::Content(content),
            Some(Now::Known) => Seen::Text(text().unwrap_or("")),
            None => text().map_or(Seen::Nothing, Seen::Text),
        }
    }

    /// Whether the batch is about this uri, so that all of it was looked up.
    pub fn is_slot(&self, uri: &str) -> bool {
        self.slots.contains_key(uri)
    }

    pub fn row(&self, uri: &str) -> Now {
        self.slots.get(uri).map_or(Now::Absent, |slot| slot.row)
    }

    pub fn record(&self, uri: &str) -> Now {
        self.slots.get(uri).map_or(Now::Absent, |slot| slot.record)
    }

    pub fn has_row(&self, uri: &str) -> bool {
        self.slots
            .get(uri)
            .is_some_and(|slot| slot.row.is_present())
    }

    /// The uri of the row that holds a unique key.
    pub fn holder(&self, table: TableId, key: Option<&str>) -> Option<&'b str> {
        key.and_then(|key| self.keys.get(&(table, key))?.uri)
    }

    /// The uri of another row that holds the unique key.
    pub fn held_by_other(&self, table: TableId, key: Option<&str>, uri: &str) -> Option<&'b str> {
        self.holder(table, key).filter(|holder| *holder != uri)
    }

    /// Insert the record, or set its content where it exists.
    pub fn put_record(&mut self, uri: &str, content: Content) {
        if let Some(slot) = self.slots.get_mut(uri) {
            slot.record = match slot.record {
                Now::Absent | Now::Fresh(_) => Now::Fresh(content),
                Now::Known | Now::Updated(_) => Now::Updated(content),
            };
        }
    }

    /// Whether there was a record to remove.
    pub fn remove_record(&mut self, uri: &str) -> bool {
        self.slots
            .get_mut(uri)
            .is_some_and(|slot| std::mem::replace(&mut slot.record, Now::Absent).is_present())
    }

    /// Insert a row: its uri has none and its key is free.
    pub fn put_row(
        &mut self,
        table: TableId,
        uri: &'b str,
        key: Option<&'b str>,
        content: Content,
        by: usize,
    ) {
        if let Some(slot) = self.slots.get_mut(uri) {
            slot.row = Now::Fresh(content);
            slot.key = key;
            slot.by = by;
        }
        if let Some(key) = key {
            self.set_holder(table, key, Some(uri));
        }
    }

    /// Remove a row and free its key; what it was.
    pub fn remove_row(&mut self, table: TableId, uri: &str) -> Option<Removed<'b>> {
        let slot = self.slots.get_mut(uri)?;
        let was = std::mem::replace(&mut slot.row, Now::Absent);
        if !was.is_present() {
            return None;
        }
        let key = slot.key.take();
        let removed = Removed {
            was,
            key,
            cid: slot.cid,
            was_known: slot.row_known,
        };
        if let Some(key) = key {
            self.set_holder(table, key, None);
        }
        Some(removed)
    }

    fn set_holder(&mut self, table: TableId, key: &'b str, uri: Option<&'b str>) {
        let holder = Holder {
            uri,
            is_changed: true,
        };
        self.keys.insert((table, key), holder);
    }

    /// Side rows of this uri in the database are not those of its row any more.
    pub fn drop_sides(&mut self, uri: &str) {
        if let Some(slot) = self.slots.get_mut(uri) {
            slot.sides_stale = true;
        }
    }

    pub fn slots(&self) -> impl Iterator<Item = (&'b str, &Slot<'b>)> + '_ {
        self.slots.iter().map(|(uri, slot)| (*uri, slot))
    }

    /// Unique keys of rows that came or went, and who holds them now.
    pub fn changed_keys(&self) -> impl Iterator<Item = (TableId, &'b str, Option<&'b str>)> + '_ {
        let changed = self.keys.iter().filter(|(_, holder)| holder.is_changed);
        changed.map(|((table, key), holder)| (*table, *key, holder.uri))
    }

    /// Every uri of the batch, sorted by its bytes.
    pub fn into_slots(self) -> Vec<(&'b str, Slot<'b>)> {
        let mut slots: Vec<_> = self.slots.into_iter().collect();
        slots.sort_unstable_by_key(|(uri, _)| *uri);
        slots
    }
}

/// What there is of a record that others are judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen<'b> {
    Nothing,
    Content(Content),
    Text(&'b str),
}
