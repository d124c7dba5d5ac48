//! What an operator reads about a record that failed: the reason, the place, the value.

use std::fmt;

use super::Literal;
use crate::cbor::Value;

/// Characters shown of a text; a dead letter holds the whole record anyway.
const SHOWN_CHARACTERS: usize = 80;

/// Why a value fails, collected on the way out of it.
#[derive(Debug)]
pub(super) struct Failure {
    reason: String,
    got: Option<String>,
    /// From the failing value outwards.
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Key(String),
    Item(usize),
}

impl Failure {
    pub(super) fn new(reason: String, got: String) -> Self {
        Self {
            reason,
            got: Some(got),
            steps: Vec::new(),
        }
    }

    pub(super) fn missing(key: &str) -> Self {
        Self {
            reason: format!("missing required key {key:?}"),
            got: None,
            steps: Vec::new(),
        }
    }

    pub(super) fn in_key(mut self, key: &str) -> Self {
        self.steps.push(Step::Key(String::from(key)));
        self
    }

    pub(super) fn in_item(mut self, at: usize) -> Self {
        self.steps.push(Step::Item(at));
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at $", self.reason)?;
        for step in self.steps.iter().rev() {
            match step {
                Step::Key(key) => write!(formatter, ".{key}")?,
                Step::Item(at) => write!(formatter, "[{at}]")?,
            }
        }
        match &self.got {
            Some(got) => write!(formatter, " (got {got})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(formatter, "{value}"),
            Self::Integer(number) => write!(formatter, "{number}"),
            Self::Text(text) => formatter.write_str(&quote(text)),
        }
    }
}

/// A value in a few words.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null | Value::Undefined => String::from("null"),
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::BigInt => String::from("a huge integer"),
        Value::Float(number) => number.to_string(),
        Value::Text(text) => quote(text),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::Link(cid) => cid.to_string(),
        Value::List(items) => format!("a list of {}", items.len()),
        Value::Map(_) => match value.get("$type").and_then(Value::as_text) {
            Some(name) => format!("a map of type {}", quote(name)),
            None => String::from("a map"),
        },
    }
}

fn quote(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}
