//! What late referents need of the database.
//!
//! Nothing at all where no event of the batch is before the latest one applied, so that input in
//! order costs one small look-up. Else the posts that something new may be late for, with all
//! that they are judged by again: their records, ancestors, gates, and what they told.

use std::collections::{BTreeSet, HashSet};

use super::batch::{Batch, Body, Detail, PostDetail, Written};
use super::decode::Validate;
use super::detail;
use super::gates;
use super::known::{rows, Known, KnownError, PostRow};
use super::repos::millis;
use super::wanted::{written_of, Wanted};
use super::written;
use crate::datetime;
use crate::entry::Action;
use crate::plan::{Plan, Role};
use crate::syntax;

/// uri, CID, sortAt, parent, root, invalidReplyRoot, violatesThreadGate,
/// violatesEmbeddingRules, indexedAt.
type LateRow = (
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<bool>,
    Option<bool>,
    Option<bool>,
    String,
);
/// id, record, recipient, reason, subject.
pub(crate) type ToldRow = (String, String, String, String, Option<String>);

/// A post of the database that something may be late for.
#[derive(Debug)]
pub(crate) struct LatePost {
    pub post: PostRow,
    pub violates_embedding: Option<bool>,
    /// `indexedAt`, verbatim and as an instant; `None` if it is none.
    pub time: String,
    pub millis: Option<i64>,
    /// Its record, where that is there and would be accepted.
    pub written: Option<Box<Written>>,
}

/// The answers.
#[derive(Debug, Default)]
pub(crate) struct LateRows {
    pub posts: Vec<LatePost>,
    /// Post quoted, CID as quoted, uri of the quote.
    pub quoting: Vec<(String, String, String)>,
    pub told: Vec<ToldRow>,
    /// The latest T of a post or gate applied, as far as that was asked for.
    latest: Option<i64>,
    /// Nothing is kept of when what is there was applied.
    is_unknown: bool,
}

/// A time as what is late is judged by: milliseconds since 1970.
pub(super) fn instant(time: &str) -> Option<i64> {
    datetime::instant(time).map(millis)
}

/// The earliest and the latest T of the posts and gates of a batch.
pub(super) fn span(batch: &Batch) -> Option<(i64, i64)> {
    let judging = batch.ops.iter().filter(|op| {
        let row = written_of(op).and_then(|(_, written)| written.row.as_ref());
        row.is_some_and(|row| matches!(row.detail, Detail::Post(_) | Detail::Gate { .. }))
    });
    let mut events: Vec<usize> = judging.map(|op| op.event).collect();
    events.dedup();
    let times = events
        .into_iter()
        .filter_map(|event| instant(&batch.events.get(event)?.time));
    times.fold(None, |span, time| match span {
        Some((first, last)) => Some((time.min(first), time.max(last))),
        None => Some((time, time)),
    })
}

