//! At-uris and general URIs.

use super::{is_at_identifier, is_nsid, is_record_key};

const MAX_AT_URI: usize = 8_192;

/// The strict at-uri: `at://authority[/collection[/rkey]][#/pointer]` with a DID or a
/// handle as authority; no query, no trailing slash, at most 8,192 bytes.
pub fn is_at_uri(text: &str) -> bool {
    if text.len() > MAX_AT_URI {
        return false;
    }
    let Some(rest) = text.strip_prefix("at://") else {
        return false;
    };
    let path = match rest.split_once('#') {
        Some((path, fragment)) if is_pointer(fragment) => path,
        Some(_) => return false,
        None => rest,
    };
    let Some((authority, path)) = path.split_once('/') else {
        return is_at_identifier(path);
    };
    is_at_identifier(authority)
        && match path.split_once('/') {
            Some((collection, rkey)) => is_nsid(collection) && is_record_key(rkey),
            None => is_nsid(path),
        }
}

/// The DID or handle of a valid at-uri; empty if `uri` is none.
pub fn authority_of(uri: &str) -> &str {
    uri.strip_prefix("at://")
        .and_then(|rest| rest.split(['/', '#']).next())
        .unwrap_or("")
}

/// The first segment of an at-uri's path.
pub fn collection_of(uri: &str) -> Option<&str> {
    let rest = uri.strip_prefix("at://")?;
    let path = rest.split('#').next()?.split_once('/')?.1;
    path.split('/').find(|part| !part.is_empty())
}

/// Whether a valid at-uri can be taken apart by the reference's indexers. Their reader
/// knows DIDs of `[A-Za-z0-9:%-]` and hosts of `[A-Za-z0-9.:-]` only, so a DID with `_`,
/// or with both `.` and `%`, passes validation and then fails the operation.
pub fn has_plain_authority(uri: &str) -> bool {
    let authority = authority_of(uri).as_bytes();
    let all_of = |marks: &[u8]| {
        authority
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || marks.contains(byte))
    };
    authority.first().is_some_and(u8::is_ascii_alphanumeric)
        && (all_of(b".:-") || (authority.starts_with(b"did:") && all_of(b":%-")))
}

/// `^\w+:(//)?[^\s/]\S*$` as JavaScript reads it; there is no limit of length.
pub fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !rest.is_empty()
        && !rest.starts_with('/')
        && !rest.contains(is_javascript_space)
}

/// JavaScript's `\s`: Unicode white space without NEL and with the byte order mark.
fn is_javascript_space(character: char) -> bool {
    (character.is_whitespace() && character != '\u{85}') || character == '\u{feff}'
}

/// A JSON pointer of URI characters whose percent escapes decode to UTF-8.
fn is_pointer(text: &str) -> bool {
    text.starts_with('/')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._~:@!$&')(*+,;=%[]/-".contains(&byte))
        && decodes_to_utf8(text.as_bytes())
}

fn decodes_to_utf8(mut bytes: &[u8]) -> bool {
    while let Some(start) = bytes.iter().position(|byte| *byte == b'%') {
        let mut sequence = [0_u8; 4];
        let mut rest = bytes.get(start..).unwrap_or_default();
        let mut wanted = 1;
        let mut read = 0;
        while read < wanted {
            let Some((byte, after)) = escaped_byte(rest) else {
                return false;
            };
            if read == 0 {
                wanted = match byte {
                    0x00..=0x7f => 1,
                    0xc2..=0xdf => 2,
                    0xe0..=0xef => 3,
                    0xf0..=0xf4 => 4,
                    _ => return false,
                };
            }
            sequence[read] = byte;
            read += 1;
            rest = after;
        }
        if std::str::from_utf8(&sequence[..read]).is_err() {
            return false;
        }
        bytes = rest;
    }
    true
}

/// Reads `%XX`: the byte and what follows.
fn escaped_byte(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let [b'%', high, low, rest @ ..] = bytes else {
        return None;
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let value = digit(high)? * 16 + digit(low)?;
    Some((u8::try_from(value).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_uris_are_strict() {
        for text in [
            "at://did:plc:abc",
            "at://user.bsky.social",
            "at://did:plc:abc/com.example.thing",
            "at://did:plc:abc/com.example.thing/self.",
            "at://did:plc:abc/com.example.thing/key#/a/0",
            "at://did:plc:abc#/%E2%82%AC",
            "at://did:plc:abc#/",
        ] {
            assert!(is_at_uri(text), "{text}");
        }
        for text in [
            "at://did:plc:abc/",
            "at://did:plc:abc/com.example.thing/",
            "at://did:plc:abc/com.example.thing/key/",
            "at://did:plc:abc/com.example.thing/key/more",
            "at://did:plc:abc/com.example.thing/..",
            "at://did:plc:abc?a=b",
            "at://did:plc:abc/com.example.thing/key?a=b",
            "at://did:plc:abc#",
            "at://did:plc:abc#a",
            "at://did:plc:abc#/%",
            "at://did:plc:abc#/%E2%82",
            "at://did:plc:abc#/%E2%82AC",
            "at://did:plc:abc#/%ED%A0%80",
            "at://did:plc:abc#/%C0%80",
            "at://did:plc:abc#/a#/b",
            "at://did:plc:abc#/a\\b",
            "at://",
            "did:plc:abc",
        ] {
            assert!(!is_at_uri(text), "{text}");
        }
    }

    #[test]
    fn plain_authorities_are_those_that_the_reference_takes_apart() {
        for text in [
            "at://did:plc:abc/com.example.thing/key",
            "at://did:web:example.com",
            "at://did:web:localhost%3A1234#/a",
            "at://User.Example.com/com.example.thing",
        ] {
            assert!(is_at_uri(text) && has_plain_authority(text), "{text}");
        }
        for text in [
            "at://did:plc:a_c",
            "at://did:web:example.com%3A1234/com.example.thing/key",
        ] {
            assert!(is_at_uri(text) && !has_plain_authority(text), "{text}");
        }
    }

    #[test]
    fn authorities_end_at_the_path_or_the_fragment() {
        assert_eq!(
            authority_of("at://did:plc:abc/com.example.thing"),
            "did:plc:abc"
        );
        assert_eq!(authority_of("at://did:plc:abc#/a"), "did:plc:abc");
        assert_eq!(authority_of("https://example.com"), "");
    }

    #[test]
    fn uris_have_a_word_as_scheme_and_no_space() {
        for text in [
            "https://a",
            "dns:a",
            "a:b:c",
            "go://?x",
            "é:x".trim_start_matches('é'),
        ] {
            assert_eq!(is_uri(text), !text.starts_with(':'), "{text}");
        }
        for text in [
            "https:",
            "https://",
            "https:///a",
            "a-b:c",
            "é:x",
            "a:b c",
            "a:b\u{feff}",
            "a",
        ] {
            assert!(!is_uri(text), "{text}");
        }
        assert!(is_uri("a:b\u{85}c"), "NEL is no space to JavaScript");
        assert!(is_uri("a:é"));
    }
}
