//! What a batch leaves behind, for the one that is prepared while it is being written.
//!
//! The next batch looks its rows up before this one's are there, or after. Whatever this batch
//! touched is taken from here instead, so it does not matter which of the two a look-up saw.
//! Only what is judged again (`late`), and the record of one that lost its key while its
//! record stayed, are not told from here: the next batch then waits until this one is written.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::apply::Applied;
use super::batch::Batch;
use super::effects::DEPTH;
use super::fetches::FetchCarry;
use super::known::{ActorRow, DuplicateRow, Known, OwnRow, PostRow, RepoRow};
use super::late_rows;
use super::world::{Now, Slot, Version};
use crate::plan::{Plan, Role, TableId};

/// The state after a batch, of what it touched.
#[derive(Debug)]
pub struct Carry {
    pub(super) batch: Arc<Batch>,
    pub(super) records: HashMap<String, Now>,
    pub(super) rows: HashMap<String, Option<(String, Option<String>)>>,
    pub(super) keys: HashMap<(TableId, String), Option<String>>,
    pub(super) repos: HashMap<String, RepoRow>,
    pub(super) actors: HashMap<String, ActorRow>,
    pub(super) fetched: FetchCarry,
    /// Posts that changed, those above and those below them.
    pub(super) posts: HashMap<String, PostRow>,
    pub(super) gone_posts: HashSet<String>,
    /// What posts of the batch quote.
    pub(super) own: HashMap<String, OwnRow>,
    /// Quotes that came or went, by the post that makes them: subject and CID.
    pub(super) quotes: HashMap<String, Option<(String, String)>>,
    /// Those quotes by subjects that they have or had.
    pub(super) quotes_of: HashMap<String, Vec<String>>,
    /// Posts of which every quote went but for those that came later.
    pub(super) gone_subjects: HashSet<String>,
    /// By repost: its feed item's post.
    pub(super) items: HashMap<String, Option<String>>,
    /// Posts whose feed items went.
    pub(super) gone_items: HashSet<String>,
    /// Losers that changed.
    pub(super) losers: HashMap<String, Option<DuplicateRow>>,
    /// Its latest T, in milliseconds since 1970.
    pub(super) latest: Option<i64>,
}

impl Carry {
    pub(super) fn of(
        plan: &Plan,
        batch: &Arc<Batch>,
        known: &Known,
        applied: &Applied<'_>,
    ) -> Self {
        let mut carry = Self {
            batch: Arc::clone(batch),
            records: HashMap::new(),
            rows: HashMap::new(),
            keys: HashMap::new(),
            repos: HashMap::new(),
            actors: HashMap::new(),
            fetched: FetchCarry::of(&applied.fetches),
            posts: HashMap::new(),
            gone_posts: applied.posts.removed().map(str::to_owned).collect(),
            own: HashMap::new(),
            quotes: HashMap::new(),
            quotes_of: HashMap::new(),
            gone_subjects: applied.quotes.gone_subjects().map(str::to_owned).collect(),
            items: HashMap::new(),
            gone_items: applied.feed.gone_posts().map(str::to_owned).collect(),
            losers: HashMap::new(),
            latest: late_rows::span(batch).map(|(_, last)| last),
        };
        let own: HashMap<&str, &OwnRow> =
            known.own.iter().map(|row| (row.0.as_str(), row)).collect();
        for (uri, slot) in applied.world.slots() {
            carry.records.insert(uri.to_owned(), slot.record);
            let version = slot.row.written();
            let version = version.and_then(|of| Version::of(batch, &known.candidates, of));
            let cid = match slot.row {
                Now::Absent => None,
                Now::Known => Some(slot.known_cid()),
                Now::Updated(_) | Now::Fresh(_) => version.map(|version| version.cid),
            };
            let key = slot.key().map(str::to_owned);
            let row = cid.map(|cid| (cid.to_owned(), key));
            carry.rows.insert(uri.to_owned(), row);
            match plan.collections.get(slot.collection).map(|of| of.role) {
                Some(Role::Post) => {
                    let was = own.get(uri).copied();
                    let row = own_row(uri, slot, version, was, applied.quotes.made(uri));
                    carry.own.insert(uri.to_owned(), row);
                }
                Some(Role::Repost) => {
                    let post = applied.feed.post_of(uri).map(str::to_owned);
                    carry.items.insert(uri.to_owned(), post);
                }
                _ => {}
            }
        }
        for (table, key, holder) in applied.world.changed_keys() {
            let holder = holder.map(str::to_owned);
            carry.keys.insert((table, key.to_owned()), holder);
        }
        for did in batch.events.iter().map(|event| &*event.did) {
            let Some(person) = applied.people.get(did) else {
                continue;
            };
            if !carry.repos.contains_key(did) {
                carry.repos.insert(did.to_owned(), person.repo_row(did));
                if let Some(row) = person.actor_row(did) {
                    carry.actors.insert(did.to_owned(), row);
                }
            }
        }
        for (uri, quote) in applied.quotes.changed() {
            let quote = quote.map(|(subject, cid)| (subject.to_owned(), cid.to_owned()));
            carry.quotes.insert(uri.to_owned(), quote);
        }
        for (subject, quotes) in applied.quotes.changed_of() {
            let quotes = quotes.iter().map(|uri| (*uri).to_owned()).collect();
            carry.quotes_of.insert((*subject).to_owned(), quotes);
        }
        for (loser, duplicate) in applied.duplicates.changed() {
            let row = duplicate.map(|each| {
                let row = [each.uri, each.cid, each.of, each.time].map(str::to_owned);
                row.into()
            });
            carry.losers.insert(loser.to_owned(), row);
        }
        carry.take_posts(applied);
        carry
    }

