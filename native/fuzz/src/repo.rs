//! Any bytes are a whole repository or a failure of one of five kinds; what is whole has the
//! one tree of its leaves and records that match their CIDs. An export that was made here is
//! read as what was put in and as signed by its key only; whatever is done to it, it never
//! reads as another repository, and a block that is lost is `incomplete`.

use std::collections::BTreeMap;

use _native::car;
use _native::cid::Cid;
use _native::crypto::{Curve, PrivateKey, PublicKey};
use _native::entry::Entry;
use _native::export::{Export, OpenError, Options, Slices, Source, LIMITS};
use _native::repo::RepoError;
use _native::tree::{self, NodeCid};

use crate::tape::Tape;
use crate::{cbor, heap, Verdict};

const EACH: usize = 400;
const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
const REV: &str = "3k2222222222a";
const KINDS: [&str; 5] = ["car", "commit", "hash", "incomplete", "tree"];

/// An even first byte: the bytes of an export. An odd one: choices of what is in it.
pub fn check(data: &[u8]) -> Verdict {
    let mut tape = Tape::new(data);
    if tape.byte() & 1 == 0 {
        any_bytes(tape.rest())
    } else {
        any_content(&mut tape)
    }
}

fn any_bytes(data: &[u8]) -> Verdict {
    let read = heap::bounded(cbor::NESTING_BYTES, EACH, data.len(), || open(data));
    match read {
        Ok(export) => {
            is_sound(&export);
            Verdict::Accepted
        }
        Err(error) => {
            assert!(KINDS.contains(&error.kind()));
            Verdict::Rejected
        }
    }
}

fn open(data: &[u8]) -> Result<Export<&[u8]>, RepoError> {
    Export::open(Source::Bytes(data), LIMITS).map_err(|error| match error {
        OpenError::Fault(fault) => fault,
        OpenError::Io(error) => panic!("bytes are not read from a file: {error}"),
    })
}

type Leaves = Vec<(String, Vec<u8>, Vec<u8>)>;

fn is_sound(export: &Export<&[u8]>) -> Leaves {
    let mut leaves = Vec::new();
    let walked = export.each_leaf(|key, cid, record| {
        assert_eq!(car::check_hash(cid, record), Ok(()));
        leaves.push((key.to_owned(), cid.as_bytes().to_vec(), record.to_vec()));
    });
    walked.expect("bytes that do not change");
    assert_eq!(leaves.len(), export.leaves());
    let exact = |cid| Cid::exact(cid).expect("a CID");
    let pairs = leaves
        .iter()
        .map(|(key, cid, _)| (key.as_str(), exact(cid)));
    let mut nodes = 0;
    let root = tree::build(pairs, |_, _| nodes += 1).expect("leaves of a tree");
    // Another hash or codec of the root's CID names the same content.
    let data = export.commit.data.get();
    if data.as_bytes().starts_with(&root[..4]) {
        assert_eq!(data.as_bytes(), root);
        assert_eq!(export.nodes(), nodes);
    }
    slices_hold(export, &leaves);
    leaves
}

/// The slices of an export hold its leaves, each once and in its range, filtered or carried.
fn slices_hold(export: &Export<&[u8]>, leaves: &Leaves) {
    let mut slices = Slices::new(Options {
        fetch_id: 1,
        notify: false,
        collections: vec!["app.bsky.feed.like".to_owned()],
        max_bytes: 200,
        max_records: 1 + leaves.len() / 3,
    });
    let mut left = leaves.as_slice();
    let mut after: Option<String> = None;
    let mut entry = Vec::new();
    while let Some(events) = slices.next(export, &mut entry).expect("bytes") {
        let Ok(Entry::Slice(slice)) = Entry::decode(&entry) else {
            panic!("not a slice");
        };
        assert_eq!(slice.after, after.as_deref());
        assert_eq!(events, slice.records.len().max(1));
        let within = |key: &str| slice.through.is_none_or(|through| key <= through);
        let (own, rest) = left.split_at(left.partition_point(|(key, _, _)| within(key)));
        let (carried, filtered): (Vec<_>, Vec<_>) = own
            .iter()
            .partition(|(key, _, _)| key.starts_with("app.bsky.feed.like/"));
        assert_eq!(
            slice.filtered,
            i64::try_from(filtered.len()).expect("a count")
        );
        assert_eq!(slice.records.len() + slice.rejected.len(), carried.len());
        for (record, (key, cid, bytes)) in slice.records.iter().zip(&carried) {
            if slice.rejected.is_empty() {
                assert_eq!(
                    (record.path, record.cid.as_bytes()),
                    (key.as_str(), &cid[..])
                );
                assert_eq!(record.record, bytes);
            }
        }
        after = slice.through.map(str::to_owned);
        left = rest;
        entry.clear();
        if after.is_none() {
            break;
        }
    }
    assert!(left.is_empty() && after.is_none());
    assert_eq!(slices.next(export, &mut entry).expect("bytes"), None);
}

