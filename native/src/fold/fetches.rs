//! Fetched repositories beside live traffic.
//!
//! While a snapshot is on its way (`repo.fetch_id`), live ops are noted as touching their uris. A
//! slice makes its range of uris equal to the snapshot, but for those touched after it
//! (`slices`). From the first slice on the snapshot's rev is the repository's: older live
//! commits are part of it, and of the ranges to come nothing else is to be believed. The closing
//! entry ends it all. Entries of another fetch than the one waited for do nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::apply::{Fold, Outcome};
use super::batch::{Closing, Commit, Event, Kind, Op, Record, Slice};
use super::changes::Statement;
use super::dead::Part;
use super::events::tid_micros;
use super::people::{add, push};
use super::repos::Person;
use crate::pgcopy::{array_texts, ArrayText};
use crate::reason::Reason;
use crate::syntax;

/// What a repository as a whole is named as among touched uris: something was missed, and only
/// a snapshot that is not older mends it.
pub(super) fn whole(did: &str) -> String {
    format!("at://{did}")
}

/// What a batch does to fetches.
#[derive(Debug, Default)]
pub(crate) struct Fetches<'b> {
    /// DID and uri, with the last rev.
    touched: BTreeMap<(&'b str, Cow<'b, str>), &'b str>,
    /// Fetches that began, with the uri up to which their slices are applied; `None`: wholly.
    begun: BTreeMap<&'b str, Option<&'b str>>,
    /// Fetches that ended, with their snapshots.
    closed: BTreeMap<&'b str, Ended<'b>>,
}

/// The end of a fetch.
#[derive(Debug)]
struct Ended<'b> {
    closing: &'b Closing,
    /// Why nothing of it was indexed, if so.
    refused: Option<String>,
}

impl Fetches<'_> {
    /// Statements, each sorted by DID; after those about repositories.
    pub fn collect(self, statements: &mut Vec<Statement>) {
        let mut touched: [ArrayText; 3] = array_texts();
        for ((did, uri), rev) in &self.touched {
            push(&mut touched, [Some(*did), Some(uri.as_ref()), Some(*rev)]);
        }
        let mut begun: [ArrayText; 2] = array_texts();
        for (did, through) in &self.begun {
            if through.is_some() && !self.closed.contains_key(did) {
                push(&mut begun, [Some(*did), *through]);
            }
        }
        let mut closed: [ArrayText; 5] = array_texts();
        for (did, Ended { closing, refused }) in &self.closed {
            let records = closing.records.to_string();
            let row: [Option<&str>; 5] = [
                Some(*did),
                Some(&closing.rev),
                Some(&records),
                Some(&closing.data),
                refused.as_deref(),
            ];
            push(&mut closed, row);
        }
        add("upsert_touched", touched, statements);
        add("begin_fetches", begun, statements);
        add("close_fetches", closed, statements);
    }
}

