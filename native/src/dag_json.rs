//! The JSON text of a record back to DAG-CBOR: for a record that is read from its row again.

use serde_json::Value as Json;

use crate::cid;

/// DAG-CBOR of a record's JSON text, keys as they stand; `None` if it is no such text.
pub fn to_cbor(text: &str) -> Option<Vec<u8>> {
    let json: Json = serde_json::from_str(text).ok()?;
    let mut out = Vec::with_capacity(text.len());
    write(&json, &mut out)?;
    Some(out)
}

fn write(json: &Json, out: &mut Vec<u8>) -> Option<()> {
    match json {
        Json::Null => out.push(0xf6),
        Json::Bool(value) => out.push(if *value { 0xf5 } else { 0xf4 }),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => head(0, value, out),
            (None, Some(value)) => head(1, u64::try_from(-1 - value).ok()?, out),
            (None, None) => {
                out.push(0xfb);
                out.extend(number.as_f64()?.to_be_bytes());
            }
        },
        Json::String(value) => text(value, out),
        Json::Array(items) => {
            head(4, items.len() as u64, out);
            for item in items {
                write(item, out)?;
            }
        }
        Json::Object(entries) => {
            let mut sole = entries.iter();
            if let (Some((key, Json::String(value))), None) = (sole.next(), sole.next()) {
                match key.as_str() {
                    "$link" => return link(value, out),
                    "$bytes" => return bytes(&base64(value)?, out),
                    _ => {}
                }
            }
            head(5, entries.len() as u64, out);
            for (key, value) in entries {
                text(key, out);
                write(value, out)?;
            }
        }
    }
    Some(())
}

fn link(value: &str, out: &mut Vec<u8>) -> Option<()> {
    let parsed = cid::parse_str(value)?;
    out.extend([0xd8, 42]);
    head(2, parsed.len() as u64 + 1, out);
    out.push(0);
    out.extend(parsed);
    Some(())
}

#[allow(clippy::unnecessary_wraps)] // one shape for the arms of a match
fn bytes(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    head(2, value.len() as u64, out);
    out.extend(value);
    Some(())
}

fn text(value: &str, out: &mut Vec<u8>) {
    head(3, value.len() as u64, out);
    out.extend(value.as_bytes());
}

/// The shortest head of a major type with this argument.
#[allow(clippy::cast_possible_truncation)] // each arm is bounded by its pattern
fn head(major: u8, value: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    match value {
        0..=23 => out.push(major + value as u8),
        24..=0xff => out.extend([major + 24, value as u8]),
        0x100..=0xffff => {
            out.push(major + 25);
            out.extend((value as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major + 26);
            out.extend((value as u32).to_be_bytes());
        }
        _ => {
            out.push(major + 27);
            out.extend(value.to_be_bytes());
        }
    }
}

/// Standard base64 with or without padding.
fn base64(value: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for letter in value.trim_end_matches('=').bytes() {
        let digit = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cbor, json};

    #[test]
    fn a_text_comes_back_as_the_record_it_was() {
        let cid = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a";
        let text = format!(
            r#"{{"a":[1,-1,23,24,-25,256,65536,4294967296,-9007199254740991,1.5,true,false,null],"b":{{"$link":"{cid}"}},"c":{{"$bytes":"AAEC/w"}},"d":"x"}}"#
        );
        let bytes = to_cbor(&text).unwrap();
        let mut printed = Vec::new();
        json::write_record(&cbor::decode_record(&bytes).unwrap(), &mut printed).unwrap();
        assert_eq!(String::from_utf8(printed).unwrap(), text);
    }

    #[test]
    fn what_is_no_record_is_none() {
        for text in ["", "{", r#"{"a":{"$link":"b"}}"#, r#"{"a":{"$bytes":"!"}}"#] {
            assert_eq!(to_cbor(text), None, "{text}");
        }
    }
}
