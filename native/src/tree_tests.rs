use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::*;
use crate::mst::covering_proof;

type Blocks = HashMap<Vec<u8>, Vec<u8>>;
type Leaves = BTreeMap<String, NodeCid>;

/// A seeded sequence (`splitmix64`): the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }
}

fn grow(leaves: &Leaves) -> (NodeCid, Blocks) {
    let mut blocks = Blocks::new();
    let entries = leaves
        .iter()
        .map(|(key, cid)| (key.as_str(), Cid::exact(cid).unwrap()));
    let root = build(entries, |cid, block| {
        blocks.insert(cid.to_vec(), block);
    });
    (root.unwrap(), blocks)
}

fn read<'a>(blocks: &'a Blocks) -> impl Fn(Cid<'a>) -> Option<&'a [u8]> {
    |cid| blocks.get(cid.as_bytes()).map(Vec::as_slice)
}

fn value(number: usize) -> NodeCid {
    block_cid(&number.to_be_bytes())
}

fn some_leaves(random: &mut Random, count: usize) -> Leaves {
    (0..count)
        .map(|_| {
            let collection = ["app.bsky.feed.post", "app.bsky.feed.like"][random.below(2)];
            (
                format!("{collection}/{}", random.below(1 << 40)),
                value(random.below(1 << 40)),
            )
        })
        .collect()
}

/// (key, cid after, cid before) of what differs.
type Change = (String, Option<NodeCid>, Option<NodeCid>);

fn change(random: &mut Random, before: &Leaves, count: usize) -> (Leaves, Vec<Change>) {
    let mut after = before.clone();
    let mut changes = BTreeMap::new();
    for _ in 0..count {
        let known: Vec<&String> = before.keys().collect();
        let key = if known.is_empty() || random.below(2) == 0 {
            some_leaves(random, 1).into_keys().next().unwrap()
        } else {
            known[random.below(known.len())].clone()
        };
        let new = (!before.contains_key(&key) || random.below(2) == 0)
            .then(|| value(random.below(1 << 40)));
        match new {
            Some(cid) => after.insert(key.clone(), cid),
            None => after.remove(&key),
        };
        changes.insert(key.clone(), (new, before.get(&key).copied()));
    }
    let changes = changes
        .into_iter()
        .map(|(key, (cid, prev))| (key, cid, prev));
    (after, changes.collect())
}

fn link(cid: Option<&NodeCid>) -> Option<Cid<'_>> {
    cid.map(|cid| Cid::exact(cid).unwrap())
}

fn operations(changes: &[Change]) -> Vec<Operation<'_>> {
    changes
        .iter()
        .map(|(key, cid, prev)| Operation {
            key,
            cid: link(cid.as_ref()),
            prev: link(prev.as_ref()),
        })
        .collect()
}

#[test]
fn a_built_tree_passes_every_check_of_the_walk() {
    let mut random = Random(1);
    for count in [0, 1, 2, 5, 50, 3_000] {
        let leaves = some_leaves(&mut random, count);
        let (root, blocks) = grow(&leaves);
        let mut found = Leaves::new();
        let nodes = walk(Cid::exact(&root).unwrap(), read(&blocks), |item| {
            if let Item::Leaf { key, value, .. } = item {
                found.insert(key, value.as_bytes().try_into().unwrap());
            }
            Ok(())
        });
        assert_eq!(nodes, Ok(blocks.len()));
        assert_eq!(found, leaves);
    }
}

#[test]
fn the_root_of_the_empty_tree_is_known() {
    let (root, _) = grow(&Leaves::new());
    let known = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm";
    assert_eq!(Cid::exact(&root).unwrap().to_string(), known);
}

