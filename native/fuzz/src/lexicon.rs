//! Any record of any collection is valid or is refused in words of bounded length, and the
//! verdict does not hang on what the lexicon language ignores: the order of keys, keys that
//! no lexicon knows, null written as undefined. A valid record names its collection.

use std::path::Path;
use std::sync::LazyLock;

use _native::cbor::{self, Value};
use _native::lexicon::Catalog;

use crate::tape::Tape;
use crate::{heap, Verdict};

/// Longest words of a refusal: a path of 256 keys may be in it.
const MAX_WORDS: usize = 1 << 20;

/// The project's own lexicons.
pub static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("engine/lexicons"))
        .find(|folder| folder.is_dir())
        .expect("the lexicons");
    let mut documents = Vec::new();
    for file in std::fs::read_dir(folder).expect("the lexicons").flatten() {
        if file.path().extension().is_some_and(|word| word == "json") {
            documents.push(std::fs::read_to_string(file.path()).expect("a lexicon"));
        }
    }
    let documents = format!("[{}]", documents.join(","));
    Catalog::from_json(documents.as_bytes()).expect("lexicons")
});

/// Its first byte says the collection, the rest is the record.
pub fn check(data: &[u8]) -> Verdict {
    let mut tape = Tape::new(data);
    let types = CATALOG.record_types();
    let nsid = *tape.pick(&types);
    let Ok(record) = cbor::decode(tape.rest()) else {
        return Verdict::Rejected;
    };
    // Words of a refusal, and what keeps the variants of a language tag apart.
    let verdict = heap::bounded(1 << 16, 32, data.len(), || {
        CATALOG.validate_record(nsid, &record)
    });
    assert_eq!(CATALOG.validate_record(nsid, &record), verdict);
    if let Err(words) = &verdict {
        assert!(!words.is_empty() && words.len() < MAX_WORDS);
    }
    for other in [reversed(&record), with_unknown(&record), undefined(&record)] {
        let other = CATALOG.validate_record(nsid, &other);
        assert_eq!(other.is_ok(), verdict.is_ok(), "{verdict:?}, {other:?}");
    }
    if verdict.is_ok() {
        let named = record.get("$type").and_then(Value::as_text);
        assert_eq!(named, Some(nsid));
        crate::cbor::json_is_sound(&record);
    }
    let absent = CATALOG.validate_record("com.example.absent", &record);
    assert!(absent.is_err());
    Verdict::of(verdict.is_ok())
}

fn reversed<'a>(value: &Value<'a>) -> Value<'a> {
    match value {
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .rev()
                .map(|(key, item)| (key.clone(), reversed(item)))
                .collect(),
        ),
        Value::List(items) => Value::List(items.iter().map(reversed).collect()),
        other => other.clone(),
    }
}

/// The record with one more key, of a name and content that no lexicon has.
fn with_unknown<'a>(value: &Value<'a>) -> Value<'a> {
    match value {
        Value::Map(entries) => {
            let mut entries = entries.clone();
            if value.get("zz no such key").is_none() {
                entries.push(("zz no such key".into(), Value::Float(0.5)));
            }
            Value::Map(entries)
        }
        other => other.clone(),
    }
}

fn undefined<'a>(value: &Value<'a>) -> Value<'a> {
    match value {
        Value::Null => Value::Undefined,
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|(key, item)| (key.clone(), undefined(item)))
                .collect(),
        ),
        Value::List(items) => Value::List(items.iter().map(undefined).collect()),
        other => other.clone(),
    }
}
