//! What must be looked up before a batch can be folded, in rounds: a later one asks for
//! what the answers before it point to.
//!
//! What is not looked up counts as absent. So everything that the fold may see must be
//! asked for here, whatever order the batch's ops turn out to have effect in.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::batch::{Batch, Body, Kind, Op, PostDetail, Rules, Target, Written};
use super::detail;
use super::gates;
use super::known::Known;
use super::proof;
use crate::entry::Action;
use crate::pgcopy::ArrayText;
use crate::plan::{Collection, Plan, Role, TableId};
use crate::syntax;

const ROUNDS: usize = 7;

/// A look-up's name and one array literal for each parameter.
pub(crate) type Lookup = (String, Vec<String>);

impl Known {
    /// What to look up now; empty when everything is known.
    pub fn wanted(&mut self, plan: &Plan, batch: &Batch) -> Vec<Lookup> {
        // A round without questions answers itself.
        loop {
            let (lookups, texts, must_wait) = self.questions(plan, batch);
            self.add_texts(&texts);
            if must_wait {
                // What is judged again may be in writing.
                self.is_blocked = true;
                return Vec::new();
            }
            if !lookups.is_empty() || self.round >= ROUNDS {
                return lookups;
            }
            self.round += 1;
        }
    }

    /// The look-ups of this round, the uris of records that are asked for as texts, and whether
    /// that is in vain.
    fn questions(&self, plan: &Plan, batch: &Batch) -> (Vec<Lookup>, Vec<String>, bool) {
        let mut wanted = Wanted {
            plan,
            batch,
            known: self,
            texts: BTreeMap::new(),
            rows: BTreeMap::new(),
            keys: BTreeMap::new(),
            pairs: BTreeSet::new(),
            once: Vec::new(),
            must_wait: false,
        };
        match self.round {
            0 => wanted.dids(),
            1 => wanted.first(),
            2 => wanted.second(),
            3 => wanted.late_locks(),
            4 => wanted.late_records(),
            5 => wanted.late_judges(),
            6 => wanted.mutes(),
            _ => {}
        }
        let texts = wanted.texts.get("lookup_texts").into_iter().flatten();
        let texts = texts.cloned().collect();
        (wanted.take(), texts, wanted.must_wait)
    }
}

pub(super) struct Wanted<'k> {
    pub plan: &'k Plan,
    pub batch: &'k Batch,
    pub known: &'k Known,
    /// Keys by look-up; sorted when they are taken, which costs a fraction of sorted sets.
    texts: BTreeMap<&'static str, Vec<String>>,
    rows: BTreeMap<TableId, Vec<&'k str>>,
    keys: BTreeMap<TableId, Vec<String>>,
    /// Of `lookup_mutes`.
    pub pairs: BTreeSet<(String, String)>,
    pub once: Vec<&'static str>,
    /// This can be looked up only after the batch before is written, or in the transaction.
    pub must_wait: bool,
}

impl<'k> Wanted<'k> {
    fn dids(&mut self) {
        for event in &self.batch.events {
            if !matches!(event.kind, Kind::RejectedFrame(_)) {
                for name in ["lookup_repos", "lookup_actors", "lookup_fetches"] {
                    self.add(name, &event.did);
                }
            }
        }
    }

    /// What the ops themselves name.
    fn first(&mut self) {
        let proven = proof::proven(self.batch, self.known);
        let mut tells = false;
        for (number, op) in self.batch.ops.iter().enumerate() {
            let Some((target, collection)) = self.place(op) else {
                continue;
            };
            let is_new = proven.get(number).copied().unwrap_or(false);
            if !is_new {
                self.existing(op.action, target, collection);
            }
            let Body::Write(_, written) = &op.body else {
                continue;
            };
            let Some(row) = &written.row else { continue };
            if let Some((table, key)) = collection.table.zip(row.key.as_deref()) {
                self.keys.entry(table).or_default().push(key.into());
            }
            tells |= row.notices.iter().any(|notice| notice.subject.is_some());
            if let Some(post) = row.detail.post() {
                tells |= post.parent.is_some() || !post.quoted.is_empty();
                self.around(&target.uri, post);
            }
        }
        if tells {
            self.once.push("lookup_some_mutes");
        }
        self.late_times();
    }

    /// What is there of a uri that may exist.
    fn existing(&mut self, action: Action, target: &'k Target, collection: &'k Collection) {
        self.add("lookup_record", &target.uri);
        let table = self.plan.table_of(target.collection, target.is_self);
        if let Some(table) = table {
            self.rows.entry(table).or_default().push(&target.uri);
        }
        if !collection.unique.is_empty() {
            self.add("lookup_duplicates", &target.uri);
            if action == Action::Delete {
                self.add("lookup_candidates", &target.uri);
            }
        }
        match collection.role {
            Role::Repost => self.add("lookup_feed_items", &target.uri),
            Role::Post => {
                self.add("lookup_posts", &target.uri);
                self.add("lookup_own_posts", &target.uri);
                if action != Action::Create {
                    self.add("lookup_quoted", &target.uri);
                }
            }
            _ => {}
        }
    }

    /// What a new version of a post is judged by, and who stands above and below it.
    fn around(&mut self, uri: &str, post: &PostDetail) {
        self.add("lookup_post_tree", uri);
        if let Some(parent) = &post.parent {
            self.add("lookup_post_chain", parent);
        }
        if let Some(root) = &post.root {
            self.add("lookup_texts", &detail::threadgate_uri(root));
        }
        for quoted in post.quoted_posts() {
            self.add("lookup_texts", &detail::postgate_uri(&quoted.uri));
        }
    }

