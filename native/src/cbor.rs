//! Strict DAG-CBOR, as the reference's decoder is strict.
//!
//! Errors are: a tag other than 42, a malformed CID, integers or lengths not in
//! their shortest form, indefinite lengths, duplicate map keys, keys that are not text,
//! NaN and infinities, simple values beyond false, true, null and undefined,
//! trailing bytes. Not errors, because the reference accepts them: keys in any
//! order, floats of any width, text that is not UTF-8 (read as a browser reads it:
//! U+FFFD for each bad part, and a leading byte order mark dropped, in keys too).
//!
//! The key `__proto__` is an error in the outermost map and vanishes in inner ones:
//! that is what becomes of it in the reference.
//!
//! Text and bytes are borrowed from the input. Declared lengths and counts are
//! checked against what is left of the input before anything is allocated.

mod decoder;

use std::borrow::Cow;

use crate::cid::Cid;
pub use decoder::read_text;
pub(crate) use decoder::{has_duplicate, Decoder};

/// How deep lists and maps may nest.
pub const MAX_DEPTH: usize = 256;

pub(crate) const PROTO: &str = "__proto__";

/// Why bytes are not DAG-CBOR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    #[error("input ends inside an item")]
    Truncated,
    #[error("bytes after the item")]
    Trailing,
    #[error("integer or length not in its shortest form")]
    NotMinimal,
    #[error("indefinite length")]
    Indefinite,
    #[error("tag other than 42")]
    Tag,
    #[error("malformed CID")]
    Cid,
    #[error("duplicate map key")]
    DuplicateKey,
    #[error("map key is not text")]
    KeyNotText,
    #[error("NaN or infinity")]
    NotFinite,
    #[error("unknown simple value")]
    Simple,
    #[error("nested too deep")]
    Depth,
    #[error("key __proto__ in the outermost map")]
    Proto,
    #[error("not a map")]
    NotAMap,
    #[error("unexpected type")]
    Type,
}

/// One decoded item, borrowing from the input.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Null,
    Undefined,
    Bool(bool),
    Int(i64),
    /// An integer outside of `i64`; only its existence matters.
    BigInt,
    Float(f64),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
    Link(Cid<'a>),
    List(Vec<Value<'a>>),
    /// Entries in the order of the input, keys distinct.
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
}

impl<'a> Value<'a> {
    /// The value of a map's key; `None` for an absent key and for anything but a map.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.as_map()?
            .iter()
            .find_map(|(name, value)| (name == key).then_some(value))
    }

    pub fn as_map(&self) -> Option<&[(Cow<'a, str>, Value<'a>)]> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&[Value<'a>]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub fn as_link(&self) -> Option<Cid<'a>> {
        match self {
            Self::Link(cid) => Some(*cid),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// An integer as integer; floats are never converted.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }
}

/// Decode the whole input; bytes after the item are an error.
pub fn decode(bytes: &[u8]) -> Result<Value<'_>, CborError> {
    let mut decoder = Decoder::new(bytes);
    let value = decoder.value()?;
    decoder.finish()?;
    Ok(value)
}

/// Decode a record: like `decode`, and the outermost item must be a map.
pub fn decode_record(bytes: &[u8]) -> Result<Value<'_>, CborError> {
    match decode(bytes)? {
        map @ Value::Map(_) => Ok(map),
        _ => Err(CborError::NotAMap),
    }
}

/// Decode one item from the front; also returns how many bytes it took.
pub fn decode_prefix(bytes: &[u8]) -> Result<(Value<'_>, usize), CborError> {
    let mut decoder = Decoder::new(bytes);
    let value = decoder.value()?;
    Ok((value, bytes.len() - decoder.rest().len()))
}

#[cfg(test)]
#[path = "cbor_tests.rs"]
mod tests;
