//! Item by item through the bytes; see the module above for what is an error.

use std::borrow::Cow;

use super::{CborError, Value, MAX_DEPTH, PROTO};
use crate::cid::Cid;
use crate::read::Reader;

/// Room reserved for a list or map before its items are seen: a count is only a claim.
const MAX_RESERVED_ITEMS: usize = 256;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The first byte's upper bits and the number that follows.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Head {
    Unsigned(u64),
    /// Means `-1 - n`.
    Negative(u64),
    Bytes(u64),
    Text(u64),
    List(u64),
    Map(u64),
    Tag,
    False,
    True,
    Null,
    Undefined,
    Float(f64),
}

/// Reads items one by one: for messages of known shape, without building a tree.
pub(crate) struct Decoder<'a> {
    reader: Reader<'a>,
    depth: usize,
}

impl<'a> Decoder<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(bytes),
            depth: 0,
        }
    }

    /// Whether a list is next.
    pub(crate) fn at_list(&self) -> bool {
        self.reader.peek().is_some_and(|first| first >> 5 == 4)
    }

    /// Whether a map is next.
    pub(crate) fn at_map(&self) -> bool {
        self.reader.peek().is_some_and(|first| first >> 5 == 5)
    }

    /// What is not yet read: the difference of two is an item's bytes.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.reader.rest()
    }

    /// Nothing may follow.
    pub(crate) fn finish(&self) -> Result<(), CborError> {
        if self.reader.is_empty() {
            Ok(())
        } else {
            Err(CborError::Trailing)
        }
    }

    #[inline]
    fn head(&mut self) -> Result<Head, CborError> {
        let first = self.reader.byte().ok_or(CborError::Truncated)?;
        let (major, info) = (first >> 5, first & 0x1f);
        if major == 7 {
            return self.simple(info);
        }
        let number = self.argument(info)?;
        match major {
            0 => Ok(Head::Unsigned(number)),
            1 => Ok(Head::Negative(number)),
            2 => Ok(Head::Bytes(number)),
            3 => Ok(Head::Text(number)),
            4 => Ok(Head::List(number)),
            5 => Ok(Head::Map(number)),
            _ if number == 42 => Ok(Head::Tag),
            _ => Err(CborError::Tag),
        }
    }

    #[inline]
    fn argument(&mut self, info: u8) -> Result<u64, CborError> {
        let (number, minimum) = match info {
            0..=23 => return Ok(u64::from(info)),
            24 => (
                u64::from(self.reader.byte().ok_or(CborError::Truncated)?),
                24,
            ),
            25 => (u64::from(u16::from_be_bytes(self.array()?)), 1 << 8),
            26 => (u64::from(u32::from_be_bytes(self.array()?)), 1 << 16),
            27 => (u64::from_be_bytes(self.array()?), 1 << 32),
            _ => return Err(CborError::Indefinite),
        };
        if number < minimum {
            return Err(CborError::NotMinimal);
        }
        Ok(number)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        self.reader.array().ok_or(CborError::Truncated)
    }

    fn simple(&mut self, info: u8) -> Result<Head, CborError> {
        let float = match info {
            20 => return Ok(Head::False),
            21 => return Ok(Head::True),
            22 => return Ok(Head::Null),
            23 => return Ok(Head::Undefined),
            25 => half(u16::from_be_bytes(self.array()?)),
            26 => f64::from(f32::from_be_bytes(self.array()?)),
            27 => f64::from_be_bytes(self.array()?),
            31 => return Err(CborError::Indefinite),
            _ => return Err(CborError::Simple),
        };
        if float.is_finite() {
            Ok(Head::Float(float))
        } else {
            Err(CborError::NotFinite)
        }
    }

    fn slice(&mut self, length: u64) -> Result<&'a [u8], CborError> {
        self.reader.take_u64(length).ok_or(CborError::Truncated)
    }

    #[inline]
    fn text_body(&mut self, length: u64) -> Result<Cow<'a, str>, CborError> {
        Ok(read_text(self.slice(length)?))
    }

    /// The CID after a tag 42: a byte string that starts with a zero.
    #[inline]
    fn link_body(&mut self) -> Result<Cid<'a>, CborError> {
        let Head::Bytes(length) = self.head()? else {
            return Err(CborError::Cid);
        };
        let (&0, cid) = self.slice(length)?.split_first().ok_or(CborError::Cid)? else {
            return Err(CborError::Cid);
        };
        Cid::exact(cid).map_err(|_| CborError::Cid)
    }

    /// A count that the rest of the input could hold, `each` bytes an item at least.
    fn count(&self, declared: u64, each: usize) -> Result<usize, CborError> {
        let count = usize::try_from(declared).map_err(|_| CborError::Truncated)?;
        if count > self.reader.remaining() / each {
            return Err(CborError::Truncated);
        }
        Ok(count)
    }

    /// How many items the list has that starts here; the caller reads that many values,
    /// and then calls `end`.
    pub(crate) fn list_start(&mut self) -> Result<usize, CborError> {
        match self.head()? {
            Head::List(declared) => {
                self.enter()?;
                self.count(declared, 1)
            }
            _ => Err(CborError::Type),
        }
    }

    /// How many entries the map has that starts here; the caller reads that many keys
    /// and values, refuses duplicates, and then calls `end`.
    pub(crate) fn map_start(&mut self) -> Result<usize, CborError> {
        match self.head()? {
            Head::Map(declared) => {
                self.enter()?;
                self.count(declared, 2)
            }
            _ => Err(CborError::NotAMap),
        }
    }

    /// One level deeper: whoever enters leaves by `end`, or with an error.
    fn enter(&mut self) -> Result<(), CborError> {
        if self.depth >= MAX_DEPTH {
            return Err(CborError::Depth);
        }
        self.depth += 1;
        Ok(())
    }

    /// Every item of a list or map that was begun is read.
    pub(crate) fn end(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// A map's key.
    pub(crate) fn key(&mut self) -> Result<Cow<'a, str>, CborError> {
        match self.head()? {
            Head::Text(length) => self.text_body(length),
            _ => Err(CborError::KeyNotText),
        }
    }

    /// A map's key of one letter; a NUL for any other key.
    #[inline]
    pub(crate) fn letter(&mut self) -> Result<u8, CborError> {
        let key = self.key()?;
        Ok(match key.as_bytes() {
            [letter] => *letter,
            _ => 0,
        })
    }

    #[inline]
    pub(crate) fn value(&mut self) -> Result<Value<'a>, CborError> {
        Ok(match self.head()? {
            Head::Unsigned(number) => i64::try_from(number).map_or(Value::BigInt, Value::Int),
            Head::Negative(number) => {
                i64::try_from(number).map_or(Value::BigInt, |number| Value::Int(-1 - number))
            }
            Head::Bytes(length) => Value::Bytes(self.slice(length)?),
            Head::Text(length) => Value::Text(self.text_body(length)?),
            Head::List(declared) => self.nested(|decoder| decoder.list(declared))?,
            Head::Map(declared) => self.nested(|decoder| decoder.map(declared))?,
            Head::Tag => Value::Link(self.link_body()?),
            Head::False => Value::Bool(false),
            Head::True => Value::Bool(true),
            Head::Null => Value::Null,
            Head::Undefined => Value::Undefined,
            Head::Float(number) => Value::Float(number),
        })
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Value<'a>, CborError>,
    ) -> Result<Value<'a>, CborError> {
        self.enter()?;
        let value = read(self);
        self.end();
        value
    }

    fn list(&mut self, declared: u64) -> Result<Value<'a>, CborError> {
        let count = self.count(declared, 1)?;
        let mut items = Vec::with_capacity(count.min(MAX_RESERVED_ITEMS));
        for _ in 0..count {
            items.push(self.value()?);
        }
        Ok(Value::List(items))
    }

    fn map(&mut self, declared: u64) -> Result<Value<'a>, CborError> {
        let count = self.count(declared, 2)?;
        let mut entries: Vec<(Cow<'a, str>, Value<'a>)> =
            Vec::with_capacity(count.min(MAX_RESERVED_ITEMS));
        let mut ascending = true;
        for _ in 0..count {
            let key = self.key()?;
            let value = self.value()?;
            if key == PROTO {
                if self.depth == 1 {
                    return Err(CborError::Proto);
                }
                continue;
            }
            ascending = ascending
                && entries
                    .last()
                    .is_none_or(|(last, _)| (last.len(), last.as_ref()) < (key.len(), &key));
            entries.push((key, value));
        }
        // Ascending keys are distinct; only unusual maps pay for the look.
        if !ascending && has_duplicate(entries.iter().map(|(key, _)| key.as_ref()).collect()) {
            return Err(CborError::DuplicateKey);
        }
        Ok(Value::Map(entries))
    }
}

/// Whether a key occurs twice.
pub(crate) fn has_duplicate(mut keys: Vec<&str>) -> bool {
    keys.sort_unstable();
    keys.windows(2).any(|pair| pair.first() == pair.last())
}

/// Text as a browser's `TextDecoder` reads it; borrowed unless the input is not UTF-8.
#[inline]
pub fn read_text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes))
}

fn half(bits: u16) -> f64 {
    let exponent = i32::from(bits >> 10 & 0x1f);
    let mantissa = f64::from(bits & 0x3ff);
    let magnitude = match exponent {
        0 => mantissa * 2_f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2_f64.powi(exponent - 25),
    };
    if bits & 0x8000 == 0 {
        magnitude
    } else {
        -magnitude
    }
}