    /// Posts that changed, and what a look-up does not find while they are not written: who is
    /// above and below them.
    fn take_posts(&mut self, applied: &Applied<'_>) {
        let posts = &applied.posts;
        for changed in posts.changed() {
            let above = posts.chain(changed, DEPTH);
            for (uri, _) in above.into_iter().chain(posts.tree(changed, DEPTH)) {
                if let Some(post) = posts.get(uri).filter(|_| !self.posts.contains_key(uri)) {
                    self.posts.insert(uri.to_owned(), post.row(uri));
                }
            }
        }
    }

    /// Quotes of a post that came or went: a look-up is not to count them.
    pub(super) fn quotes_of(&self, subject: &str) -> impl Iterator<Item = &str> {
        let quotes = self.quotes_of.get(subject).into_iter().flatten();
        quotes.map(String::as_str)
    }

    /// The CID of every record that the batch touched; `None` where there is none now. Records that
    /// are as the database has them are left out.
    pub(super) fn versions(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.records.keys().filter_map(|uri| match self.said(uri) {
            Said::Nothing => None,
            Said::Gone => Some((uri.as_str(), None)),
            Said::Record([cid, ..]) => Some((uri.as_str(), Some(cid))),
        })
    }

    /// What this batch has to say of a record.
    pub(super) fn said(&self, uri: &str) -> Said<'_> {
        match self.records.get(uri) {
            Some(Now::Absent) => Said::Gone,
            Some(Now::Updated(content) | Now::Fresh(content)) => {
                let version = Version::of(&self.batch, &[], *content);
                version.map_or(Said::Nothing, |of| {
                    Said::Record([of.cid, &of.written.json, of.time])
                })
            }
            Some(Now::Known) | None => Said::Nothing,
        }
    }
}

/// What a post quotes, as a look-up would tell it.
fn own_row(
    uri: &str,
    slot: &Slot<'_>,
    version: Option<Version<'_>>,
    was: Option<&OwnRow>,
    quote: Option<(&str, &str)>,
) -> OwnRow {
    let (embedded, embedded_cid) = match (slot.row, version) {
        (Now::Absent, _) => (None, None),
        (Now::Known, _) => was.map_or((None, None), |row| (row.1.clone(), row.2.clone())),
        (_, version) => {
            let post = version.and_then(|version| version.row()?.detail.post());
            post.and_then(|post| post.quoted.first())
                .map(|quoted| (quoted.uri.to_string(), quoted.cid.to_string()))
                .unzip()
        }
    };
    let quote = quote.map(|(subject, cid)| (subject.to_owned(), cid.to_owned()));
    let (subject, cid) = quote.unzip();
    (uri.to_owned(), embedded, embedded_cid, subject, cid)
}

pub(super) enum Said<'c> {
    /// It is as the database has it.
    Nothing,
    Gone,
    /// CID, JSON text and `indexedAt`.
    Record([&'c str; 3]),
}
