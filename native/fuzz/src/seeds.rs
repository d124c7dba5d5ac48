//! Inputs that are good, for changing: made here, and cut from recorded networks where those
//! lie beside the checkout (`../shared`, read in place).

use std::path::{Path, PathBuf};

use _native::cbor::{self, Value};
use _native::cid::Cid;
use _native::entry::{Closing, Entry, RejectedOp, Slice, SliceRecord};
use _native::filter::Filter;
use _native::frame::{self, Outcome, Source};
use _native::reason::Reason;
use _native::tree;

pub use crate::log::Log;
use crate::records::{self, RECORDS};
use crate::tape::{write_run, Tape};
use crate::{lexicon, repo, trees};

const DID: &str = "did:plc:ragtjsm2j2vknwkz3zp4oxrd";
const RKEY: &str = "3k2222222222a";
const NETWORKS: [&str; 2] = ["golden", "golden-gates"];
/// Larger ones only slow the search down.
const MAX_BYTES: usize = 40_000;
const MAX_RECORDED: usize = 400;

/// Numbers from a seed (xorshift64*): the same in every run.
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() >> 33).unwrap_or_default() % limit
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.number().to_be_bytes()[0]).collect()
    }
}

/// The seeds of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let made = (0..RECORDS.len()).map(|number| records::record(number, DID, RKEY).1);
    let recorded = recorded();
    let blocks = || recorded.iter().filter_map(|frame| first_record(frame));
    match target {
        "cbor" => made.chain(items()).chain(blocks()).collect(),
        "lexicon" => made
            .chain(blocks())
            .filter_map(|each| typed(&each))
            .collect(),
        "frame" => frames().into_iter().chain(recorded).collect(),
        "car" => frames()
            .iter()
            .chain(&recorded)
            .filter_map(|frame| field(frame, "blocks")?.as_bytes().map(<[u8]>::to_vec))
            .collect(),
        "entry" => entries(&recorded).into_iter().chain(fetched()).collect(),
        "fold" => {
            let entries = entries(&recorded);
            let runs = |(number, entries): (usize, &[Vec<u8>])| {
                let mut out = vec![u8::try_from(number & 3).unwrap_or_default() << 1];
                for entry in entries {
                    write_run(entry, &mut out);
                }
                out
            };
            let each = entries.chunks(4).enumerate().map(runs);
            each.chain(tapes(60, 500)).collect()
        }
        "labels" => crate::labels::seeds(),
        "mst" => trees::all().into_iter().chain(tapes(40, 200)).collect(),
        "repo" => exports().into_iter().chain(tapes(40, 120)).collect(),
        "text" => texts(),
        _ => Vec::new(),
    }
}

/// Identifiers of every kind, and the lines of the interoperability vectors of syntax.
fn texts() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = [
        DID,
        RKEY,
        "a.test",
        "at://a.test/a.b.c/self#x",
        "de-Latn-DE-x-y",
        "https://a.b/c?d=%20#e",
        "2026-02-30T23:59:59.1234567890+23:59",
        "0000-01-01T00:00:00Z",
        "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a",
        "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR",
        "did:key:zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc",
        "did:key:zDnaembgSGUhZULN2Caob4HLJPaxBh92N7rtH21TErzqf8HQo",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    let files = shared("interop/vectors/syntax").map(std::fs::read_dir);
    for file in files.into_iter().flatten().flatten().flatten() {
        let lines = std::fs::read_to_string(file.path()).unwrap_or_default();
        texts.extend(lines.lines().map(|line| line.as_bytes().to_vec()));
    }
    texts.sort();
    texts.dedup();
    texts
}

/// Tapes of choices: noise behind an odd first byte.
fn tapes(count: u64, bytes: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(move |seed| {
        let mut random = Random::new(seed + 1);
        let mut tape = random.bytes(bytes);
        tape[0] |= 1;
        tape
    })
}

/// Items that no record holds.
fn items() -> impl Iterator<Item = Vec<u8>> {
    [
        &b"\xf9\x3c\x00"[..],
        b"\xfa\x3f\xc0\x00\x00",
        b"\xfb\x7f\xef\xff\xff\xff\xff\xff\xff",
        b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x3b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\xa2\x61\x31\xf7\x61\x30\x42\x00\xff",
        b"\xa1\x61a\xa1\x69__proto__\x01",
        b"\x63\xef\xbb\xbf",
        b"\x64a\xffb\xc3",
        b"\x81\x81\x81\x81\x80",
    ]
    .into_iter()
    .map(<[u8]>::to_vec)
    .chain([255, 256].map(nested))
    .chain([claims()])
}