#[test]
fn keys_out_of_order_are_refused() {
    let cid = value(1);
    let cid = Cid::exact(&cid).unwrap();
    for keys in [["a/b", "a/a"], ["a/a", "a/a"]] {
        let result = build(keys.map(|key| (key, cid)), |_, _| {});
        assert!(matches!(result, Err(MstError::Order(_))));
    }
    assert_eq!(build([("a", cid)], |_, _| {}), Err(MstError::Key));
}

#[test]
fn inversion_needs_no_more_than_the_covering_proof() {
    let mut random = Random(2);
    let mut inverted = 0;
    for round in 0..400 {
        let size = [0, 1, 3, 20, 200][round % 5];
        let before = some_leaves(&mut random, size);
        let count = 1 + random.below(12);
        let (after, changes) = change(&mut random, &before, count);
        let (old_root, _) = grow(&before);
        let (root, blocks) = grow(&after);
        let root = Cid::exact(&root).unwrap();
        let keys: Vec<&str> = changes.iter().map(|(key, _, _)| key.as_str()).collect();
        let proof: BTreeSet<_> = covering_proof(root, read(&blocks), &keys)
            .unwrap()
            .into_iter()
            .collect();
        let sparse = |cid| proof.contains(&cid).then(|| read(&blocks)(cid)).flatten();
        assert_eq!(invert(root, sparse, &operations(&changes)), Ok(old_root));
        assert_eq!(
            invert(root, read(&blocks), &operations(&changes)),
            Ok(old_root)
        );
        inverted += 1;
    }
    assert_eq!(inverted, 400);
}

#[test]
fn inversion_with_blocks_missing_never_finds_another_root() {
    let mut random = Random(3);
    let (mut exact, mut missing) = (0, 0);
    for _ in 0..1_000 {
        let before = some_leaves(&mut random, 60);
        let (after, changes) = change(&mut random, &before, 3);
        let (old_root, _) = grow(&before);
        let (root, mut blocks) = grow(&after);
        blocks.retain(|cid, _| *cid == root || random.below(5) > 0);
        match invert(
            Cid::exact(&root).unwrap(),
            read(&blocks),
            &operations(&changes),
        ) {
            Ok(found) => {
                assert_eq!(found, old_root);
                exact += 1;
            }
            Err(MstError::Missing(_)) => missing += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(exact > 100 && missing > 100, "{exact} {missing}");
}

#[test]
fn operations_that_do_not_match_the_tree_are_refused() {
    let mut random = Random(4);
    let leaves = some_leaves(&mut random, 50);
    let (root, blocks) = grow(&leaves);
    let root = Cid::exact(&root).unwrap();
    let (key, cid) = leaves.iter().next().unwrap();
    let (cid, other) = (Cid::exact(cid).unwrap(), value(7));
    let other = Cid::exact(&other).unwrap();
    for (key, cid, prev) in [
        (key.as_str(), Some(other), None), // another record was written
        (key.as_str(), None, Some(cid)),   // deleted, but there
        (key.as_str(), None, None),
        ("a/absent", Some(other), None), // created, but not there
        ("a/absent", Some(other), Some(cid)),
        ("a/absent", None, None),
        ("no path", None, Some(cid)),
    ] {
        let result = invert(root, read(&blocks), &[Operation { key, cid, prev }]);
        assert_eq!(result, Err(MstError::Operation(key.to_owned())));
    }
    let create = Operation {
        key,
        cid: Some(cid),
        prev: None,
    };
    let twice = invert(root, read(&blocks), &[create, create]);
    assert_eq!(twice, Err(MstError::Operation(key.clone())));
}

#[test]
fn heads_are_written_in_their_shortest_form() {
    for (number, bytes) in [
        (23, &b"\x57"[..]),
        (24, b"\x58\x18"),
        (255, b"\x58\xff"),
        (256, b"\x59\x01\x00"),
        (65_536, b"\x5a\x00\x01\x00\x00"),
    ] {
        let mut out = Vec::new();
        write_head(&mut out, 0x40, number);
        assert_eq!(out, bytes);
    }
}
