//! A database of maps that does what a fold says, and refuses what Postgres would refuse:
//! the fold's partner here as `tests/collections/memory.py` is in the Python tests. Its
//! readers of PGCOPY and of array literals share nothing with the code that writes them.

use std::collections::{BTreeMap, HashMap};

use _native::fold::Changes;
use _native::plan::{Plan, RECORD};
use serde_json::{json, Value as Json};

pub type Cells = Vec<Option<Vec<u8>>>;
type Row = Vec<Option<String>>;

/// What is held. Equal databases hold the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Database {
    /// By table; rows by uri (embeds: by uri and second column), then the fields.
    pub tables: BTreeMap<String, BTreeMap<(String, String), Cells>>,
    /// rev, resync, `account_time`, `identity_time`, active, status.
    pub repos: BTreeMap<String, Row>,
    /// `indexedAt`, status.
    pub actors: BTreeMap<String, Row>,
    /// Commit, rev.
    pub syncs: BTreeMap<String, Row>,
    /// seq, time, forced.
    pub due: BTreeMap<String, Row>,
    pub dead: Vec<Row>,
    /// Ops by outcome, over all sources.
    pub counts: BTreeMap<String, i64>,
    /// Highest seq by shard and `host/generation`.
    pub held: BTreeMap<u32, HashMap<String, i64>>,
}

/// The elements of an array literal.
pub fn elements(literal: &str) -> Row {
    let inside = literal
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    let mut rest = inside.expect("an array literal");
    let mut items = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("NULL") {
            items.push(None);
            rest = after;
        } else {
            let mut letters = rest.strip_prefix('"').expect("a quote").chars();
            let mut item = String::new();
            loop {
                match letters.next().expect("a closing quote") {
                    '"' => break,
                    '\\' => item.extend(letters.next()),
                    '\0' => panic!("NUL in a parameter"),
                    letter => item.push(letter),
                }
            }
            items.push(Some(item));
            rest = letters.as_str();
        }
        if !rest.is_empty() {
            rest = rest.strip_prefix(',').expect("a comma");
        }
    }
    items
}

/// The rows that several array literals of equal length spell.
pub fn rows(parameters: &[String]) -> Vec<Row> {
    let columns: Vec<Row> = parameters.iter().map(|each| elements(each)).collect();
    let length = columns.first().map_or(0, Vec::len);
    assert!(columns.iter().all(|column| column.len() == length));
    (0..length)
        .map(|row| columns.iter().map(|column| column[row].clone()).collect())
        .collect()
}

