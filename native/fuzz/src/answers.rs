//! The answers of the database of maps to a fold's look-ups, as Postgres gives them: see
//! `engine/sql/lookups.sql`.

use std::collections::{BTreeMap, BTreeSet};

use _native::plan::Plan;
use serde_json::{json, Value as Json};

use crate::database::{column_of, unique, Database};
use crate::wire::{elements, flag, rows, text, Cells, Row};

/// How far chains and trees of posts are followed.
const DEPTH: usize = 5;
/// As many mutes are told at once.
const SOME_MUTES: usize = 1_000;

/// What is asked for; `None` is everything there is.
pub type Asked = Option<BTreeSet<String>>;

fn asks(asked: &Asked, key: &str) -> bool {
    asked.as_ref().is_none_or(|keys| keys.contains(key))
}

impl Database {
    /// The answer to a look-up. If `more`, every row of the kind, asked for or not.
    pub fn answer(&self, plan: &Plan, name: &str, parameters: &[String], more: bool) -> String {
        let wanted = rows(parameters);
        let firsts = wanted.iter().map(|row| row[0].clone().expect("a key"));
        let asked: Asked = Some(firsts.collect()).filter(|_| !more);
        let name = name.strip_prefix("lookup_").expect("a look-up");
        let answer: Vec<Json> = match name {
            "repos" => self.repos_of(&asked),
            "actors" => self.actors_of(&asked),
            "fetches" => vec![], // of no repository a snapshot is on its way
            "record" => self
                .some(name, &asked)
                .map(|(uri, _)| json!([uri]))
                .collect(),
            "posts" => self.posts(plan, &asked),
            "post_chain" => self.posts(plan, &asked.map(|uris| self.chains(plan, uris))),
            "post_tree" => self.posts(plan, &asked.map(|uris| self.trees(plan, &uris))),
            "own_posts" => self.own_posts(plan, &asked),
            "quoted" => self.quoted(plan, &asked, &wanted),
            "feed_items" => self.columns(plan, "feed_item", &["uri", "postUri"], &asked),
            "duplicates" => {
                let names = ["uri", "cid", "duplicateOf", "indexedAt"];
                self.columns(plan, "duplicate_record", &names, &asked)
            }
            "candidates" => self.candidates(plan, &asked),
            "texts" => self.columns(plan, "record", &["uri", "json"], &asked),
            "some_mutes" => {
                let mut mutes: Vec<_> = self.mutes.iter().collect();
                mutes.sort_by_key(|(did, root)| (root, did));
                let mutes = mutes.into_iter().take(SOME_MUTES);
                mutes.map(|(did, root)| json!([did, root])).collect()
            }
            "latest" => vec![json!([self.latest.values().max()])],
            "thread" => {
                let thread = asked.map(|uris| self.thread(plan, uris));
                self.judged(plan, &thread).into_values().collect()
            }
            "quoting" => self.quoting(plan, &asked),
            "told" => self.told(plan, &asked),
            "mutes" => {
                let wanted: BTreeSet<_> = wanted.iter().map(|row| (&row[0], &row[1])).collect();
                let muted = self.mutes.iter().filter(|(did, root)| {
                    more || wanted.contains(&(&Some(did.clone()), &Some(root.clone())))
                });
                muted.map(|(did, root)| json!([did, root])).collect()
            }
            _ => match name.strip_suffix("_key") {
                Some(table) => self.keys(plan, table, &wanted, more),
                None => self.table(plan, name, &asked),
            },
        };
        Json::from(answer).to_string()
    }

