//! The state machine: events one after another, ops one after another.

use super::batch::{Batch, Body, Commit, Event, Kind, Op, Source, Target, Written};
use super::dead::{self, DeadLetter, Part};
use super::known::Known;
use super::repos::{self, People, Repo, Status};
use super::world::World;
use super::Voided;
use crate::datetime;
use crate::entry::Action;
use crate::plan::{Collection, Plan, TableId};
use crate::reason::Reason;
use crate::syntax;

/// Why a repository must be fetched again.
mod resync {
    /// Its first commit that we saw is not the first it has.
    pub const HISTORY_UNKNOWN: &str = "history_unknown";
    /// A commit does not follow the one applied last.
    pub const SINCE_MISMATCH: &str = "since_mismatch";
    /// A sync event says that the repository moved without commits.
    pub const SYNC: &str = "sync";
    /// A commit came without a record it names.
    pub const RECORD_MISSING: &str = "record_missing";
}

/// What became of an op, or of an event that counts as one.
enum Outcome {
    Applied,
    Duplicate,
    NoEffect(&'static str),
    Rejected(Reason, String),
}

/// The state after the last event.
pub(crate) struct Applied<'b> {
    pub world: World<'b>,
    pub people: People<'b>,
    pub sources: Vec<Source>,
    pub dead: Vec<DeadLetter>,
}

/// Apply every event of the batch, in order.
pub(crate) fn apply<'b>(
    plan: &'b Plan,
    batch: &'b Batch,
    known: &'b Known,
    voided: &Voided,
) -> Applied<'b> {
    let mut fold = Fold {
        plan,
        batch,
        voided,
        state: Applied {
            world: World::new(batch, known),
            people: People::new(known),
            sources: batch.sources.clone(),
            dead: Vec::new(),
        },
    };
    for (index, event) in batch.events.iter().enumerate() {
        fold.event(index, event);
    }
    fold.state
}

struct Fold<'b, 'v> {
    plan: &'b Plan,
    batch: &'b Batch,
    voided: &'v Voided,
    state: Applied<'b>,
}

impl<'b> Fold<'b, '_> {
    fn event(&mut self, index: usize, event: &'b Event) {
        let outcome = match &event.kind {
            Kind::Commit(commit) => return self.commit(index, event, commit),
            Kind::RejectedFrame { reason, .. } => {
                Outcome::Rejected(*reason, dead::frame_detail(self.batch, event))
            }
            Kind::Sync { rev, commit } => self.sync(event, rev, commit),
            Kind::Identity => self.identity(event),
            Kind::Account { active, status } => self.account(event, *active, status.as_deref()),
        };
        self.close(index, event, Part::Whole, event.weight(), outcome);
    }

    fn commit(&mut self, index: usize, event: &'b Event, commit: &'b Commit) {
        if let Some(outcome) = self.refuse_rev(event, &commit.rev, true) {
            return self.close(index, event, Part::Whole, event.weight(), outcome);
        }
        self.move_rev(event, commit);
        self.count(event, "filtered", commit.filtered);
        for (position, reason) in commit.rejected.iter().enumerate() {
            let outcome = Outcome::Rejected(*reason, "not carried by the ingester".into());
            self.close(index, event, Part::NotCarried(position), 1, outcome);
        }
        for number in commit.ops.clone() {
            if let Some(op) = self.batch.ops.get(number) {
                let outcome = self.op(number, op);
                self.close(index, event, Part::Op(op.position), 1, outcome);
            }
        }
    }

    /// Why a commit or sync is not applied at all, if so.
    fn refuse_rev(&mut self, event: &'b Event, rev: &str, is_commit: bool) -> Option<Outcome> {
        let Some(micros) = tid_micros(rev) else {
            let error = format!("rev {rev:?} is no TID");
            return Some(Outcome::Rejected(Reason::BadField, error));
        };
        match self.state.people.of(&event.did).repo.rev {
            Some(known) if is_commit && rev <= known => Some(Outcome::Duplicate),
            Some(known) if rev < known => Some(Outcome::NoEffect("stale")),
            _ if micros > self.batch.latest => Some(Outcome::Rejected(
                Reason::RevInFuture,
                format!("rev {rev} is more than five minutes ahead"),
            )),
            _ => None,
        }
    }

    /// What a commit does beside its ops: they may all fail, this stays.
    fn move_rev(&mut self, event: &'b Event, commit: &'b Commit) {
        let missing = commit.rejected.iter().any(|reason| is_missing(*reason));
        let undecodable = commit.ops.clone().any(|number| {
            let op = self.batch.ops.get(number);
            matches!(op.map(|op| &op.body), Some(Body::Rejected(reason, _)) if is_missing(*reason))
        });
        let person = self.state.people.of(&event.did);
        match (person.repo.rev, commit.since.as_deref()) {
            (None, None) => {}
            (None, Some(_)) => person.mark_resync(resync::HISTORY_UNKNOWN),
            (Some(known), Some(since)) if known == since => {}
            (Some(_), _) => person.mark_resync(resync::SINCE_MISMATCH),
        }
        if missing || undecodable {
            person.mark_resync(resync::RECORD_MISSING);
        }
        person.repo.rev = Some(&commit.rev);
        person.repo_changed = true;
        if has_effect(event, commit) {
            person.sync = Some((&commit.cid, &commit.rev));
            person.touch(event, false);
        }
    }

    fn sync(&mut self, event: &'b Event, rev: &'b str, commit: &'b str) -> Outcome {
        if let Some(outcome) = self.refuse_rev(event, rev, false) {
            return outcome;
        }
        let person = self.state.people.of(&event.did);
        if person.repo.rev != Some(rev) {
            person.mark_resync(resync::SYNC);
            person.repo.rev = Some(rev);
        }
        person.sync = Some((commit, rev));
        person.touch(event, false);
        Outcome::Applied
    }

    fn identity(&mut self, event: &'b Event) -> Outcome {
        let person = self.state.people.of(&event.did);
        if let Some(outcome) = refuse_time(event, self.batch.latest, person.repo.identity_time) {
            return outcome;
        }
        person.repo.identity_time = Some(&event.time);
        person.repo_changed = true;
        person.touch(event, true);
        Outcome::Applied
    }

    fn account(&mut self, event: &'b Event, active: bool, status: Option<&'b str>) -> Outcome {
        let person = self.state.people.of(&event.did);
        if let Some(outcome) = refuse_time(event, self.batch.latest, person.repo.account_time) {
            return outcome;
        }
        let told = match (status, active) {
            (None, false) => {
                let error = String::from("an inactive account without a status");
                return Outcome::Rejected(Reason::BadStatus, error);
            }
            (None | Some("takendown" | "suspended" | "deleted" | "deactivated"), true) => {
                Status::Active
            }
            (Some(word @ ("takendown" | "suspended" | "deactivated")), false) => {
                Status::Inactive(word)
            }
            (Some(_), _) => {
                // Kept, but not shown: a deletion waits for its host to confirm it, and the
                // AppView has no word for the others.
                remember_account(&mut person.repo, event, active, status);
                person.repo_changed = true;
                if status == Some("deleted") {
                    return Outcome::NoEffect("account_deletion_unconfirmed");
                }
                person.ensure_actor(event);
                return Outcome::NoEffect("ignored_status");
            }
        };
        remember_account(&mut person.repo, event, active, status);
        person.repo_changed = true;
        person.ensure_actor(event);
        person.set_status(told);
        Outcome::Applied
    }

    fn op(&mut self, number: usize, op: &'b Op) -> Outcome {
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

    /// Put an outcome on the accounts, and what was rejected among the dead letters.
    fn close(&mut self, index: usize, event: &Event, part: Part, ops: i64, outcome: Outcome) {
        match outcome {
            Outcome::Applied => self.count(event, "applied", ops),
            Outcome::Duplicate => self.count(event, "duplicate", ops),
            Outcome::NoEffect(word) => self.count(event, &format!("no_effect:{word}"), ops),
            Outcome::Rejected(reason, error) => {
                self.count(event, &format!("rejected:{}", reason.word()), ops);
                self.state.dead.push(DeadLetter {
                    event: index,
                    part,
                    reason,
                    error,
                });
            }
        }
    }

    fn count(&mut self, event: &Event, outcome: &str, ops: i64) {
        if let Some(source) = self.state.sources.get_mut(event.source) {
            source.count(outcome, ops);
        }
    }
}

