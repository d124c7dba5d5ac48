//! What a batch leaves behind, for the one that is prepared while it is being written.
//!
//! The next batch looks its rows up before this one's are there. Whatever this batch touched is
//! taken from here instead, so it does not matter which of the two states a look-up saw.
//! What would need more than that (a post that is deleted right after it was quoted, say) is a
//! conflict: the next batch then waits until this one is written.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::apply::Applied;
use super::batch::{Batch, Body};
use super::known::{ActorRow, Known, KnownRow, PostRow, RepoRow};
use super::late_rows;
use super::world::{Content, Now, Version};
use crate::entry::Action;
use crate::plan::{Plan, Role, TableId};

/// The state after a batch, of what it touched.
#[derive(Debug)]
pub struct Carry {
    batch: Arc<Batch>,
    records: HashMap<String, Now>,
    rows: HashMap<String, Option<(String, Option<String>)>>,
    keys: HashMap<(TableId, String), Option<String>>,
    repos: HashMap<String, RepoRow>,
    actors: HashMap<String, ActorRow>,
    posts: HashMap<String, PostRow>,
    gone_posts: HashSet<String>,
    /// Posts whose feed items went.
    gone_items: HashSet<String>,
    /// Posts of which quotes came or went.
    quoted: HashSet<String>,
    /// Losers that changed, and the winners that they have or had.
    losers: HashSet<String>,
    winners: HashSet<String>,
    /// Its latest T, in milliseconds since 1970.
    latest: Option<i64>,
}

impl Carry {
    pub(super) fn of(batch: &Arc<Batch>, known: &Known, applied: &Applied<'_>) -> Self {
        let mut carry = Self {
            batch: Arc::clone(batch),
            records: HashMap::new(),
            rows: HashMap::new(),
            keys: HashMap::new(),
            repos: HashMap::new(),
            actors: HashMap::new(),
            posts: HashMap::new(),
            gone_posts: HashSet::new(),
            gone_items: applied.feed.gone_posts().map(str::to_owned).collect(),
            quoted: applied.quotes.touched().map(str::to_owned).collect(),
            losers: HashSet::new(),
            winners: HashSet::new(),
            latest: late_rows::span(batch).map(|(_, last)| last),
        };
        for (uri, slot) in applied.world.slots() {
            carry.records.insert(uri.to_owned(), slot.record);
            let cid = match slot.row {
                Now::Absent => None,
                Now::Known => Some(slot.known_cid()),
                Now::Updated(content) | Now::Fresh(content) => {
                    Version::of(batch, &known.candidates, content).map(|version| version.cid)
                }
            };
            let key = slot.key().map(str::to_owned);
            let row = cid.map(|cid| (cid.to_owned(), key));
            carry.rows.insert(uri.to_owned(), row);
        }
        for (table, key, holder) in applied.world.keys() {
            let holder = holder.map(str::to_owned);
            carry.keys.insert((table, key.to_owned()), holder);
        }
        for (did, person) in applied.people.iter() {
            carry.repos.insert(did.to_owned(), person.repo_row(did));
            if let Some(row) = person.actor_row(did) {
                carry.actors.insert(did.to_owned(), row);
            }
        }
        for (uri, post) in applied.posts.iter() {
            carry.posts.insert(uri.to_owned(), post.row(uri));
        }
        for uri in applied.posts.removed() {
            carry.gone_posts.insert(uri.to_owned());
        }
        for (loser, winner) in applied.duplicates.touched() {
            carry.losers.insert(loser.to_owned());
            carry.winners.insert(winner.to_owned());
        }
        carry
    }

    /// Whether a batch must wait until this one is written.
    pub(super) fn conflicts(&self, plan: &Plan, batch: &Batch) -> bool {
        batch.ops.iter().any(|op| {
            let Some(target) = op.body.target() else {
                return false;
            };
            let uri = &*target.uri;
            let Some(collection) = plan.collections.get(target.collection) else {
                return false;
            };
            let was_touched = self.records.contains_key(uri);
            match collection.role {
                Role::Post | Role::Repost if was_touched => return true,
                Role::Post if op.action != Action::Create && self.quoted.contains(uri) => {
                    return true
                }
                _ => {}
            }
            !collection.unique.is_empty()
                && (self.losers.contains(uri)
                    || (op.action == Action::Delete && self.winners.contains(uri)))
        })
    }

