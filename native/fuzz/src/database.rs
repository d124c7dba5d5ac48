//! A database of maps that does what a fold says, and refuses what Postgres would refuse:
//! the fold's partner here as `tests/collections/memory.py` is in the Python tests.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use _native::fold::Changes;
use _native::plan::{Plan, Source, RECORD};

use crate::wire::{elements, flag, rows, text, tuples, Cells, Row};

/// uri (embeds: of the post), and the second column of embeds.
pub type Key = (String, String);

/// What is held. Equal databases hold the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Database {
    /// By table; rows by key, then the fields.
    pub tables: BTreeMap<String, BTreeMap<Key, Cells>>,
    /// Sorted: rows without a key of their own.
    pub notifications: Vec<Cells>,
    /// The first record that a post embeds: uri and CID.
    pub embedded: BTreeMap<String, (String, String)>,
    /// Likes, replies, reposts, quotes.
    pub post_agg: BTreeMap<String, [i64; 4]>,
    /// Followers, follows, posts.
    pub profile_agg: BTreeMap<String, [i64; 3]>,
    pub quote_count: BTreeMap<String, i64>,
    /// By root and reply: parent, when it was deleted.
    pub op_threads: BTreeMap<Key, (String, Option<String>)>,
    /// Who mutes which thread: DID, root. The fold never writes it.
    pub mutes: BTreeSet<(String, String)>,
    /// rev, resync, `account_time`, `identity_time`, active, status.
    pub repos: BTreeMap<String, Row>,
    /// `indexedAt`, status.
    pub actors: BTreeMap<String, Row>,
    /// Commit, rev.
    pub syncs: BTreeMap<String, Row>,
    /// seq, time, forced.
    pub due: BTreeMap<String, Row>,
    /// shard, relay, generation, seq, time, rev.
    pub deletions: BTreeMap<String, Row>,
    /// Sorted.
    pub dead: Vec<Row>,
    /// The latest T of posts and gates, by shard.
    pub latest: BTreeMap<String, i64>,
    /// Ops by outcome, over all sources.
    pub counts: BTreeMap<String, i64>,
    /// Highest seq by shard and `host/generation`.
    pub held: BTreeMap<u32, HashMap<String, i64>>,
}

impl Database {
    pub fn find(&self, table: &str, uri: &str) -> Option<&Cells> {
        let key = (uri.to_owned(), String::new());
        self.tables.get(table)?.get(&key)
    }

    pub fn rows(&self, table: &str) -> impl Iterator<Item = (&str, &Cells)> {
        let rows = self.tables.get(table).into_iter().flatten();
        rows.map(|((uri, _), cells)| (uri.as_str(), cells))
    }

    /// The uri of the row that holds a unique key.
    pub fn holder(&self, plan: &Plan, table: &str, key: &Row) -> Option<String> {
        let places = unique(plan, table);
        let holds = |cells: &Cells| {
            let mut pairs = places.iter().zip(key);
            pairs.all(|(at, value)| text(cells.get(*at)) == *value)
        };
        let held = self.rows(table).find(|(_, cells)| holds(cells));
        held.map(|(uri, _)| uri.to_owned())
    }

    /// Do everything, in order.
    pub fn write(&mut self, plan: &Plan, changes: &Changes) {
        for (name, parameters) in &changes.deletes {
            let keys = rows(parameters).into_iter().flatten().flatten().collect();
            self.delete(plan, name.strip_prefix("delete_").expect("a delete"), &keys);
        }
        for (table, bytes, count) in &changes.copies {
            self.copy(plan, table, bytes, *count);
        }
        for (name, parameters) in &changes.statements {
            match name.as_str() {
                "judge_replies" => {
                    self.judge(
                        plan,
                        &["invalidReplyRoot", "violatesThreadGate"],
                        parameters,
                    );
                }
                "judge_quotes" => self.judge(plan, &["violatesEmbeddingRules"], parameters),
                "advance_latest" => {
                    for row in rows(parameters) {
                        let millis = number(row[1].as_ref());
                        let held = self.latest.entry(row[0].clone().expect("a shard"));
                        let held = held.or_insert(millis);
                        *held = millis.max(*held);
                    }
                }
                "set_quote_counts" => self.set_quote_counts(parameters),
                "mark_thread_gates" => self.mark(plan, "hasThreadGate", parameters),
                "mark_post_gates" => self.mark(plan, "hasPostGate", parameters),
                "add_post_counts" => add(&mut self.post_agg, parameters),
                "add_profile_counts" => add(&mut self.profile_agg, parameters),
                _ => {
                    for row in rows(parameters) {
                        self.state(plan, name, row);
                    }
                }
            }
        }
        for (shard, source, seq, counts) in &changes.tally {
            let held = self.held.entry(*shard).or_default();
            held.extend(seq.map(|seq| (source.clone(), seq)));
            for (outcome, ops) in counts {
                *self.counts.entry(outcome.clone()).or_default() += ops;
            }
        }
        // Tables without rows are as those that never had any.
        self.tables.retain(|_, rows| !rows.is_empty());
        self.notifications.sort();
        self.dead.sort();
    }

