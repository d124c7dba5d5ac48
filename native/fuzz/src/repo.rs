//! Any bytes are a whole repository or a failure of one of five kinds; what is whole has the
//! one tree of its leaves and records that match their CIDs. An export that was made here is
//! read as what was put in and as signed by its key only; whatever is done to it, it never
//! reads as another repository, and a block that is lost is `incomplete`.

use std::collections::BTreeMap;

use _native::car;
use _native::cid::Cid;
use _native::crypto::{Curve, PrivateKey, PublicKey};
use _native::repo::{self, Repo, RepoError};
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
    let read = heap::bounded(cbor::NESTING_BYTES, EACH, data.len(), || {
        repo::read(data, repo::LIMITS)
    });
    match read {
        Ok(repo) => {
            is_sound(&repo);
            Verdict::Accepted
        }
        Err(error) => {
            assert!(KINDS.contains(&error.kind()));
            Verdict::Rejected
        }
    }
}

fn is_sound(repo: &Repo<'_>) {
    let pairs = repo.leaves.iter().map(|leaf| (leaf.key.as_str(), leaf.cid));
    let mut nodes = 0;
    let root = tree::build(pairs, |_, _| nodes += 1).expect("leaves of a tree");
    // Another hash or codec of the root's CID names the same content.
    if repo.commit.data.as_bytes().starts_with(&root[..4]) {
        assert_eq!(repo.commit.data.as_bytes(), root);
        assert_eq!(repo.nodes, nodes);
    }
    for leaf in &repo.leaves {
        assert_eq!(car::check_hash(leaf.cid, leaf.record), Ok(()));
    }
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
    let read = repo::read(&damaged, repo::LIMITS);
    let kind = read.as_ref().err().map_or("", RepoError::kind);
    assert!(
        expected.is_none_or(|expected| expected == kind),
        "{expected:?}, but {kind}"
    );
    let Ok(repo) = read else {
        return Verdict::Rejected;
    };
    is_sound(&repo);
    let found: BTreeMap<String, Vec<u8>> = repo
        .leaves
        .iter()
        .map(|leaf| (leaf.key.clone(), leaf.record.to_vec()))
        .collect();
    let commit = &repo.commit;
    let (_, public) = keys();
    let other = PrivateKey::from_bytes(Curve::K256, &[8; 32]).and_then(|key| key.public());
    assert!(!commit.signed_by(&other.expect("a key")));
    // A changed root may name another block, which then is no commit.
    assert_eq!(found, records);
    assert_eq!(
        (commit.did.as_ref(), commit.rev.as_deref()),
        (DID, Some(REV))
    );
    assert!(commit.signed_by(&public));
    Verdict::Accepted
}