    /// What this batch has to say of a record's JSON text.
    fn text(&self, uri: &str) -> Said<'_> {
        match self.records.get(uri) {
            Some(Now::Absent) => Said::Gone,
            Some(Now::Updated(Content::Op(number)) | Now::Fresh(Content::Op(number))) => {
                match self.batch.ops.get(*number).map(|op| &op.body) {
                    Some(Body::Write(_, written)) => Said::Text(&written.json),
                    _ => Said::Nothing,
                }
            }
            _ => Said::Nothing,
        }
    }
}

enum Said<'c> {
    /// It is as the database has it.
    Nothing,
    Gone,
    Text(&'c str),
}

/// Keep of the rows from here on only these.
fn tail<T>(rows: &mut Vec<T>, from: usize, keep: impl FnMut(&T) -> bool) {
    let mut fresh = rows.split_off(from.min(rows.len()));
    fresh.retain(keep);
    rows.append(&mut fresh);
}

impl Known {
    /// Begin with what an earlier batch leaves behind.
    pub(super) fn begin_with(&mut self, carry: &Arc<Carry>) {
        self.repos.extend(carry.repos.values().cloned());
        self.actors.extend(carry.actors.values().cloned());
        let present = carry.records.iter().filter(|(_, now)| now.is_present());
        self.records.extend(present.map(|(uri, _)| (uri.clone(),)));
        self.rows.extend(carry.rows.iter().filter_map(|(uri, row)| {
            let (cid, key) = row.clone()?;
            let uri = uri.clone();
            Some(KnownRow { uri, cid, key })
        }));
        self.keys.extend(
            carry
                .keys
                .iter()
                .filter_map(|((table, key), holder)| Some((*table, key.clone(), holder.clone()?))),
        );
        self.posts.extend(carry.posts.values().cloned());
        if let Some(latest) = carry.latest {
            self.late.reach(latest);
        }
        self.carry = Some(Arc::clone(carry));
    }

    /// Leave out, of rows that were looked up, what the earlier batch has the last word on.
    pub(super) fn give_way(&mut self, lengths: &Lengths) {
        let Some(carry) = self.carry.take() else {
            return;
        };
        tail(&mut self.repos, lengths.repos, |row| {
            !carry.repos.contains_key(&row.0)
        });
        tail(&mut self.actors, lengths.actors, |row| {
            !carry.actors.contains_key(&row.0)
        });
        tail(&mut self.records, lengths.records, |row| {
            !carry.records.contains_key(&row.0)
        });
        tail(&mut self.rows, lengths.rows, |row| {
            !carry.rows.contains_key(&row.uri)
        });
        tail(&mut self.keys, lengths.keys, |(table, key, _)| {
            !carry.keys.contains_key(&(*table, key.clone()))
        });
        tail(&mut self.posts, lengths.posts, |row| {
            !carry.posts.contains_key(&row.0) && !carry.gone_posts.contains(&row.0)
        });
        self.late.posts.retain(|late| {
            let uri = &late.post.0;
            !carry.posts.contains_key(uri) && !carry.gone_posts.contains(uri)
        });
        tail(&mut self.feed_items, lengths.feed_items, |(uri, post)| {
            !carry.records.contains_key(uri) && !carry.gone_items.contains(post)
        });
        tail(&mut self.texts, lengths.texts, |(uri, _)| {
            matches!(carry.text(uri), Said::Nothing)
        });
        self.is_blocked |= self
            .own
            .iter()
            .any(|(.., subject, _)| subject.as_ref().is_some_and(|of| carry.quoted.contains(of)));
        self.carry = Some(carry);
    }

    /// What the earlier batch wrote of records that are asked for as texts.
    pub(super) fn add_texts(&mut self, uris: &[String]) {
        let Some(carry) = &self.carry else { return };
        for uri in uris {
            if let Said::Text(text) = carry.text(uri) {
                self.texts.push((uri.clone(), text.to_owned()));
            }
        }
    }
}

/// How many rows there were before an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    repos: usize,
    actors: usize,
    records: usize,
    rows: usize,
    keys: usize,
    posts: usize,
    feed_items: usize,
    texts: usize,
}

impl Lengths {
    pub fn of(known: &Known) -> Self {
        Self {
            repos: known.repos.len(),
            actors: known.actors.len(),
            records: known.records.len(),
            rows: known.rows.len(),
            keys: known.keys.len(),
            posts: known.posts.len(),
            feed_items: known.feed_items.len(),
            texts: known.texts.len(),
        }
    }
}