    /// Deletions that nothing applied since calls off, without the shard they came by.
    pub fn deletions_asked(&self) -> BTreeMap<&String, &[Option<String>]> {
        let asked = self.deletions.iter().filter_map(|(did, row)| {
            let [_, event @ .., time, rev] = row.as_slice() else {
                panic!("a row of {} columns", row.len());
            };
            let repo = &self.repos[did];
            let stands = (repo.first(), repo.get(2)) == (Some(rev), Some(time));
            stands.then_some((did, event))
        });
        asked.collect()
    }

    fn delete(&mut self, plan: &Plan, name: &str, keys: &BTreeSet<String>) {
        let holds = |plan, table, column, cells: &Cells| {
            text(cells.get(column_of(plan, table, column))).is_some_and(|key| keys.contains(&key))
        };
        match name {
            "feed_items_of" => {
                if let Some(items) = self.tables.get_mut("feed_item") {
                    items.retain(|_, cells| !holds(plan, "feed_item", "postUri", cells));
                }
            }
            "quotes_of" | "quote" => {
                let by = if name == "quote" { "uri" } else { "subject" };
                let cid = column_of(plan, "quote", "subjectCid");
                let counts = &mut self.quote_count;
                if let Some(quotes) = self.tables.get_mut("quote") {
                    quotes.retain(|_, cells| {
                        let goes = holds(plan, "quote", by, cells);
                        if goes {
                            let cid = text(cells.get(cid)).expect("a CID");
                            *counts.entry(cid).or_default() -= 1;
                        }
                        !goes
                    });
                }
            }
            "told" => {
                let mut place = 0..;
                self.notifications
                    .retain(|_| !keys.contains(&place.next().unwrap_or(0).to_string()));
            }
            "notifications_of" => {
                let told = &mut self.notifications;
                told.retain(|cells| !holds(plan, "notification", "recordUri", cells));
            }
            table => {
                assert!(plan.table_named(table).is_some(), "no table {table}");
                if let Some(rows) = self.tables.get_mut(table) {
                    rows.retain(|(held, _), _| !keys.contains(held));
                }
                if table == "post_embed_record" {
                    self.embedded.retain(|uri, _| !keys.contains(uri));
                }
            }
        }
    }

    fn copy(&mut self, plan: &Plan, table: &str, bytes: &[u8], count: usize) {
        let columns = plan.tables.iter().find(|each| each.name == table);
        let columns = &columns.expect("a table of the plan").columns;
        let read = tuples(bytes, columns.len());
        assert_eq!(read.len(), count);
        assert!(count > 0);
        if table == "notification" {
            return self.notifications.extend(read);
        }
        let mut keys = Vec::new();
        for cells in read {
            let uri = text(cells.first()).expect("a uri");
            // Embeds have several rows a post: their second column is in the key.
            let is_embed = columns[0].source == Source::Embed;
            let second = if is_embed { text(cells.get(1)) } else { None };
            let places = unique(plan, table).iter();
            let key: Row = places.map(|at| text(cells.get(*at))).collect();
            if !key.is_empty() {
                let holder = self.holder(plan, table, &key);
                assert_eq!(holder, None, "{table}: {key:?} twice");
            }
            let key = (uri, second.unwrap_or_default());
            if table == "post_embed_record" {
                let embedded = (key.1.clone(), text(cells.get(2)).expect("a CID"));
                self.embedded.entry(key.0.clone()).or_insert(embedded);
                // What a post quotes first stays first.
                keys.push((key.0.clone(), String::new()));
            } else {
                keys.push(key.clone());
            }
            let rows = self.tables.entry(table.to_owned()).or_default();
            let last = rows.insert(key.clone(), cells);
            assert!(last.is_none(), "{table}: {key:?} twice");
        }
        let sorted = keys.is_sorted();
        assert!(sorted, "{table}: rows are not in the order of their key");
    }

    fn mark(&mut self, plan: &Plan, column: &str, parameters: &[String]) {
        let place = column_of(plan, "post", column);
        for row in rows(parameters) {
            let there = u8::from(row[1].as_deref() == Some("true"));
            let key = (row[0].clone().expect("a uri"), String::new());
            if let Some(cells) = self.tables.get_mut("post").and_then(|of| of.get_mut(&key)) {
                cells[place] = Some(vec![there]);
            }
        }
    }

    fn judge(&mut self, plan: &Plan, columns: &[&str], parameters: &[String]) {
        for row in rows(parameters) {
            let key = (row[0].clone().expect("a uri"), String::new());
            let post = self.tables.get_mut("post").and_then(|of| of.get_mut(&key));
            let cells = post.expect("a post that was looked up");
            for (column, flag) in columns.iter().zip(&row[1..]) {
                let flag = flag.as_deref().map(|word| vec![u8::from(word == "true")]);
                cells[column_of(plan, "post", column)] = flag;
            }
        }
    }

