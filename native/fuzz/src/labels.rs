//! Any bytes are a labeler's message: labels, a notice or a dead letter, and never an error. What
//! is carried says what the reader of whole trees sees, label by label, each with a signature
//! that a second look at that tree finds good where signatures are enforced; every label is carried
//! or rejected; entries read back the same and become the rows of a plain model; memory stays
//! below a constant times the input. The first byte chooses how signatures are checked, or
//! that the rest is an entry.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::OnceLock;

use _native::cbor::{self, Value};
use _native::crypto::{Curve, PrivateKey};
use _native::entry::RAW_LIMIT_BYTES;
use _native::labels::{gather, Check, Entry, Gathered, Label, LabelBatch, Source, Trust};
use _native::reason::Reason;

use crate::{heap, Verdict};

pub const SRC: &str = "did:plc:ragtjsm2j2vknwkz3zp4oxrd";
/// A label of many small fields, beside the entry that is made of it.
const EACH: usize = 200;
const SIGNED: [&str; 7] = ["cid", "cts", "exp", "neg", "src", "uri", "val"];

pub fn key() -> PrivateKey {
    PrivateKey::from_bytes(Curve::K256, &[7; 32]).expect("a key")
}

fn source(check: Check) -> Source<'static> {
    static TRUST: OnceLock<Trust> = OnceLock::new();
    let trust = TRUST.get_or_init(|| Trust {
        keys: HashMap::from([(SRC.to_owned(), Some(key().public().expect("a key")))]),
        closed: true,
        ..Trust::default()
    });
    Source {
        host: "labels.test",
        generation: 3,
        trust,
        check,
    }
}

pub fn check(data: &[u8]) -> Verdict {
    let Some((choice, data)) = data.split_first() else {
        return Verdict::Rejected;
    };
    match choice & 3 {
        0 => message(data, Check::Enforce),
        1 => message(data, Check::Count),
        2 => message(data, Check::Off),
        _ => {
            let read = || Entry::decode(data);
            let Ok(entry) = heap::bounded(1 << 17, EACH, data.len(), read) else {
                return Verdict::Rejected;
            };
            becomes_rows(&entry);
            Verdict::Accepted
        }
    }
}

fn message(data: &[u8], check: Check) -> Verdict {
    let read = || LabelBatch::decode(&[data], source(check));
    let batch = heap::bounded(crate::cbor::NESTING_BYTES, EACH, data.len(), read);
    assert!(batch.frames == 1 && batch.unknown.is_empty());
    assert!(batch.last_seq.is_none_or(|seq| (1..1 << 53).contains(&seq)));
    assert_eq!(batch.entries_count() + batch.notices.len(), 1);
    let rejected: u64 = batch.rejected.values().map(|(count, _)| count).sum();
    let Some(bytes) = batch.entries().next() else {
        assert!(batch.labels == 0 && rejected == 0 && batch.last_seq.is_none());
        return Verdict::Accepted;
    };
    let entry = Entry::decode(bytes).expect("what was written");
    assert_eq!((entry.host.as_ref(), entry.generation), ("labels.test", 3));
    assert_eq!((entry.seq, entry.events()), (batch.last_seq, batch.events));
    assert_eq!(entry.rejected.len() as u64, rejected);
    assert_eq!(entry.labels.len() as u64 + rejected, batch.labels);
    let unverified: u64 = batch.unverified.values().sum();
    let told = match check {
        Check::Enforce => 0,
        Check::Count => unverified,
        Check::Off => entry.labels.len() as u64,
    };
    assert_eq!(entry.unverified, told);
    becomes_rows(&entry);
    match whole_frame_refused(&entry) {
        Some(reason) => strict_reader_agrees(data, reason),
        None => as_sent(data, &entry, check),
    }
    Verdict::of(rejected == 0)
}

/// Why nothing of a frame could be read, if that is so.
fn whole_frame_refused(entry: &Entry<'_>) -> Option<Reason> {
    let whole = |reason| match reason {
        Reason::BadHeader | Reason::BadBody => true,
        Reason::BadField => entry.seq.is_none() || entry.rejected[0].error == "labels",
        _ => false,
    };
    let reason = entry.rejected.first()?.reason;
    whole(reason).then_some(reason)
}

