//! What an op does to its record and to the row of its collection.

use super::apply::{Fold, Outcome};
use super::batch::{Body, Op, Row, Target, Written};
use super::duplicates::Duplicate;
use super::world::{Content, Now, Removed, Version};
use crate::entry::Action;
use crate::plan::{Collection, Role, TableId};
use crate::reason::Reason;

impl<'b> Fold<'b, '_> {
    pub(super) fn op(&mut self, number: usize, op: &'b Op) -> Outcome {
        if let Some(error) = self.voided.get(&number) {
            return Outcome::Rejected(Reason::RefusedByDatabase, error.clone());
        }
        match &op.body {
            Body::Unindexed => Outcome::NoEffect("unindexed_collection"),
            Body::Rejected(reason, error) => Outcome::Rejected(*reason, error.clone()),
            Body::Settled(word) => Outcome::NoEffect(word),
            Body::Delete(target) => self.delete(number, target),
            Body::Write(target, written) => {
                let Some(collection) = self.plan.collections.get(target.collection) else {
                    return Outcome::NoEffect("unindexed_collection");
                };
                let row = collection.table.zip(written.row.as_ref());
                match (op.action, row) {
                    (Action::Update, None) => self.update_record_only(number, collection, target),
                    (Action::Update, Some(row)) => {
                        self.update(number, collection, row, target, written)
                    }
                    (_, Some(row)) => self.create(number, collection, row, target, written),
                    (_, None) => self.create_record_only(number, target),
                }
            }
        }
    }

    fn create_record_only(&mut self, number: usize, target: &'b Target) -> Outcome {
        let world = &mut self.state.world;
        if world.has_record(&target.uri) {
            return Outcome::NoEffect("exists");
        }
        world.put_record(&target.uri, Content::Op(number));
        Outcome::Applied
    }

    /// Insert-or-nothing, for the record and for its row.
    fn create(
        &mut self,
        number: usize,
        collection: &'b Collection,
        (table, row): (TableId, &'b Row),
        target: &'b Target,
        written: &'b Written,
    ) -> Outcome {
        let world = &mut self.state.world;
        let winner = world.held_by_other(table, row.key.as_deref(), &target.uri);
        let is_free = !world.has_row(&target.uri) && winner.is_none();
        if let Some(uri) = written.bad_insert_uri.as_ref().filter(|_| is_free) {
            return Outcome::Rejected(Reason::BadUri, format!("cannot take {uri} apart"));
        }
        let is_new = !world.has_record(&target.uri);
        if is_new {
            world.put_record(&target.uri, Content::Op(number));
        }
        if self.place(number, collection, table, winner, is_new) || is_new {
            Outcome::Applied
        } else {
            Outcome::NoEffect("exists")
        }
    }

    /// Insert the row and tell of it; or note whom it lost its key to. Whether anything changed.
    /// Where the record `is_new`, those that named it before are judged again.
    fn place(
        &mut self,
        number: usize,
        collection: &'b Collection,
        table: TableId,
        winner: Option<&'b str>,
        is_new: bool,
    ) -> bool {
        let content = Content::Op(number);
        let Some(version) = self.version(content) else {
            return false;
        };
        let changed = self.attempt(collection, &version, number);
        match winner {
            Some(winner) => self
                .state
                .duplicates
                .insert(duplicate(&version, winner, number)),
            None if self.state.world.has_row(version.uri) => changed,
            None => {
                self.insert_row(collection, table, content, is_new, number);
                self.tell(collection, &version, number);
                if is_new && matches!(collection.role, Role::Threadgate | Role::Postgate) {
                    self.note_gate(version.uri, number);
                    let again = self.late_gate(version.uri, version.time, collection.role);
                    self.come_late(version.uri, again, number);
                }
                true
            }
        }
    }

    /// Replace record and row; what has no row takes the path of a create.
    fn update(
        &mut self,
        number: usize,
        collection: &'b Collection,
        (table, row): (TableId, &'b Row),
        target: &'b Target,
        written: &'b Written,
    ) -> Outcome {
        let uri = &*target.uri;
        let key = row.key.as_deref();
        let world = &mut self.state.world;
        let winner = world.held_by_other(table, key, uri);
        let has_row = world.has_row(uri);
        if has_row && winner.is_some() {
            let error = String::from("another record holds the unique key");
            return Outcome::Rejected(Reason::KeyOccupied, error);
        }
        let is_new = !has_row && winner.is_none();
        if let Some(uri) = written.bad_insert_uri.as_ref().filter(|_| is_new) {
            return Outcome::Rejected(Reason::BadUri, format!("cannot take {uri} apart"));
        }
        // A row without a record is left over: its record does not come back this way.
        let is_record_new = !world.has_record(uri);
        if !has_row || !is_record_new {
            world.put_record(uri, Content::Op(number));
        }
        let holder = world.holder(table, key);
        world.drop_sides(uri);
        let Some(version) = self.version(Content::Op(number)) else {
            return Outcome::Applied;
        };
        match holder {
            Some(holder) => {
                let duplicate = duplicate(&version, holder, number);
                self.state.duplicates.update(duplicate);
            }
            None => self.state.duplicates.remove(uri),
        }
        self.cascade(collection, uri);
        let Some(removed) = self.remove_row(collection, table, uri) else {
            self.place(number, collection, table, winner, is_record_new);
            return Outcome::Applied;
        };
        if collection.role == Role::Post {
            self.state.told.take_back(uri, removed.was_known);
        }
        self.attempt(collection, &version, number);
        self.insert_row(collection, table, Content::Op(number), false, number);
        self.tell_undone(collection, uri, &removed, number);
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
        world.put_record(&target.uri, Content::Op(number));
        Outcome::Applied
    }

    /// Remove record and row, without a look at the content.
    fn delete(&mut self, number: usize, target: &'b Target) -> Outcome {
        let uri = &*target.uri;
        let had_record = self.state.world.remove_record(uri);
        let Some(collection) = self.plan.collections.get(target.collection) else {
            return Outcome::NoEffect("unindexed_collection");
        };
        self.state.duplicates.remove(uri);
        self.cascade(collection, uri);
        self.state.world.drop_sides(uri);
        let table = self.plan.table_of(target.collection, target.is_self);
        let removed =
            table.and_then(|table| Some((table, self.remove_row(collection, table, uri)?)));
        let Some((table, removed)) = removed else {
            return if had_record {
                Outcome::Applied
            } else {
                Outcome::NoEffect("absent")
            };
        };
        let is_replaced = self.promote(collection, table, uri, number);
        let stays = collection
            .notices
            .as_ref()
            .is_some_and(|notices| notices.stay);
        if collection.role == Role::Post || !(stays || is_replaced) {
            self.state.told.take_back(uri, removed.was_known);
        }
        self.tell_undone(collection, uri, &removed, number);
        Outcome::Applied
    }

    /// The earliest loser takes the place of the row that went; whether it did. Only one is tried,
    /// and the others stay losers to what is gone.
    fn promote(
        &mut self,
        collection: &'b Collection,
        table: TableId,
        winner: &'b str,
        number: usize,
    ) -> bool {
        let heir = self.state.duplicates.of(winner).find_map(|uri| {
            let content = match self.state.world.record(uri) {
                Now::Absent => return None,
                Now::Known => Content::Candidate(self.candidates.get(uri).copied()?),
                Now::Updated(content) | Now::Fresh(content) => content,
            };
            Some((uri, content))
        });
        let Some((uri, content)) = heir else {
            return false;
        };
        let Some((version, row)) = self
            .version(content)
            .and_then(|version| Some((version, version.row()?)))
        else {
            return false;
        };
        self.attempt(collection, &version, number);
        let world = &self.state.world;
        if world.has_row(uri) || world.holder(table, row.key.as_deref()).is_some() {
            return false;
        }
        self.insert_row(collection, table, content, false, number);
        true
    }

    pub(super) fn version(&self, content: Content) -> Option<Version<'b>> {
        Version::of(self.batch, &self.known.candidates, content)
    }

    fn remove_row(
        &mut self,
        collection: &'b Collection,
        table: TableId,
        uri: &'b str,
    ) -> Option<Removed<'b>> {
        let removed = self.state.world.remove_row(table, uri)?;
        self.count(collection, removed.key, -1);
        self.row_removed(collection, uri, &removed);
        Some(removed)
    }

    fn insert_row(
        &mut self,
        collection: &'b Collection,
        table: TableId,
        content: Content,
        is_new: bool,
        number: usize,
    ) {
        let Some((version, row)) = self
            .version(content)
            .and_then(|version| Some((version, version.row()?)))
        else {
            return;
        };
        let key = row.key.as_deref();
        self.state
            .world
            .put_row(table, version.uri, key, content, number);
        self.count(collection, key, 1);
        if let Some(post) = row.detail.post() {
            self.post_inserted(&version, post, is_new, number);
        }
    }

    fn count(&mut self, collection: &Collection, key: Option<&'b str>, difference: i64) {
        for count in &collection.counts {
            let of = key.and_then(|key| key.split('\0').nth(count.key));
            if let Some(of) = of {
                self.state.tallies.add(count.tally, of, difference);
            }
        }
    }
}

fn duplicate<'b>(version: &Version<'b>, of: &'b str, by: usize) -> Duplicate<'b> {
    Duplicate {
        uri: version.uri,
        cid: version.cid,
        of,
        time: version.time,
        by,
    }
}