/// Lists in lists that all claim as many items as there are bytes left for the last.
fn claims() -> Vec<u8> {
    let mut item = b"\x99\x3f\xff".repeat(250);
    item.resize(item.len() + 0x4000, 0);
    item
}

/// A list in as many lists.
fn nested(levels: usize) -> Vec<u8> {
    let mut item = vec![0x81; levels];
    item.push(0x80);
    item
}

/// The number of the record's type, then the record.
fn typed(record: &[u8]) -> Option<Vec<u8>> {
    let name = cbor::decode(record)
        .ok()?
        .get("$type")?
        .as_text()?
        .to_owned();
    let types = lexicon::CATALOG.record_types();
    let number = types.iter().position(|each| *each == name)?;
    let mut out = vec![u8::try_from(number).ok()?];
    out.extend_from_slice(record);
    Some(out)
}

fn map<'a>(entries: &[(&'a str, Value<'a>)]) -> Value<'a> {
    let entries = entries.iter();
    Value::Map(
        entries
            .map(|(key, value)| ((*key).into(), value.clone()))
            .collect(),
    )
}

fn message(kind: &str, body: &Value<'_>) -> Vec<u8> {
    let header = map(&[("t", Value::Text(kind.into())), ("op", Value::Int(1))]);
    let mut out = crate::cbor::encode(&header);
    out.extend(crate::cbor::encode(body));
    out
}

/// One frame of every kind.
fn frames() -> Vec<Vec<u8>> {
    let text = |text: &'static str| Value::Text(text.into());
    let about = |kind: &'static str, more: &[(&'static str, Value<'static>)]| {
        let mut fields = vec![
            ("did", text(DID)),
            ("seq", Value::Int(7)),
            ("time", text("2026-11-21T18:00:00.000Z")),
        ];
        fields.extend_from_slice(more);
        message(kind, &map(&fields))
    };
    let mut frames = vec![
        about("#identity", &[("handle", text("a.test"))]),
        about(
            "#account",
            &[
                ("active", Value::Bool(false)),
                ("status", text("takendown")),
            ],
        ),
        about(
            "#info",
            &[("name", text("OutdatedCursor")), ("message", text("m"))],
        ),
        about("#labels", &[]),
        b"\xa1\x62op\x20\xa1\x65error\x6cFutureCursor".to_vec(),
    ];
    let content = (0..RECORDS.len()).map(|number| {
        let (nsid, record) = records::record(number, DID, RKEY);
        (format!("{nsid}/{RKEY}"), record)
    });
    let (root, blocks) = repo::sections(&content.collect());
    let car = repo::export(&root, &blocks);
    let commit = Value::Link(Cid::exact(&root).expect("a CID"));
    let mut ops = Vec::new();
    for number in 0..RECORDS.len() {
        let (nsid, record) = records::record(number, DID, RKEY);
        ops.push((format!("{nsid}/{RKEY}"), tree::block_cid(&record)));
    }
    for ops in ops.chunks(4) {
        let ops = ops.iter().enumerate().map(|(number, (path, cid))| {
            let deleted = number == 3;
            let cid = Value::Link(Cid::exact(cid).expect("a CID"));
            map(&[
                ("cid", if deleted { Value::Null } else { cid }),
                ("path", Value::Text(path.into())),
                (
                    "action",
                    text(["create", "update", "create", "delete"][number]),
                ),
            ])
        });
        let body = map(&[
            ("ops", Value::List(ops.collect())),
            ("rev", text(RKEY)),
            ("seq", Value::Int(9)),
            ("repo", text(DID)),
            ("time", text("2026-11-21T18:00:00.000Z")),
            ("blobs", Value::List(vec![])),
            ("since", Value::Null),
            ("blocks", Value::Bytes(&car)),
            ("commit", commit.clone()),
            ("rebase", Value::Bool(false)),
            ("tooBig", Value::Bool(false)),
        ]);
        frames.push(message("#commit", &body));
    }
    // No commits, but what is in an op is read all the same.
    for odd in [nested(252), nested(253), b"\x01\x69__proto__\x02".to_vec()] {
        let mut frame = b"\xa2\x61t\x67#commit\x62op\x01\xa1\x63ops\x81\xa1\x61x".to_vec();
        if odd.ends_with(b"\x02") {
            let map = frame.len() - 3;
            frame[map] = 0xa2;
        }
        frame.extend(odd);
        frames.push(frame);
    }
    let commit = blocks.iter().filter(|(cid, _)| *cid == root).cloned();
    let car = repo::export(&root, &commit.collect::<Vec<_>>());
    let sync = map(&[
        ("did", text(DID)),
        ("rev", text(RKEY)),
        ("seq", Value::Int(8)),
        ("time", text("2026-11-21T18:00:00.000Z")),
        ("blocks", Value::Bytes(&car)),
    ]);
    frames.push(message("#sync", &sync));
    frames
}

