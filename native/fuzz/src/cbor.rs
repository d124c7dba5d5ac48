//! Any bytes give a value or the one declared error; what decodes encodes to the same value,
//! and to the same bytes where the bytes have one form only; its JSON is JSON and says the
//! same; memory stays below a constant for the nesting and a constant times the input.

use std::borrow::Cow;

use _native::cbor::{self, Value};
use _native::cid::Cid;
use _native::json;

use crate::heap;
use crate::Verdict;

/// Claims of nested lists and maps: 256 levels that each reserve 256 items.
pub const NESTING_BYTES: usize = 5 << 20;
/// A map's entry of three bytes takes 60, twice that while its vector grows.
const EACH: usize = 80;

pub fn check(data: &[u8]) -> Verdict {
    let decoded = heap::bounded(NESTING_BYTES, EACH, data.len(), || cbor::decode(data));
    let prefix = cbor::decode_prefix(data);
    let Ok(value) = decoded else {
        if let Ok((value, length)) = prefix {
            assert!(length < data.len(), "a whole item, and yet an error");
            assert_eq!(cbor::decode(&data[..length]).as_ref(), Ok(&value));
            json_is_sound(&value);
        }
        return Verdict::Rejected;
    };
    assert_eq!(prefix.as_ref(), Ok(&(value.clone(), data.len())));
    let is_map = matches!(value, Value::Map(_));
    assert_eq!(cbor::decode_record(data).is_ok(), is_map);
    let again = encode(&value);
    assert_eq!(cbor::decode(&again).as_ref(), Ok(&value));
    if has_one_form(&value) && !holds(data, b"__proto__") && !holds(data, b"\xef\xbb\xbf") {
        assert_eq!(again, data);
    }
    assert!(cbor::decode(&data[..data.len() - 1]).is_err());
    json_is_sound(&value);
    Verdict::Accepted
}

/// The text is JSON of the same content, or an integer is in the way.
pub fn json_is_sound(value: &Value<'_>) {
    let mut text = Vec::new();
    let written = json::write_record(value, &mut text);
    assert_eq!(written.is_ok(), !holds_unsafe_integer(value));
    let mut plain = Vec::new();
    assert_eq!(
        json::write_plain(value, &mut plain).is_ok(),
        written.is_ok()
    );
    // serde_json does not read deeper than 128 levels.
    if written.is_ok() && depth(value) < 100 {
        let read: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert!(says(&read, value), "{read} is not {value:?}");
        let read: serde_json::Value = serde_json::from_slice(&plain).expect("JSON");
        assert!(read.is_object() || !matches!(value, Value::Map(_)));
    }
}

/// DAG-CBOR of a value, in its shortest form, map entries in their order.
pub fn encode(value: &Value<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

fn write(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Undefined => out.push(0xf7),
        Value::Bool(truth) => out.push(0xf4 + u8::from(*truth)),
        Value::Int(number) => match u64::try_from(*number) {
            Ok(number) => head(0, number, out),
            Err(_) => head(1, number.unsigned_abs() - 1, out),
        },
        Value::BigInt => head(0, u64::MAX, out),
        Value::Float(number) => {
            out.push(0xfb);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Text(text) => write_text(text, out),
        Value::Bytes(bytes) => {
            head(2, bytes.len() as u64, out);
            out.extend_from_slice(bytes);
        }
        Value::Link(cid) => write_link(*cid, out),
        Value::List(items) => {
            head(4, items.len() as u64, out);
            for item in items {
                write(item, out);
            }
        }
        Value::Map(entries) => {
            head(5, entries.len() as u64, out);
            for (key, item) in entries {
                write_text(key, out);
                write(item, out);
            }
        }
    }
}

/// A leading byte order mark is dropped in reading, so it is written twice.
fn write_text(text: &str, out: &mut Vec<u8>) {
    let mark = if text.starts_with('\u{feff}') {
        "\u{feff}"
    } else {
        ""
    };
    head(3, (mark.len() + text.len()) as u64, out);
    out.extend_from_slice(mark.as_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub fn write_link(cid: Cid<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xd8, 42]);
    head(2, cid.as_bytes().len() as u64 + 1, out);
    out.push(0);
    out.extend_from_slice(cid.as_bytes());
}

/// A head in its shortest form.
#[allow(clippy::cast_possible_truncation)] // each arm covers its width
pub fn head(major: u8, number: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    match number {
        0..=23 => out.push(major | number as u8),
        24..=0xff => out.extend_from_slice(&[major + 24, number as u8]),
        0x100..=0xffff => {
            out.push(major + 25);
            out.extend_from_slice(&(number as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major + 26);
            out.extend_from_slice(&(number as u32).to_be_bytes());
        }
        _ => {
            out.push(major + 27);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// Whether one sequence of bytes only means this value: floats have three widths, huge
/// integers are not kept, repaired text has lost what it was.
fn has_one_form(value: &Value<'_>) -> bool {
    let borrowed = |text: &Cow<'_, str>| matches!(text, Cow::Borrowed(_));
    match value {
        Value::Float(_) | Value::BigInt => false,
        Value::Text(text) => borrowed(text),
        Value::List(items) => items.iter().all(has_one_form),
        Value::Map(entries) => entries
            .iter()
            .all(|(key, item)| borrowed(key) && has_one_form(item)),
        _ => true,
    }
}

fn holds(data: &[u8], part: &[u8]) -> bool {
    data.windows(part.len()).any(|window| window == part)
}

fn holds_unsafe_integer(value: &Value<'_>) -> bool {
    match value {
        Value::Int(number) => number.unsigned_abs() >= 1 << 53,
        Value::BigInt => true,
        Value::List(items) => items.iter().any(holds_unsafe_integer),
        Value::Map(entries) => entries.iter().any(|(_, item)| holds_unsafe_integer(item)),
        _ => false,
    }
}

pub fn depth(value: &Value<'_>) -> usize {
    match value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Map(entries) => {
            let deepest = entries.iter().map(|(_, item)| depth(item)).max();
            1 + deepest.unwrap_or_default()
        }
        _ => 0,
    }
}

/// Whether JSON read by another reader says what the value says.
fn says(json: &serde_json::Value, value: &Value<'_>) -> bool {
    use serde_json::Value as Json;
    match (json, value) {
        (Json::Null, Value::Null | Value::Undefined) => true,
        (Json::Bool(left), Value::Bool(right)) => left == right,
        (Json::Number(left), Value::Int(right)) => left.as_i64() == Some(*right),
        (Json::Number(left), Value::Float(right)) => {
            // serde_json's own reading may be off by the last bits.
            let slack = right.abs() * 1e-15 + f64::MIN_POSITIVE;
            left.as_f64()
                .is_some_and(|left| (left - right).abs() <= slack)
        }
        (Json::String(left), Value::Text(right)) => left == right,
        (Json::Object(left), Value::Bytes(right)) => {
            let letters = (right.len() * 8).div_ceil(6);
            let text = left.get("$bytes").and_then(Json::as_str);
            left.len() == 1 && text.is_some_and(|text| text.len() == letters)
        }
        (Json::Object(left), Value::Link(right)) => {
            let text = left.get("$link").and_then(Json::as_str);
            left.len() == 1 && text == Some(&right.to_string())
        }
        (Json::Array(left), Value::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| says(l, r))
        }
        (Json::Object(left), Value::Map(right)) => {
            let same = |(key, item): &(Cow<'_, str>, Value<'_>)| {
                left.get(key.as_ref())
                    .is_some_and(|found| says(found, item))
            };
            left.len() == right.len() && right.iter().all(same)
        }
        _ => false,
    }
}