impl LateRows {
    /// Read an answer; whether it is one of these.
    pub fn answer(&mut self, name: &str, text: &str) -> Result<bool, KnownError> {
        match name {
            "lookup_latest" => {
                let found: Vec<(Option<i64>,)> = rows(name, text)?;
                match found.first().and_then(|row| row.0) {
                    Some(latest) => self.reach(latest),
                    None => self.is_unknown = true,
                }
            }
            "lookup_thread" => {
                for row in rows(name, text)? {
                    self.add(row);
                }
            }
            "lookup_quoting" => {
                for (subject, cid, row) in rows::<(String, String, LateRow)>(name, text)? {
                    self.quoting.push((subject, cid, row.0.clone()));
                    self.add(row);
                }
            }
            "lookup_judged" => self.hold(rows(name, text)?),
            "lookup_told" => self.told.extend(rows::<ToldRow>(name, text)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Something of this T was applied.
    pub fn reach(&mut self, time: i64) {
        self.latest = self.latest.max(Some(time));
    }

    /// The latest T applied.
    fn latest(&self) -> i64 {
        let latest = self.latest.filter(|_| !self.is_unknown);
        latest.unwrap_or(i64::MAX)
    }

    /// These rows are locked, and the others are gone.
    fn hold(&mut self, held: Vec<LateRow>) {
        self.posts.clear();
        for row in held {
            self.add(row);
        }
    }

    fn add(&mut self, row: LateRow) {
        let (uri, cid, sort_at, parent, root, invalid, violates, violates_embedding, time) = row;
        self.posts.push(LatePost {
            post: (uri, cid, sort_at, parent, root, invalid, violates),
            violates_embedding,
            millis: instant(&time),
            time,
            written: None,
        });
    }

    /// The records found are what these posts would be written as.
    pub fn read(
        &mut self,
        plan: &Plan,
        lexicons: &impl Validate,
        batch: &Batch,
        texts: &[(String, String)],
    ) {
        if self.posts.is_empty() {
            return;
        }
        let texts: std::collections::HashMap<&str, &str> = texts
            .iter()
            .map(|(uri, json)| (uri.as_str(), json.as_str()))
            .collect();
        for late in &mut self.posts {
            let (uri, cid, ..) = &late.post;
            if let Some(json) = texts.get(uri.as_str()).filter(|_| late.written.is_none()) {
                let version = [uri.as_str(), cid, &late.time, json];
                let read = written::again(plan, lexicons, &batch.now, version);
                late.written = read.map(Box::new);
            }
        }
    }

    /// Posts that something which is not before `first` may be late for.
    pub fn after(&self, first: i64) -> impl Iterator<Item = &LatePost> {
        let is_after = move |late: &&LatePost| late.millis.is_some_and(|time| time > first);
        self.posts.iter().filter(is_after)
    }
}

impl Wanted<'_> {
    /// Whether anything can be late: asked for where the batch has what could be.
    pub(super) fn late_times(&mut self) {
        if span(self.batch).is_some() {
            self.once.push("lookup_latest");
        }
    }

    /// The threads and quotes of what comes late. Where that is settled later, only threads, for
    /// their times.
    pub(super) fn late_posts(&mut self) {
        let Some(first) = self.first_late() else {
            return;
        };
        self.settling_posts();
        let latest = self.known.late.latest();
        let has_carry = self.known.carry.is_some();
        let defers = self.known.defers();
        let batch = self.batch;
        let existing: HashSet<&str> = self
            .known
            .records
            .iter()
            .map(|row| row.0.as_str())
            .collect();
        let mut deleted = HashSet::new();
        for op in &batch.ops {
            if let (Action::Delete, Body::Delete(target)) = (op.action, &op.body) {
                deleted.insert(&*target.uri);
            }
        }
        let parents: HashSet<&str> = self
            .known
            .posts
            .iter()
            .filter_map(|row| row.3.as_deref())
            .collect();
        for op in &batch.ops {
            let Some((target, _)) = written_of(op) else {
                continue;
            };
            let uri = &*target.uri;
            let may_be_new = !existing.contains(uri) || deleted.contains(uri);
            let time = batch.events.get(op.event);
            let time = time.and_then(|event| instant(&event.time));
            let is_late = may_be_new && time.is_some_and(|time| first <= time && time < latest);
            let collection = self.plan.collections.get(target.collection);
            match collection.map_or(Role::Plain, |of| of.role) {
                Role::Post if parents.contains(uri) => {
                    self.must_wait |= has_carry && !defers;
                    self.add("lookup_thread", uri);
                }
                Role::Threadgate | Role::Postgate if defers => {}
                Role::Threadgate if is_late => self.late_gate("lookup_thread", uri),
                Role::Postgate if is_late => self.late_gate("lookup_quoting", uri),
                _ => {}
            }
        }
    }

    /// What a gate is late for may be in writing.
    fn late_gate(&mut self, name: &'static str, uri: &str) {
        self.must_wait |= self.known.carry.is_some();
        self.add(name, &detail::gated(uri));
    }

    /// What the posts found are judged by, as far as their rows tell.
    pub(super) fn late_records(&mut self) {
        let Some(first) = self.first_judged() else {
            return;
        };
        let known = self.known;
        // These posts tell again, even if nothing else of the batch tells anything.
        let were_mutes_asked = known.all_mutes || !known.mutes.is_empty();
        if !were_mutes_asked && known.late.after(first).next().is_some() {
            self.once.push("lookup_some_mutes");
        }
        for late in known.late.after(first) {
            let (uri, _, _, parent, root, ..) = &late.post;
            self.add("lookup_texts", uri);
            self.add("lookup_told", uri);
            if let Some(parent) = parent {
                self.add("lookup_post_chain", parent);
            }
            if let Some(root) = root {
                self.add("lookup_texts", &detail::threadgate_uri(root));
            }
        }
    }

    /// The same, as far as their records and gates tell.
    pub(super) fn late_judges(&mut self) {
        let Some(first) = self.first_judged() else {
            return;
        };
        let known = self.known;
        if known.late.posts.is_empty() {
            return;
        }
        let gates = gates::merged(self.plan, self.batch, known);
        for late in known.late.after(first) {
            let (uri, _, _, _, root, ..) = &late.post;
            if let Some(root) = root {
                if let Some(rules) = gates.get(&detail::threadgate_uri(root)) {
                    self.let_in(
                        rules,
                        syntax::authority_of(uri),
                        syntax::authority_of(root),
                        root,
                    );
                }
            }
            let row = late.written.as_ref().and_then(|of| of.row.as_ref());
            let post = row.and_then(|row| row.detail.post());
            for quoted in post.into_iter().flat_map(PostDetail::quoted_posts) {
                self.add("lookup_texts", &detail::postgate_uri(&quoted.uri));
                self.add("lookup_posts", &quoted.uri);
            }
        }
    }

    /// The same, if what is later is judged again now.
    fn first_judged(&self) -> Option<i64> {
        self.first_late().filter(|_| !self.known.defers())
    }

    /// The earliest T of the batch, if something is later and was applied before.
    pub(super) fn first_late(&self) -> Option<i64> {
        let settling = self.known.settling.iter();
        let settling = settling.filter_map(|(_, time)| instant(time)).min();
        if settling.is_some() {
            return settling;
        }
        let (first, _) = span(self.batch)?;
        (first < self.known.late.latest()).then_some(first)
    }
}

impl Known {
    /// Posts that the batch may judge again, by uri.
    pub(super) fn late_by_uri(&self) -> std::collections::HashMap<&str, &LatePost> {
        let posts = self.late.posts.iter();
        posts.map(|late| (late.post.0.as_str(), late)).collect()
    }
}

/// Shards of the batch and the latest T of its posts and gates, to be remembered.
pub(super) fn advance(batch: &Batch) -> Option<(BTreeSet<u32>, i64)> {
    let (_, last) = span(batch)?;
    let shards = batch.sources.iter().map(|source| source.shard).collect();
    Some((shards, last))
}