fn remember_account<'b>(
    repo: &mut Repo<'b>,
    event: &'b Event,
    active: bool,
    status: Option<&'b str>,
) {
    repo.account_time = Some(&event.time);
    repo.active = Some(active);
    repo.status = status;
}

/// Why an account or identity event is not applied, by the time of the last of its kind.
/// A time from the future says only that its own event is held: a host whose clock was
/// wrong once must not silence all that comes after.
fn refuse_time(event: &Event, latest: u64, last: Option<&str>) -> Option<Outcome> {
    let Some(now) = datetime::instant(&event.time) else {
        let error = format!("time {:?} is no datetime", event.time);
        return Some(Outcome::Rejected(Reason::BadField, error));
    };
    let latest = i64::try_from(latest / 1_000).unwrap_or(i64::MAX);
    let is_held = last
        .and_then(datetime::instant)
        .is_some_and(|known| now == known || (now < known && repos::millis(known) <= latest));
    is_held.then_some(Outcome::Duplicate)
}

/// Whether the commit is an event of its DID: not if it holds nothing, or nothing that
/// could be told apart from nothing, or if its uris could not be taken apart.
fn has_effect(event: &Event, commit: &Commit) -> bool {
    let told = |reason: &Reason| {
        !matches!(
            reason,
            Reason::MissingBlock | Reason::TooBig | Reason::UnknownAction
        )
    };
    let holds = !commit.ops.is_empty() || commit.filtered > 0 || commit.rejected.iter().any(told);
    holds && syntax::has_plain_authority(&format!("at://{}", event.did))
}

/// Whether the repository holds a record that we do not, though nothing is wrong with our rules.
const fn is_missing(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::MissingBlock
            | Reason::TooBig
            | Reason::BadCbor
            | Reason::BadBlockHash
            | Reason::BadCar
    )
}

/// The instant of a TID, in microseconds since 1970.
fn tid_micros(tid: &str) -> Option<u64> {
    if !syntax::is_tid(tid) {
        return None;
    }
    let value = tid.bytes().fold(0_u64, |value, letter| {
        let digit = match letter {
            b'2'..=b'7' => letter - b'2',
            _ => letter.wrapping_sub(b'a').wrapping_add(6),
        };
        value << 5 | u64::from(digit & 31)
    });
    Some(value >> 10)
}
