//! Late referents: what is judged again when something arrives that others had named before.
//!
//! A post, threadgate or postgate is late for a post if its record comes where there was none,
//! the post is there already, and the T of what comes is before the T of the post. Verdicts into
//! which it enters are passed once more, as of now; counts and notifications follow them. The
//! rule in full, and its slow twin, is `tests/model/late.py`.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use super::apply::Fold;
use super::batch::PostDetail;
use super::detail;
use super::effects::{counted, DEPTH};
use super::late_rows::instant;
use super::posts::Flags;
use super::world::Now;
use crate::plan::{Role, Tally};
use crate::syntax;

/// The posts that something is late for, and how it enters their verdicts.
#[derive(Debug, Default)]
pub(super) struct Again<'b> {
    /// T of what is late, in milliseconds since 1970.
    time: i64,
    /// Replies to it.
    replies: Vec<&'b str>,
    /// Replies that a gate keeps out or lets in.
    gated: Vec<&'b str>,
    quoting: Vec<&'b str>,
    /// All whose notifications are looked at in any case.
    pub told: BTreeSet<&'b str>,
    /// The reason of which a gate takes notifications away.
    takes: Option<&'static str>,
}

/// Posts to tell of again, and the reasons of which notifications may go.
type Concerned<'b> = BTreeMap<&'b str, BTreeSet<&'static str>>;

impl Again<'_> {
    pub fn is_empty(&self) -> bool {
        // Replies and quotes that may change are all among those that are told of.
        self.told.is_empty()
    }
}

