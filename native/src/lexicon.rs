//! Lexicons: documents compiled once into rules, records checked against the rules.
//!
//! The semantics are those of the reference's validator (`@atproto/lex-schema`) in strict
//! "validate" mode, since it decides which records the data plane holds: nothing is
//! coerced, no default is applied, unknown keys are ignored, `knownValues` are advice.
//! Which collections are validated at all is not decided here.

mod compile;
mod report;
mod scalars;
mod validate;

use std::collections::HashMap;

use crate::syntax::Format;
pub use compile::LexiconError;

/// Every definition of a set of documents, with references resolved.
///
/// Immutable once compiled; shared freely between threads.
#[derive(Debug)]
pub struct Catalog {
    rules: Vec<Rule>,
    records: HashMap<String, RuleId>,
}

impl Catalog {
    /// Whether `nsid` is a record type of this catalog.
    pub fn has_record(&self, nsid: &str) -> bool {
        self.records.contains_key(nsid)
    }

    /// The record types, sorted.
    pub fn record_types(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.records.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// Index of a rule in its catalog. Only the compiler makes them, so they never dangle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RuleId(usize);

/// What a value must be.
#[derive(Debug)]
enum Rule {
    Boolean,
    Integer(Range),
    Text(TextRule),
    Bytes(Range),
    Link,
    Blob(BlobRule),
    /// One of these values; no value at all if empty.
    OneOf(Vec<Literal>),
    List {
        items: RuleId,
        length: Range,
    },
    Object(ObjectRule),
    Union {
        /// By `$type`; each is an `Object` rule.
        variants: Vec<(String, RuleId)>,
        closed: bool,
    },
    /// Any map of plain data.
    Unknown,
}

/// Inclusive bounds; of a length in bytes, items or graphemes, or of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Range {
    minimum: Option<i64>,
    maximum: Option<i64>,
}

#[derive(Debug)]
struct TextRule {
    bytes: Range,
    graphemes: Range,
    format: Option<Format>,
}

#[derive(Debug)]
struct BlobRule {
    /// None accepts every MIME type.
    accept: Option<Vec<MimePattern>>,
    maximum_size: Option<i64>,
}

#[derive(Debug)]
enum MimePattern {
    Exact(String),
    /// Type and slash: `image/`.
    Prefix(String),
}

#[derive(Debug, PartialEq)]
enum Literal {
    Boolean(bool),
    Integer(i64),
    Text(String),
}

#[derive(Debug)]
struct ObjectRule {
    type_name: TypeName,
    properties: Vec<Property>,
}

/// What an object says of itself in `$type`.
#[derive(Debug)]
enum TypeName {
    /// Not looked at: an object defined inside another.
    Free,
    /// May be absent, may not be another.
    Optional(String),
    /// A record names its collection.
    Required(String),
}

#[derive(Debug)]
struct Property {
    key: String,
    rule: RuleId,
    required: bool,
    nullable: bool,
}

#[cfg(test)]
mod tests;
