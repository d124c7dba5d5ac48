//! What rows that come and go do to other rows, and whom they are told to.

use std::collections::{BTreeSet, HashSet};

use super::apply::Fold;
use super::batch::{Detail, PostDetail};
use super::detail;
use super::feed::FeedItem;
use super::late::Again;
use super::posts::{Flags, Gate, Post};
use super::quotes::Quote;
use super::told::{is_muted, Notification};
use super::world::{Now, Removed, Version};
use crate::plan::{Collection, Role, Tally};
use crate::syntax;

/// Posts this far up a chain are told of a reply, and this far down are looked at.
pub(super) const DEPTH: usize = 5;

impl<'b> Fold<'b, '_> {
    /// What is done whether or not the row is inserted; whether something changed.
    pub(super) fn attempt(
        &mut self,
        collection: &Collection,
        version: &Version<'b>,
        number: usize,
    ) -> bool {
        match version.row().map(|row| &row.detail) {
            Some(Detail::Repost { subject, sort_at }) => self.state.feed.insert(FeedItem {
                uri: version.uri,
                cid: version.cid,
                kind: "repost",
                post: subject,
                did: version.did,
                sort_at,
                by: number,
            }),
            Some(Detail::Gate { post }) => {
                self.state.posts.mark(post, gate_of(collection.role), true);
                false
            }
            _ => false,
        }
    }

    /// What goes with a record that is deleted or replaced, even if it was never there.
    pub(super) fn cascade(&mut self, collection: &Collection, uri: &'b str) {
        match collection.role {
            Role::Repost => self.state.feed.remove(uri),
            Role::Post => self.post_cascade(uri),
            _ => {}
        }
    }

    /// Others' items and quotes of the post go too; only the count of what it quoted itself is
    /// looked at again.
    fn post_cascade(&mut self, uri: &'b str) {
        self.state.feed.remove_of_post(uri);
        self.state.quotes.remove_of(uri);
        let Some(post) = self.state.posts.get(uri) else {
            return;
        };
        if let Some(root) = post.root {
            if syntax::authority_of(root) == syntax::authority_of(uri) {
                self.state.op_threads.delete(root, uri);
            }
        }
        let embedded = match self.state.world.row(uri) {
            Now::Absent => None,
            Now::Known => self.own.get(uri).copied(),
            Now::Updated(content) | Now::Fresh(content) => {
                let version = self.version(content);
                let row = version.and_then(|version| version.row());
                row.and_then(|row| row.detail.post()?.quoted.first())
                    .map(|quoted| (&*quoted.uri, &*quoted.cid))
            }
        };
        if let Some((subject, cid)) = embedded.filter(|(subject, _)| detail::is_post(subject)) {
            self.state.quotes.remove(uri);
            self.state.quotes.count(subject, cid);
            self.state.tallies.touch_post(subject);
        }
    }

    /// What the removal of a row does, beside its counts.
    pub(super) fn row_removed(
        &mut self,
        collection: &Collection,
        uri: &'b str,
        removed: &Removed<'b>,
    ) {
        match (collection.role, removed.key) {
            (Role::Threadgate | Role::Postgate, Some(post)) => {
                self.state.posts.mark(post, gate_of(collection.role), false);
            }
            (Role::Post, _) => {
                let tallies = &mut self.state.tallies;
                tallies.add(Tally::Posts, syntax::authority_of(uri), -1);
                if let Some(post) = self.state.posts.remove(uri) {
                    if let Some(parent) = post.parent {
                        tallies.add(Tally::Replies, parent, -counted(post.flags));
                    }
                }
            }
            _ => {}
        }
    }

    /// A post that is new, or a new version: judged, counted and told of. What `is_new` may be
    /// late for others.
    pub(super) fn post_inserted(
        &mut self,
        version: &Version<'b>,
        post: &'b PostDetail,
        is_new: bool,
        number: usize,
    ) {
        let uri = version.uri;
        self.state.feed.insert(FeedItem {
            uri,
            cid: version.cid,
            kind: "post",
            post: uri,
            did: version.did,
            sort_at: &post.sort_at,
            by: number,
        });
        self.state.posts.insert(
            uri,
            Post {
                cid: version.cid,
                sort_at: &post.sort_at,
                parent: post.parent.as_deref(),
                root: post.root.as_deref(),
                flags: Flags::default(),
            },
        );
        let mut flags = Flags::default();
        if let Some((root, parent)) = post.root.as_deref().zip(post.parent.as_deref()) {
            let invalid = self.has_invalid_root(root, parent);
            let violates = self.violates_thread_gate(version.did, root);
            if invalid || violates {
                flags.invalid_root = Some(invalid);
                flags.violates_gate = Some(violates);
            }
            if syntax::authority_of(root) == version.did {
                self.state.op_threads.insert(root, parent, uri);
            }
        }
        let may_embed = self.quotes_made(version, post, &mut flags, number);
        self.state.posts.set_flags(uri, flags);
        self.note_ancestors(uri, number);
        let tallies = &mut self.state.tallies;
        tallies.add(Tally::Posts, version.did, 1);
        if let Some(parent) = &post.parent {
            tallies.add(Tally::Replies, parent, counted(flags));
        }
        let again = if is_new {
            self.late_post(uri, version.time)
        } else {
            Again::default()
        };
        self.tell_of_post(version, post, may_embed, &again.told, number);
        self.come_late(uri, again, number);
    }

    /// The quotes that a post makes; whether the last of the quoted may be embedded, which
    /// decides for all of them who is told.
    fn quotes_made(
        &mut self,
        version: &Version<'b>,
        post: &'b PostDetail,
        flags: &mut Flags,
        number: usize,
    ) -> bool {
        let mut may_embed = true;
        for quoted in post
            .quoted
            .iter()
            .filter(|quoted| detail::is_post(&quoted.uri))
        {
            self.state.quotes.insert(Quote {
                uri: version.uri,
                cid: version.cid,
                subject: &quoted.uri,
                subject_cid: &quoted.cid,
                created_at: &post.created_at,
                time: version.time,
                by: number,
            });
            self.state.quotes.count(&quoted.uri, &quoted.cid);
            self.state.tallies.touch_post(&quoted.uri);
            may_embed = !self.violates_embedding(version.did, &quoted.uri);
            if !may_embed {
                flags.violates_embedding = Some(true);
            }
        }
        may_embed
    }

    /// Who is told of a post that is inserted, each once: by itself, then by the replies that came
    /// before what they answer, but for those that are judged `again`.
    fn tell_of_post(
        &mut self,
        version: &Version<'b>,
        post: &'b PostDetail,
        may_embed: bool,
        again: &BTreeSet<&'b str>,
        number: usize,
    ) {
        let Some(row) = self.state.posts.get(version.uri).copied() else {
            return;
        };
        let mut seen: HashSet<&str> = HashSet::from([version.did]);
        let about = (version.uri, &row);
        for notice in self.own_notices(about, Some(post), may_embed, &mut seen, number) {
            self.tell_unless_muted(notice);
        }
        if row.flags.violates_gate == Some(true) {
            return;
        }
        // Replies that came before what they answer: where a hidden post left somebody untold.
        let mut chain = self.state.posts.chain(version.uri, DEPTH);
        chain.retain(|(uri, height)| {
            height + 1 < DEPTH && !seen.contains(syntax::authority_of(uri))
        });
        if chain.is_empty() {
            return;
        }
        for (reply, depth) in self.state.posts.tree(version.uri, DEPTH) {
            for (uri, height) in &chain {
                let did = syntax::authority_of(uri);
                if depth + height < DEPTH && !again.contains(reply) && seen.insert(did) {
                    if let Some(row) = self.state.posts.get(reply).copied() {
                        let about = (reply, &row);
                        self.tell_unless_muted(notice(about, did, "reply", Some(*uri), number));
                    }
                }
            }
        }
    }

    /// What a post itself tells, as of now: those it mentions, quotes and answers, in this order,
    /// but for those `seen`.
    pub(super) fn own_notices(
        &self,
        about: (&'b str, &Post<'b>),
        record: Option<&'b PostDetail>,
        may_embed: bool,
        seen: &mut HashSet<&'b str>,
        number: usize,
    ) -> Vec<Notification<'b>> {
        let (uri, post) = about;
        let mut made = Vec::new();
        let mut own = |did, reason, subject| {
            if seen.insert(did) {
                made.push(notice(about, did, reason, subject, number));
            }
        };
        if let Some(record) = record {
            for did in &record.mentions {
                own(did, "mention", None);
            }
            let quoted = record
                .quoted
                .iter()
                .filter(|quoted| detail::is_post(&quoted.uri));
            for quoted in quoted.filter(|_| may_embed) {
                own(
                    syntax::authority_of(&quoted.uri),
                    "quote",
                    Some(&quoted.uri),
                );
            }
        }
        if post.flags.violates_gate == Some(true) {
            return made;
        }
        let chain = self.state.posts.chain(uri, DEPTH);
        let hidden = match (post.root, chain.len()) {
            (Some(root), 2..) => self.rules(&detail::threadgate_uri(root)),
            _ => None,
        };
        for (above, height) in chain {
            if above == uri || height >= DEPTH {
                continue;
            }
            own(syntax::authority_of(above), "reply", Some(above));
            if hidden
                .as_ref()
                .is_some_and(|rules| rules.hidden.iter().any(|each| each == above))
            {
                break;
            }
        }
        made
    }

    /// The notifications that a collection declares for a new row.
    pub(super) fn tell(
        &mut self,
        collection: &'b Collection,
        version: &Version<'b>,
        number: usize,
    ) {
        let (Some(declared), Some(row)) = (&collection.notices, version.row()) else {
            return;
        };
        for notice in &row.notices {
            let Some(made) = declared.made.get(notice.reason) else {
                continue;
            };
            self.tell_unless_muted(Notification {
                did: &notice.did,
                author: version.did,
                record_uri: version.uri,
                record_cid: version.cid,
                reason: &made.reason,
                subject: notice.subject.as_deref(),
                sort_at: &notice.sort_at,
                by: number,
            });
        }
    }

    /// What is told when a row goes: to the DID that its unique key begins with, as of the clock.
    pub(super) fn tell_undone(
        &mut self,
        collection: &'b Collection,
        uri: &'b str,
        removed: &Removed<'b>,
        number: usize,
    ) {
        let reason = collection
            .notices
            .as_ref()
            .and_then(|of| of.undone.as_deref());
        let did = removed.key.and_then(|key| key.split('\0').next());
        if let (Some(reason), Some(did)) = (reason, did) {
            let cid = match removed.was {
                Now::Fresh(content) => self.version(content).map_or("", |version| version.cid),
                _ => removed.cid,
            };
            self.told(Notification {
                did,
                author: syntax::authority_of(uri),
                record_uri: uri,
                record_cid: cid,
                reason,
                subject: None,
                sort_at: &self.batch.now,
                by: number,
            });
        }
    }

    pub(super) fn tell_unless_muted(&mut self, notification: Notification<'b>) {
        let (did, subject) = (notification.did, notification.subject);
        if !is_muted(self.known, &self.state.posts, did, subject) {
            self.told(notification);
        }
    }

    /// Note it, unless the op that tells is history that is to be silent.
    fn told(&mut self, notification: Notification<'b>) {
        if !self.is_silent(notification.by) {
            self.state.told.tell(notification);
        }
    }
}

fn notice<'b>(
    (uri, post): (&'b str, &Post<'b>),
    did: &'b str,
    reason: &'b str,
    subject: Option<&'b str>,
    by: usize,
) -> Notification<'b> {
    Notification {
        did,
        author: syntax::authority_of(uri),
        record_uri: uri,
        record_cid: post.cid,
        reason,
        subject,
        sort_at: post.sort_at,
        by,
    }
}

/// What a reply adds to its parent's count: one that the gate kept out adds nothing.
pub(super) fn counted(flags: Flags) -> i64 {
    i64::from(flags.violates_gate != Some(true))
}

const fn gate_of(role: Role) -> Gate {
    match role {
        Role::Postgate => Gate::Embedding,
        _ => Gate::Thread,
    }
}
