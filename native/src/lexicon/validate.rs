//! A record against its rules. Nothing is allocated unless the record fails.
//!
//! CBOR's undefined is null here, as it is to the reference's decoder.

use unicode_segmentation::UnicodeSegmentation;

use super::report::{describe, Failure};
use super::{
    BlobRule, Catalog, Literal, MimePattern, ObjectRule, Range, Rule, RuleId, TextRule, TypeName,
};
use crate::cbor::Value;
use crate::cid;

/// The largest integer that the reference, a JavaScript program, holds exactly.
const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// More levels of values than any decoder here lets through.
const MAX_DEPTH: usize = crate::cbor::MAX_DEPTH + 1;

type Verdict = Result<(), Failure>;

impl Catalog {
    /// Checks a record of the collection `nsid`. The error names what is wrong and where:
    /// `invalid datetime at $.createdAt (got "yesterday")`.
    pub fn validate_record(&self, nsid: &str, record: &Value) -> Result<(), String> {
        let Some(rule) = self.records.get(nsid) else {
            return Err(format!("no lexicon of a record is named {nsid:?}"));
        };
        self.check(*rule, record, 0)
            .map_err(|failure| failure.to_string())
    }

    fn check(&self, id: RuleId, value: &Value, depth: usize) -> Verdict {
        let Some(rule) = self.rules.get(id.0).filter(|_| depth <= MAX_DEPTH) else {
            return fail("nested too deeply", value);
        };
        match rule {
            Rule::Boolean => expect(matches!(value, Value::Bool(_)), "a boolean", value),
            Rule::Integer(range) => check_integer(*range, value),
            Rule::Text(rule) => check_text(rule, value),
            Rule::Bytes(range) => match value.as_bytes() {
                Some(bytes) => check_length(*range, bytes.len(), "bytes", value),
                None => expect(false, "bytes", value),
            },
            Rule::Link => expect(matches!(value, Value::Link(_)), "a CID link", value),
            Rule::Blob(rule) => check_blob(rule, value),
            Rule::OneOf(allowed) => {
                if allowed.iter().any(|literal| is_literal(literal, value)) {
                    return Ok(());
                }
                let names: Vec<String> = allowed.iter().map(Literal::to_string).collect();
                fail(&format!("expected one of [{}]", names.join(", ")), value)
            }
            Rule::List { items, length } => {
                let Value::List(list) = value else {
                    return expect(false, "a list", value);
                };
                check_length(*length, list.len(), "items", value)?;
                for (at, item) in list.iter().enumerate() {
                    self.check(*items, item, depth + 1)
                        .map_err(|failure| failure.in_item(at))?;
                }
                Ok(())
            }
            Rule::Object(rule) => self.check_object(rule, value, depth),
            Rule::Union { variants, closed } => self.check_union(variants, *closed, value, depth),
            Rule::Unknown => match value {
                Value::Map(_) => check_plain(value, depth),
                _ => expect(false, "a map", value),
            },
        }
    }

    fn check_object(&self, rule: &ObjectRule, value: &Value, depth: usize) -> Verdict {
        if !matches!(value, Value::Map(_)) {
            return expect(false, "a map", value);
        }
        check_type_name(&rule.type_name, value)?;
        for property in &rule.properties {
            let found = match value.get(&property.key) {
                None if property.required => return Err(Failure::missing(&property.key)),
                None => continue,
                Some(Value::Null | Value::Undefined) if property.nullable => continue,
                Some(found) => found,
            };
            self.check(property.rule, found, depth + 1)
                .map_err(|failure| failure.in_key(&property.key))?;
        }
        Ok(())
    }

    fn check_union(
        &self,
        variants: &[(String, RuleId)],
        closed: bool,
        value: &Value,
        depth: usize,
    ) -> Verdict {
        let Some(type_name) = value.get("$type") else {
            return expect(false, "a map with $type", value);
        };
        let Value::Text(name) = type_name else {
            return expect(false, "a string", type_name).map_err(|failure| failure.in_key("$type"));
        };
        match variants.iter().find(|(known, _)| known == name) {
            Some((_, rule)) => self.check(*rule, value, depth + 1),
            None if closed => {
                fail("unknown variant", type_name).map_err(|failure| failure.in_key("$type"))
            }
            None => Ok(()),
        }
    }
}

fn check_type_name(rule: &TypeName, value: &Value) -> Verdict {
    let (wanted, required) = match rule {
        TypeName::Free => return Ok(()),
        TypeName::Optional(name) => (name, false),
        TypeName::Required(name) => (name, true),
    };
    match value.get("$type") {
        None if required => Err(Failure::missing("$type")),
        None => Ok(()),
        Some(Value::Text(found)) if found == wanted => Ok(()),
        Some(other) => fail(&format!("expected {wanted:?}"), other).map_err(|f| f.in_key("$type")),
    }
}

fn check_integer(range: Range, value: &Value) -> Verdict {
    let Some(number) = safe_integer(value) else {
        return expect(false, "an integer", value);
    };
    check_range(range, number, "", value)
}

/// An integer or a float without a fraction, if JavaScript calls it a safe integer.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // within 2^53
fn safe_integer(value: &Value) -> Option<i64> {
    match *value {
        Value::Int(number) => Some(number),
        Value::Float(number)
            if number.fract() == 0.0 && number.abs() <= MAX_SAFE_INTEGER as f64 =>
        {
            Some(number as i64)
        }
        _ => None,
    }
    .filter(|number| (-MAX_SAFE_INTEGER..=MAX_SAFE_INTEGER).contains(number))
}

