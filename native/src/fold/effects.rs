//! What rows that come and go do to other rows.

use super::apply::Fold;
use super::batch::{Detail, PostDetail};
use super::detail;
use super::feed::FeedItem;
use super::late::Again;
use super::posts::{Flags, Gate, Post};
use super::quotes::Quote;
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
        for quoted in post.quoted_posts() {
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