    fn some<'d>(
        &'d self,
        table: &str,
        asked: &'d Asked,
    ) -> impl Iterator<Item = (&'d str, &'d Cells)> {
        self.rows(table).filter(|(uri, _)| asks(asked, uri))
    }

    fn repos_of(&self, asked: &Asked) -> Vec<Json> {
        let some = self.repos.iter().filter(|(did, _)| asks(asked, did));
        some.map(|(did, row)| {
            let active = row[4].as_deref().map(|word| word == "true");
            json!([did, row[0], row[1], row[2], row[3], active, row[5]])
        })
        .collect()
    }

    fn actors_of(&self, asked: &Asked) -> Vec<Json> {
        let some = self.actors.iter().filter(|(did, _)| asks(asked, did));
        some.map(|(did, actor)| {
            let due = self.due.get(did).and_then(|due| due[1].clone());
            json!([did, false, actor[0], due])
        })
        .collect()
    }

    fn table(&self, plan: &Plan, table: &str, asked: &Asked) -> Vec<Json> {
        let cid = column_of(plan, table, "cid");
        let places = || std::iter::once(&cid).chain(unique(plan, table));
        let row = |(uri, cells): (&str, &Cells)| {
            let mut row = vec![Some(uri.to_owned())];
            row.extend(places().map(|at| text(cells.get(*at))));
            json!(row)
        };
        self.some(table, asked).map(row).collect()
    }

    fn keys(&self, plan: &Plan, table: &str, wanted: &[Row], more: bool) -> Vec<Json> {
        let places = unique(plan, table);
        let found = self.rows(table).filter_map(|(uri, cells)| {
            let mut key: Row = places.iter().map(|at| text(cells.get(*at))).collect();
            let is_wanted = more || wanted.contains(&key);
            key.push(Some(uri.to_owned()));
            is_wanted.then(|| json!(key))
        });
        found.collect()
    }

    fn columns(&self, plan: &Plan, table: &str, names: &[&str], asked: &Asked) -> Vec<Json> {
        let places: Vec<_> = names
            .iter()
            .map(|name| column_of(plan, table, name))
            .collect();
        let row = |cells: &Cells| -> Row { places.iter().map(|at| text(cells.get(*at))).collect() };
        let some = self.some(table, asked);
        some.map(|(_, cells)| json!(row(cells))).collect()
    }

    fn posts(&self, plan: &Plan, asked: &Asked) -> Vec<Json> {
        let row = |(uri, cells): (&str, &Cells)| {
            let of = |name| text(cells.get(column_of(plan, "post", name)));
            let judged = |name| flag(cells.get(column_of(plan, "post", name)));
            let (created_at, time) = (of("createdAt"), of("indexedAt"));
            json!([
                uri,
                of("cid"),
                created_at.min(time),
                of("replyParent"),
                of("replyRoot"),
                judged("invalidReplyRoot"),
                judged("violatesThreadGate")
            ])
        };
        self.some("post", asked).map(row).collect()
    }

    /// By uri, posts with all that is judged of them, and when.
    fn judged(&self, plan: &Plan, asked: &Asked) -> BTreeMap<String, Json> {
        let extra = ["violatesEmbeddingRules", "indexedAt"];
        let [embedding, time] = extra.map(|name| column_of(plan, "post", name));
        let some = self.some("post", asked).zip(self.posts(plan, asked));
        some.map(|((uri, cells), mut row)| {
            let row_of = row.as_array_mut().expect("a row");
            row_of.push(json!(flag(cells.get(embedding))));
            row_of.push(json!(text(cells.get(time))));
            (uri.to_owned(), row)
        })
        .collect()
    }

    fn quoting(&self, plan: &Plan, asked: &Asked) -> Vec<Json> {
        let places = ["subject", "subjectCid"].map(|name| column_of(plan, "quote", name));
        let posts = self.judged(plan, &None);
        let found = self.rows("quote").filter_map(|(uri, cells)| {
            let [subject, cid] = places.map(|at| text(cells.get(at)));
            let is_wanted = subject.as_ref().is_some_and(|of| asks(asked, of));
            is_wanted.then(|| Some(json!([subject, cid, posts.get(uri)?])))?
        });
        found.collect()
    }

    /// Their ids are their places.
    fn told(&self, plan: &Plan, asked: &Asked) -> Vec<Json> {
        let names = ["recordUri", "did", "reason", "reasonSubject"];
        let places = names.map(|name| column_of(plan, "notification", name));
        let found = self
            .notifications
            .iter()
            .enumerate()
            .filter_map(|(id, cells)| {
                let [uri, did, reason, subject] = places.map(|at| text(cells.get(at)));
                let is_wanted = uri.as_ref().is_some_and(|of| asks(asked, of));
                is_wanted.then(|| json!([id.to_string(), uri, did, reason, subject]))
            });
        found.collect()
    }

    fn thread(&self, plan: &Plan, roots: BTreeSet<String>) -> BTreeSet<String> {
        let parent = column_of(plan, "post", "replyParent");
        let mut found = BTreeSet::new();
        let mut level = roots;
        while !level.is_empty() {
            let below = self.rows("post").filter(|(_, cells)| {
                text(cells.get(parent)).is_some_and(|parent| level.contains(&parent))
            });
            let below: Vec<_> = below.map(|(uri, _)| uri.to_owned()).collect();
            level = below
                .into_iter()
                .filter(|uri| found.insert(uri.clone()))
                .collect();
        }
        found
    }

    fn chains(&self, plan: &Plan, mut level: BTreeSet<String>) -> BTreeSet<String> {
        let parent = column_of(plan, "post", "replyParent");
        let mut found = BTreeSet::new();
        for _ in 0..DEPTH {
            found.extend(level.iter().cloned());
            let posts = level.iter().filter_map(|uri| self.find("post", uri));
            level = posts.filter_map(|cells| text(cells.get(parent))).collect();
        }
        found
    }

    fn trees(&self, plan: &Plan, roots: &BTreeSet<String>) -> BTreeSet<String> {
        let parent = column_of(plan, "post", "replyParent");
        let mut found = BTreeSet::new();
        let mut level = roots.clone();
        for _ in 0..DEPTH {
            let below = self.rows("post").filter(|(_, cells)| {
                text(cells.get(parent)).is_some_and(|parent| level.contains(&parent))
            });
            level = below.map(|(uri, _)| uri.to_owned()).collect();
            found.extend(level.iter().cloned());
        }
        found
    }

    fn own_posts(&self, plan: &Plan, asked: &Asked) -> Vec<Json> {
        let [subject, cid] = ["subject", "subjectCid"].map(|name| column_of(plan, "quote", name));
        let embedding = self.embedded.keys().map(String::as_str);
        let quoting = self.rows("quote").map(|(uri, _)| uri);
        let uris: BTreeSet<&str> = embedding.chain(quoting).collect();
        let some = uris.into_iter().filter(|uri| asks(asked, uri));
        some.map(|uri| {
            let embedded = self.embedded.get(uri);
            let quote = self.find("quote", uri);
            json!([
                uri,
                embedded.map(|(uri, _)| uri),
                embedded.map(|(_, cid)| cid),
                quote.and_then(|cells| text(cells.get(subject))),
                quote.and_then(|cells| text(cells.get(cid)))
            ])
        })
        .collect()
    }

    fn quoted(&self, plan: &Plan, asked: &Asked, wanted: &[Row]) -> Vec<Json> {
        let others = wanted.iter().flat_map(|row| {
            let others = elements(row[1].as_deref().expect("an array"));
            others.into_iter().map(|uri| (row[0].clone(), uri))
        });
        let others: BTreeSet<_> = others.collect();
        let places = ["subject", "subjectCid"].map(|name| column_of(plan, "quote", name));
        let mut groups: BTreeMap<[Option<String>; 2], i64> = BTreeMap::new();
        for (uri, cells) in self.rows("quote") {
            let group = places.map(|at| text(cells.get(at)));
            if others.contains(&(group[0].clone(), Some(uri.to_owned()))) {
                continue;
            }
            if group[0].as_ref().is_some_and(|uri| asks(asked, uri)) {
                *groups.entry(group).or_default() += 1;
            }
        }
        let groups = groups.into_iter();
        groups
            .map(|([subject, cid], count)| json!([subject, cid, count]))
            .collect()
    }

    fn candidates(&self, plan: &Plan, asked: &Asked) -> Vec<Json> {
        let names = ["cid", "duplicateOf", "indexedAt"];
        let places = names.map(|name| column_of(plan, "duplicate_record", name));
        let found = self.rows("duplicate_record").filter_map(|(uri, cells)| {
            let [cid, of, time] = places.map(|at| text(cells.get(at)));
            let is_wanted = of.as_ref().is_some_and(|of| asks(asked, of));
            let [record, json, at] = ["cid", "json", "indexedAt"].map(|name| {
                let place = column_of(plan, "record", name);
                self.find("record", uri)
                    .and_then(|cells| text(cells.get(place)))
            });
            is_wanted.then(|| json!([uri, cid, of, time, record, json, at]))
        });
        found.collect()
    }
}
