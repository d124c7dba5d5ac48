//! Record JSON, byte for byte as the reference's `JSON.stringify` prints it.
//!
//! No whitespace; keys in the order of the block, except that keys which are array
//! indexes in JavaScript come first, ascending; links and bytes as `$link` and
//! `$bytes` (base64 without padding); floats in JavaScript's form.

use crate::cbor::Value;
use crate::cid::Cid;

/// Largest integer that JavaScript prints as a number.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Largest canonical array index of JavaScript.
const MAX_ARRAY_INDEX: u32 = u32::MAX - 1;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Why a value has no JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The reference decodes it to a `BigInt`, which does not serialise.
    #[error("integer beyond 2^53-1")]
    UnsafeInteger,
}

/// Append the text of `record.json`. On error `out` holds a partial text.
pub fn write_record(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), JsonError> {
    write(value, Form::Record, out)
}

/// Append what `JSON.stringify` makes of the decoded value itself: links are
/// `{"/":"..."}` and byte strings objects of numbers. On error `out` holds a partial text.
pub fn write_plain(value: &Value<'_>, out: &mut Vec<u8>) -> Result<(), JsonError> {
    write(value, Form::Plain, out)
}

/// Append one JSON string with the escapes of `JSON.stringify`.
pub fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(position) = rest.iter().position(|byte| is_escaped(*byte)) {
        let (clean, tail) = rest.split_at(position);
        out.extend_from_slice(clean);
        let Some((&byte, tail)) = tail.split_first() else {
            break;
        };
        write_escape(byte, out);
        rest = tail;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Record,
    Plain,
}