fn check_text(rule: &TextRule, value: &Value) -> Verdict {
    let Value::Text(text) = value else {
        return expect(false, "a string", value);
    };
    check_length(rule.bytes, text.len(), "bytes", value)?;
    check_graphemes(rule.graphemes, text, value)?;
    match rule.format {
        Some(format) if !format.matches(text) => fail(&format!("invalid {}", format.name()), value),
        _ => Ok(()),
    }
}

/// Counts extended grapheme clusters, but only where fewer bytes do not decide already: a
/// cluster has at least one character, a character at least one byte.
///
/// The tables are those of the `unicode-segmentation` crate (Unicode 17.0). A reference on
/// Node.js 22 uses ICU 77 (Unicode 16.0); the two differ only for texts at the limit that
/// hold characters whose properties changed in between.
fn check_graphemes(range: Range, text: &str, value: &Value) -> Verdict {
    let fits =
        |limit: i64, length: usize| i64::try_from(length).is_ok_and(|length| length <= limit);
    let enough_room = range
        .maximum
        .is_none_or(|most| fits(most, text.len()) || fits(most, text.chars().count()));
    if enough_room && range.minimum.is_none() {
        return Ok(());
    }
    let range = Range {
        maximum: range.maximum.filter(|_| !enough_room),
        ..range
    };
    check_length(range, text.graphemes(true).count(), "graphemes", value)
}

fn check_blob(rule: &BlobRule, value: &Value) -> Verdict {
    let known = |key: &str| matches!(key, "$type" | "ref" | "mimeType" | "size");
    let typed = value.get("$type").and_then(Value::as_text) == Some("blob");
    let only_known = value
        .as_map()
        .is_some_and(|entries| entries.iter().all(|(key, _)| known(key)));
    if !typed || !only_known {
        return expect(false, "a blob", value);
    }
    let part = |key: &str| value.get(key).unwrap_or(&Value::Null);
    match part("ref") {
        Value::Link(cid) if cid.is_v1() && cid.codec() == cid::RAW => (),
        other => return expect(false, "the CID of a blob", other).map_err(|f| f.in_key("ref")),
    }
    let mime_type = part("mimeType");
    let accepted = mime_type
        .as_text()
        .is_some_and(|text| text.contains('/') && accepts(rule, text));
    if !accepted {
        return fail("unacceptable MIME type", mime_type).map_err(|f| f.in_key("mimeType"));
    }
    let size = Range {
        minimum: Some(0),
        maximum: rule.maximum_size,
    };
    check_integer(size, part("size")).map_err(|failure| failure.in_key("size"))
}

fn accepts(rule: &BlobRule, mime_type: &str) -> bool {
    let matches = |pattern: &MimePattern| match pattern {
        MimePattern::Exact(text) => text == mime_type,
        MimePattern::Prefix(prefix) => mime_type.starts_with(prefix.as_str()),
    };
    rule.accept
        .as_ref()
        .is_none_or(|accept| accept.iter().any(matches))
}

#[allow(clippy::cast_precision_loss, clippy::float_cmp)] // exact within 2^53, as in JavaScript
fn is_literal(literal: &Literal, value: &Value) -> bool {
    match (literal, value) {
        (Literal::Boolean(wanted), Value::Bool(found)) => wanted == found,
        (Literal::Integer(wanted), Value::Int(found)) => wanted == found,
        (Literal::Integer(wanted), Value::Float(found)) => *wanted as f64 == *found,
        (Literal::Text(wanted), Value::Text(found)) => wanted == found,
        _ => false,
    }
}

/// Only what the data model knows: no fractions, no huge integers.
fn check_plain(value: &Value, depth: usize) -> Verdict {
    if depth > MAX_DEPTH {
        return fail("nested too deeply", value);
    }
    match value {
        Value::Map(entries) => {
            for (key, item) in entries {
                check_plain(item, depth + 1).map_err(|failure| failure.in_key(key))?;
            }
            Ok(())
        }
        Value::List(items) => {
            for (at, item) in items.iter().enumerate() {
                check_plain(item, depth + 1).map_err(|failure| failure.in_item(at))?;
            }
            Ok(())
        }
        Value::Float(number) => expect(number.fract() == 0.0, "an integer", value),
        Value::Int(_) => check_integer(Range::default(), value),
        Value::BigInt => expect(false, "plain data", value),
        _ => Ok(()),
    }
}

fn check_length(range: Range, length: usize, unit: &str, value: &Value) -> Verdict {
    check_range(
        range,
        i64::try_from(length).unwrap_or(i64::MAX),
        unit,
        value,
    )
}

fn check_range(range: Range, number: i64, unit: &str, value: &Value) -> Verdict {
    let limit = match range {
        Range {
            minimum: Some(least),
            ..
        } if number < least => format!("at least {least}"),
        Range {
            maximum: Some(most),
            ..
        } if number > most => format!("at most {most}"),
        _ => return Ok(()),
    };
    if unit.is_empty() {
        return fail(&format!("expected {limit}"), value);
    }
    Err(Failure::new(
        format!("expected {limit} {unit}"),
        format!("{number}"),
    ))
}

fn expect(found: bool, wanted: &str, value: &Value) -> Verdict {
    if found {
        return Ok(());
    }
    fail(&format!("expected {wanted}"), value)
}

fn fail(reason: &str, value: &Value) -> Verdict {
    Err(Failure::new(String::from(reason), describe(value)))
}
