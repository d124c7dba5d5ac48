//! Postgres' binary COPY format and array literals: rows and keys as bytes.
//!
//! A `Tuple` is one row, encoded where its values are at hand; a `Copy` is tuples
//! between header and trailer. Array literals carry keys and small values of
//! statements: one text, whatever the number of elements.

/// Eleven signature bytes, no flags, no header extension.
const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
const NULL: [u8; 4] = (-1_i32).to_be_bytes();
/// First byte of a `jsonb` value in binary form.
const JSONB_VERSION: u8 = 1;

/// OIDs of array elements: fixed in every Postgres.
pub const OID_TEXT: u32 = 25;
pub const OID_VARCHAR: u32 = 1043;

/// One row: the count of its fields, then each field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuple(Vec<u8>);

/// A value longer than a field of COPY can be (2 GiB).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("value too long for a field")]
pub struct TooLong;

impl Tuple {
    /// A row of `fields` fields, `room` bytes expected.
    pub fn new(fields: u16, room: usize) -> Self {
        let mut bytes = Vec::with_capacity(room + 2 + usize::from(fields) * 4);
        bytes.extend(fields.to_be_bytes());
        Self(bytes)
    }

    pub fn null(&mut self) {
        self.0.extend(NULL);
    }

    /// `text`, `varchar`, `bytea`: the bytes themselves.
    pub fn bytes(&mut self, value: &[u8]) -> Result<(), TooLong> {
        put(&mut self.0, value)
    }

    pub fn text(&mut self, value: Option<&str>) -> Result<(), TooLong> {
        if let Some(value) = value {
            return self.bytes(value.as_bytes());
        }
        self.null();
        Ok(())
    }

    pub fn boolean(&mut self, value: bool) {
        self.0.extend(1_i32.to_be_bytes());
        self.0.push(u8::from(value));
    }

    pub fn int8(&mut self, value: i64) {
        self.0.extend(8_i32.to_be_bytes());
        self.0.extend(value.to_be_bytes());
    }

    /// JSON text as `jsonb`. It must hold no `\u0000`.
    pub fn jsonb(&mut self, json: &[u8]) -> Result<(), TooLong> {
        self.0.extend(length(json.len() + 1)?);
        self.0.push(JSONB_VERSION);
        self.0.extend(json);
        Ok(())
    }

    /// A one-dimensional array without NULLs; `element` is its elements' type.
    pub fn array(&mut self, element: u32, values: &[&str]) -> Result<(), TooLong> {
        let mut body = Vec::new();
        let dimensions = i32::from(!values.is_empty());
        body.extend(dimensions.to_be_bytes());
        body.extend(0_i32.to_be_bytes()); // no NULL inside
        body.extend(element.to_be_bytes());
        if dimensions == 1 {
            body.extend(length(values.len())?);
            body.extend(1_i32.to_be_bytes()); // first index
        }
        for value in values {
            put(&mut body, value.as_bytes())?;
        }
        put(&mut self.0, &body)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn length(length: usize) -> Result<[u8; 4], TooLong> {
    Ok(i32::try_from(length).map_err(|_| TooLong)?.to_be_bytes())
}

fn put(out: &mut Vec<u8>, value: &[u8]) -> Result<(), TooLong> {
    out.extend(length(value.len())?);
    out.extend(value);
    Ok(())
}

/// A complete COPY of these tuples.
pub fn copy<'t>(tuples: impl Iterator<Item = &'t Tuple> + Clone) -> Vec<u8> {
    let size: usize = tuples.clone().map(|tuple| tuple.0.len()).sum();
    let mut out = Vec::with_capacity(size + HEADER.len() + TRAILER.len());
    out.extend(HEADER);
    for tuple in tuples {
        out.extend(&tuple.0);
    }
    out.extend(TRAILER);
    out
}

/// A complete COPY of the tuples between two offsets of `copy`'s result, which are ends of
/// tuples counted from the first one's start.
pub fn part(copy: &[u8], start: usize, end: usize) -> Vec<u8> {
    let tuples = copy
        .get(HEADER.len()..)
        .and_then(|tuples| tuples.get(start..end));
    [HEADER, tuples.unwrap_or_default(), &TRAILER].concat()
}

/// An array literal: `{"a","b",NULL}`.
///
/// Text that Postgres cannot hold (NUL) becomes U+FFFD: what must be exact was
/// looked through before it came here, the rest is for people to read.
#[derive(Clone, Debug)]
pub struct ArrayText(String);

impl Default for ArrayText {
    fn default() -> Self {
        Self(String::from("{"))
    }
}

impl ArrayText {
    pub fn push(&mut self, value: Option<&str>) {
        self.separate();
        let Some(value) = value else {
            self.0.push_str("NULL");
            return;
        };
        self.0.push('"');
        for letter in value.chars() {
            match letter {
                '"' | '\\' => self.0.extend(['\\', letter]),
                '\0' => self.0.push(char::REPLACEMENT_CHARACTER),
                _ => self.0.push(letter),
            }
        }
        self.0.push('"');
    }

    /// Bytes in the form that casts to `bytea`.
    pub fn push_bytes(&mut self, value: Option<&[u8]>) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let Some(value) = value else {
            self.push(None);
            return;
        };
        self.separate();
        self.0.push_str("\"\\\\x");
        for byte in value {
            self.0.push(char::from(HEX[usize::from(byte >> 4)]));
            self.0.push(char::from(HEX[usize::from(byte & 15)]));
        }
        self.0.push('"');
    }

    pub fn is_empty(&self) -> bool {
        self.0.len() <= 1
    }

    fn separate(&mut self) {
        if !self.is_empty() {
            self.0.push(',');
        }
    }

    pub fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// Array literals for the columns of several rows, pushed row by row.
pub fn array_texts<const N: usize>() -> [ArrayText; N] {
    std::array::from_fn(|_| ArrayText::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_header_tuples_trailer() {
        let mut tuple = Tuple::new(4, 0);
        tuple.text(Some("ab")).unwrap();
        tuple.null();
        tuple.boolean(true);
        tuple.int8(-2);
        let bytes = copy([tuple].iter());
        let mut expected = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        expected.extend(b"\0\x04\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\x01\x01\0\0\0\x08");
        expected.extend((-2_i64).to_be_bytes());
        expected.extend(b"\xff\xff");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn arrays_and_jsonb_have_their_binary_forms() {
        let mut tuple = Tuple::new(3, 0);
        tuple.array(OID_VARCHAR, &["a", ""]).unwrap();
        tuple.array(OID_TEXT, &[]).unwrap();
        tuple.jsonb(b"[1]").unwrap();
        let expected: &[u8] = b"\0\x03\
            \0\0\0\x1d\0\0\0\x01\0\0\0\0\0\0\x04\x13\0\0\0\x02\0\0\0\x01\0\0\0\x01a\0\0\0\0\
            \0\0\0\x0c\0\0\0\0\0\0\0\0\0\0\0\x19\
            \0\0\0\x04\x01[1]";
        assert_eq!(tuple.as_bytes(), expected);
    }

    #[test]
    fn array_literals_escape_what_the_syntax_uses() {
        let mut array = ArrayText::default();
        for value in [Some("a"), None, Some("NULL"), Some("\"\\,{}"), Some("\0")] {
            array.push(value);
        }
        array.push_bytes(Some(&[0, 255]));
        assert_eq!(
            array.finish(),
            "{\"a\",NULL,\"NULL\",\"\\\"\\\\,{}\",\"\u{fffd}\",\"\\\\x00ff\"}"
        );
        assert_eq!(ArrayText::default().finish(), "{}");
    }
}
