//! The state machine: events one after another, ops one after another.

use super::batch::{Batch, Commit, Event, Kind, Source};
use super::dead::{self, DeadLetter, Part};
use super::known::Known;
use super::repos::People;
use super::world::World;
use super::Voided;
use crate::plan::Plan;
use crate::reason::Reason;

/// What became of an op, or of an event that counts as one.
pub(super) enum Outcome {
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

pub(super) struct Fold<'b, 'v> {
    pub plan: &'b Plan,
    pub batch: &'b Batch,
    pub voided: &'v Voided,
    pub state: Applied<'b>,
}

impl<'b> Fold<'b, '_> {
    fn event(&mut self, index: usize, event: &'b Event) {
        let outcome = match &event.kind {
            Kind::Commit(commit) => return self.commit(index, event, commit),
            Kind::RejectedFrame(reason) => {
                Outcome::Rejected(*reason, dead::frame_detail(self.batch, event))
            }
            Kind::Sync { rev, commit } => self.sync(event, rev, commit),
            Kind::Identity => self.identity(event),
            Kind::Account { active, status } => self.account(event, *active, status.as_deref()),
        };
        self.close(index, event, Part::Whole, event.weight, outcome);
    }

    fn commit(&mut self, index: usize, event: &'b Event, commit: &'b Commit) {
        if let Some(outcome) = self.refuse_rev(event, &commit.rev, true) {
            return self.close(index, event, Part::Whole, event.weight, outcome);
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
