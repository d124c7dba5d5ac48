//! The overlay over known repositories and actors, and the rules about them.

use std::collections::HashMap;

use super::batch::Event;
use super::known::{ActorRow, Known, RepoRow};
use crate::datetime;

/// A handle is looked up again when its last look-up is older than this (milliseconds).
const HANDLE_STALE_MILLIS: i64 = 24 * 60 * 60 * 1_000;
/// The same where no handle was found.
const NO_HANDLE_STALE_MILLIS: i64 = 60 * 60 * 1_000;

/// What is applied of one repository: the row of `repo`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repo<'b> {
    pub rev: Option<&'b str>,
    pub resync: Option<&'b str>,
    pub account_time: Option<&'b str>,
    pub identity_time: Option<&'b str>,
    pub active: Option<bool>,
    pub status: Option<&'b str>,
}

/// A look-up of an identity that became due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due<'b> {
    pub seq: i64,
    pub time: &'b str,
    pub forced: bool,
}

/// A deletion of an account that its host has yet to confirm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deletion<'b> {
    /// The `#account` event.
    pub event: &'b Event,
    /// Applied when it came; whatever is applied after it calls the deletion off.
    pub rev: Option<&'b str>,
}

/// An account's status upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Status<'b> {
    Active,
    Inactive(&'b str),
}

impl<'b> Status<'b> {
    /// As the column holds it: NULL for active.
    pub const fn word(self) -> Option<&'b str> {
        match self {
            Self::Active => None,
            Self::Inactive(word) => Some(word),
        }
    }
}

#[derive(Debug, Default)]
struct Actor<'b> {
    exists: bool,
    /// T of the event that made it, if that is in this batch.
    inserted: Option<&'b str>,
    has_handle: bool,
    /// `indexedAt` in milliseconds; `None` if it is no instant.
    millis: Option<i64>,
    /// Set by the batch.
    status: Option<Status<'b>>,
}

/// One DID.
#[derive(Debug, Default)]
pub(crate) struct Person<'b> {
    pub repo: Repo<'b>,
    pub repo_changed: bool,
    /// CID of the commit and rev, if the batch moves them.
    pub sync: Option<(&'b str, &'b str)>,
    pub due: Option<Due<'b>>,
    pub deletion: Option<Deletion<'b>>,
    /// The snapshot on its way, now and before the batch.
    pub fetch: Option<i64>,
    pub known_fetch: Option<i64>,
    actor: Actor<'b>,
}

impl<'b> Person<'b> {
    /// The repository must be fetched again; the first reason stays.
    pub fn mark_resync(&mut self, reason: &'static str) {
        self.repo.resync.get_or_insert(reason);
        self.repo_changed = true;
    }

    /// An event of this DID: its actor has a row from now on, and is looked up when
    /// the last look-up is old. A look-up still due counts as done at its own time,
    /// for that is the time it will set.
    pub fn touch(&mut self, event: &'b Event, forced: bool) {
        let now = datetime::instant(&event.time).map(millis);
        let actor = &mut self.actor;
        let limit = if actor.has_handle {
            HANDLE_STALE_MILLIS
        } else {
            NO_HANDLE_STALE_MILLIS
        };
        let stale = now
            .zip(actor.millis)
            .is_some_and(|(now, then)| now.saturating_sub(then) > limit);
        if actor.exists && !forced && !stale {
            return;
        }
        if !actor.exists {
            actor.exists = true;
            actor.inserted = Some(&event.time);
        }
        actor.has_handle = true;
        actor.millis = now;
        self.add_due(Due {
            seq: event.seq,
            time: &event.time,
            forced,
        });
    }

    /// An event that asks for no look-up: only the first of a DID makes its row.
    pub fn ensure_actor(&mut self, event: &'b Event) {
        if !self.actor.exists {
            self.touch(event, false);
        }
    }

    /// The last event in order asks; seqs of several relays do not compare.
    fn add_due(&mut self, new: Due<'b>) {
        let forced = new.forced || self.due.is_some_and(|due| due.forced);
        self.due = Some(Due { forced, ..new });
    }

    /// The status upstream. Only an existing row takes it.
    pub fn set_status(&mut self, status: Status<'b>) {
        if self.actor.exists {
            self.actor.status = Some(status);
        }
    }

    /// A row to insert: its time and status.
    pub fn new_actor(&self) -> Option<(&'b str, Option<&'b str>)> {
        let inserted = self.actor.inserted?;
        Some((inserted, self.actor.status.and_then(Status::word)))
    }

    /// As a look-up would tell the repository after the batch.
    pub fn repo_row(&self, did: &str) -> RepoRow {
        let repo = &self.repo;
        let owned = |text: Option<&str>| text.map(str::to_owned);
        (
            did.to_owned(),
            owned(repo.rev),
            owned(repo.resync),
            owned(repo.account_time),
            owned(repo.identity_time),
            repo.active,
            owned(repo.status),
        )
    }

    /// As a look-up would tell the actor, if the batch changed when it is looked up again.
    pub fn actor_row(&self, did: &str) -> Option<ActorRow> {
        let time = self.due.map(|due| due.time).or(self.actor.inserted)?;
        Some((
            did.to_owned(),
            false,
            time.to_owned(),
            Some(time.to_owned()),
        ))
    }

    /// The status to set on a row that the database has.
    pub fn new_status(&self) -> Option<Status<'b>> {
        match self.actor.inserted {
            Some(_) => None,
            None => self.actor.status,
        }
    }
}

/// All DIDs of a batch.
#[derive(Debug)]
pub(crate) struct People<'b>(HashMap<&'b str, Person<'b>>);

impl<'b> People<'b> {
    pub fn new(known: &'b Known) -> Self {
        let mut people: HashMap<&str, Person<'_>> = HashMap::new();
        for (did, rev, resync, account_time, identity_time, active, status) in &known.repos {
            people.entry(did).or_default().repo = Repo {
                rev: rev.as_deref(),
                resync: resync.as_deref(),
                account_time: account_time.as_deref(),
                identity_time: identity_time.as_deref(),
                active: *active,
                status: status.as_deref(),
            };
        }
        for (did, fetch) in &known.fetches {
            let person = people.entry(did).or_default();
            person.fetch = Some(*fetch);
            person.known_fetch = Some(*fetch);
        }
        for (did, has_handle, indexed_at, due) in &known.actors {
            people.entry(did).or_default().actor = Actor {
                exists: true,
                inserted: None,
                has_handle: *has_handle || due.is_some(),
                millis: datetime::instant(due.as_ref().unwrap_or(indexed_at)).map(millis),
                status: None,
            };
        }
        Self(people)
    }

    pub fn of(&mut self, did: &'b str) -> &mut Person<'b> {
        self.0.entry(did).or_default()
    }

    pub fn get(&self, did: &str) -> Option<&Person<'b>> {
        self.0.get(did)
    }

    /// Sorted by DID.
    pub fn into_sorted(self) -> Vec<(&'b str, Person<'b>)> {
        let mut people: Vec<_> = self.0.into_iter().collect();
        people.sort_unstable_by_key(|(did, _)| *did);
        people
    }
}

/// Milliseconds since 1970, the rest cut off as JavaScript's dates do.
pub(crate) fn millis((seconds, nanos): (i64, u32)) -> i64 {
    seconds
        .saturating_mul(1_000)
        .saturating_add(i64::from(nanos / 1_000_000))
}