/// The fetches that were known of, where `upsert_repos` can tell whether they still are.
pub(super) fn known(people: &[(&str, Person<'_>)]) -> Vec<(String, i64)> {
    let changed = people.iter().filter(|(_, person)| person.repo_changed);
    changed
        .filter_map(|(did, person)| Some(((*did).to_owned(), person.known_fetch?)))
        .collect()
}

/// What the slices of the next batch must know of one that is being written.
#[derive(Debug)]
pub(super) struct FetchCarry {
    /// By DID, the uris that were touched and their revs.
    pub touched: HashMap<String, HashMap<String, String>>,
    /// Repositories of which only some slices are applied, the first among them.
    pub begun: HashSet<String>,
    /// Fetches that ended, by DID.
    pub ended: HashMap<String, i64>,
}

impl FetchCarry {
    pub fn of(fetches: &Fetches<'_>) -> Self {
        let mut touched: HashMap<String, HashMap<String, String>> = HashMap::new();
        for ((did, uri), rev) in &fetches.touched {
            let uris = touched.entry((*did).to_owned()).or_default();
            uris.insert(uri.to_string(), (*rev).to_owned());
        }
        let begun = fetches.begun.iter();
        let begun = begun.filter(|(_, through)| through.is_some());
        let ended = fetches.closed.iter();
        Self {
            ended: ended
                .map(|(did, end)| ((*did).to_owned(), end.closing.fetch_id))
                .collect(),
            touched,
            begun: begun.map(|(did, _)| (*did).to_owned()).collect(),
        }
    }
}

impl<'b> Fold<'b, '_> {
    /// Note what a live op did while a snapshot is on its way. What is rejected left the uri as
    /// it was, so the snapshot has the last word on it.
    pub(super) fn touch(
        &mut self,
        event: &'b Event,
        commit: &'b Commit,
        op: &'b Op,
        outcome: &Outcome,
    ) {
        if matches!(outcome, Outcome::Rejected(..)) {
            return;
        }
        if let Some(target) = op.body.target() {
            self.touch_uri(event, Cow::Borrowed(&target.uri), &commit.rev);
        }
    }

    /// Note that something of the repository was missed, which a snapshot from `rev` on holds.
    pub(super) fn touch_whole(&mut self, event: &'b Event, rev: &'b str) {
        self.touch_uri(event, Cow::Owned(whole(&event.did)), rev);
    }

    fn touch_uri(&mut self, event: &'b Event, uri: Cow<'b, str>, rev: &'b str) {
        if self.state.people.of(&event.did).fetch.is_none() {
            return;
        }
        let touched = &mut self.state.fetches.touched;
        let last = touched.entry((&event.did, uri)).or_insert(rev);
        *last = rev.max(last);
    }

    /// Why entries of a fetch do nothing, if so.
    fn refuse_fetch(&mut self, event: &'b Event, fetch_id: i64, rev: &str) -> Option<Outcome> {
        if self.state.people.of(&event.did).fetch != Some(fetch_id) {
            return Some(Outcome::NoEffect("other_fetch"));
        }
        match tid_micros(rev) {
            Some(micros) if micros <= self.batch.latest => None,
            _ => Some(Outcome::NoEffect("rev_in_future")),
        }
    }

    pub(super) fn slice(&mut self, index: usize, event: &'b Event, slice: &'b Slice) {
        if let Some(outcome) = self.refuse_fetch(event, slice.fetch_id, &slice.rev) {
            return self.close(index, event, Part::Whole, event.weight, outcome);
        }
        let person = self.state.people.of(&event.did);
        person.repo_changed = true;
        person.repo.rev = person.repo.rev.max(Some(&slice.rev));
        if syntax::has_plain_authority(&whole(&event.did)) {
            person.touch(event, false);
        }
        let begun = &mut self.state.fetches.begun;
        if slice.is_first || begun.contains_key(&*event.did) {
            begun.insert(&event.did, slice.through.as_deref());
        }
        self.account_for(event, "filtered", slice.filtered);
        for (position, reason) in slice.rejected.iter().enumerate() {
            let outcome = Outcome::Rejected(*reason, "not carried by the backfiller".into());
            self.close(index, event, Part::NotCarried(position), 1, outcome);
        }
    }

    pub(super) fn record(&mut self, index: usize, event: &'b Event, record: &'b Record) {
        let Some(op) = self.batch.ops.get(record.op) else {
            return;
        };
        let outcome = self
            .refuse_fetch(event, record.fetch_id, &record.rev)
            .unwrap_or_else(|| self.op(record.op, op));
        self.close(index, event, Part::Op(op.position), event.weight, outcome);
    }

    pub(super) fn closing(&mut self, event: &'b Event, closing: &'b Closing) -> Outcome {
        match self.refuse_fetch(event, closing.fetch_id, &closing.rev) {
            Some(Outcome::NoEffect("rev_in_future")) => {
                let rev = &closing.rev;
                let error = format!("rev {rev} is more than five minutes ahead, or none at all");
                self.end_fetch(event, closing, Some(error.clone()));
                return Outcome::Rejected(Reason::RevInFuture, error);
            }
            Some(outcome) => return outcome,
            None => {}
        }
        let person = self.state.people.of(&event.did);
        person.repo_changed = true;
        person.repo.rev = person.repo.rev.max(Some(&closing.rev));
        if !closing.is_outdated {
            person.repo.resync = None;
        }
        if person.repo.rev == Some(&closing.rev) {
            person.sync = Some((&closing.commit, &closing.rev));
        }
        self.end_fetch(event, closing, None);
        Outcome::Applied
    }

    /// Nothing more is waited for, whatever became of it.
    fn end_fetch(&mut self, event: &'b Event, closing: &'b Closing, refused: Option<String>) {
        let person = self.state.people.of(&event.did);
        person.repo_changed = true;
        person.fetch = None;
        let end = Ended { closing, refused };
        self.state.fetches.closed.insert(&event.did, end);
    }

    /// Whether an op tells nobody anything: it is of a slice that says so.
    pub(super) fn is_silent(&self, number: usize) -> bool {
        let op = self.batch.ops.get(number);
        let event = op.and_then(|op| self.batch.events.get(op.event));
        matches!(event.map(|event| &event.kind), Some(Kind::Record(record)) if !record.notify)
    }
}
