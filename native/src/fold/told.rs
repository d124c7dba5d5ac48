//! Notifications: what is told to whom, and what is taken back.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::known::Known;
use super::late_rows::ToldRow;
use super::posts::Posts;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Notification<'b> {
    pub did: &'b str,
    pub author: &'b str,
    pub record_uri: &'b str,
    pub record_cid: &'b str,
    pub reason: &'b str,
    pub subject: Option<&'b str>,
    pub sort_at: &'b str,
    /// The op that told it.
    pub by: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Told<'b> {
    notifications: Vec<Option<Notification<'b>>>,
    by_record: HashMap<&'b str, Vec<usize>>,
    taken_back: BTreeSet<&'b str>,
    /// Of the database, where they matter: by record.
    held: HashMap<&'b str, Vec<&'b ToldRow>>,
    /// Ids of those that go.
    withdrawn: BTreeSet<&'b str>,
}

impl<'b> Told<'b> {
    pub fn new(known: &'b Known) -> Self {
        let mut told = Self::default();
        for row in &known.late.told {
            told.held.entry(&row.1).or_default().push(row);
        }
        told
    }

    pub fn tell(&mut self, notification: Notification<'b>) {
        self.by_record
            .entry(notification.record_uri)
            .or_default()
            .push(self.notifications.len());
        self.notifications.push(Some(notification));
    }

    /// Everything that this record told goes; also in the database, if it had a row there.
    pub fn take_back(&mut self, uri: &'b str, was_known: bool) {
        if was_known {
            self.taken_back.insert(uri);
        }
        self.held.remove(uri);
        for at in self.by_record.remove(uri).unwrap_or_default() {
            if let Some(told) = self.notifications.get_mut(at) {
                *told = None;
            }
        }
    }

    /// What a record told for these reasons goes, but for what is still `wanted`.
    pub fn withdraw(
        &mut self,
        record: &str,
        reasons: &BTreeSet<&str>,
        wanted: &[Notification<'b>],
    ) {
        let is_wanted = |did: &str, reason: &str, subject: Option<&str>| {
            let told = (did, reason, subject);
            !reasons.contains(reason)
                || wanted
                    .iter()
                    .any(|want| (want.did, want.reason, want.subject) == told)
        };
        for at in self.by_record.get(record).into_iter().flatten() {
            if let Some(told) = self.notifications.get_mut(*at) {
                told.take_if(|told| !is_wanted(told.did, told.reason, told.subject));
            }
        }
        if let Some(held) = self.held.get_mut(record) {
            held.retain(|(id, _, did, reason, subject)| {
                let stays = is_wanted(did, reason, subject.as_deref());
                if !stays {
                    self.withdrawn.insert(id);
                }
                stays
            });
        }
    }

    /// Whom a record told something.
    pub fn recipients(&self, record: &str) -> HashSet<&'b str> {
        let places = self.by_record.get(record).into_iter().flatten();
        let made = places.filter_map(|at| self.notifications.get(*at)?.as_ref());
        let held = self.held.get(record).into_iter().flatten();
        let held = held.map(|(_, _, did, ..)| did.as_str());
        made.map(|told| told.did).chain(held).collect()
    }

    /// uris whose notifications go; ids of others that go; notifications by record, those of one
    /// in the order in which they were told: so two of their indexes are entered in order.
    pub fn into_changes(self) -> (BTreeSet<&'b str>, BTreeSet<&'b str>, Vec<Notification<'b>>) {
        let mut told: Vec<_> = self.notifications.into_iter().flatten().collect();
        told.sort_by_key(|each| each.record_uri);
        (self.taken_back, self.withdrawn, told)
    }
}

/// Whether the recipient muted the thread of the post that a notification is about. What is
/// no post that exists now is in no thread.
pub(crate) fn is_muted(known: &Known, posts: &Posts<'_>, did: &str, subject: Option<&str>) -> bool {
    if known.mutes.is_empty() {
        return false;
    }
    let Some((subject, post)) = subject.and_then(|uri| Some((uri, posts.get(uri)?))) else {
        return false;
    };
    let root = post.root.unwrap_or(subject);
    known.mutes.contains(&(did.to_owned(), root.to_owned()))
}
