//! What several owners that write at the same moment may have missed of one another.
//!
//! An owner that inserts a reply while another inserts the post that it answers sees no post, and
//! the other sees no reply. So whoever writes one of the two notes it, in the same transaction:
//! the reply's owner the post, if it is missing or its own verdict may be about to change; the
//! gate's owner the gate, since gates are few and replies without one are many. Once
//! everybody who looked before that transaction was visible has committed, what is noted is
//! *settled*: as if it were late just now (`late`), whoever it was late for. Then every
//! reply either saw it, or was seen by it, or is seen now. Settling again what was seen
//! changes nothing: verdicts are passed as of now, and nobody is told twice.
//!
//! A post that is late for posts it does see is noted as well. To judge those again they must be
//! locked before they are read, and a batch that locks posts of others first and copies
//! its rows then keeps those others waiting; what is settled is little and quick.

use std::collections::BTreeSet;

use super::apply::Fold;
use super::changes::Statement;
use super::detail;
use super::effects::DEPTH;
use super::late::Again;
use super::people;
use super::wanted::Wanted;
use super::world::World;
use super::written;
use crate::pgcopy::{array_texts, ArrayText};
use crate::plan::{Plan, Role};

/// Why something is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// A post that was not there.
    Missing,
    /// A post that was there, with an invalid root.
    Invalid,
    /// A gate that is new, or a post that is late for posts that are there.
    New,
}

/// By shard of who noted it.
#[derive(Debug, Default)]
pub(crate) struct Unsettled<'b>(BTreeSet<(u32, &'b str, Why)>);

impl Unsettled<'_> {
    /// What is still missing or invalid, and all gates.
    pub fn statements(
        &self,
        world: &World<'_>,
        is_invalid: impl Fn(&str) -> bool,
    ) -> Option<Statement> {
        let mut arrays: [ArrayText; 3] = array_texts();
        for (shard, uri, why) in &self.0 {
            let is_open = match why {
                Why::Missing => !world.has_record(uri),
                Why::Invalid => is_invalid(uri),
                Why::New => world.has_record(uri),
            };
            if is_open {
                let invalid = people::boolean(*why == Why::Invalid);
                people::push(
                    &mut arrays,
                    [Some(&shard.to_string()), Some(uri), Some(invalid)],
                );
            }
        }
        let mut statements = Vec::new();
        people::add("insert_unsettled", arrays, &mut statements);
        statements.pop()
    }
}

impl Wanted<'_> {
    /// What the posts and gates that are settled may be late for.
    pub(super) fn settling_posts(&mut self) {
        let known = self.known;
        for (uri, _) in &known.settling {
            match role_of(self.plan, uri) {
                Role::Post => {
                    self.add("lookup_posts", uri);
                    self.add("lookup_thread", uri);
                }
                Role::Threadgate => self.add("lookup_thread", &detail::gated(uri)),
                Role::Postgate => self.add("lookup_quoting", &detail::gated(uri)),
                _ => {}
            }
        }
    }

    /// What is settled is locked before anything is read that it is judged by: of two that judge
    /// the same post the second sees what the first one did.
    pub(super) fn late_locks(&mut self) {
        if self.known.settling.is_empty() {
            return;
        }
        for late in &self.known.late.posts {
            self.add("lookup_judged", &late.post.0);
        }
    }
}

impl<'b> Fold<'b, '_> {
    /// A reply was judged: what of it somebody else may be writing.
    pub(super) fn note_ancestors(&mut self, uri: &'b str, number: usize) {
        if !self.known.is_together() {
            return;
        }
        let chain = self.state.posts.chain(uri, DEPTH);
        let Some((top, height)) = chain.last().copied() else {
            return;
        };
        let parent_of = |uri: &str| self.state.posts.get(uri).and_then(|post| post.parent);
        let is_near = height + 1 < DEPTH;
        let missing = parent_of(top).filter(|uri| is_near && detail::is_post(uri));
        let is_invalid = |uri: &&str| {
            let post = self.state.posts.get(uri);
            post.is_some_and(|post| post.flags.invalid_root == Some(true))
        };
        let invalid = parent_of(uri).filter(is_invalid);
        for (uri, why) in [(missing, Why::Missing), (invalid, Why::Invalid)] {
            if let Some(uri) = uri {
                self.note(uri, why, number);
            }
        }
    }

    /// A gate is new: who replies or quotes at the same moment may not see it.
    pub(super) fn note_gate(&mut self, uri: &'b str, number: usize) {
        if self.known.is_together() {
            self.note(uri, Why::New, number);
        }
    }

    /// Something new is late for these posts: judge them again, or have that done when it is settled.
    pub(super) fn come_late(&mut self, uri: &'b str, again: Again<'b>, number: usize) {
        if !self.known.defers() {
            self.judge_again(again, number);
        } else if !again.is_empty() {
            self.note(uri, Why::New, number);
        }
    }

    fn note(&mut self, uri: &'b str, why: Why, number: usize) {
        let op = self.batch.ops.get(number);
        let event = op.and_then(|op| self.batch.events.get(op.event));
        let source = event.and_then(|event| self.batch.sources.get(event.source));
        if let Some(source) = source {
            self.state.unsettled.0.insert((source.shard, uri, why));
        }
    }

    /// What came meanwhile is late just now.
    pub(super) fn settle(&mut self) {
        for (uri, time) in &self.known.settling {
            let again = match role_of(self.plan, uri) {
                Role::Post => self.late_post(uri, time),
                role @ (Role::Threadgate | Role::Postgate) => self.late_gate(uri, time, role),
                _ => continue,
            };
            self.judge_again(again, 0);
        }
    }
}

fn role_of(plan: &Plan, uri: &str) -> Role {
    let collection = written::place(plan, uri).and_then(|(of, _)| plan.collections.get(of));
    collection.map_or(Role::Plain, |of| of.role)
}
