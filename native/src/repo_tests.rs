use super::*;
use crate::crypto::{Curve, PrivateKey};
use crate::export::{Export, OpenError, Source, LIMITS};
use crate::tree::{block_cid, build, NodeCid};

const DID: &str = "did:plc:abcdefghijklmnopqrstuvwx";
const REV: &str = "3jzfcijpj2z2a";

fn text(out: &mut Vec<u8>, text: &str) {
    write_head(out, 0x60, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn field(name: &str, value: &[u8]) -> (String, Vec<u8>) {
    (name.to_owned(), value.to_vec())
}

fn text_field(name: &str, value: &str) -> (String, Vec<u8>) {
    let mut out = Vec::new();
    text(&mut out, value);
    (name.to_owned(), out)
}

fn link_field(name: &str, cid: &NodeCid) -> (String, Vec<u8>) {
    let mut out = b"\xd8\x2a\x58\x25\x00".to_vec();
    out.extend_from_slice(cid);
    (name.to_owned(), out)
}

fn map(fields: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    write_head(&mut out, 0xa0, fields.len());
    for (name, value) in fields {
        text(&mut out, name);
        out.extend_from_slice(value);
    }
    out
}

/// The unsigned fields in DAG-CBOR order.
fn fields(data: &NodeCid) -> Vec<(String, Vec<u8>)> {
    vec![
        text_field("did", DID),
        text_field("rev", REV),
        link_field("data", data),
        field("prev", b"\xf6"),
        field("version", b"\x03"),
    ]
}

fn key() -> PrivateKey {
    PrivateKey::from_bytes(Curve::K256, &[5; 32]).unwrap()
}

fn is_signed(commit: &Commit) -> bool {
    key().public().unwrap().verify(&commit.signed, &commit.sig)
}

fn sign(mut fields: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    let mut sig = b"\x58\x40".to_vec();
    sig.extend_from_slice(&key().sign(&map(&fields)).unwrap());
    fields.insert(2.min(fields.len()), ("sig".to_owned(), sig));
    fields
}

fn section(out: &mut Vec<u8>, cid: &[u8], block: &[u8]) {
    let mut length = cid.len() + block.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(cid);
    out.extend_from_slice(block);
}

/// A record of the exports made here.
pub(crate) fn record(number: usize) -> (String, Vec<u8>) {
    let key = format!("app.bsky.feed.post/{number:06}");
    (key, map(&[text_field("text", &number.to_string())]))
}

fn open(bytes: &[u8]) -> Result<Export<&[u8]>, RepoError> {
    Export::open(Source::Bytes(bytes), LIMITS).map_err(|error| match error {
        OpenError::Fault(fault) => fault,
        OpenError::Io(error) => panic!("{error}"),
    })
}

/// Everything that an export says.
fn content(export: &Export<&[u8]>) -> (Commit, Vec<(String, Vec<u8>)>) {
    let mut leaves = Vec::new();
    let walked = export.each_leaf(|key, cid, record| {
        assert_eq!(cid.as_bytes(), block_cid(record));
        leaves.push((key.to_owned(), record.to_vec()));
    });
    walked.unwrap();
    assert_eq!(leaves.len(), export.leaves());
    (export.commit.clone(), leaves)
}

/// An export of `count` records, and where each of its blocks ends.
pub(crate) fn export(count: usize) -> (Vec<u8>, Vec<usize>) {
    let records: Vec<(String, Vec<u8>)> = (0..count).map(record).collect();
    let cids: Vec<NodeCid> = records
        .iter()
        .map(|(_, record)| block_cid(record))
        .collect();
    let mut blocks: Vec<(NodeCid, Vec<u8>)> = Vec::new();
    let entries = records.iter().zip(&cids);
    let root = build(
        entries.map(|((key, _), cid)| (key.as_str(), Cid::exact(cid).unwrap())),
        |cid, block| blocks.push((cid, block)),
    );
    let commit = map(&sign(fields(&root.unwrap())));
    blocks.push((block_cid(&commit), commit));
    blocks.reverse();
    blocks.extend(
        cids.into_iter()
            .zip(records.into_iter().map(|(_, record)| record)),
    );
    let mut header = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00".to_vec();
    header.extend_from_slice(&blocks[0].0);
    header.extend_from_slice(b"\x67version\x01");
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    section(&mut out, &[], &header);
    ends.push(out.len());
    for (cid, block) in blocks {
        section(&mut out, &cid, &block);
        ends.push(out.len());
    }
    (out, ends)
}

#[test]
fn an_export_is_read_whole() {
    for count in [0, 1, 300] {
        let (bytes, _) = export(count);
        let export = open(&bytes).unwrap();
        let (commit, leaves) = content(&export);
        assert_eq!(leaves, (0..count).map(record).collect::<Vec<_>>());
        assert_eq!(commit.did, DID);
        assert_eq!(commit.rev.as_deref(), Some(REV));
        assert!(export.signed_by(&key().public().unwrap()));
        let other = PrivateKey::from_bytes(Curve::P256, &[5; 32]).unwrap();
        assert!(!export.signed_by(&other.public().unwrap()));
    }
}

#[test]
fn an_export_cut_anywhere_is_incomplete() {
    let (bytes, ends) = export(40);
    let mut at_boundaries = 0;
    for end in 1..bytes.len() {
        let error = open(&bytes[..end]).unwrap_err();
        assert_eq!(error.kind(), "incomplete", "{end}: {error}");
        at_boundaries += usize::from(ends.contains(&end));
    }
    assert!(at_boundaries > 40);
    assert_eq!(open(&[]).unwrap_err().kind(), "incomplete");
}

#[test]
fn a_flipped_bit_never_passes() {
    let (bytes, ends) = export(12);
    let original = content(&open(&bytes).unwrap());
    let header = ends[0];
    let mut flipped = bytes.clone();
    for place in 0..bytes.len() {
        for bit in 0..8 {
            flipped[place] ^= 1 << bit;
            match open(&flipped) {
                // The header is not hashed: it may differ where it carries nothing.
                Ok(export) => assert!(place < header && content(&export) == original, "{place}"),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
            flipped[place] = bytes[place];
        }
    }
}

#[test]
fn the_signed_bytes_do_not_depend_on_the_order_of_fields() {
    let signed = sign(fields(&block_cid(b"data")));
    let commit = map(&signed);
    let unsigned = map(&fields(&block_cid(b"data")));
    assert_eq!(read_commit(&commit).unwrap().signed, unsigned);
    let mut reversed = signed;
    reversed.reverse();
    let commit = map(&reversed);
    let commit = read_commit(&commit).unwrap();
    assert_eq!(commit.signed, unsigned);
    assert!(is_signed(&commit));
}

#[test]
fn fields_that_are_not_known_are_signed_too() {
    let mut fields = fields(&block_cid(b"data"));
    fields.push(text_field("unknown field", "value"));
    let commit = map(&sign(fields));
    assert!(is_signed(&read_commit(&commit).unwrap()));
}

#[test]
fn version_2_needs_no_rev() {
    let mut fields = fields(&block_cid(b"data"));
    fields.retain(|(name, _)| name != "rev");
    let commit = map(&sign(fields.clone()));
    assert_eq!(read_commit(&commit), Err(RepoError::CommitField("rev")));
    fields.last_mut().unwrap().1 = b"\x02".to_vec();
    let commit = map(&sign(fields));
    let commit = read_commit(&commit).unwrap();
    assert_eq!((commit.version, commit.rev.clone()), (2, None));
    assert!(is_signed(&commit));
}

#[test]
fn malformed_commits_are_named() {
    let good = sign(fields(&block_cid(b"data")));
    for (name, value) in [
        ("did", &b"\x61x"[..]),
        ("rev", b"\x61x"),
        ("data", b"\xf6"),
        ("prev", b"\x01"),
        ("version", b"\x01"),
        ("version", b"\x04"),
        ("sig", b"\x61x"),
    ] {
        let mut bad = good.clone();
        for field in &mut bad {
            if field.0 == name {
                field.1 = value.to_vec();
            }
        }
        let error = read_commit(&map(&bad)).unwrap_err();
        assert_eq!(error, RepoError::CommitField(name));
        assert_eq!(error.kind(), "commit");
    }
    for name in ["did", "rev", "data", "version", "sig"] {
        let mut bad = good.clone();
        bad.retain(|field| field.0 != name);
        let error = read_commit(&map(&bad)).unwrap_err();
        assert_eq!(error, RepoError::CommitField(name));
    }
    let mut twice = good.clone();
    twice.push(text_field("rev", REV));
    let error = read_commit(&map(&twice)).unwrap_err();
    assert_eq!(error, CborError::DuplicateKey.into());
    let mut long = map(&good);
    long.push(0);
    assert_eq!(read_commit(&long).unwrap_err(), CborError::Trailing.into());
    assert!(read_commit(b"\xb8\xff").is_err());
}
