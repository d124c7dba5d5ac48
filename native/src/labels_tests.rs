use std::collections::HashMap;

use super::*;
use crate::crypto::{Curve, PrivateKey};

const SRC: &str = "did:plc:labeler";

/// A text with its head, below 256 bytes.
fn word(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    let mut out = if length < 24 {
        vec![0x60 | length]
    } else {
        vec![0x78, length]
    };
    out.extend(text.as_bytes());
    out
}

fn map(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0xa0 | u8::try_from(fields.len()).unwrap()];
    for (key, value) in fields {
        out.extend(word(key));
        out.extend(value);
    }
    out
}

fn fields(uri: &str, cts: &str) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("cts", word(cts)),
        ("src", word(SRC)),
        ("uri", word(uri)),
        ("val", word("spam")),
        ("ver", vec![1]),
    ]
}

fn frame(seq: u8, labels: &[Vec<u8>]) -> Vec<u8> {
    let mut list = vec![0x80 | u8::try_from(labels.len()).unwrap()];
    for label in labels {
        list.extend(label);
    }
    let header = map(&[("t", word("#labels")), ("op", vec![1])]);
    [header, map(&[("seq", vec![seq]), ("labels", list)])].concat()
}

fn key() -> PrivateKey {
    PrivateKey::from_bytes(Curve::K256, &[7; 32]).unwrap()
}

fn signed(fields: &[(&'static str, Vec<u8>)], over: &[u8]) -> Vec<u8> {
    let mut sig = vec![0x58, 64];
    sig.extend(key().sign(over).unwrap());
    let mut all = fields.to_vec();
    all.push(("sig", sig));
    map(&all)
}

fn trust() -> Trust {
    let keys = HashMap::from([(SRC.to_owned(), Some(key().public().unwrap()))]);
    Trust {
        keys,
        closed: true,
        ..Trust::default()
    }
}

fn decode(frames: &[Vec<u8>], trust: &Trust, check: Check) -> LabelBatch {
    let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    let source = Source {
        host: "l.example",
        generation: 1,
        trust,
        check,
    };
    LabelBatch::decode(&frames, source)
}

fn rows(batch: &LabelBatch, held: i64) -> Gathered {
    let entries: Vec<&[u8]> = batch.entries().collect();
    let held = HashMap::from([("l.example/1".to_owned(), held)]);
    gather(&entries, &held).unwrap()
}

const CTS: &str = "2025-01-01T00:00:00.000Z";

#[test]
fn what_was_sent_and_what_the_reference_signs_both_verify() {
    let sent = fields("did:plc:a", CTS);
    let as_sent = signed(&sent, &map(&sent));
    let mut with_neg = sent.clone();
    with_neg.insert(1, ("neg", vec![0xf4]));
    let without_neg = signed(&with_neg, &map(&sent));
    let by_nobody = signed(&sent, b"something else");
    let frames = [frame(1, &[as_sent, without_neg, by_nobody, map(&sent)])];
    let batch = decode(&frames, &trust(), Check::Enforce);
    assert_eq!((batch.labels, batch.last_seq), (4, Some(1)));
    let (count, words) = &batch.rejected[&Reason::BadSignature];
    assert_eq!(
        (*count, words.as_str()),
        (2, "not signed by the labeler's key")
    );
    assert_eq!(batch.unverified[SRC], 2);
    let batch = decode(&frames, &trust(), Check::Count);
    assert_eq!((batch.rejected.len(), batch.unverified[SRC]), (0, 2));
    let batch = decode(&frames, &trust(), Check::Off);
    assert!(batch.rejected.is_empty() && batch.unverified.is_empty());
}

#[test]
fn a_source_is_asked_for_or_foreign() {
    let frames = [frame(1, &[map(&fields("did:plc:a", CTS))])];
    let open = Trust::default();
    assert!(decode(&frames, &open, Check::Off).unknown.contains(SRC));
    let closed = Trust {
        closed: true,
        ..Trust::default()
    };
    let batch = decode(&frames, &closed, Check::Off);
    assert!(batch.unknown.is_empty());
    assert!(batch.rejected.contains_key(&Reason::ForeignSource));
}

#[test]
fn a_bad_label_costs_itself_alone() {
    let good = map(&fields("did:plc:a", CTS));
    let late = map(&fields("did:plc:b", "yesterday"));
    let mut expired = fields("did:plc:c", CTS);
    expired.push(("exp", word("2025-02-30T00:00:00Z")));
    let frames = [frame(1, &[good, late, map(&expired), vec![1]])];
    let batch = decode(&frames, &trust(), Check::Off);
    assert_eq!(batch.rejected[&Reason::BadField].0, 3);
    let gathered = rows(&batch, 0);
    assert_eq!((gathered.rows.len(), gathered.letters().count()), (1, 3));
    let columns = gathered.letter_columns(&[0, 1, 2]);
    assert_eq!(
        columns[5],
        "{NULL,NULL,NULL}".replacen("NULL", "\"did:plc:labeler\"", 2)
    );
    assert_eq!(columns[6], "{\"did:plc:b\",\"did:plc:c\",NULL}");
}

#[test]
fn the_later_label_wins_and_a_replay_is_a_duplicate() {
    let mut taken_back = fields("did:plc:a", "2020-01-01T00:00:00Z");
    taken_back.insert(1, ("neg", vec![0xf5]));
    let frames = [
        frame(1, &[map(&fields("did:plc:a", CTS))]),
        frame(2, &[map(&taken_back)]),
    ];
    let batch = decode(&frames, &trust(), Check::Off);
    let gathered = rows(&batch, 0);
    assert_eq!(gathered.rows.len(), 1);
    assert!(gathered.rows[0].neg && &*gathered.rows[0].cts == "2020-01-01T00:00:00Z");
    assert_eq!(gathered.columns(&[])[4], "{\"t\"}");
    assert_eq!(gathered.columns(&[SRC.to_owned()])[4], "{}");
    let again = rows(&batch, 2);
    assert!(again.rows.is_empty());
    assert_eq!(again.streams[0].outcomes["duplicate"], 2);
    assert_eq!(rows(&batch, 1).streams[0].outcomes["duplicate"], 1);
}

#[test]
fn notices_are_not_entries() {
    let error = [
        map(&[("op", vec![0x20])]),
        map(&[("error", word("FutureCursor"))]),
    ];
    let info = [
        map(&[("t", word("#info")), ("op", vec![1])]),
        map(&[("name", word("OutdatedCursor"))]),
    ];
    let frames = [error.concat(), info.concat(), b"\xff".to_vec()];
    let batch = decode(&frames, &trust(), Check::Off);
    let said: Vec<_> = batch
        .notices
        .iter()
        .map(|(kind, name, _)| (*kind, name.as_str()))
        .collect();
    assert_eq!(
        said,
        [("error", "FutureCursor"), ("info", "OutdatedCursor")]
    );
    assert_eq!((batch.entries_count(), batch.last_seq), (1, None));
    assert!(batch.rejected.contains_key(&Reason::BadHeader));
}

#[test]
fn no_prefix_of_a_message_or_entry_panics() {
    let whole = frame(1, &[map(&fields("did:plc:a", CTS))]);
    for end in 0..whole.len() {
        decode(&[whole[..end].to_vec()], &trust(), Check::Enforce);
    }
    let batch = decode(&[whole], &trust(), Check::Off);
    let entry = batch.entries().next().unwrap();
    assert!(Entry::decode(entry).is_ok());
    for end in 0..entry.len() {
        assert!(Entry::decode(&entry[..end]).is_err());
    }
}
