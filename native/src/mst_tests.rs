use std::collections::HashMap;

use super::*;
use crate::tree::{block_cid, NodeCid};

type Blocks = HashMap<Vec<u8>, Vec<u8>>;

/// A hand-written node: (prefix, suffix, right) an entry; every value is the same CID.
struct Draft {
    left: Option<NodeCid>,
    entries: Vec<(u8, &'static str, Option<NodeCid>)>,
}

fn write_link(out: &mut Vec<u8>, cid: Option<&NodeCid>) {
    match cid {
        None => out.push(0xf6),
        Some(cid) => {
            out.extend_from_slice(b"\xd8\x2a\x58\x25\x00");
            out.extend_from_slice(cid);
        }
    }
}

fn encode(draft: &Draft) -> Vec<u8> {
    let mut out = b"\xa2\x61e".to_vec();
    out.push(0x80 | u8::try_from(draft.entries.len()).unwrap());
    for (prefix, suffix, right) in &draft.entries {
        assert!(suffix.len() < 24 && *prefix < 24);
        out.extend_from_slice(b"\xa4\x61k");
        out.push(0x40 | u8::try_from(suffix.len()).unwrap());
        out.extend_from_slice(suffix.as_bytes());
        out.extend_from_slice(&[0x61, b'p', *prefix, 0x61, b't']);
        write_link(&mut out, right.as_ref());
        out.extend_from_slice(b"\x61v");
        write_link(&mut out, Some(&block_cid(b"value")));
    }
    out.extend_from_slice(b"\x61l");
    write_link(&mut out, draft.left.as_ref());
    out
}

fn put(
    blocks: &mut Blocks,
    left: Option<NodeCid>,
    entries: &[(u8, &'static str, Option<NodeCid>)],
) -> NodeCid {
    let block = encode(&Draft {
        left,
        entries: entries.to_vec(),
    });
    let cid = block_cid(&block);
    blocks.insert(cid.to_vec(), block);
    cid
}

fn keys(blocks: &Blocks, root: &NodeCid) -> Result<Vec<String>, MstError> {
    let mut keys = Vec::new();
    walk(
        Cid::exact(root).unwrap(),
        |cid| blocks.get(cid.as_bytes()).map(Vec::as_slice),
        |item| {
            keys.push(match item {
                Item::Leaf { key, .. } => key,
                Item::Stub { layer, .. } => format!("stub {layer}"),
            });
            Ok(())
        },
    )?;
    Ok(keys)
}

// Keys whose last digit is their height.
const A0: &str = "A0/374913";
const B1: &str = "B1/986427";
const C0: &str = "C0/451630";
const C2: &str = "C2/014073";
const D0: &str = "D0/952776";

#[test]
fn heights_of_the_test_keys() {
    for (key, height) in [(A0, 0), (B1, 1), (C0, 0), (C2, 2), (D0, 0)] {
        assert_eq!(key_height(key.as_bytes()), height, "{key}");
    }
}

#[test]
fn a_tree_is_walked_in_key_order() {
    let mut blocks = Blocks::new();
    let left = put(&mut blocks, None, &[(0, A0, None)]);
    let right = put(&mut blocks, None, &[(0, C0, None), (0, D0, None)]);
    let root = put(&mut blocks, Some(left), &[(0, B1, Some(right))]);
    assert_eq!(keys(&blocks, &root).unwrap(), [A0, B1, C0, D0]);
    blocks.remove(&left[..]);
    assert_eq!(keys(&blocks, &root).unwrap(), ["stub 0", B1, C0, D0]);
    blocks.remove(&root[..]);
    assert!(matches!(keys(&blocks, &root), Err(MstError::Missing(_))));
}

#[test]
fn the_empty_tree_has_no_keys() {
    let mut blocks = Blocks::new();
    let root = put(&mut blocks, None, &[]);
    assert_eq!(keys(&blocks, &root), Ok(vec![]));
}

#[test]
fn nodes_in_the_wrong_layer_are_refused() {
    let mut blocks = Blocks::new();
    let zero = put(&mut blocks, None, &[(0, A0, None)]);
    let mixed = put(&mut blocks, None, &[(0, A0, None), (0, B1, None)]);
    let skipped = put(&mut blocks, Some(zero), &[(0, C2, None)]);
    let below_zero = put(&mut blocks, Some(zero), &[(0, C0, None)]);
    for root in [mixed, skipped, below_zero] {
        assert_eq!(keys(&blocks, &root), Err(MstError::Layer));
    }
}

#[test]
fn an_empty_node_only_bridges_a_layer() {
    let mut blocks = Blocks::new();
    let zero = put(&mut blocks, None, &[(0, A0, None)]);
    let bridge = put(&mut blocks, Some(zero), &[]);
    let good = put(&mut blocks, Some(bridge), &[(0, C2, None)]);
    assert_eq!(keys(&blocks, &good).unwrap(), [A0, C2]);
    let nothing = put(&mut blocks, None, &[]);
    let leads_nowhere = put(&mut blocks, Some(nothing), &[(0, B1, None)]);
    for root in [bridge, leads_nowhere] {
        assert_eq!(keys(&blocks, &root), Err(MstError::Empty));
    }
}

#[test]
fn keys_must_ascend_within_and_across_nodes() {
    let mut blocks = Blocks::new();
    let swapped = put(&mut blocks, None, &[(0, C0, None), (0, A0, None)]);
    let after = put(&mut blocks, None, &[(0, C0, None)]);
    let across = put(&mut blocks, Some(after), &[(0, B1, None)]);
    let twice = put(&mut blocks, Some(after), &[(0, "B1/986427", Some(after))]);
    for root in [swapped, across, twice] {
        assert!(matches!(keys(&blocks, &root), Err(MstError::Order(_))));
    }
}

#[test]
fn prefixes_must_be_exactly_what_keys_share() {
    let mut blocks = Blocks::new();
    let first = put(&mut blocks, None, &[(1, "0/374913", None)]);
    let too_short = put(
        &mut blocks,
        None,
        &[(0, "A0/374913", None), (1, "0/374914", None)],
    );
    let too_long = put(
        &mut blocks,
        None,
        &[(0, "A0/374913", None), (12, "x", None)],
    );
    for root in [first, too_short, too_long] {
        assert_eq!(keys(&blocks, &root), Err(MstError::Prefix));
    }
}

#[test]
fn keys_must_be_record_paths() {
    for key in ["", "a", "/a", "a/", "a/b/c", "a/b c", "a/ü"] {
        assert!(!is_valid_key(key.as_bytes()), "{key}");
        let mut blocks = Blocks::new();
        let root = put(&mut blocks, None, &[(0, key, None)]);
        assert_eq!(keys(&blocks, &root), Err(MstError::Key), "{key}");
    }
    assert!(is_valid_key(b"com.example.record/A-z_0:9~."));
    assert!(!is_valid_key(
        format!("a/{}", "b".repeat(MAX_KEY_BYTES)).as_bytes()
    ));
}

#[test]
fn other_fields_and_shapes_are_refused() {
    for (block, error) in [
        (&b"\xa2\x61e\x80\x61x\xf6"[..], MstError::Shape),
        (b"\xa1\x61e\x80", MstError::Shape),
        (b"\xa1\x61l\xf6", MstError::Shape),
        (b"\xa2\x61l\xf6\x61l\xf6", MstError::Shape),
        (b"\xa2\x61e\xa0\x61l\xf6", MstError::Shape),
        (b"\xa2\x61e\x80\x61l\x01", MstError::Shape),
        (b"\xa2\x61e\x81\xa0\x61l\xf6", MstError::Shape),
        (b"\x80", MstError::Cbor(CborError::NotAMap)),
        (b"", MstError::Cbor(CborError::Truncated)),
        (
            b"\xa2\x61e\x80\x61l\xf6\x00",
            MstError::Cbor(CborError::Trailing),
        ),
    ] {
        assert_eq!(
            parse_node(block, &mut String::new()).unwrap_err(),
            error,
            "{block:?}"
        );
    }
    // A claimed count does not allocate: the first absent entry ends the reading.
    let claim = b"\xa2\x61e\x9b\x7f\xff\xff\xff\xff\xff\xff\xff\x61l\xf6";
    assert!(parse_node(claim, &mut String::new()).is_err());
}

#[test]
fn a_wide_node_does_not_lift_the_limit_of_depth() {
    // Entries that are whole, more of them than levels are allowed, and then lists in lists.
    let mut block = b"\xa2\x61e\x99\x01\x2d".to_vec(); // 301 entries
    for number in 0..300 {
        block.extend_from_slice(match number {
            0 => b"\xa4\x61k\x43a/b\x61p\x00",
            _ if number % 2 == 0 => b"\xa4\x61k\x41b\x61p\x02",
            _ => b"\xa4\x61k\x41a\x61p\x02".as_slice(),
        });
        block.extend_from_slice(b"\x61t\xf6\x61v");
        write_link(&mut block, Some(&block_cid(b"value")));
    }
    block.extend_from_slice(b"\xa4\x61k");
    block.extend(std::iter::repeat_n(0x81, 1_000_000));
    let cid = block_cid(&block);
    let blocks = Blocks::from([(cid.to_vec(), block)]);
    assert_eq!(keys(&blocks, &cid), Err(MstError::Cbor(CborError::Depth)));
}
