//! What an event does beside its ops: revs, accounts, identities, marks for a re-sync.

use super::apply::{Fold, Outcome};
use super::batch::{Body, Commit, Event};
use super::repos::{self, Deletion, Person, Status};
use crate::datetime;
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

impl<'b> Fold<'b, '_> {
    /// Why a commit or sync is not applied at all, if so.
    pub(super) fn refuse_rev(
        &mut self,
        event: &'b Event,
        rev: &str,
        is_commit: bool,
    ) -> Option<Outcome> {
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
    pub(super) fn move_rev(&mut self, event: &'b Event, commit: &'b Commit) {
        let missing = commit.rejected.iter().any(|reason| is_missing(*reason));
        let undecodable = commit.ops.clone().any(|number| {
            let op = self.batch.ops.get(number);
            matches!(op.map(|op| &op.body), Some(Body::Rejected(reason, _)) if is_missing(*reason))
        });
        let person = self.state.people.of(&event.did);
        // Of a snapshot that is on its way: what it must reach to mend this.
        let mut needed = None;
        match (person.repo.rev, commit.since.as_deref()) {
            (None, None) => {}
            (None, Some(since)) => {
                person.mark_resync(resync::HISTORY_UNKNOWN);
                needed = Some(since);
            }
            (Some(known), Some(since)) if known == since => {}
            (Some(_), since) => {
                person.mark_resync(resync::SINCE_MISMATCH);
                needed = Some(since.unwrap_or(&commit.rev));
            }
        }
        if missing || undecodable {
            person.mark_resync(resync::RECORD_MISSING);
            needed = Some(&commit.rev);
        }
        person.repo.rev = Some(&commit.rev);
        person.repo_changed = true;
        person.deletion = None;
        if has_effect(event, commit) {
            person.sync = Some((&commit.cid, &commit.rev));
            person.touch(event, false);
        }
        if let Some(rev) = needed {
            self.touch_whole(event, rev);
        }
    }

    pub(super) fn sync(&mut self, event: &'b Event, rev: &'b str, commit: &'b str) -> Outcome {
        if let Some(outcome) = self.refuse_rev(event, rev, false) {
            return outcome;
        }
        let person = self.state.people.of(&event.did);
        if person.repo.rev != Some(rev) {
            person.mark_resync(resync::SYNC);
            person.repo.rev = Some(rev);
            person.deletion = None;
        }
        person.sync = Some((commit, rev));
        person.touch(event, false);
        self.touch_whole(event, rev);
        Outcome::Applied
    }

    pub(super) fn identity(&mut self, event: &'b Event) -> Outcome {
        let person = self.state.people.of(&event.did);
        if let Some(outcome) = refuse_time(event, self.batch.latest, person.repo.identity_time) {
            return outcome;
        }
        person.repo.identity_time = Some(&event.time);
        person.repo_changed = true;
        person.touch(event, true);
        Outcome::Applied
    }

    pub(super) fn account(
        &mut self,
        event: &'b Event,
        active: bool,
        status: Option<&'b str>,
    ) -> Outcome {
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
                remember_account(person, event, active, status);
                if status == Some("deleted") {
                    let rev = person.repo.rev;
                    person.deletion = Some(Deletion { event, rev });
                    return Outcome::NoEffect("account_deletion_unconfirmed");
                }
                person.ensure_actor(event);
                return Outcome::NoEffect("ignored_status");
            }
        };
        remember_account(person, event, active, status);
        person.ensure_actor(event);
        person.set_status(told);
        Outcome::Applied
    }
}

fn remember_account<'b>(
    person: &mut Person<'b>,
    event: &'b Event,
    active: bool,
    status: Option<&'b str>,
) {
    person.repo.account_time = Some(&event.time);
    person.repo.active = Some(active);
    person.repo.status = status;
    person.repo_changed = true;
    person.deletion = None;
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
pub(super) fn tid_micros(tid: &str) -> Option<u64> {
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