fn write(value: &Value<'_>, form: Form, out: &mut Vec<u8>) -> Result<(), JsonError> {
    match value {
        Value::Null | Value::Undefined => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(number) if number.unsigned_abs() <= MAX_SAFE_INTEGER => {
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::Int(_) | Value::BigInt => return Err(JsonError::UnsafeInteger),
        Value::Float(number) => {
            out.extend_from_slice(ryu_js::Buffer::new().format(*number).as_bytes());
        }
        Value::Text(text) => write_text(text, out),
        Value::Bytes(bytes) => match form {
            Form::Record => write_base64(bytes, out),
            Form::Plain => write_numbers(bytes, out),
        },
        Value::Link(cid) => write_link(*cid, form, out),
        Value::List(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, form, out)?;
            }
            out.push(b']');
        }
        Value::Map(entries) => {
            out.push(b'{');
            if entries.iter().any(|(key, _)| array_index(key).is_some()) {
                write_entries(javascript_order(entries), form, out)?;
            } else {
                write_entries(entries.iter(), form, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

type Entry<'a> = (std::borrow::Cow<'a, str>, Value<'a>);

fn write_entries<'e, 'a: 'e>(
    entries: impl Iterator<Item = &'e Entry<'a>>,
    form: Form,
    out: &mut Vec<u8>,
) -> Result<(), JsonError> {
    for (index, (key, value)) in entries.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_text(key, out);
        out.push(b':');
        write(value, form, out)?;
    }
    Ok(())
}

/// A JavaScript object lists its array indexes first, ascending.
fn javascript_order<'e, 'a>(entries: &'e [Entry<'a>]) -> impl Iterator<Item = &'e Entry<'a>> {
    let (mut indexes, others): (Vec<_>, Vec<_>) = entries
        .iter()
        .map(|entry| (array_index(&entry.0), entry))
        .partition(|(index, _)| index.is_some());
    indexes.sort_by_key(|(index, _)| *index);
    indexes.into_iter().chain(others).map(|(_, entry)| entry)
}

fn array_index(key: &str) -> Option<u32> {
    let digits = key.as_bytes();
    // Most keys end here: they start with a letter or `$`.
    if !digits.first()?.is_ascii_digit() || digits.len() > 10 {
        return None;
    }
    if !digits.iter().all(u8::is_ascii_digit) || (digits.len() > 1 && key.starts_with('0')) {
        return None;
    }
    key.parse().ok().filter(|index| *index <= MAX_ARRAY_INDEX)
}

const fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(b'0' + (byte >> 4));
            out.push(b"0123456789abcdef"[usize::from(byte & 0xf)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

fn write_link(cid: Cid<'_>, form: Form, out: &mut Vec<u8>) {
    out.extend_from_slice(match form {
        Form::Record => b"{\"$link\":\"",
        Form::Plain => b"{\"/\":\"",
    });
    cid.write_text(out);
    out.extend_from_slice(b"\"}");
}

fn write_numbers(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, byte) in bytes.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        out.extend_from_slice(format!("{comma}\"{index}\":{byte}").as_bytes());
    }
    out.push(b'}');
}

fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"$bytes\":\"");
    for chunk in bytes.chunks(3) {
        let mut word = [0_u8; 4];
        for (slot, byte) in word.iter_mut().skip(1).zip(chunk) {
            *slot = *byte;
        }
        let word = u32::from_be_bytes(word);
        for index in 0..=chunk.len() {
            out.push(BASE64[(word >> (18 - 6 * index)) as usize & 63]);
        }
    }
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor::decode;
    use crate::cid::parse_str;
    use std::borrow::Cow;

    const LINK: &str = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a";

    fn record(value: &Value<'_>) -> String {
        let mut out = Vec::new();
        write_record(value, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn map<'a>(entries: &[(&'a str, i64)]) -> Value<'a> {
        let entry = |(key, value): &(&'a str, i64)| (Cow::Borrowed(*key), Value::Int(*value));
        Value::Map(entries.iter().map(entry).collect())
    }

    #[test]
    fn keys_keep_their_order_after_the_array_indexes() {
        let value = map(&[
            ("text", 1),
            ("10", 2),
            ("$type", 3),
            ("2", 4),
            ("01", 5),
            ("0", 6),
            ("4294967295", 7),
            ("4294967294", 8),
            ("1a", 9),
            ("", 10),
        ]);
        assert_eq!(
            record(&value),
            r#"{"0":6,"2":4,"10":2,"4294967294":8,"text":1,"$type":3,"01":5,"4294967295":7,"1a":9,"":10}"#
        );
    }

    #[test]
    fn escapes_are_those_of_javascript() {
        let text = "\"\\/\u{8}\t\n\u{c}\r\0\u{1f}\u{7f}\u{2028}é😀";
        assert_eq!(
            record(&Value::Text(Cow::Borrowed(text))),
            "\"\\\"\\\\/\\b\\t\\n\\f\\r\\u0000\\u001f\u{7f}\u{2028}é😀\""
        );
    }

    #[test]
    fn numbers_print_as_in_javascript() {
        for (number, text) in [
            (1.5, "1.5"),
            (1.0, "1"),
            (-0.0, "0"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (1e-7, "1e-7"),
            (0.1, "0.1"),
            (-123.25, "-123.25"),
            (9_007_199_254_740_993.0, "9007199254740992"),
        ] {
            assert_eq!(record(&Value::Float(number)), text);
        }
    }

    #[test]
    fn integers_beyond_the_safe_range_are_an_error() {
        let limit = (1_i64 << 53) - 1;
        assert_eq!(record(&Value::Int(-limit)), "-9007199254740991");
        for value in [
            Value::Int(limit + 1),
            Value::Int(-limit - 1),
            Value::Int(i64::MIN),
            Value::BigInt,
        ] {
            let nested = Value::List(vec![value]);
            assert_eq!(
                write_record(&nested, &mut Vec::new()),
                Err(JsonError::UnsafeInteger)
            );
        }
    }

    #[test]
    fn links_and_bytes_have_two_forms() {
        let cid = parse_str(LINK).unwrap();
        let link = Value::Link(Cid::exact(&cid).unwrap());
        let value = Value::List(vec![link, Value::Bytes(&[1, 255])]);
        assert_eq!(
            record(&value),
            format!(r#"[{{"$link":"{LINK}"}},{{"$bytes":"Af8"}}]"#)
        );
        let mut out = Vec::new();
        write_plain(&value, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(r#"[{{"/":"{LINK}"}},{{"0":1,"1":255}}]"#)
        );
    }

    #[test]
    fn base64_of_every_tail_length_is_unpadded() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg"),
        ] {
            assert_eq!(
                record(&Value::Bytes(bytes)),
                format!(r#"{{"$bytes":"{text}"}}"#)
            );
        }
    }

    #[test]
    fn literals_and_nesting() {
        let value = decode(b"\xa2\x61a\x84\xf4\xf5\xf6\xf7\x61b\xa0").unwrap();
        assert_eq!(record(&value), r#"{"a":[false,true,null,null],"b":{}}"#);
    }
}
