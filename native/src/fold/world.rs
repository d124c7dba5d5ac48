//! The overlay over known records and rows: what an op sees, and what is left at the end.

use std::collections::HashMap;

use super::batch::Batch;
use super::known::Known;
use crate::plan::TableId;

/// What a record or row is at this moment of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Now {
    Absent,
    /// As the database holds it.
    Known,
    /// The database's record with the content of this op: columns of others stay.
    Updated(usize),
    /// New, with the content of this op.
    Fresh(usize),
}

impl Now {
    pub const fn is_present(self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// The op whose content must be written.
    pub const fn written(self) -> Option<usize> {
        match self {
            Self::Updated(op) | Self::Fresh(op) => Some(op),
            Self::Absent | Self::Known => None,
        }
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
    /// Unique key of the row as it is now.
    key: Option<&'b str>,
    /// Side rows that the database may hold must go.
    pub sides_stale: bool,
}

/// Everything the batch's ops can see of records and rows.
#[derive(Debug)]
pub(crate) struct World<'b> {
    slots: HashMap<&'b str, Slot<'b>>,
    keys: HashMap<(TableId, &'b str), Option<&'b str>>,
}

impl<'b> World<'b> {
    pub fn new(batch: &'b Batch, known: &'b Known) -> Self {
        let mut slots: HashMap<&str, Slot<'_>> = HashMap::with_capacity(batch.ops.len());
        for target in batch.ops.iter().filter_map(|op| op.body.target()) {
            slots.entry(&target.uri).or_insert(Slot {
                collection: target.collection,
                record_known: false,
                record: Now::Absent,
                row_known: false,
                row: Now::Absent,
                key: None,
                sides_stale: false,
            });
        }
        for (uri,) in &known.records {
            if let Some(slot) = slots.get_mut(uri.as_str()) {
                slot.record_known = true;
                slot.record = Now::Known;
            }
        }
        for (uri, key) in &known.rows {
            if let Some(slot) = slots.get_mut(uri.as_str()) {
                slot.row_known = true;
                slot.row = Now::Known;
                slot.key = key.as_deref();
            }
        }
        let keys = known
            .keys
            .iter()
            .map(|(table, key, uri)| ((*table, key.as_str()), Some(uri.as_str())))
            .collect();
        Self { slots, keys }
    }

    pub fn has_record(&self, uri: &str) -> bool {
        self.slots
            .get(uri)
            .is_some_and(|slot| slot.record.is_present())
    }

    pub fn has_row(&self, uri: &str) -> bool {
        self.slots
            .get(uri)
            .is_some_and(|slot| slot.row.is_present())
    }

    /// Whether a row of another uri holds the unique key.
    pub fn is_held(&self, table: TableId, key: Option<&str>, uri: &str) -> bool {
        key.and_then(|key| self.keys.get(&(table, key)).copied().flatten())
            .is_some_and(|holder| holder != uri)
    }

    /// Insert the record, or set its content where it exists.
    pub fn put_record(&mut self, uri: &str, op: usize) {
        if let Some(slot) = self.slots.get_mut(uri) {
            slot.record = match slot.record {
                Now::Absent | Now::Fresh(_) => Now::Fresh(op),
                Now::Known | Now::Updated(_) => Now::Updated(op),
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
    pub fn put_row(&mut self, table: TableId, uri: &'b str, key: Option<&'b str>, op: usize) {
        if let Some(slot) = self.slots.get_mut(uri) {
            slot.row = Now::Fresh(op);
            slot.key = key;
        }
        if let Some(key) = key {
            self.keys.insert((table, key), Some(uri));
        }
    }

    /// Remove a row and free its key; whether there was one.
    pub fn remove_row(&mut self, table: TableId, uri: &str) -> bool {
        let Some(slot) = self.slots.get_mut(uri) else {
            return false;
        };
        if let Some(key) = slot.key.take() {
            self.keys.insert((table, key), None);
        }
        std::mem::replace(&mut slot.row, Now::Absent).is_present()
    }

    /// Side rows of this uri in the database are not those of its row any more.
    pub fn drop_sides(&mut self, uri: &str) {
        if let Some(slot) = self.slots.get_mut(uri) {
            slot.sides_stale = true;
        }
    }

    /// Every uri of the batch, sorted by its bytes.
    pub fn into_slots(self) -> Vec<(&'b str, Slot<'b>)> {
        let mut slots: Vec<_> = self.slots.into_iter().collect();
        slots.sort_unstable_by_key(|(uri, _)| *uri);
        slots
    }
}
