//! Trees as `mst::check` reads them: runs of nodes, the root first, named by their order.

use std::collections::BTreeSet;

use _native::cid::Cid;
use _native::mst::{common_prefix, key_height};
use _native::tree::{self, NodeCid};

use crate::mst::name_of;
use crate::tape::write_run;

/// Good trees, and others of every shape that must be refused.
pub fn all() -> Vec<Vec<u8>> {
    let mut all = trees();
    all.extend(odd_trees());
    all.push(wide_node());
    all
}

/// One node of more entries than levels are allowed, and in its last one lists in lists.
fn wide_node() -> Vec<u8> {
    let value = tree::block_cid(b"value");
    let mut block = b"\xa2\x61e\x99\x01\x2d".to_vec(); // 301 entries
    for number in 0..300_u32 {
        block.extend_from_slice(match number {
            0 => b"\xa4\x61k\x43a/b\x61p\x00",
            _ if number % 2 == 0 => b"\xa4\x61k\x41b\x61p\x02",
            _ => b"\xa4\x61k\x41a\x61p\x02".as_slice(),
        });
        block.extend_from_slice(b"\x61t\xf6\x61v");
        crate::cbor::write_link(Cid::exact(&value).expect("a CID"), &mut block);
    }
    block.extend_from_slice(b"\xa4\x61k");
    block.extend(std::iter::repeat_n(0x81, 30_000));
    let mut out = vec![0];
    write_run(&block, &mut out);
    out
}

/// Trees of another shape than their leaves have: they must be refused. One is right.
fn odd_trees() -> Vec<Vec<u8>> {
    let keys = (0..400_u32).map(|number| format!("app.bsky.feed.post/3k{number:06}"));
    let by_height = |height: u8| {
        let of_height = |key: &String| key_height(key.as_bytes()) == height;
        let keys = keys.clone().filter(of_height);
        keys.take(5).collect::<Vec<String>>()
    };
    let (low, middle, top) = (by_height(0), by_height(1), by_height(2));
    let mut mixed = [low.clone(), middle.clone()].concat();
    mixed.sort();
    let first = &top[..1];
    let after: Vec<String> = low.iter().filter(|key| *key > &top[0]).cloned().collect();
    [
        vec![node(&low, true, false)],
        vec![node(&low, false, false)],
        vec![node(&mixed, true, false)],
        // A layer left out, a child in its parent's layer, a child of nothing.
        vec![node(first, true, true), node(&after, true, false)],
        vec![
            node(&middle[..1], true, true),
            node(&middle[1..], true, false),
        ],
        vec![node(&middle[..1], true, true), node(&[], true, false)],
    ]
    .into_iter()
    .map(|nodes| {
        let mut out = vec![0];
        for node in nodes {
            write_run(&node, &mut out);
        }
        out
    })
    .collect()
}

/// A node of these keys; the last one leads to the second block of the input, if any does.
fn node(keys: &[String], shorten: bool, leads: bool) -> Vec<u8> {
    let value = tree::block_cid(b"value");
    let value = Cid::exact(&value).expect("a CID");
    let child = name_of(1);
    let mut out = b"\xa2\x61e".to_vec();
    crate::cbor::head(4, keys.len() as u64, &mut out);
    let mut previous = "";
    for (number, key) in keys.iter().enumerate() {
        let shared = common_prefix(previous.as_bytes(), key.as_bytes());
        let shared = if shorten { shared } else { 0 };
        let suffix = &key.as_bytes()[shared..];
        out.extend_from_slice(b"\xa4\x61k");
        crate::cbor::head(2, suffix.len() as u64, &mut out);
        out.extend_from_slice(suffix);
        out.extend_from_slice(b"\x61p");
        crate::cbor::head(0, shared as u64, &mut out);
        out.extend_from_slice(b"\x61t");
        if leads && number + 1 == keys.len() {
            crate::cbor::write_link(Cid::exact(&child).expect("a CID"), &mut out);
        } else {
            out.push(0xf6);
        }
        out.extend_from_slice(b"\x61v");
        crate::cbor::write_link(value, &mut out);
        previous = key;
    }
    out.extend_from_slice(b"\x61l\xf6");
    out
}

/// Trees whose nodes are named by their order, as `mst::check` finds them.
fn trees() -> Vec<Vec<u8>> {
    [0_u32, 1, 3, 20, 60]
        .into_iter()
        .map(|count| {
            let keys: BTreeSet<String> = (0..count)
                .map(|number| format!("app.bsky.feed.post/3k{:06}", number * 7919 % 1_000_003))
                .collect();
            let value = tree::block_cid(b"value");
            let value = Cid::exact(&value).expect("a CID");
            let mut nodes: Vec<(NodeCid, Vec<u8>)> = Vec::new();
            tree::build(
                keys.iter().map(|key| (key.as_str(), value)),
                |cid, block| {
                    nodes.push((cid, block));
                },
            )
            .expect("keys in order");
            nodes.reverse(); // the root first
            let names: Vec<NodeCid> = nodes.iter().map(|(cid, _)| *cid).collect();
            let mut out = vec![0];
            for (_, block) in &mut nodes {
                for (number, name) in names.iter().enumerate() {
                    let place = block.windows(36).position(|part| part == name);
                    if let Some(place) = place {
                        let number = u8::try_from(number).unwrap_or(u8::MAX);
                        block[place..place + 36].copy_from_slice(&name_of(number));
                    }
                }
                write_run(block, &mut out);
            }
            out
        })
        .collect()
}