/// A field of a frame's body.
fn field<'a>(frame: &'a [u8], name: &str) -> Option<Value<'a>> {
    let (_, length) = cbor::decode_prefix(frame).ok()?;
    cbor::decode(frame.get(length..)?).ok()?.get(name).cloned()
}

fn first_record(frame: &[u8]) -> Option<Vec<u8>> {
    let source = Source {
        relay: "relay.test",
        generation: 1,
    };
    match frame::read(frame, source, &Filter::new(["*"])).outcome {
        Outcome::Entry(Entry::Commit(commit)) => commit
            .ops
            .iter()
            .find_map(|op| op.record)
            .map(<[u8]>::to_vec),
        _ => None,
    }
}

fn entries(recorded: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let source = Source {
        relay: "relay.test",
        generation: 1,
    };
    let mut entries = Vec::new();
    for frame in frames().iter().chain(recorded) {
        let read = frame::read(frame, source, &Filter::new(["*"]));
        if let Outcome::Entry(entry) = read.outcome {
            let mut bytes = Vec::new();
            entry.encode(&mut bytes);
            entries.push(bytes);
        }
    }
    let mut log = Log::default();
    for tape in tapes(40, 100) {
        log.event(&mut Tape::new(&tape[1..]));
    }
    entries.extend(log.entries);
    entries
}

/// What a fetched repository becomes.
fn fetched() -> Vec<Vec<u8>> {
    let binary: Vec<u8> = [1, 0x71, 0x12, 0x20].into_iter().chain([7; 32]).collect();
    let cid = Cid::exact(&binary).expect("a CID");
    let (nsid, record) = records::record(0, DID, RKEY);
    let path = format!("{nsid}/{RKEY}");
    let slice = Entry::Slice(Slice {
        did: DID,
        fetch_id: 3,
        rev: RKEY,
        after: None,
        through: Some(&path),
        collections: vec![nsid],
        filtered: 1,
        notify: true,
        records: vec![SliceRecord {
            path: &path,
            cid,
            record: &record,
        }],
        rejected: vec![RejectedOp {
            reason: Reason::TooBig,
            path: path.as_str().into(),
            cid: Some(cid),
        }],
    });
    let closing = Entry::Closing(Closing {
        did: DID,
        fetch_id: 3,
        rev: RKEY,
        commit: cid,
        data: cid,
        records: 2,
    });
    let bytes = |entry: &Entry<'_>| {
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        bytes
    };
    vec![bytes(&slice), bytes(&closing)]
}

fn exports() -> Vec<Vec<u8>> {
    let content = (0..RECORDS.len()).map(|number| {
        let (nsid, record) = records::record(number, DID, RKEY);
        (format!("{nsid}/{RKEY}"), record)
    });
    let (root, blocks) = repo::sections(&content.collect());
    let mut exports = vec![repo::export(&root, &blocks)];
    for network in NETWORKS {
        let Some(folder) = shared(network) else {
            continue;
        };
        let files = std::fs::read_dir(folder.join("cars"))
            .into_iter()
            .flatten()
            .flatten();
        let cars = files
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|e| e == "car"));
        exports.extend(cars.filter_map(|path| std::fs::read(path).ok()));
    }
    exports.retain(|export| export.len() <= MAX_BYTES);
    for export in &mut exports {
        export.insert(0, 0);
    }
    exports.sort();
    exports
}

/// Frames of the recorded networks, from the whole length of each.
fn recorded() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for network in NETWORKS {
        let bytes =
            shared(network).and_then(|folder| std::fs::read(folder.join("frames.bin")).ok());
        let bytes = bytes.unwrap_or_default();
        let mut rest = bytes.as_slice();
        let mut frames = Vec::new();
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let Some((frame, tail)) = tail.split_at_checked(length) else {
                break;
            };
            frames.push(frame);
            rest = tail;
        }
        let step = frames.len() / MAX_RECORDED + 1;
        let small = frames
            .into_iter()
            .step_by(step)
            .filter(|frame| frame.len() <= MAX_BYTES);
        found.extend(small.map(<[u8]>::to_vec));
    }
    found
}

fn shared(network: &str) -> Option<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("shared").join(network))
        .find(|folder| folder.is_dir())
}
