//! The state machine: events one after another, ops one after another.

use std::collections::HashMap;

use super::batch::{Batch, Commit, Event, Kind, Mentioned, Rules, Source};
use super::dead::{self, DeadLetter, Part};
use super::duplicates::Duplicates;
use super::feed::Feed;
use super::fetches::Fetches;
use super::known::Known;
use super::late_rows::LatePost;
use super::op_threads::OpThreads;
use super::posts::Posts;
use super::quotes::Quotes;
use super::readings::Readings;
use super::repos::People;
use super::tallies::Tallies;
use super::told::Told;
use super::unsettled::Unsettled;
use super::world::World;
use super::Voided;
use crate::plan::{Plan, TableId};
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
    pub posts: Posts<'b>,
    pub feed: Feed<'b>,
    pub quotes: Quotes<'b>,
    pub op_threads: OpThreads<'b>,
    pub duplicates: Duplicates<'b>,
    pub told: Told<'b>,
    pub tallies: Tallies<'b>,
    pub unsettled: Unsettled<'b>,
    pub sources: Vec<Source>,
    pub dead: Vec<DeadLetter>,
    pub fetches: Fetches<'b>,
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
        known,
        voided,
        tables: Tables {
            follow: plan.table_named("follow"),
            list_item: plan.table_named("list_item"),
        },
        candidates: known
            .candidates
            .iter()
            .enumerate()
            .map(|(at, candidate)| (candidate.uri.as_str(), at))
            .collect(),
        late: known.late_by_uri(),
        own: known
            .own
            .iter()
            .filter_map(|(uri, embedded, cid, ..)| {
                Some((uri.as_str(), (embedded.as_deref()?, cid.as_deref()?)))
            })
            .collect(),
        rules: Readings::default(),
        mentioned: Readings::default(),
        roots: Readings::default(),
        state: Applied {
            world: World::new(batch, known),
            people: People::new(known),
            posts: Posts::new(known),
            feed: Feed::new(known),
            quotes: Quotes::new(known),
            op_threads: OpThreads::default(),
            duplicates: Duplicates::new(known),
            told: Told::new(known),
            tallies: Tallies::default(),
            unsettled: Unsettled::default(),
            sources: batch.sources.clone(),
            dead: Vec::new(),
            fetches: Fetches::default(),
        },
    };
    for (index, event) in batch.events.iter().enumerate() {
        fold.event(index, event);
    }
    fold.settle();
    fold.state
}

/// Tables that gates look into.
pub(super) struct Tables {
    pub follow: Option<TableId>,
    pub list_item: Option<TableId>,
}

pub(super) struct Fold<'b, 'v> {
    pub plan: &'b Plan,
    pub batch: &'b Batch,
    pub known: &'b Known,
    pub voided: &'v Voided,
    pub tables: Tables,
    /// Positions of candidates by uri.
    pub candidates: HashMap<&'b str, usize>,
    /// The first record that a post of the database embeds: uri and CID.
    pub own: HashMap<&'b str, (&'b str, &'b str)>,
    /// What gates say, whom roots mention, and the roots of what may be no posts.
    pub rules: Readings<'b, Rules>,
    pub mentioned: Readings<'b, Mentioned>,
    pub roots: Readings<'b, Option<String>>,
    /// Posts of the database that may be judged again.
    pub late: HashMap<&'b str, &'b LatePost>,
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
            Kind::Slice(slice) => return self.slice(index, event, slice),
            Kind::Record(record) => return self.record(index, event, record),
            Kind::Closing(closing) => self.closing(event, closing),
        };
        self.close(index, event, Part::Whole, event.weight, outcome);
    }

    fn commit(&mut self, index: usize, event: &'b Event, commit: &'b Commit) {
        if let Some(outcome) = self.refuse_rev(event, &commit.rev, true) {
            return self.close(index, event, Part::Whole, event.weight, outcome);
        }
        self.move_rev(event, commit);
        self.account_for(event, "filtered", commit.filtered);
        for (position, reason) in commit.rejected.iter().enumerate() {
            let outcome = Outcome::Rejected(*reason, "not carried by the ingester".into());
            self.close(index, event, Part::NotCarried(position), 1, outcome);
        }
        for number in commit.ops.clone() {
            if let Some(op) = self.batch.ops.get(number) {
                let outcome = self.op(number, op);
                self.touch(event, commit, op, &outcome);
                self.close(index, event, Part::Op(op.position), 1, outcome);
            }
        }
    }

    /// Put an outcome on the accounts, and what was rejected among the dead letters.
    pub(super) fn close(
        &mut self,
        index: usize,
        event: &Event,
        part: Part,
        ops: i64,
        outcome: Outcome,
    ) {
        match outcome {
            Outcome::Applied => self.account_for(event, "applied", ops),
            Outcome::Duplicate => self.account_for(event, "duplicate", ops),
            Outcome::NoEffect(word) => self.account_for(event, &format!("no_effect:{word}"), ops),
            Outcome::Rejected(reason, error) => {
                self.account_for(event, &format!("rejected:{}", reason.word()), ops);
                self.state.dead.push(DeadLetter {
                    event: index,
                    part,
                    reason,
                    error,
                });
            }
        }
    }

    pub(super) fn account_for(&mut self, event: &Event, outcome: &str, ops: i64) {
        if let Some(source) = self.state.sources.get_mut(event.source) {
            source.count(outcome, ops);
        }
    }
}