    /// Quotes by CID first, and what the posts that were looked at have of them.
    fn set_quote_counts(&mut self, parameters: &[String]) {
        let changed = rows(&parameters[..2]).into_iter();
        let changed: BTreeMap<_, _> = changed
            .map(|row| (row[0].clone().expect("a CID"), number(row[1].as_ref())))
            .collect();
        for (cid, quotes) in &changed {
            *self.quote_count.entry(cid.clone()).or_default() += quotes;
        }
        let looked = rows(&parameters[2..]);
        assert_eq!(elements(&parameters[2]).len(), looked.len());
        for row in looked {
            let cid = row[1].as_ref().expect("a CID");
            let count = self.quote_count[cid] - changed[cid] + number(row[2].as_ref());
            let uri = row[0].as_ref().expect("a uri");
            self.post_agg.get_mut(uri).expect("a row of the post")[3] = count;
        }
    }

    fn state(&mut self, plan: &Plan, name: &str, mut row: Row) {
        if name == "insert_dead_letters" {
            assert_eq!(row.len(), 11);
            row.remove(1); // the shard
            return self.dead.push(row);
        }
        let key = row.remove(0).expect("a key");
        match name {
            "update_record" => self.update_record(plan, &key, row),
            "upsert_repos" => {
                self.repos.insert(key, row);
            }
            "insert_actors" => assert!(self.actors.insert(key, row).is_none()),
            "update_actor_status" => {
                self.actors.get_mut(&key).expect("an actor")[1] = row.remove(0);
            }
            "upsert_actor_sync" => {
                let last = self.syncs.insert(key, row.clone());
                let is_later = last.is_none_or(|last| last[1] <= row[1]);
                assert!(is_later, "a rev went backwards");
            }
            "upsert_identity_due" => {
                let last = self.due.get(&key).and_then(|due| due[2].clone());
                if last.as_deref() == Some("true") {
                    row[2] = last;
                }
                self.due.insert(key, row);
            }
            "delete_op_thread_replies" => {
                let uri = row.remove(0).expect("a uri");
                if let Some(reply) = self.op_threads.get_mut(&(key, uri)) {
                    reply.1 = row.remove(0);
                }
            }
            "insert_op_thread_replies" => {
                let (parent, uri) = (row.remove(0), row.remove(0));
                let key = (key, uri.expect("a uri"));
                let new = (parent.expect("a parent"), None);
                let reply = self.op_threads.entry(key).or_insert(new);
                reply.1 = row.remove(0).or(reply.1.take());
            }
            "upsert_deletions" => {
                self.deletions.insert(key, row);
            }
            _ => panic!("an unknown statement {name}"),
        }
    }

    fn update_record(&mut self, plan: &Plan, uri: &str, row: Row) {
        let table = &plan.tables[RECORD];
        let columns = table.columns.iter().enumerate();
        let places = columns
            .filter(|(_, column)| column.source != Source::Did)
            .map(|(place, _)| place)
            .skip(1); // the uri
        let rows = self.tables.get_mut(&table.name).expect("records");
        let cells = rows
            .get_mut(&(uri.to_owned(), String::new()))
            .expect("a record");
        for (place, value) in places.zip(row) {
            cells[place] = value.map(String::into_bytes);
        }
    }

    /// What a post's row was judged to be.
    pub fn violates_gate(&self, plan: &Plan, cells: &Cells) -> bool {
        flag(cells.get(column_of(plan, "post", "violatesThreadGate"))) == Some(true)
    }
}

fn number(text: Option<&String>) -> i64 {
    text.expect("a number").parse().expect("a number")
}

fn add<const N: usize>(sums: &mut BTreeMap<String, [i64; N]>, parameters: &[String]) {
    let mut last = None;
    for row in rows(parameters) {
        assert!(last < row[0], "locked out of order");
        last.clone_from(&row[0]);
        let sum = sums.entry(row[0].clone().expect("a key"));
        let sum = sum.or_insert([0; N]);
        for (sum, difference) in sum.iter_mut().zip(&row[1..]) {
            *sum += number(difference.as_ref());
        }
    }
}

/// The place of a column.
pub fn column_of(plan: &Plan, table: &str, column: &str) -> usize {
    let table = plan.table_named(table).expect("a table");
    let mut columns = plan.tables[table].columns.iter();
    let place = columns.position(|each| each.name == column);
    place.expect("a column")
}

/// The columns of a table's unique key.
pub fn unique<'p>(plan: &'p Plan, table: &str) -> &'p [usize] {
    let owner = plan.collections.iter().find(|collection| {
        collection
            .table
            .is_some_and(|id| plan.table_name(id) == table)
    });
    owner.map_or(&[], |collection| &collection.unique)
}