fn strict_reader_agrees(data: &[u8], reason: Reason) {
    let read = cbor::decode_prefix(data)
        .and_then(|(header, length)| Ok((header, cbor::decode_record(&data[length..])?)));
    match (reason, read) {
        (Reason::BadBody, read) => assert!(read.is_err(), "{read:?}"),
        (Reason::BadField, Ok((_, body))) => {
            let seq = body.get("seq").and_then(Value::as_int);
            let no_seq = seq.is_none_or(|seq| !(1..1 << 53).contains(&seq));
            assert!(no_seq || body.get("labels").and_then(Value::as_list).is_none());
        }
        (Reason::BadField, Err(error)) => panic!("a body, but {error}"),
        _ => {}
    }
}

fn as_sent(data: &[u8], entry: &Entry<'_>, check: Check) {
    let (header, length) = cbor::decode_prefix(data).expect("a header");
    let body = cbor::decode_record(&data[length..]).expect("a body");
    assert_eq!(header.get("t").and_then(Value::as_text), Some("#labels"));
    assert_eq!(body.get("seq").and_then(Value::as_int), entry.seq);
    let sent = body.get("labels").and_then(Value::as_list).expect("labels");
    assert_eq!(entry.labels.len() + entry.rejected.len(), sent.len());
    let mut unseen = sent.iter();
    for label in &entry.labels {
        let found = unseen.find(|each| is_it(each, label));
        let found = found.expect("a label that was not sent, or not in order");
        assert!(check != Check::Enforce || is_signed(found), "{found:?}");
    }
    for label in &entry.rejected {
        assert!(label.raw.len() <= RAW_LIMIT_BYTES);
        assert!(cbor::decode(label.raw).is_ok() || label.raw.len() == RAW_LIMIT_BYTES);
    }
}

fn is_it(sent: &Value<'_>, label: &Label<'_>) -> bool {
    let text = |name: &str| sent.get(name).and_then(Value::as_text);
    let neg = sent.get("neg").and_then(Value::as_bool).unwrap_or(false);
    text("src") == Some(label.src)
        && text("uri") == Some(label.uri)
        && text("cid") == label.cid
        && text("val") == Some(label.val)
        && text("cts") == Some(label.cts)
        && text("exp") == label.exp
        && neg == label.neg
}

/// As it was sent but for its signature, or as the reference signs it.
fn is_signed(sent: &Value<'_>) -> bool {
    let sig = sent.get("sig").and_then(Value::as_bytes).unwrap_or(&[]);
    let fields = sent.as_map().unwrap_or_default().iter();
    let without: Vec<_> = fields.filter(|(key, _)| key != "sig").cloned().collect();
    let mut reference: Vec<_> = without.clone();
    reference.retain(|(key, value)| {
        let says = !matches!(value, Value::Null | Value::Undefined | Value::Bool(false));
        says && SIGNED.contains(&key.as_ref())
    });
    reference.push(("ver".into(), Value::Int(1)));
    let public = key().public().expect("a key");
    [without, reference]
        .into_iter()
        .any(|form| public.verify(&crate::cbor::encode(&Value::Map(form)), sig))
}

/// The entry reads back the same, and read twice it is the rows of a plain model, once.
fn becomes_rows(entry: &Entry<'_>) {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    assert_eq!(Entry::decode(&bytes).as_ref(), Ok(entry));
    let once = gather(&[&bytes], &HashMap::new()).expect("an entry");
    let twice = gather(&[&bytes, &bytes], &HashMap::new()).expect("entries");
    let mut model = BTreeMap::new();
    for label in &entry.labels {
        let cid = label.cid.unwrap_or_default();
        let row = (label.neg, label.cts, label.exp);
        model.insert((label.src, label.uri, cid, label.val), row);
    }
    for gathered in [&once, &twice] {
        assert_eq!(rows(gathered), model);
        assert_eq!(gathered.rows.len(), model.len());
    }
    assert_eq!(once.streams[0].unverified, entry.unverified);
    let (carried, rejected) = (entry.labels.len() as u64, entry.rejected.len() as u64);
    let count = |gathered: &Gathered, word: &str| {
        let outcomes = gathered.streams[0].outcomes.iter();
        let of_word = outcomes.filter(|(outcome, _)| outcome.split(':').next() == Some(word));
        of_word.map(|(_, count)| *count).sum::<u64>()
    };
    let tally = |gathered| ["applied", "rejected", "duplicate"].map(|word| count(gathered, word));
    assert_eq!(tally(&once), [carried, rejected, 0]);
    if entry.seq.is_some() {
        assert_eq!(tally(&twice), [carried, rejected, carried + rejected]);
        assert_eq!(twice.letters().count(), entry.rejected.len());
    }
    let sources: BTreeSet<_> = entry.labels.iter().map(|label| label.src).collect();
    assert_eq!(once.sources.len(), sources.len());
    let all: Vec<usize> = (0..once.letters().count()).collect();
    assert_eq!(once.letter_columns(&all).len(), 11);
    assert_eq!(once.columns(&[]).len(), 7);
}

