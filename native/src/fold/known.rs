//! What must be looked up before a batch can be folded, and the answers read.
//!
//! Names are those of `engine/collections/statements.py`. An answer is one JSON
//! array of row arrays.

use std::collections::{BTreeMap, HashMap};

use serde::de::DeserializeOwned;

use super::batch::{Batch, Kind};
use crate::pgcopy::ArrayText;
use crate::plan::{Plan, TableId};

const REPOS: &str = "lookup_repos";
const ACTORS: &str = "lookup_actors";
const RECORDS: &str = "lookup_record";

/// What is wrong with the answers: our own mistake, never the data's.
#[derive(Debug, thiserror::Error)]
pub enum KnownError {
    #[error("{0} was not answered")]
    Missing(String),
    #[error("{0}: {1}")]
    Json(String, serde_json::Error),
}

/// did, rev, resync, `account_time`, `identity_time`, active, status.
pub(crate) type RepoRow = (
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<bool>,
    Option<String>,
);
/// did, whether it has a handle, `indexedAt`, time of a look-up still due.
pub(crate) type ActorRow = (String, bool, String, Option<String>);

/// The rows that exist, of those that matter to one batch.
#[derive(Debug, Default)]
pub struct Known {
    pub(crate) repos: Vec<RepoRow>,
    pub(crate) actors: Vec<ActorRow>,
    pub(crate) records: Vec<(String,)>,
    /// Rows of collections' tables: uri and unique key.
    pub(crate) rows: Vec<(String, Option<String>)>,
    /// Occupied unique keys: table, key, uri of the row that holds it.
    pub(crate) keys: Vec<(TableId, String, String)>,
}

/// What to look up: name and one array literal for each parameter. None is empty.
pub fn lookups(plan: &Plan, batch: &Batch) -> Vec<(String, Vec<String>)> {
    let mut wanted = Wanted::of(plan, batch);
    wanted.sort();
    let mut lookups = Vec::new();
    let mut add = |name: &str, keys: &[&str]| {
        if !keys.is_empty() {
            lookups.push((name.to_owned(), vec![array(keys.iter().copied())]));
        }
    };
    add(REPOS, &wanted.dids);
    add(ACTORS, &wanted.dids);
    add(RECORDS, &wanted.uris);
    for (table, uris) in &wanted.rows {
        add(&rows_name(plan, *table), uris);
    }
    for (table, keys) in &wanted.keys {
        let columns = keys.first().map_or(0, |key| key.split('\0').count());
        let parameters = (0..columns)
            .map(|column| {
                array(
                    keys.iter()
                        .map(|key| key.split('\0').nth(column).unwrap_or("")),
                )
            })
            .collect();
        lookups.push((keys_name(plan, *table), parameters));
    }
    lookups
}

impl Known {
    /// Read the answers to `lookups`; an answer that was not asked for is ignored.
    pub fn read(
        plan: &Plan,
        batch: &Batch,
        answers: &HashMap<String, String>,
    ) -> Result<Self, KnownError> {
        let wanted = Wanted::of(plan, batch);
        let mut known = Self::default();
        if !wanted.dids.is_empty() {
            known.repos = rows(REPOS, answers)?;
            known.actors = rows(ACTORS, answers)?;
        }
        if !wanted.uris.is_empty() {
            known.records = rows(RECORDS, answers)?;
        }
        for table in wanted.rows.keys() {
            for mut row in rows::<Vec<String>>(&rows_name(plan, *table), answers)? {
                if !row.is_empty() {
                    let key = row.split_off(1);
                    let key = (!key.is_empty()).then(|| key.join("\0"));
                    known.rows.extend(row.pop().map(|uri| (uri, key)));
                }
            }
        }
        for table in wanted.keys.keys() {
            for mut row in rows::<Vec<String>>(&keys_name(plan, *table), answers)? {
                if let Some(uri) = row.pop() {
                    known.keys.push((*table, row.join("\0"), uri));
                }
            }
        }
        Ok(known)
    }
}

fn rows<T: DeserializeOwned>(
    name: &str,
    answers: &HashMap<String, String>,
) -> Result<Vec<T>, KnownError> {
    let text = answers
        .get(name)
        .ok_or_else(|| KnownError::Missing(name.to_owned()))?;
    serde_json::from_str(text).map_err(|error| KnownError::Json(name.to_owned(), error))
}

/// Keys to ask for. Sorted and distinct in the end, so that the same batch asks for the
/// same thing and locks in DID order.
#[derive(Default)]
struct Wanted<'b> {
    dids: Vec<&'b str>,
    uris: Vec<&'b str>,
    rows: BTreeMap<TableId, Vec<&'b str>>,
    keys: BTreeMap<TableId, Vec<&'b str>>,
}

impl<'b> Wanted<'b> {
    fn of(plan: &Plan, batch: &'b Batch) -> Self {
        let mut wanted = Self::default();
        for event in &batch.events {
            if !matches!(event.kind, Kind::RejectedFrame(_)) {
                wanted.dids.push(&event.did);
            }
        }
        for op in &batch.ops {
            let Some(target) = op.body.target() else {
                continue;
            };
            wanted.uris.push(&target.uri);
            let Some(table) = plan.table_of(target.collection, target.is_self) else {
                continue;
            };
            wanted.rows.entry(table).or_default().push(&target.uri);
            if let Some(key) = op.body.row().and_then(|row| row.key.as_deref()) {
                wanted.keys.entry(table).or_default().push(key);
            }
        }
        wanted
    }

    fn sort(&mut self) {
        let lists = self.rows.values_mut().chain(self.keys.values_mut());
        for list in lists.chain([&mut self.dids, &mut self.uris]) {
            list.sort_unstable();
            list.dedup();
        }
    }
}

fn rows_name(plan: &Plan, table: TableId) -> String {
    format!("lookup_{}", plan.table_name(table))
}

fn keys_name(plan: &Plan, table: TableId) -> String {
    format!("lookup_{}_key", plan.table_name(table))
}

pub(crate) fn array<'k>(values: impl Iterator<Item = &'k str>) -> String {
    let mut array = ArrayText::default();
    for value in values {
        array.push(Some(value));
    }
    array.finish()
}
