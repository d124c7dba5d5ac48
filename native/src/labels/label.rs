//! One label, as `com.atproto.label.defs#label` has it.

use std::borrow::Cow;

use super::Rejection;
use crate::cbor::{has_duplicate, CborError, Decoder, Value};
use crate::datetime;
use crate::reason::Reason;
use crate::syntax::{is_cid, is_did, Format};

/// The data plane's key of a label: Postgres refuses to index more than 2,704 bytes.
const MAX_KEY_BYTES: usize = 2_600;
const MAX_VAL_BYTES: usize = 128;

/// A label that may become a row, verbatim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    pub src: &'a str,
    pub uri: &'a str,
    /// Of the version that it is about; None: of all.
    pub cid: Option<&'a str>,
    pub val: &'a str,
    pub neg: bool,
    pub cts: &'a str,
    pub exp: Option<&'a str>,
}

/// A label as it was sent: its fields with their bytes.
#[derive(Debug)]
pub struct Raw<'a> {
    pub bytes: &'a [u8],
    /// Key, value, and the bytes of both.
    pub fields: Vec<(Cow<'a, str>, Value<'a>, &'a [u8])>,
    is_map: bool,
}

impl<'a> Raw<'a> {
    pub(super) fn read(decoder: &mut Decoder<'a>) -> Result<Self, CborError> {
        let start = decoder.rest();
        let mut fields = Vec::new();
        let is_map = decoder.at_map();
        if is_map {
            for _ in 0..decoder.map_start()? {
                let before = decoder.rest();
                let key = decoder.key()?;
                let value = decoder.value()?;
                fields.push((key, value, between(before, decoder.rest())));
            }
            decoder.end();
            if has_duplicate(fields.iter().map(|(key, ..)| key.as_ref()).collect()) {
                return Err(CborError::DuplicateKey);
            }
        } else {
            decoder.value()?;
        }
        Ok(Self {
            bytes: between(start, decoder.rest()),
            fields,
            is_map,
        })
    }

    /// A field that is there and not null.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.fields
            .iter()
            .find(|(name, ..)| name == key)
            .map(|(_, value, _)| value)
            .filter(|value| !matches!(value, Value::Null | Value::Undefined))
    }

    /// A field's text, whatever else is wrong: what a dead letter is found by.
    pub fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        match self.get(key) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    fn verbatim(&self, key: &'static str) -> Result<Option<&'a str>, Rejection> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(Cow::Borrowed(text))) => Ok(Some(text)),
            Some(Value::Text(_)) => Err(bad(key, "not UTF-8")),
            Some(_) => Err(bad(key, "not a string")),
        }
    }

    fn required(&self, key: &'static str) -> Result<&'a str, Rejection> {
        self.verbatim(key)?.ok_or_else(|| bad(key, "missing"))
    }
}

fn between<'a>(before: &'a [u8], after: &[u8]) -> &'a [u8] {
    before
        .get(..before.len().saturating_sub(after.len()))
        .unwrap_or_default()
}

fn bad(key: &str, what: &str) -> Rejection {
    Rejection::new(Reason::BadField, format!("{key}: {what}"))
}

impl<'a> Label<'a> {
    pub(super) fn read(raw: &Raw<'a>) -> Result<Self, Rejection> {
        if !raw.is_map {
            return Err(Rejection::new(Reason::BadField, "label: not a map"));
        }
        match raw.get("ver") {
            None | Some(Value::Int(1)) => {}
            Some(Value::Int(version)) => {
                return Err(bad("ver", &format!("{version}, which is not known")))
            }
            Some(_) => return Err(bad("ver", "not an integer")),
        }
        let neg = match raw.get("neg") {
            None => false,
            Some(Value::Bool(neg)) => *neg,
            Some(_) => return Err(bad("neg", "not a boolean")),
        };
        if raw.get("sig").is_some_and(|sig| sig.as_bytes().is_none()) {
            return Err(bad("sig", "not bytes"));
        }
        let label = Self {
            src: raw.required("src")?,
            uri: raw.required("uri")?,
            cid: raw.verbatim("cid")?,
            val: raw.required("val")?,
            neg,
            cts: raw.required("cts")?,
            exp: raw.verbatim("exp")?,
        };
        label.check()?;
        Ok(label)
    }

    fn check(&self) -> Result<(), Rejection> {
        if !is_did(self.src) {
            return Err(bad("src", "not a DID"));
        }
        if !Format::Uri.matches(self.uri) {
            return Err(bad("uri", "not a URI"));
        }
        if self.cid.is_some_and(|cid| !is_cid(cid)) {
            return Err(bad("cid", "not a CID"));
        }
        if self.val.len() > MAX_VAL_BYTES {
            return Err(bad("val", "more than 128 bytes"));
        }
        if !datetime::is_datetime(self.cts) {
            return Err(bad("cts", "not a datetime"));
        }
        if self.exp.is_some_and(|exp| !is_readable(exp)) {
            return Err(bad("exp", "not a datetime that Postgres reads"));
        }
        let texts = [self.src, self.uri, self.cid.unwrap_or(""), self.val];
        if texts.iter().any(|text| text.contains('\0')) {
            return Err(Rejection::new(Reason::NulInText, "NUL in a text"));
        }
        if texts.iter().map(|text| text.len()).sum::<usize>() > MAX_KEY_BYTES {
            return Err(bad("uri", "too long for a key"));
        }
        Ok(())
    }
}

/// Whether a datetime is one to Postgres too: the data plane's readers cast `exp` in their queries,
/// and one that cannot be cast would fail them for all labels of a subject.
fn is_readable(text: &str) -> bool {
    let Some((seconds, _)) = datetime::instant(text) else {
        return false;
    };
    let zone_hours = text
        .get(19..)
        .and_then(|rest| rest.rsplit_once(['+', '-']))
        .and_then(|(_, zone)| zone.get(..2))
        .map_or(0, |hours| hours.parse::<i64>().unwrap_or(i64::MAX));
    // A day that its month does not have would print as another one.
    let local = text
        .get(..19)
        .map(|local| format!("{local}Z"))
        .unwrap_or_default();
    let same_day =
        datetime::normalize(&local).is_some_and(|printed| printed.get(..10) == text.get(..10));
    let has_year = !text.starts_with("0000") && seconds > -62_135_596_800;
    same_day && has_year && zone_hours < 15
}