type Model<'a> = BTreeMap<(&'a str, &'a str, &'a str, &'a str), (bool, &'a str, Option<&'a str>)>;

fn rows(gathered: &Gathered) -> Model<'_> {
    let rows = gathered.rows.iter();
    rows.map(|row| {
        let name = (&*row.src, &*row.uri, &*row.cid, &*row.val);
        (name, (row.neg, &*row.cts, row.exp.as_deref()))
    })
    .collect()
}

/// Messages of every kind under every check, and entries.
pub fn seeds() -> Vec<Vec<u8>> {
    const CID: &str = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a";
    let text = |text: &'static str| Value::Text(text.into());
    let plain = vec![
        ("src", text(SRC)),
        (
            "uri",
            text("at://did:plc:a/app.bsky.feed.post/3k2222222222a"),
        ),
        ("val", text("spam")),
        ("cts", text("2026-11-21T18:00:00.1234Z")),
        ("ver", Value::Int(1)),
    ];
    let with = |more: &[(&'static str, Value<'static>)]| {
        let mut fields = plain.clone();
        fields.retain(|(key, _)| more.iter().all(|(other, _)| key != other));
        fields.extend_from_slice(more);
        fields
    };
    let labels = [
        plain.clone(),
        with(&[("uri", text("did:plc:b"))]),
        with(&[("cid", text(CID)), ("neg", Value::Bool(true))]),
        with(&[("exp", text("2027-01-01T00:00:00+02:00"))]),
        with(&[("neg", Value::Bool(false)), ("cid", Value::Null)]),
        with(&[("cts", text("yesterday"))]),
        with(&[("exp", text("2026-02-30T00:00:00Z"))]),
        with(&[("src", text("did:plc:somebodyelse"))]),
        with(&[("$type", text("com.atproto.label.defs#label"))]),
        with(&[("ver", Value::Int(2))]),
    ];
    let mut sent: Vec<Value<'static>> = Vec::new();
    for fields in &labels {
        let over = crate::cbor::encode(&map(fields));
        let sig = key().sign(&over).expect("a signature").to_vec();
        let mut signed = fields.clone();
        signed.push(("sig", Value::Bytes(Vec::leak(sig))));
        sent.push(map(&signed));
    }
    sent.push(map(&plain));
    let mut messages = vec![
        said(
            &[("op", Value::Int(-1))],
            &[("error", text("FutureCursor"))],
        ),
        said(
            &[("op", Value::Int(1)), ("t", text("#info"))],
            &[("name", text("OutdatedCursor"))],
        ),
    ];
    let header = [("op", Value::Int(1)), ("t", text("#labels"))];
    let mut lists: Vec<Vec<Value<'_>>> = sent.iter().map(|label| vec![label.clone()]).collect();
    lists.extend([vec![], sent[..5].to_vec(), sent.clone()]);
    for list in lists {
        let body = [("seq", Value::Int(7)), ("labels", Value::List(list))];
        messages.push(said(&header, &body));
    }
    let mut seeds = Vec::new();
    for (check, choice) in [(Check::Enforce, 0), (Check::Count, 1), (Check::Off, 2)] {
        for message in &messages {
            let batch = LabelBatch::decode(&[message], source(check));
            seeds.push([&[choice], &message[..]].concat());
            seeds.extend(batch.entries().map(|entry| [&[3], entry].concat()));
        }
    }
    seeds.sort();
    seeds.dedup();
    seeds
}

fn map<'a>(fields: &[(&'a str, Value<'a>)]) -> Value<'a> {
    let fields = fields.iter();
    Value::Map(
        fields
            .map(|(key, value)| ((*key).into(), value.clone()))
            .collect(),
    )
}

fn said(header: &[(&str, Value<'_>)], body: &[(&str, Value<'_>)]) -> Vec<u8> {
    let parts = [header, body].map(|part| crate::cbor::encode(&map(part)));
    parts.concat()
}
