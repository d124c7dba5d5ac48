//! Any text is an identifier of some kinds or of none; what is one holds nothing that could
//! not stand in a row (but for URIs), and is no longer than its kind may be; what has a value (datetimes,
//! CIDs, keys, at-uris) prints to one form, which reads as the same value.

use _native::cid::{self, Cid};
use _native::crypto::PublicKey;
use _native::datetime;
use _native::syntax::{self, Format};

use crate::Verdict;

/// Format of the lexicon language, and the longest text of it.
const FORMATS: [(&str, usize); 11] = [
    ("at-identifier", 2048),
    ("at-uri", 8192),
    ("cid", 256),
    ("datetime", 64),
    ("did", 2048),
    ("handle", 253),
    ("language", usize::MAX),
    ("nsid", 317),
    ("record-key", 512),
    ("tid", 13),
    ("uri", usize::MAX),
];

pub fn check(data: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(data) else {
        return Verdict::Rejected;
    };
    let mut kinds = 0;
    for (name, longest) in FORMATS {
        let format = Format::named(name).expect("a format");
        if format.matches(text) {
            kinds += 1;
            assert!((1..=longest).contains(&text.len()), "{name}");
            // The reference's rule of URIs keeps out white space only, as JavaScript knows it.
            let is_plain = |letter: char| match name {
                "uri" => !letter.is_whitespace() || letter == '\u{85}',
                _ => letter.is_ascii_graphic(),
            };
            assert!(text.chars().all(is_plain), "{name} {text:?}");
        }
    }
    let either = syntax::is_did(text) || syntax::is_handle(text);
    assert_eq!(syntax::is_at_identifier(text), either);
    if syntax::is_tid(text) {
        assert!(syntax::is_record_key(text));
    }
    let uri = format!("at://{text}/a.b.c/d");
    if syntax::is_did(text) && uri.len() < 2048 {
        assert!(syntax::is_at_uri(&uri));
        assert_eq!(syntax::authority_of(&uri), text);
    }
    datetimes(text);
    cids(text);
    kinds += usize::from(keys(text));
    Verdict::of(kinds > 0)
}

fn datetimes(text: &str) {
    let printed = datetime::normalize(text);
    assert_eq!(printed.is_some(), datetime::is_datetime(text));
    let (Some(printed), Some((seconds, nanos))) = (printed, datetime::instant(text)) else {
        return;
    };
    assert_eq!(printed.len(), 24, "{text} is {printed}");
    assert_eq!(datetime::normalize(&printed).as_ref(), Some(&printed));
    let millis = nanos / 1_000_000;
    let cut = Some((seconds, millis * 1_000_000));
    assert_eq!(datetime::instant(&printed), cut);
}

fn cids(text: &str) {
    let bytes = cid::parse_str(text);
    assert_eq!(bytes.is_some(), cid::is_text(text));
    if let Some(bytes) = bytes {
        assert_eq!(Cid::exact(&bytes).expect("a CID").to_string(), text);
    }
    // And the other way round, whatever the bytes.
    if let Ok(cid) = Cid::exact(text.as_bytes()) {
        assert_eq!(
            cid::parse_str(&cid.to_string()).as_deref(),
            Some(text.as_bytes())
        );
    }
}

fn keys(text: &str) -> bool {
    for kind in [
        "Multikey",
        "EcdsaSecp256k1VerificationKey2019",
        "EcdsaSecp256r1VerificationKey2019",
    ] {
        if let Ok(key) = PublicKey::from_method(kind, text) {
            assert_eq!(PublicKey::from_multikey(&key.multikey()), Ok(key));
        }
    }
    let Ok(key) = PublicKey::from_did_key(text) else {
        return false;
    };
    assert_eq!(key.did_key(), text);
    assert!(!key.verify(b"message", &[1; 64]));
    true
}