    /// What the rows found point to.
    fn second(&mut self) {
        let posts: HashSet<&str> = self.known.posts.iter().map(|row| row.0.as_str()).collect();
        let gates = gates::merged(self.plan, self.batch, self.known);
        let mut asked: HashSet<(&str, &str)> = HashSet::new();
        let batch = self.batch;
        for (target, written) in batch.ops.iter().filter_map(written_of) {
            let Some(post) = written.row.as_ref().and_then(|row| row.detail.post()) else {
                continue;
            };
            if let Some(parent) = post.parent.as_deref().filter(|uri| !posts.contains(uri)) {
                self.add("lookup_texts", parent);
            }
            let Some(root) = &post.root else { continue };
            let replier = syntax::authority_of(&target.uri);
            let owner = syntax::authority_of(root);
            let gate = gates.get(&detail::threadgate_uri(root));
            if let Some(rules) = gate.filter(|_| asked.insert((replier, &**root))) {
                self.let_in(rules, replier, owner, root);
            }
        }
        let known = self.known;
        for candidate in &known.candidates {
            let row = candidate
                .written
                .as_ref()
                .and_then(|written| written.row.as_ref());
            let of = self.plan.collections.get(candidate.collection);
            if of.is_some_and(|of| of.role == Role::Repost) {
                self.add("lookup_feed_items", &candidate.uri);
            }
            let table = of.and_then(|of| of.table);
            // A second create of another key may have given it a row since it lost this one.
            if let Some(table) = table {
                self.rows.entry(table).or_default().push(&candidate.uri);
            }
            if let Some((table, key)) = table.zip(row.and_then(|row| row.key.as_deref())) {
                self.keys.entry(table).or_default().push(key.into());
            }
        }
        self.subjects();
        self.late_posts();
    }

    /// What decides whether a gate lets a reply in.
    pub(super) fn let_in(&mut self, rules: &Rules, replier: &str, owner: &str, root: &str) {
        if !rules.closed || replier == owner {
            return;
        }
        if rules.mentioned {
            self.add("lookup_texts", root);
        }
        if let Some(follow) = self.plan.table_named("follow") {
            let keys = self.keys.entry(follow).or_default();
            if rules.followers {
                keys.push(format!("{replier}\0{owner}"));
            }
            if rules.following {
                keys.push(format!("{owner}\0{replier}"));
            }
        }
        if let Some(items) = self.plan.table_named("list_item") {
            let keys = self.keys.entry(items).or_default();
            keys.extend(rules.lists.iter().map(|list| format!("{list}\0{replier}")));
        }
    }

    fn place(&self, op: &'k Op) -> Option<(&'k Target, &'k Collection)> {
        let target = op.body.target()?;
        Some((target, self.plan.collections.get(target.collection)?))
    }

    pub(super) fn add(&mut self, name: &'static str, key: &str) {
        self.texts.entry(name).or_default().push(key.to_owned());
    }

    /// Quotes of a post that the batch before has the last word on, as an array.
    fn uncounted(&self, subject: &str) -> String {
        let carry = self.known.carry.as_ref();
        let quotes = carry.into_iter().flat_map(|carry| carry.quotes_of(subject));
        array(quotes)
    }

    /// The questions gathered; keys sorted, so that the same batch asks the same thing and
    /// locks in DID order.
    fn take(&mut self) -> Vec<Lookup> {
        let mut lookups = Vec::new();
        for (name, keys) in std::mem::take(&mut self.texts) {
            let keys = sorted(keys);
            let mut parameters = vec![array(keys.iter().map(String::as_str))];
            if name == "lookup_quoted" {
                let but = keys.iter().map(|subject| self.uncounted(subject));
                let but: Vec<String> = but.collect();
                parameters.push(array(but.iter().map(String::as_str)));
            }
            lookups.push((name.to_owned(), parameters));
        }
        for (table, uris) in std::mem::take(&mut self.rows) {
            let name = format!("lookup_{}", self.plan.table_name(table));
            lookups.push((name, vec![array(sorted(uris).into_iter())]));
        }
        for (table, keys) in std::mem::take(&mut self.keys) {
            if !keys.is_empty() {
                let name = format!("lookup_{}_key", self.plan.table_name(table));
                lookups.push((name, columns(&sorted(keys))));
            }
        }
        let pairs = std::mem::take(&mut self.pairs);
        if !pairs.is_empty() {
            let dids = array(pairs.iter().map(|(did, _)| did.as_str()));
            let roots = array(pairs.iter().map(|(_, root)| root.as_str()));
            lookups.push(("lookup_mutes".into(), vec![dids, roots]));
        }
        for name in self.once.drain(..) {
            lookups.push((name.to_owned(), Vec::new()));
        }
        lookups
    }
}

pub(super) fn written_of(op: &Op) -> Option<(&Target, &Written)> {
    match &op.body {
        Body::Write(target, written) => Some((target, written)),
        _ => None,
    }
}

fn sorted<T: Ord>(mut keys: Vec<T>) -> Vec<T> {
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Keys joined by NUL as one array a column.
fn columns(keys: &[String]) -> Vec<String> {
    let count = keys.first().map_or(0, |key| key.split('\0').count());
    let column = |at: usize| array(keys.iter().map(|key| key.split('\0').nth(at).unwrap_or("")));
    (0..count).map(column).collect()
}

pub(crate) fn array<'k>(values: impl Iterator<Item = &'k str>) -> String {
    let mut array = ArrayText::default();
    for value in values {
        array.push(Some(value));
    }
    array.finish()
}
