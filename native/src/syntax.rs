//! Syntax of the protocol's identifiers, as the reference `AppView` checks it in strict
//! mode. Read by hand, byte by byte: no regular expressions, no allocation on the paths
//! that records take, every input ends in true or false.
//!
//! Where the reference differs from the protocol's interoperability vectors, the
//! reference wins: these functions decide which records the data plane holds.

mod language;
mod uri;

use crate::cid;

pub use crate::datetime::is_datetime;
pub use language::is_language;
pub use uri::{authority_of, collection_of, has_plain_authority, is_at_uri, is_uri};

const MAX_CID: usize = 128;
const MAX_DID: usize = 2_048;
const MAX_HANDLE: usize = 253;
/// An NSID is a domain name, a dot and a name.
const MAX_NSID: usize = MAX_HANDLE + 1 + MAX_LABEL;
/// A DNS label.
const MAX_LABEL: usize = 63;
const MAX_RECORD_KEY: usize = 512;

/// A string format of the lexicon language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    AtIdentifier,
    AtUri,
    Cid,
    Datetime,
    Did,
    Handle,
    Language,
    Nsid,
    RecordKey,
    Tid,
    Uri,
}

impl Format {
    /// The format with the given name in lexicon documents.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "at-identifier" => Self::AtIdentifier,
            "at-uri" => Self::AtUri,
            "cid" => Self::Cid,
            "datetime" => Self::Datetime,
            "did" => Self::Did,
            "handle" => Self::Handle,
            "language" => Self::Language,
            "nsid" => Self::Nsid,
            "record-key" => Self::RecordKey,
            "tid" => Self::Tid,
            "uri" => Self::Uri,
            _ => return None,
        })
    }

    /// The name in lexicon documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::AtIdentifier => "at-identifier",
            Self::AtUri => "at-uri",
            Self::Cid => "cid",
            Self::Datetime => "datetime",
            Self::Did => "did",
            Self::Handle => "handle",
            Self::Language => "language",
            Self::Nsid => "nsid",
            Self::RecordKey => "record-key",
            Self::Tid => "tid",
            Self::Uri => "uri",
        }
    }

    pub fn matches(self, text: &str) -> bool {
        match self {
            Self::AtIdentifier => is_at_identifier(text),
            Self::AtUri => is_at_uri(text),
            Self::Cid => is_cid(text),
            Self::Datetime => is_datetime(text),
            Self::Did => is_did(text),
            Self::Handle => is_handle(text),
            Self::Language => is_language(text),
            Self::Nsid => is_nsid(text),
            Self::RecordKey => is_record_key(text),
            Self::Tid => is_tid(text),
            Self::Uri => is_uri(text),
        }
    }
}

/// A CID that prints back identically: version 1 in lower-case base 32, version 0 in
/// base 58. Other bases, which the vectors accept, are refused.
pub fn is_cid(text: &str) -> bool {
    text.len() <= MAX_CID && cid::is_text(text)
}

/// `did:method:rest`; the rest neither ends in `:` nor in `%` and is not decoded.
pub fn is_did(text: &str) -> bool {
    let Some((method, rest)) = text
        .strip_prefix("did:")
        .and_then(|tail| tail.split_once(':'))
    else {
        return false;
    };
    text.len() <= MAX_DID
        && !method.is_empty()
        && method.bytes().all(|byte| byte.is_ascii_lowercase())
        && rest
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._:%-".contains(&byte))
        && rest
            .bytes()
            .last()
            .is_some_and(|byte| byte != b':' && byte != b'%')
}

/// A domain name of two labels or more whose last begins with a letter, in any case.
pub fn is_handle(text: &str) -> bool {
    if text.len() > MAX_HANDLE {
        return false;
    }
    let Some((rest, top)) = text.rsplit_once('.') else {
        return false;
    };
    is_label(top) && begins_with_letter(top) && rest.split('.').all(is_label)
}

/// A reversed domain name and a name: `app.bsky.feed.post`.
pub fn is_nsid(text: &str) -> bool {
    if text.len() > MAX_NSID {
        return false;
    }
    let Some((authority, name)) = text.rsplit_once('.') else {
        return false;
    };
    authority.contains('.')
        && begins_with_letter(authority)
        && authority.split('.').all(is_label)
        && is_label(name)
        && begins_with_letter(name)
        && !name.contains('-')
}

/// A DID or a handle.
pub fn is_at_identifier(text: &str) -> bool {
    if text.starts_with("did:") {
        is_did(text)
    } else {
        is_handle(text)
    }
}

/// A timestamp identifier: 13 characters of the sortable base 32, its top bit zero.
pub fn is_tid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 13
        && bytes
            .first()
            .is_some_and(|byte| matches!(byte, b'2'..=b'7' | b'a'..=b'j'))
        && bytes
            .iter()
            .all(|byte| matches!(byte, b'2'..=b'7' | b'a'..=b'z'))
}

pub fn is_record_key(text: &str) -> bool {
    (1..=MAX_RECORD_KEY).contains(&text.len())
        && text != "."
        && text != ".."
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_~.:-".contains(&byte))
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= MAX_LABEL
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

fn begins_with_letter(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_found_by_its_name() {
        let names = "at-identifier at-uri cid datetime did handle language nsid record-key tid uri";
        assert_eq!(names.split(' ').count(), 11);
        for name in names.split(' ') {
            assert_eq!(Format::named(name).map(Format::name), Some(name));
        }
        assert_eq!(Format::named("colour"), None);
    }

    #[test]
    fn cids_of_both_versions_pass_as_they_are_printed() {
        let version_1 = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq";
        let version_0 = "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR";
        assert!(is_cid(version_1));
        assert!(is_cid(version_0));
        assert!(is_cid("bafkqaaa"), "an identity hash of nothing");
        assert!(!is_cid("bafyreib"));
        assert!(!is_cid(&version_1.to_ascii_uppercase()));
        assert!(!is_cid(&version_1.replace("wq", "wr")), "left-over bits");
        assert!(!is_cid("zdj7WWeQ43G6JJvLWQWZpyHuAMq6uYWRjkBXFad11vE2LHhQ7"));
        assert!(!is_cid("b".repeat(MAX_CID + 1).as_str()));
    }

    #[test]
    fn dids_end_in_a_plain_character() {
        assert!(is_did("did:plc:7iza6de2dwap2sbkpav7c6c6"));
        assert!(is_did("did:web:localhost%3A1234"));
        assert!(is_did("did:m::."));
        for text in [
            "did:plc:",
            "did:plc:a:",
            "did:plc:a%",
            "did::a",
            "did:Plc:a",
            "did:plc",
        ] {
            assert!(!is_did(text), "{text}");
        }
    }

    #[test]
    fn nsids_have_three_parts_and_a_plain_name() {
        assert!(is_nsid("a.b.c"));
        assert!(is_nsid("one.2.three"));
        for text in [
            "a.b", "0.b.c", "a.b.0c", "a.b.c-d", "a..c", "a.b.c.", "a.b-.c",
        ] {
            assert!(!is_nsid(text), "{text}");
        }
    }

    #[test]
    fn tids_have_a_zero_top_bit() {
        assert!(is_tid("3jzfcijpj2z2a"));
        assert!(!is_tid("kjzfcijpj2z2a"));
        assert!(!is_tid("3jzfcijpj2z21"));
    }
}
