//! Any blocks are a tree or an error: what is walked to its end has ascending keys and is the
//! one tree of its leaves, node for node. Any set of keys builds a tree that walks back to
//! them; taking any operations back from it gives the tree before them, from the covering
//! proof alone as well; from fewer blocks it gives that tree or says what is missing, and
//! false operations never give it. Memory and time stay below a constant times the input.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use _native::cbor::{self, Value};
use _native::cid::Cid;
use _native::mst::{self, Item, MstError};
use _native::tree::{self, NodeCid, Operation};

use crate::tape::Tape;
use crate::{heap, Verdict};

type Leaves = BTreeMap<String, NodeCid>;
type Blocks = BTreeMap<NodeCid, Vec<u8>>;

/// An entry of 26 bytes may repeat a key of a kilobyte.
const EACH: usize = 200;
const COLLECTIONS: [&str; 3] = ["app.bsky.feed.like", "app.bsky.feed.post", "a.b"];

/// An even first byte: blocks in runs, the first of them the root, named by their order.
/// An odd one: choices of keys and operations.
pub fn check(data: &[u8]) -> Verdict {
    let mut tape = Tape::new(data);
    if tape.byte() & 1 == 0 {
        any_blocks(&mut tape)
    } else {
        any_operations(&mut tape)
    }
}

/// The CID of the n-th block of an input: no hash, for who changes a block cannot keep it.
pub fn name_of(number: u8) -> NodeCid {
    let mut cid = tree::block_cid(b"block");
    cid[4] = number;
    cid
}

fn any_blocks(tape: &mut Tape<'_>) -> Verdict {
    let length = tape.rest().len();
    let mut blocks: Vec<&[u8]> = Vec::new();
    while !tape.is_empty() && blocks.len() < 256 {
        blocks.push(tape.run());
    }
    let root = name_of(0);
    let root = Cid::exact(&root).expect("a CID");
    let number_of = |cid: Cid<'_>| -> Option<usize> {
        let digest: &[u8] = cid.multihash().digest;
        (digest.len() == 32).then(|| digest.first().copied().map(usize::from))?
    };
    let block = |cid: Cid<'_>| blocks.get(number_of(cid)?).copied();
    let read = RefCell::new(Vec::with_capacity(256));
    let block_read = |cid: Cid<'_>| {
        let found = block(cid);
        read.borrow_mut().extend(found);
        found
    };
    let mut leaves: Vec<(String, Cid<'_>)> = Vec::new();
    let mut stubs = 0;
    let mut visits = 0_usize;
    // A block may be named many times here, so a key stands for what was read.
    let walked = heap::bounded(crate::cbor::NESTING_BYTES, EACH * 129, length, || {
        mst::walk(root, block_read, |item| {
            visits += 1;
            match item {
                Item::Stub { .. } => stubs += 1,
                Item::Leaf { key, value, height } => {
                    assert_eq!(height, mst::key_height(key.as_bytes()));
                    leaves.push((key, value));
                }
            }
            Ok(())
        })
    });
    assert!(visits <= length, "{visits} visits of {length} bytes");
    let proof = mst::covering_proof(root, block, &["app.bsky.feed.post/3k22222222222"]);
    let Ok(nodes) = walked else {
        return Verdict::Rejected;
    };
    assert!(leaves.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(leaves
        .iter()
        .all(|(key, _)| mst::is_valid_key(key.as_bytes())));
    if stubs == 0 {
        let mut built = Vec::new();
        let pairs = leaves.iter().map(|(key, cid)| (key.as_str(), *cid));
        tree::build(pairs, |_, block| built.push(shape(&block))).expect("leaves of a tree");
        assert_eq!(built.len(), nodes);
        let mut walked: Vec<_> = read.borrow().iter().map(|block| shape(block)).collect();
        walked.sort();
        built.sort();
        assert_eq!(walked, built, "another tree of the same leaves");
        assert!(proof.is_ok());
    }
    Verdict::Accepted
}

/// A node without the names of its children, which are no hashes here.
fn shape(block: &[u8]) -> String {
    let node = cbor::decode(block).expect("a node");
    let leads = |value: Option<&Value<'_>>| value.is_some_and(|value| value.as_link().is_some());
    let mut parts = vec![leads(node.get("l")).to_string()];
    let entries = node.get("e").and_then(Value::as_list).unwrap_or_default();
    for entry in entries {
        let part = |name| entry.get(name).cloned();
        let (key, prefix, value) = (part("k"), part("p"), part("v"));
        let leads = leads(entry.get("t"));
        parts.push(format!("{key:?} {prefix:?} {value:?} {leads}"));
    }
    parts.join(" ")
}

/// A key by three bytes; the same three give the same key.
fn key_of(tape: &mut Tape<'_>) -> String {
    let collection = *tape.pick(&COLLECTIONS);
    format!("{collection}/3k{:02x}{:02x}", tape.byte(), tape.byte() & 15)
}

fn value_of(number: u8) -> NodeCid {
    tree::block_cid(&[number])
}

fn build(leaves: &Leaves) -> (NodeCid, Blocks) {
    let mut blocks = Blocks::new();
    let pairs = leaves
        .iter()
        .map(|(key, value)| (key.as_str(), Cid::exact(value).expect("a CID")));
    let root = tree::build(pairs, |cid, block| {
        assert_eq!(cid, tree::block_cid(&block));
        assert!(blocks.insert(cid, block).is_none(), "a node twice");
    });
    (root.expect("keys in order"), blocks)
}

fn walk(root: &NodeCid, blocks: &Blocks) -> Leaves {
    let mut leaves = Leaves::new();
    let nodes = mst::walk(
        cid(root),
        |cid| find(blocks, cid),
        |item| {
            let Item::Leaf { key, value, .. } = item else {
                panic!("a block is missing");
            };
            let value: NodeCid = value.as_bytes().try_into().expect("36 bytes");
            leaves.insert(key, value);
            Ok(())
        },
    );
    assert_eq!(nodes, Ok(blocks.len()));
    leaves
}

fn cid(bytes: &NodeCid) -> Cid<'_> {
    Cid::exact(bytes).expect("a CID")
}

