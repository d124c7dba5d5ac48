//! The collections' declarations, compiled: which tables, columns and keys a record fills.
//!
//! The document is what `engine/collections/declare.py` encodes; it is ours, so a
//! mistake in it is an error of the process and never of a record.

mod document;
mod words;

use std::collections::HashMap;

pub use words::{Count, Derived, Notice, Notices, Role, Skip, Tally};

use document::{CollectionDocument, NoticesDocument, PlanDocument, TableDocument};
use serde::Deserialize;

use crate::cbor::Value;
use crate::post::EmbedKind;
use crate::reason::Reason;

/// Position of a table in `Plan::tables`.
pub type TableId = usize;
/// Position of the generic record table.
pub const RECORD: TableId = 0;

/// What is wrong with a plan document.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("plan: {0}")]
    Json(#[from] serde_json::Error),
    #[error("plan: table {table}: column {column}: {problem}")]
    Column {
        table: String,
        column: String,
        problem: &'static str,
    },
    #[error("plan: {0} is declared twice")]
    Twice(String),
    #[error("plan: {0}: unknown reason")]
    Reason(String),
}

/// Names of a field inside nested maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(Box<[Box<str>]>);

impl Path {
    fn new(dotted: &str) -> Self {
        Self(dotted.split('.').map(Box::from).collect())
    }

    /// The value at the path; `None` where any part of it is absent.
    pub fn find<'v, 'a>(&self, record: &'v Value<'a>) -> Option<&'v Value<'a>> {
        self.0
            .iter()
            .try_fold(record, |value, name| value.get(name))
    }
}

/// Where a column's value comes from (see `Source` in `declare.py`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Uri,
    Cid,
    Did,
    Rkey,
    Time,
    Rev,
    Json,
    Text(Path),
    Datetime(Path),
    TextOrNow(Path),
    Blob(Path),
    PlainJson(Path),
    Texts(Path),
    Embed,
    /// Made by the fold.
    Fold,
    /// Judged by the fold; after all other columns of its table.
    Flag,
}

/// How a column is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Type {
    #[serde(rename = "character varying")]
    Varchar,
    #[serde(rename = "text")]
    Text,
    #[serde(rename = "jsonb")]
    Jsonb,
    #[serde(rename = "character varying[]")]
    Varchars,
    #[serde(rename = "text[]")]
    Texts,
    #[serde(rename = "boolean")]
    Boolean,
}

#[derive(Debug)]
pub struct Column {
    pub name: String,
    pub source: Source,
    pub kind: Type,
}

#[derive(Debug)]
pub struct Table {
    pub name: String,
    pub columns: Vec<Column>,
}

/// A reference that must point into the record's own repository.
#[derive(Debug)]
pub struct Belongs {
    pub path: Path,
    pub reason: Reason,
    pub same_rkey: bool,
}

#[derive(Debug)]
pub struct Collection {
    pub nsid: String,
    /// `None`: record only.
    pub table: Option<TableId>,
    /// Columns of the unique key beyond the uri, as positions in the table.
    pub unique: Vec<usize>,
    /// Only the rkey `self` has a row.
    pub self_only: bool,
    pub validated: bool,
    pub belongs: Option<Belongs>,
    /// At-uris that every write takes apart.
    pub uris: Vec<Path>,
    /// At-uris that only an inserted row takes apart, until one is the repository's own.
    pub insert_uris: Vec<Path>,
    pub embeds: Vec<(EmbedKind, TableId)>,
    pub counts: Vec<Count>,
    pub notices: Option<Notices>,
    pub role: Role,
}

/// Every table and collection of one database.
#[derive(Debug)]
pub struct Plan {
    /// `RECORD` first.
    pub tables: Vec<Table>,
    pub collections: Vec<Collection>,
    by_nsid: HashMap<String, usize>,
    pub derived: Derived,
}

impl Plan {
    /// Read the document that `declare.py` encodes.
    pub fn parse(document: &[u8]) -> Result<Self, PlanError> {
        let document: PlanDocument = serde_json::from_slice(document)?;
        let mut plan = Self {
            tables: vec![document.record.compile()?],
            collections: Vec::new(),
            by_nsid: HashMap::new(),
            derived: Derived::default(),
        };
        for collection in document.collections {
            plan.add(collection)?;
        }
        for table in document.derived {
            plan.add_table(table)?;
        }
        let id = |name| plan.table_named(name).unwrap_or(usize::MAX);
        plan.derived = Derived {
            feed_item: id("feed_item"),
            quote: id("quote"),
            duplicate_record: id("duplicate_record"),
            notification: id("notification"),
        };
        Ok(plan)
    }

