//! What an op does to its record and to the row of its collection.

use super::apply::{Fold, Outcome};
use super::batch::{Body, Op, Target, Written};
use crate::entry::Action;
use crate::plan::{Collection, TableId};
use crate::reason::Reason;

impl<'b> Fold<'b, '_> {
    pub(super) fn op(&mut self, number: usize, op: &'b Op) -> Outcome {
        if let Some(error) = self.voided.get(&number) {
            return Outcome::Rejected(Reason::RefusedByDatabase, error.clone());
        }
        match &op.body {
            Body::Unindexed => Outcome::NoEffect("unindexed_collection"),
            Body::Rejected(reason, error) => Outcome::Rejected(*reason, error.clone()),
            Body::Delete(target) => self.delete(target),
            Body::Write(target, written) => {
                let Some(collection) = self.plan.collections.get(target.collection) else {
                    return Outcome::NoEffect("unindexed_collection");
                };
                let table = collection.table.filter(|_| written.row.is_some());
                match (op.action, table) {
                    (Action::Update, None) => self.update_record_only(number, collection, target),
                    (Action::Update, Some(table)) => self.update(number, table, target, written),
                    (_, table) => self.create(number, table, target, written),
                }
            }
        }
    }

    /// Insert-or-nothing, for the record and for its row.
    fn create(
        &mut self,
        number: usize,
        table: Option<TableId>,
        target: &'b Target,
        written: &'b Written,
    ) -> Outcome {
        let mut outcome = Outcome::NoEffect("exists");
        let world = &mut self.state.world;
        if let Some((table, row)) = table.zip(written.row.as_ref()) {
            let key = row.key.as_deref();
            if !world.has_row(&target.uri) && !world.is_held(table, key, &target.uri) {
                if let Some(uri) = &written.bad_insert_uri {
                    return Outcome::Rejected(Reason::BadUri, format!("cannot take {uri} apart"));
                }
                world.put_row(table, &target.uri, key, number);
                outcome = Outcome::Applied;
            }
        }
        if !world.has_record(&target.uri) {
            world.put_record(&target.uri, number);
            outcome = Outcome::Applied;
        }
        outcome
    }

    /// Replace record and row; what has no row takes the path of a create.
    fn update(
        &mut self,
        number: usize,
        table: TableId,
        target: &'b Target,
        written: &'b Written,
    ) -> Outcome {
        let key = written.row.as_ref().and_then(|row| row.key.as_deref());
        let world = &mut self.state.world;
        let held = world.is_held(table, key, &target.uri);
        if world.has_row(&target.uri) {
            if held {
                let error = String::from("another record holds the unique key");
                return Outcome::Rejected(Reason::KeyOccupied, error);
            }
            // A row without a record is left over: its record does not come back this way.
            if world.has_record(&target.uri) {
                world.put_record(&target.uri, number);
            }
            world.remove_row(table, &target.uri);
            world.put_row(table, &target.uri, key, number);
        } else {
            if let Some(uri) = written.bad_insert_uri.as_ref().filter(|_| !held) {
                return Outcome::Rejected(Reason::BadUri, format!("cannot take {uri} apart"));
            }
            world.put_record(&target.uri, number);
            if !held {
                world.put_row(table, &target.uri, key, number);
            }
        }
        world.drop_sides(&target.uri);
        Outcome::Applied
    }

    /// An update of a record that has no row of its own.
    fn update_record_only(
        &mut self,
        number: usize,
        collection: &Collection,
        target: &'b Target,
    ) -> Outcome {
        let world = &mut self.state.world;
        let counts_as_row = collection.table.is_none() && target.is_self;
        if counts_as_row && !world.has_record(&target.uri) {
            return Outcome::NoEffect("never_created");
        }
        world.put_record(&target.uri, number);
        Outcome::Applied
    }

    /// Remove record and row, without a look at the content.
    fn delete(&mut self, target: &'b Target) -> Outcome {
        let world = &mut self.state.world;
        let had_record = world.remove_record(&target.uri);
        let table = self.plan.table_of(target.collection, target.is_self);
        let had_row = table.is_some_and(|table| world.remove_row(table, &target.uri));
        world.drop_sides(&target.uri);
        if had_record || had_row {
            Outcome::Applied
        } else {
            Outcome::NoEffect("absent")
        }
    }
}
