//! The parts of a definition that refer to nothing else.

use serde_json::Value as Json;

use super::compile::{Fallible, Fields};
use super::{BlobRule, Literal, MimePattern, Range, Rule, TextRule};
use crate::syntax::Format;

/// A boolean, integer or string; `const` and `enum` leave nothing else to check.
pub(super) fn scalar(kind: &str, fields: &Fields) -> Fallible<Rule> {
    if let Some(allowed) = literals(kind, fields)? {
        return Ok(Rule::OneOf(allowed));
    }
    Ok(match kind {
        "boolean" => Rule::Boolean,
        "integer" => Rule::Integer(range(fields, "minimum", "maximum")?),
        _ => Rule::Text(TextRule {
            bytes: range(fields, "minLength", "maxLength")?,
            graphemes: range(fields, "minGraphemes", "maxGraphemes")?,
            format: text(fields, "format")?
                .map(|name| Format::named(name).ok_or_else(|| format!("unknown format {name:?}")))
                .transpose()?,
        }),
    })
}

fn literals(kind: &str, fields: &Fields) -> Fallible<Option<Vec<Literal>>> {
    let allowed = match fields.get("enum") {
        None => None,
        Some(json) => {
            let items = json.as_array().ok_or("\"enum\" must be an array")?;
            let values = items.iter().map(|item| literal(kind, item));
            Some(values.collect::<Fallible<Vec<_>>>()?)
        }
    };
    let Some(constant) = fields.get("const") else {
        return Ok(allowed);
    };
    let constant = literal(kind, constant)?;
    // A constant outside of its own enumeration: no value is both.
    let possible = allowed.is_none_or(|allowed| allowed.contains(&constant));
    Ok(Some(possible.then_some(constant).into_iter().collect()))
}

fn literal(kind: &str, json: &Json) -> Fallible<Literal> {
    match kind {
        "boolean" => json.as_bool().map(Literal::Boolean),
        "integer" => json.as_i64().map(Literal::Integer),
        _ => json.as_str().map(|text| Literal::Text(String::from(text))),
    }
    .ok_or_else(|| format!("{json} is not of type {kind}"))
}

pub(super) fn blob(fields: &Fields) -> Fallible<BlobRule> {
    let pattern = |text: &&str| match text.strip_suffix('*') {
        Some(prefix) if prefix.ends_with('/') => MimePattern::Prefix(String::from(prefix)),
        _ => MimePattern::Exact(String::from(*text)),
    };
    let accept = texts(fields, "accept")?.filter(|accept| !accept.contains(&"*/*"));
    Ok(BlobRule {
        accept: accept.map(|accept| accept.iter().map(pattern).collect()),
        maximum_size: integer(fields, "maxSize")?,
    })
}

/// `any`, `tid`, `nsid` or `literal:…`; which rkeys a collection has is not checked here.
pub(super) fn check_record_key(fields: &Fields) -> Fallible<()> {
    let key = text(fields, "key")?.ok_or("a record needs \"key\"")?;
    let known = matches!(key, "any" | "tid" | "nsid") || key.starts_with("literal:");
    known
        .then_some(())
        .ok_or_else(|| format!("unknown kind of record key {key:?}"))
}

pub(super) fn range(fields: &Fields, minimum: &str, maximum: &str) -> Fallible<Range> {
    Ok(Range {
        minimum: integer(fields, minimum)?,
        maximum: integer(fields, maximum)?,
    })
}

fn integer(fields: &Fields, key: &str) -> Fallible<Option<i64>> {
    fields
        .get(key)
        .map(|json| {
            json.as_i64()
                .ok_or_else(|| format!("{key:?} must be an integer"))
        })
        .transpose()
}

pub(super) fn text<'a>(fields: &'a Fields, key: &str) -> Fallible<Option<&'a str>> {
    fields
        .get(key)
        .map(|json| {
            json.as_str()
                .ok_or_else(|| format!("{key:?} must be a string"))
        })
        .transpose()
}

pub(super) fn texts<'a>(fields: &'a Fields, key: &str) -> Fallible<Option<Vec<&'a str>>> {
    let Some(json) = fields.get(key) else {
        return Ok(None);
    };
    let items = json.as_array().map(|items| items.iter().map(Json::as_str));
    items
        .and_then(Iterator::collect)
        .map(Some)
        .ok_or_else(|| format!("{key:?} must be an array of strings"))
}