type Section = (NodeCid, Vec<u8>);

fn keys() -> (PrivateKey, PublicKey) {
    let key = PrivateKey::from_bytes(Curve::K256, &[7; 32]).expect("a scalar");
    let public = key.public().expect("a point");
    (key, public)
}

/// A commit of version 3 over the tree, signed.
fn commit_block(data: &NodeCid) -> Vec<u8> {
    let fields = |signature: Option<&[u8]>| {
        let mut out = Vec::new();
        cbor::head(5, 5 + u64::from(signature.is_some()), &mut out);
        let text = |text: &str, out: &mut Vec<u8>| {
            cbor::head(3, text.len() as u64, out);
            out.extend_from_slice(text.as_bytes());
        };
        text("did", &mut out);
        text(DID, &mut out);
        text("rev", &mut out);
        text(REV, &mut out);
        if let Some(signature) = signature {
            text("sig", &mut out);
            cbor::head(2, signature.len() as u64, &mut out);
            out.extend_from_slice(signature);
        }
        text("data", &mut out);
        cbor::write_link(Cid::exact(data).expect("a CID"), &mut out);
        text("prev", &mut out);
        out.push(0xf6);
        text("version", &mut out);
        out.push(3);
        out
    };
    let signature = keys().0.sign(&fields(None)).expect("a signature");
    fields(Some(&signature))
}

/// The commit's CID and every block of a repository of these records.
pub fn sections(records: &BTreeMap<String, Vec<u8>>) -> (NodeCid, Vec<Section>) {
    let cids: Vec<NodeCid> = records.values().map(|each| tree::block_cid(each)).collect();
    let leaves = records.keys().map(String::as_str).zip(&cids);
    let leaves = leaves.map(|(key, cid)| (key, Cid::exact(cid).expect("a CID")));
    let mut blocks = Vec::new();
    let data = tree::build(leaves, |cid, block| blocks.push((cid, block))).expect("keys in order");
    let commit = commit_block(&data);
    let root = tree::block_cid(&commit);
    blocks.push((root, commit));
    blocks.extend(cids.into_iter().zip(records.values().cloned()));
    blocks.sort();
    blocks.dedup();
    (root, blocks)
}

/// The export of these blocks.
pub fn export(root: &NodeCid, blocks: &[Section]) -> Vec<u8> {
    let root = Cid::exact(root).expect("a CID");
    let blocks = blocks
        .iter()
        .map(|(cid, block)| (Cid::exact(cid).expect("a CID"), block.as_slice()));
    crate::car::write(&[root], blocks)
}

fn any_content(tape: &mut Tape<'_>) -> Verdict {
    let mut records = BTreeMap::new();
    for _ in 0..tape.below(40) {
        let key = format!("app.bsky.feed.like/3k{:02x}", tape.byte());
        records.insert(
            key,
            vec![0x82, 0x18, tape.byte().max(24), 0x18, tape.byte().max(24)],
        );
    }
    let (root, mut blocks) = sections(&records);
    let place = tape.below(blocks.len().min(256));
    let whole = export(&root, &blocks);
    let mut damaged = whole.clone();
    let expected = match tape.below(6) {
        0 => {
            blocks.swap_remove(place);
            damaged = export(&root, &blocks);
            Some("incomplete")
        }
        1 => {
            let bit = 1 << tape.below(8);
            blocks[place].1[0] ^= bit;
            damaged = export(&root, &blocks);
            Some("hash")
        }
        2 => {
            damaged.truncate(damaged.len() - 1 - tape.below(64));
            Some("incomplete")
        }
        3 => {
            let place = tape.below(256) * damaged.len() / 256;
            damaged[place] ^= 1 << tape.below(8);
            None
        }
        4 => {
            blocks.rotate_left(place);
            blocks.extend(blocks.first().cloned());
            damaged = export(&root, &blocks);
            Some("")
        }
        _ => Some(""),
    };
    let read = open(&damaged);
    let kind = read.as_ref().err().map_or("", RepoError::kind);
    assert!(
        expected.is_none_or(|expected| expected == kind),
        "{expected:?}, but {kind}"
    );
    let Ok(read) = read else {
        return Verdict::Rejected;
    };
    let found: BTreeMap<String, Vec<u8>> = is_sound(&read)
        .into_iter()
        .map(|(key, _, record)| (key, record))
        .collect();
    let (_, public) = keys();
    let other = PrivateKey::from_bytes(Curve::K256, &[8; 32]).and_then(|key| key.public());
    assert!(!read.signed_by(&other.expect("a key")));
    // A changed root may name another block, which then is no commit.
    assert_eq!(found, records);
    let commit = &read.commit;
    assert_eq!(
        (commit.did.as_str(), commit.rev.as_deref()),
        (DID, Some(REV))
    );
    assert!(read.signed_by(&public));
    Verdict::Accepted
}
