//! Notifications: what is told to whom, and what is taken back.

use std::collections::{BTreeSet, HashMap};

use super::known::Known;
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
}

impl<'b> Told<'b> {
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
        for at in self.by_record.remove(uri).unwrap_or_default() {
            if let Some(told) = self.notifications.get_mut(at) {
                *told = None;
            }
        }
    }

    /// uris whose notifications go; notifications in the order in which they were told.
    pub fn into_changes(self) -> (BTreeSet<&'b str>, Vec<Notification<'b>>) {
        (
            self.taken_back,
            self.notifications.into_iter().flatten().collect(),
        )
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