/// The rows of a binary COPY of `fields` columns.
pub fn tuples(copy: &[u8], fields: usize) -> Vec<Cells> {
    let mut rest = copy
        .strip_prefix(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0")
        .expect("a header");
    let mut rows = Vec::new();
    let mut take = |count: usize| {
        let (head, tail) = rest.split_at_checked(count).expect("more of the COPY");
        rest = tail;
        head.to_vec()
    };
    loop {
        let count = i16::from_be_bytes(take(2).try_into().unwrap());
        if count == -1 {
            assert!(rest.is_empty(), "bytes after the trailer");
            return rows;
        }
        assert_eq!(usize::try_from(count), Ok(fields));
        let row = (0..fields).map(|_| {
            let length = i32::from_be_bytes(take(4).try_into().unwrap());
            (length != -1).then(|| take(usize::try_from(length).expect("a length")))
        });
        rows.push(row.collect());
    }
}

fn text(cell: Option<&Option<Vec<u8>>>) -> Option<String> {
    let bytes = cell?.as_ref()?;
    Some(String::from_utf8(bytes.clone()).expect("UTF-8"))
}

impl Database {
    /// The answer to a look-up, as Postgres gives it.
    pub fn answer(&self, plan: &Plan, name: &str, parameters: &[String]) -> String {
        let wanted = rows(parameters);
        let first = |row: &Row| row[0].clone().expect("a key");
        let name = name.strip_prefix("lookup_").expect("a look-up");
        let answer: Vec<Json> = match name {
            "repos" => wanted
                .iter()
                .filter_map(|row| self.repo(&first(row)))
                .collect(),
            "actors" => wanted
                .iter()
                .filter_map(|row| self.actor(&first(row)))
                .collect(),
            "record" => {
                let held = |row: &&Row| self.find("record", &first(row)).is_some();
                wanted
                    .iter()
                    .filter(held)
                    .map(|row| json!([first(row)]))
                    .collect()
            }
            _ => match name.strip_suffix("_key") {
                Some(table) => wanted
                    .iter()
                    .filter_map(|key| {
                        let uri = self.holder(plan, table, key)?;
                        let mut row = key.clone();
                        row.push(Some(uri));
                        Some(json!(row))
                    })
                    .collect(),
                None => wanted
                    .iter()
                    .filter_map(|row| {
                        let cells = self.find(name, &first(row))?;
                        let mut answer = vec![row[0].clone()];
                        answer.extend(unique(plan, name).iter().map(|at| text(cells.get(*at))));
                        Some(json!(answer))
                    })
                    .collect(),
            },
        };
        Json::from(answer).to_string()
    }

    fn repo(&self, did: &str) -> Option<Json> {
        let row = self.repos.get(did)?;
        let active = row[4].as_deref().map(|word| word == "true");
        Some(json!([did, row[0], row[1], row[2], row[3], active, row[5]]))
    }

    fn actor(&self, did: &str) -> Option<Json> {
        let actor = self.actors.get(did)?;
        let due = self.due.get(did).and_then(|due| due[1].clone());
        Some(json!([did, false, actor[0], due]))
    }

    fn find(&self, table: &str, uri: &str) -> Option<&Cells> {
        self.tables
            .get(table)?
            .get(&(uri.to_owned(), String::new()))
    }

    fn holder(&self, plan: &Plan, table: &str, key: &Row) -> Option<String> {
        let places = unique(plan, table);
        let held = self.tables.get(table)?.iter().find(|(_, cells)| {
            places
                .iter()
                .zip(key)
                .all(|(at, value)| text(cells.get(*at)) == *value)
        });
        held.map(|((uri, _), _)| uri.clone())
    }

    /// Do everything, in order.
    pub fn write(&mut self, plan: &Plan, changes: &Changes) {
        for (name, parameters) in &changes.deletes {
            let table = name.strip_prefix("delete_").expect("a delete");
            for uri in rows(parameters).into_iter().flatten().flatten() {
                let table = self.tables.entry(table.to_owned()).or_default();
                table.retain(|(held, _), _| *held != uri);
            }
        }
        for (table, bytes, count) in &changes.copies {
            self.copy(plan, table, bytes, *count);
        }
        for (name, parameters) in &changes.statements {
            for row in rows(parameters) {
                self.state(plan, name, row);
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
    }

    fn copy(&mut self, plan: &Plan, table: &str, bytes: &[u8], count: usize) {
        let columns = plan.tables.iter().find(|each| each.name == table);
        let columns = &columns.expect("a table of the plan").columns;
        let read = tuples(bytes, columns.len());
        assert_eq!(read.len(), count);
        assert!(count > 0);
        let mut keys = Vec::new();
        for cells in read {
            let uri = text(cells.first()).expect("a uri");
            // Embeds have several rows a post: their second column is in the key.
            let is_own = columns[0].source == _native::plan::Source::Uri;
            let second = if is_own { None } else { text(cells.get(1)) };
            let key: Row = unique(plan, table)
                .iter()
                .map(|at| text(cells.get(*at)))
                .collect();
            if !key.is_empty() {
                assert_eq!(
                    self.holder(plan, table, &key),
                    None,
                    "{table}: {key:?} twice"
                );
            }
            let key = (uri, second.unwrap_or_default());
            let rows = self.tables.entry(table.to_owned()).or_default();
            assert!(
                rows.insert(key.clone(), cells).is_none(),
                "{table}: {key:?} twice"
            );
            keys.push(key);
        }
        assert!(
            keys.is_sorted(),
            "{table}: rows are not in the order of their key"
        );
    }

    fn state(&mut self, plan: &Plan, name: &str, mut row: Row) {
        if name == "insert_dead_letters" {
            assert_eq!(row.len(), 11);
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
                assert!(
                    last.is_none_or(|last| last[1] <= row[1]),
                    "a rev went backwards"
                );
            }
            "upsert_identity_due" => self.ask(key, row),
            _ => panic!("an unknown statement {name}"),
        }
    }

    fn update_record(&mut self, plan: &Plan, uri: &str, row: Row) {
        let table = &plan.tables[RECORD];
        let columns = table.columns.iter().enumerate();
        let places = columns
            .filter(|(_, column)| column.source != _native::plan::Source::Did)
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

    fn ask(&mut self, did: String, mut row: Row) {
        let forced = Some(String::from("true"));
        if let Some(due) = self.due.get(&did) {
            if due[2] == forced {
                row[2] = forced;
            }
        }
        self.due.insert(did, row);
    }
}

/// The columns of a table's unique key.
fn unique<'p>(plan: &'p Plan, table: &str) -> &'p [usize] {
    let owner = plan.collections.iter().find(|collection| {
        collection
            .table
            .is_some_and(|id| plan.table_name(id) == table)
    });
    owner.map_or(&[], |collection| &collection.unique)
}