impl<'b> Fold<'b, '_> {
    /// What a post that is new is late for.
    pub(super) fn late_post(&self, uri: &'b str, time: &str) -> Again<'b> {
        let Some(time) = instant(time) else {
            return Again::default();
        };
        let posts = &self.state.posts;
        let below = posts.tree(uri, DEPTH - 1).into_iter();
        let below = below.map(|(uri, _)| uri);
        Again {
            time,
            replies: self.later(posts.replies(uri), time, uri),
            told: self.later(below, time, uri).into_iter().collect(),
            ..Again::default()
        }
    }

    /// What a gate that is new is late for.
    pub(super) fn late_gate(&self, uri: &str, time: &str, role: Role) -> Again<'b> {
        let Some(time) = instant(time) else {
            return Again::default();
        };
        let post = detail::gated(uri);
        let state = &self.state;
        if role == Role::Threadgate {
            let thread = state.posts.thread(&post).into_iter();
            let named = |uri: &&str| {
                let reply = state.posts.get(uri);
                reply.is_some_and(|reply| reply.root == Some(&*post))
            };
            let gated = self.later(thread.filter(named), time, uri);
            return Again {
                time,
                told: gated.iter().copied().collect(),
                gated,
                takes: Some("reply"),
                ..Again::default()
            };
        }
        let quoting = state.quotes.of(&post).into_iter();
        let quoting = quoting.filter(|uri| state.posts.get(uri).is_some());
        let quoting = self.later(quoting, time, uri);
        Again {
            time,
            told: quoting.iter().copied().collect(),
            quoting,
            takes: Some("quote"),
            ..Again::default()
        }
    }

    /// Those of these posts whose T is after this one.
    fn later(
        &self,
        posts: impl IntoIterator<Item = &'b str>,
        time: i64,
        but: &str,
    ) -> Vec<&'b str> {
        let is_later = |uri: &&str| *uri != but && self.time_of(uri).is_some_and(|at| at > time);
        posts.into_iter().filter(is_later).collect()
    }

    /// T of a post, as far as it matters here.
    fn time_of(&self, uri: &str) -> Option<i64> {
        match self.state.world.row(uri) {
            Now::Fresh(content) | Now::Updated(content) => instant(self.version(content)?.time),
            Now::Known | Now::Absent => match self.late.get(uri) {
                Some(late) => late.millis,
                None => self.known.carried_time(uri).and_then(instant),
            },
        }
    }

    /// What a post's record says, if the batch can judge it again.
    fn detail_of(&self, uri: &str) -> Option<&'b PostDetail> {
        let row = match self.state.world.row(uri) {
            Now::Fresh(content) | Now::Updated(content) => self.version(content)?.row(),
            Now::Known | Now::Absent => self.late.get(uri)?.written.as_ref()?.row.as_ref(),
        };
        row?.detail.post()
    }

    /// Pass the verdicts again, count and tell by them. `number` is the op that is late.
    pub(super) fn judge_again(&mut self, again: Again<'b>, number: usize) {
        let mut concerned: Concerned<'b> = again
            .told
            .iter()
            .map(|uri| (*uri, again.takes.into_iter().collect()))
            .collect();
        let mut work: VecDeque<&'b str> = again.replies.into();
        while let Some(uri) = work.pop_front() {
            if self.judge_root(uri) {
                concerned.entry(uri).or_default();
                self.judge_by_gate(uri, &mut concerned);
                let below = self.state.posts.replies(uri);
                work.extend(self.later(below, again.time, uri));
            }
        }
        for uri in again.gated {
            self.judge_by_gate(uri, &mut concerned);
        }
        for uri in again.quoting {
            self.judge_quote(uri);
        }
        for (uri, takes) in concerned {
            self.tell_again(uri, &takes, number);
        }
    }

    /// Whether the verdict on a reply's root changed.
    fn judge_root(&mut self, uri: &'b str) -> bool {
        let Some(post) = self.state.posts.get(uri).copied() else {
            return false;
        };
        let Some((root, parent)) = post.root.zip(post.parent) else {
            return false;
        };
        let invalid = self.has_invalid_root(root, parent);
        if invalid == (post.flags.invalid_root == Some(true)) {
            return false;
        }
        let flags = post
            .flags
            .judged(invalid, post.flags.violates_gate == Some(true));
        self.state.posts.judge_again(uri, flags);
        true
    }

    fn judge_by_gate(&mut self, uri: &'b str, concerned: &mut Concerned<'b>) {
        let Some(post) = self.state.posts.get(uri).copied() else {
            return;
        };
        let Some((root, parent)) = post.root.zip(post.parent) else {
            return;
        };
        let violates = self.violates_thread_gate(syntax::authority_of(uri), root);
        if violates == (post.flags.violates_gate == Some(true)) {
            return;
        }
        let flags = post
            .flags
            .judged(post.flags.invalid_root == Some(true), violates);
        self.state.posts.judge_again(uri, flags);
        let difference = counted(flags) - counted(post.flags);
        self.state.tallies.add(Tally::Replies, parent, difference);
        if violates {
            concerned.entry(uri).or_default().insert("reply");
        }
    }

    fn judge_quote(&mut self, uri: &'b str) {
        let Some(post) = self.state.posts.get(uri).copied() else {
            return;
        };
        let Some(record) = self.detail_of(uri) else {
            return;
        };
        let author = syntax::authority_of(uri);
        let violates = record
            .quoted_posts()
            .any(|quoted| self.violates_embedding(author, &quoted.uri));
        let flags = Flags {
            violates_embedding: violates.then_some(true),
            ..post.flags
        };
        self.state.posts.judge_again(uri, flags);
    }

    /// Add what the post's insert would tell now, unless the recipient was told something of it;
    /// take away what it would not tell, for these reasons.
    fn tell_again(&mut self, uri: &'b str, takes: &BTreeSet<&'static str>, number: usize) {
        let Some(post) = self.state.posts.get(uri).copied() else {
            return;
        };
        let may_embed = post.flags.violates_embedding != Some(true);
        let mut seen = HashSet::from([syntax::authority_of(uri)]);
        let record = self.detail_of(uri);
        let wanted = self.own_notices((uri, &post), record, may_embed, &mut seen, number);
        self.state.told.withdraw(uri, takes, &wanted);
        let held = self.state.told.recipients(uri);
        for notification in wanted {
            if !held.contains(notification.did) {
                self.tell_unless_muted(notification);
            }
        }
    }
}