    fn add(&mut self, document: CollectionDocument) -> Result<(), PlanError> {
        let name = document.nsid.clone();
        let table = document
            .table
            .map(|table| self.add_table(table))
            .transpose()?;
        let unique = document
            .unique
            .iter()
            .map(|name| self.position(table, name))
            .collect::<Result<_, _>>()?;
        let belongs = document.belongs.map(Belongs::compile).transpose()?;
        let mut embeds = Vec::new();
        for embed in document.embeds {
            embeds.push((embed.kind, self.add_table(embed.table)?));
        }
        let mut counts = Vec::new();
        for count in document.counts {
            let tally = Tally::named(&count.table, &count.column);
            let key = document.unique.iter().position(|name| *name == count.key);
            match tally.zip(key) {
                Some((tally, key)) => counts.push(Count { tally, key }),
                None => {
                    return Err(PlanError::Column {
                        table: count.table,
                        column: count.column,
                        problem: "is no count by a column of the unique key",
                    })
                }
            }
        }
        let position = self.collections.len();
        self.collections.push(Collection {
            nsid: document.nsid,
            table,
            unique,
            self_only: document.self_only,
            validated: document.validated,
            belongs,
            uris: document.uris.iter().map(|path| Path::new(path)).collect(),
            insert_uris: document
                .insert_uris
                .iter()
                .map(|path| Path::new(path))
                .collect(),
            embeds,
            counts,
            notices: document.notices.map(NoticesDocument::compile),
            role: document.role,
        });
        match self.by_nsid.insert(name.clone(), position) {
            None => Ok(()),
            Some(_) => Err(PlanError::Twice(name)),
        }
    }

    fn add_table(&mut self, document: TableDocument) -> Result<TableId, PlanError> {
        if self.tables.iter().any(|table| table.name == document.name) {
            return Err(PlanError::Twice(document.name));
        }
        self.tables.push(document.compile()?);
        Ok(self.tables.len() - 1)
    }

    fn position(&self, table: Option<TableId>, column: &str) -> Result<usize, PlanError> {
        let table = table.and_then(|id| self.tables.get(id));
        table
            .and_then(|table| table.columns.iter().position(|known| known.name == column))
            .ok_or_else(|| PlanError::Column {
                table: table.map_or_else(String::new, |table| table.name.clone()),
                column: column.to_owned(),
                problem: "in the unique key, but not a column",
            })
    }

    /// The position of a collection, `None` if it is not indexed.
    pub fn collection(&self, nsid: &str) -> Option<usize> {
        self.by_nsid.get(nsid).copied()
    }

    /// The table that a record of this collection has its own row in.
    pub fn table_of(&self, collection: usize, is_self: bool) -> Option<TableId> {
        let collection = self.collections.get(collection)?;
        collection
            .table
            .filter(|_| is_self || !collection.self_only)
    }

    pub fn table_named(&self, name: &str) -> Option<TableId> {
        self.tables.iter().position(|table| table.name == name)
    }

    pub fn table_name(&self, table: TableId) -> &str {
        self.tables.get(table).map_or("", |table| &table.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(unique: &str, source: &str) -> String {
        let column = r#"{"name":"uri","source":"uri","path":"","type":"character varying"}"#;
        let other = format!(r#"{{"name":"a","source":"{source}","path":"x.y","type":"text"}}"#);
        format!(
            r#"{{"record":{{"name":"record","columns":[{column}]}},"collections":[{{
            "nsid":"a.b.c","table":{{"name":"t","columns":[{column},{other}]}},
            "unique":["{unique}"],"self_only":false,"validated":true,"belongs":null,
            "uris":[],"insert_uris":["x.y"],"embeds":[]}}]}}"#
        )
    }

    #[test]
    fn a_plan_is_compiled() {
        let plan = Plan::parse(document("a", "text").as_bytes()).unwrap();
        let collection = &plan.collections[plan.collection("a.b.c").unwrap()];
        assert_eq!(
            (collection.table, &collection.unique[..]),
            (Some(1), &[1][..])
        );
        assert_eq!(plan.collection("a.b.d"), None);
        let record = Value::Map(vec![(
            "x".into(),
            Value::Map(vec![("y".into(), Value::Int(1))]),
        )]);
        assert_eq!(
            collection.insert_uris[0].find(&record),
            Some(&Value::Int(1))
        );
        assert_eq!(collection.insert_uris[0].find(&Value::Null), None);
    }

    #[test]
    fn a_wrong_plan_is_named() {
        for (document, word) in [
            (document("b", "text"), "unique key"),
            (document("a", "magic"), "unknown source"),
            (document("a", "texts"), "do not fit"),
            (String::from("{}"), "missing field"),
        ] {
            let error = Plan::parse(document.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