fn find<'b>(blocks: &'b Blocks, cid: Cid<'_>) -> Option<&'b [u8]> {
    blocks.get(cid.as_bytes()).map(Vec::as_slice)
}

/// A change of one key: what it held and what it holds.
type Change = (Option<NodeCid>, Option<NodeCid>);

fn any_operations(tape: &mut Tape<'_>) -> Verdict {
    let mut before = Leaves::new();
    for _ in 0..tape.byte() {
        before.insert(key_of(tape), value_of(tape.byte()));
    }
    let mut changes: BTreeMap<String, Change> = BTreeMap::new();
    let mut after = before.clone();
    for _ in 0..tape.below(12) {
        let key = key_of(tape);
        let choice = tape.byte();
        let old = before.get(&key).copied();
        let new = (choice & 1 == 0 || old.is_none()).then(|| value_of(choice));
        match new {
            Some(value) => after.insert(key.clone(), value),
            None => after.remove(&key),
        };
        changes.insert(key, (old, new));
    }
    let (root_before, blocks_before) = build(&before);
    assert_eq!(walk(&root_before, &blocks_before), before);
    let (root, blocks) = build(&after);
    assert_eq!(walk(&root, &blocks), after);
    assert_eq!(root == root_before, after == before);

    let operations = operations_of(&changes);
    let all = tree::invert(cid(&root), |cid| find(&blocks, cid), &operations);
    assert_eq!(all, Ok(root_before));
    let keys: Vec<&str> = changes.keys().map(String::as_str).collect();
    let proof = mst::covering_proof(cid(&root), |cid| find(&blocks, cid), &keys);
    let proof: BTreeSet<Vec<u8>> = proof
        .expect("all blocks are there")
        .iter()
        .map(|cid| cid.as_bytes().to_vec())
        .collect();
    let covered = |cid: Cid<'_>| find(&blocks, cid).filter(|_| proof.contains(cid.as_bytes()));
    if !changes.is_empty() {
        assert_eq!(
            tree::invert(cid(&root), covered, &operations),
            Ok(root_before)
        );
    }
    let lost = tape.byte();
    let fewer = |cid: Cid<'_>| {
        find(&blocks, cid).filter(|_| {
            cid.as_bytes()
                .last()
                .is_none_or(|last| last & 7 != lost & 7)
        })
    };
    match tree::invert(cid(&root), fewer, &operations) {
        Ok(found) => assert_eq!(found, root_before),
        Err(error) => assert!(matches!(error, MstError::Missing(_)), "{error}"),
    }
    false_operations(tape, &changes, (&root, &blocks), root_before);
    Verdict::of(!changes.is_empty())
}

fn operations_of(changes: &BTreeMap<String, Change>) -> Vec<Operation<'_>> {
    let changes = changes.iter();
    changes
        .map(|(key, (old, new))| Operation {
            key,
            cid: new.as_ref().map(cid),
            prev: old.as_ref().map(cid),
        })
        .collect()
}

/// One operation with another value, or one left out: an error or another tree.
fn false_operations(
    tape: &mut Tape<'_>,
    changes: &BTreeMap<String, Change>,
    (root, blocks): (&NodeCid, &Blocks),
    root_before: NodeCid,
) {
    let mut changes: Vec<_> = changes.clone().into_iter().collect();
    if changes.is_empty() {
        return;
    }
    let place = tape.below(changes.len());
    let other = tree::block_cid(b"another value");
    match tape.byte() & 3 {
        0 => changes[place].1 .0 = Some(other),
        1 => changes[place].1 .1 = Some(other),
        2 => changes.push(changes[place].clone()),
        _ => {
            let (old, new) = changes.swap_remove(place).1;
            if old == new {
                return;
            }
        }
    }
    let operations: Vec<_> = changes
        .iter()
        .map(|(key, (old, new))| Operation {
            key,
            cid: new.as_ref().map(cid),
            prev: old.as_ref().map(cid),
        })
        .collect();
    let found = tree::invert(cid(root), |cid| find(blocks, cid), &operations);
    assert_ne!(found, Ok(root_before), "{operations:?}");
}
