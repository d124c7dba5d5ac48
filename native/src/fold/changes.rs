//! The net effect of a batch as what the database is sent: deletes, COPY bytes, statements.
//!
//! Absent to present is a COPY; present to absent is a delete; a record that stayed
//! present is an update, so that columns which are not ours keep their values; a row of
//! a collection's own table that changed is deleted and copied. Names of statements are those
//! of `engine/collections/statements.py` and `engine/sql/indexer.sql`.

use std::collections::BTreeMap;

use super::apply::Applied;
use super::batch::{Batch, Counts};
use super::collect::Rows;
use super::dead;
use super::fetches;
use super::known::Known;
use super::late_rows;
use super::people;
use super::shared;
use super::world::{Now, Slot};
use crate::pgcopy::{self, array_texts, ArrayText};
use crate::plan::{Plan, Role};

/// The name of a statement and its parameters, each an array literal.
pub type Statement = (String, Vec<String>);

/// What to do, in this order, in one transaction.
#[derive(Debug, Default)]
pub struct Changes {
    pub deletes: Vec<Statement>,
    /// Table, a complete COPY, rows; rows sorted by the bytes of the primary key.
    pub copies: Vec<(String, Vec<u8>, usize)>,
    /// Where others write as well: statements that come first, lock, and find nothing, unless what
    /// was looked up is no longer so.
    pub checks: Vec<Statement>,
    pub statements: Vec<Statement>,
    /// Shard, `host/generation`, highest seq if there ever was one, ops by outcome.
    pub tally: Vec<(u32, String, Option<i64>, Counts)>,
    /// Of the repositories that `upsert_repos` names: the fetches that were known of.
    pub fetches: Vec<(String, i64)>,
    /// Of each copy, the op that wrote each line and where the line ends.
    pub(super) lines: Vec<Vec<(usize, usize)>>,
}

impl Changes {
    /// The op that wrote a line (counted from 1) of a copy.
    pub fn op_of(&self, copy: usize, line: usize) -> Option<usize> {
        Some(self.lines.get(copy)?.get(line.checked_sub(1)?)?.0)
    }

    /// A complete COPY of at most `count` lines of a copy, from one (counted from 1) on.
    pub fn part(&self, copy: usize, first: usize, count: usize) -> Vec<u8> {
        let (Some((_, bytes, _)), Some(lines)) = (self.copies.get(copy), self.lines.get(copy))
        else {
            return pgcopy::part(&[], 0, 0);
        };
        let end_of = |line: usize| {
            let last = line.min(lines.len()).checked_sub(1);
            last.and_then(|last| lines.get(last))
                .map_or(0, |line| line.1)
        };
        let before = first.saturating_sub(1);
        pgcopy::part(bytes, end_of(before), end_of(before.saturating_add(count)))
    }
}

/// Everything that the overlay changed.
pub(crate) fn collect(plan: &Plan, batch: &Batch, known: &Known, applied: Applied<'_>) -> Changes {
    let mut rows = Rows::new(plan, batch, &known.candidates);
    let checks = if known.is_together() {
        checks(plan, known, &applied)
    } else {
        Vec::new()
    };
    let people = applied.people.into_sorted();
    let mut changes = Changes {
        checks,
        statements: people::statements(&people, &applied.sources),
        fetches: fetches::known(&people),
        ..Changes::default()
    };
    applied.fetches.collect(&mut changes.statements);
    if known.is_together() {
        let is_invalid = |uri: &str| {
            let post = applied.posts.get(uri);
            post.is_some_and(|post| post.flags.invalid_root == Some(true))
        };
        let noted = applied.unsettled.statements(&applied.world, is_invalid);
        changes.statements.extend(noted);
    }
    let marks = applied.posts.marks();
    let judged = applied.posts.judged().iter();
    let judged = judged.filter(|(uri, _)| applied.world.row(uri).written().is_none());
    let judged = judged.map(|(uri, flags)| (*uri, *flags)).collect();
    for (uri, slot) in applied.world.into_slots() {
        rows.slot(uri, &slot, &applied.posts);
    }
    let shared = shared::Shared {
        feed: applied.feed,
        duplicates: applied.duplicates,
        told: applied.told,
        op_threads: applied.op_threads,
        tallies: applied.tallies,
        quotes: applied.quotes.into_changes(),
        marks,
        judged,
        now: &batch.now,
    };
    let statements = shared.collect(plan, &mut rows);
    rows.finish(&mut changes);
    if !applied.dead.is_empty() {
        let parameters = dead::parameters(batch, &applied.dead);
        changes
            .statements
            .push(("insert_dead_letters".into(), parameters));
    }
    changes.statements.extend(statements);
    if let Some((shards, millis)) = late_rows::advance(batch) {
        let millis = millis.to_string();
        let mut arrays: [ArrayText; 2] = array_texts();
        for shard in shards {
            people::push(&mut arrays, [Some(&shard.to_string()), Some(&millis)]);
        }
        people::add("advance_latest", arrays, &mut changes.statements);
    }
    for source in applied.sources {
        let key = source.key();
        changes
            .tally
            .push((source.shard, key, source.seq, source.counts));
    }
    changes
}

/// Posts that go or are replaced, and whether gates kept them out: what they count for is by that.
fn checks(plan: &Plan, known: &Known, applied: &Applied<'_>) -> Vec<Statement> {
    let is_post = |slot: &Slot<'_>| {
        let of = plan.collections.get(slot.collection);
        of.is_some_and(|of| of.role == Role::Post)
    };
    let slots = applied.world.slots();
    let changed = slots.filter(|(_, slot)| slot.row_known && slot.row != Now::Known);
    let mut posts: BTreeMap<&str, Option<bool>> = changed
        .filter(|(_, slot)| is_post(slot))
        .map(|(uri, _)| (uri, None))
        .collect();
    if posts.is_empty() {
        return Vec::new();
    }
    let late = known.late.posts.iter().map(|late| &late.post);
    for (uri, .., violates) in known.posts.iter().chain(late) {
        if let Some(held) = posts.get_mut(uri.as_str()) {
            *held = *violates;
        }
    }
    let mut arrays: [ArrayText; 2] = array_texts();
    for (uri, violates) in posts {
        let violates = people::boolean(violates == Some(true));
        people::push(&mut arrays, [Some(uri), Some(violates)]);
    }
    let mut checks = Vec::new();
    people::add("check_posts", arrays, &mut checks);
    checks
}
