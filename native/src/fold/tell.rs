//! Whom rows that come and go are told to.

use std::collections::{BTreeSet, HashSet};

use super::apply::Fold;
use super::batch::PostDetail;
use super::detail;
use super::effects::DEPTH;
use super::posts::Post;
use super::told::{is_muted, Notification};
use super::world::{Now, Removed, Version};
use crate::plan::Collection;
use crate::syntax;

impl<'b> Fold<'b, '_> {
    /// Who is told of a post that is inserted, each once: by itself, then by the replies that came
    /// before what they answer, but for those that are judged `again`.
    pub(super) fn tell_of_post(
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
            for quoted in record.quoted_posts().filter(|_| may_embed) {
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
