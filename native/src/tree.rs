//! Building a Merkle search tree, and taking a commit's operations back from one.
//!
//! Both are one function: a sequence of leaves and unknown subtrees in key order has
//! exactly one tree. An unknown subtree may stay unknown as long as it is alone
//! between two keys of higher layers; where it would have to be merged with a neighbour,
//! its block is missing.

use sha2::{Digest, Sha256};

use crate::cid::{Cid, DAG_CBOR, SHA2_256};
use crate::mst::{common_prefix, is_valid_key, key_height, missing, walk, Item, MstError};

/// CID of a DAG-CBOR block: version 1, SHA-256.
pub type NodeCid = [u8; 36];

/// One operation of a commit: `cid` after it, `prev` before it.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    pub key: &'a str,
    pub cid: Option<Cid<'a>>,
    pub prev: Option<Cid<'a>>,
}

/// The CID under which `block` is stored.
#[allow(clippy::cast_possible_truncation)] // both codes are below 0x80
pub fn block_cid(block: &[u8]) -> NodeCid {
    let mut cid = [0; 36];
    cid[..4].copy_from_slice(&[1, DAG_CBOR as u8, SHA2_256 as u8, 32]);
    cid[4..].copy_from_slice(&Sha256::digest(block));
    cid
}

/// Builds the tree of `leaves`, which must be in strictly ascending key order.
///
/// `store` receives every node, children before parents; the return value is the root.
pub fn build<'a>(
    leaves: impl IntoIterator<Item = (&'a str, Cid<'a>)>,
    store: impl FnMut(NodeCid, Vec<u8>),
) -> Result<NodeCid, MstError> {
    let mut items: Vec<Item<'a>> = Vec::new();
    let mut last = "";
    for (key, value) in leaves {
        if !is_valid_key(key.as_bytes()) {
            return Err(MstError::Key);
        }
        if key <= last {
            return Err(MstError::Order(key.to_owned()));
        }
        last = key;
        items.push(leaf(key, value));
    }
    Builder { store }.root(&items)
}

/// The root of the tree before `operations`, from the tree after them.
///
/// `block` must find the nodes that a covering proof holds. Every operation is checked
/// against the tree: what it claims to have written must be there, what it claims to have
/// deleted must not. Compare the result with the commit's `prevData`.
pub fn invert<'a>(
    root: Cid<'a>,
    block: impl Fn(Cid<'a>) -> Option<&'a [u8]>,
    operations: &[Operation<'a>],
) -> Result<NodeCid, MstError> {
    let mut operations = operations.to_vec();
    operations.sort_unstable_by_key(|operation| operation.key);
    for pair in operations.windows(2) {
        if let [first, second] = pair {
            if first.key == second.key {
                return Err(MstError::Operation(first.key.to_owned()));
            }
        }
    }
    let mut after = Vec::new();
    walk(root, block, |item| {
        after.push(item);
        Ok(())
    })?;
    let before = undo(after, &operations)?;
    Builder { store: |_, _| {} }.root(&before)
}

/// Merges the items of the new tree with the sorted operations.
fn undo<'a>(after: Vec<Item<'a>>, operations: &[Operation<'a>]) -> Result<Vec<Item<'a>>, MstError> {
    let mut before = Vec::with_capacity(after.len() + operations.len());
    let mut pending = operations.iter().peekable();
    // A key that is not found may hide in the subtree that precedes it in this gap.
    let mut unknown = None;
    for item in after {
        match item {
            Item::Stub { node, .. } => {
                unknown = Some(node);
                before.push(item);
            }
            Item::Leaf { ref key, value, .. } => {
                while let Some(operation) = pending.next_if(|next| next.key < key.as_str()) {
                    before.push(deleted(operation, unknown)?);
                }
                unknown = None;
                match pending.next_if(|next| next.key == key.as_str()) {
                    None => before.push(item),
                    Some(operation) if operation.cid == Some(value) => {
                        before.extend(operation.prev.map(|prev| leaf(key, prev)));
                    }
                    Some(operation) => return Err(mismatch(operation)),
                }
            }
        }
    }
    for operation in pending {
        before.push(deleted(operation, unknown)?);
    }
    Ok(before)
}

/// The leaf that an operation on an absent key took away.
fn deleted<'a>(operation: &Operation<'a>, unknown: Option<Cid<'a>>) -> Result<Item<'a>, MstError> {
    if let Some(node) = unknown {
        return Err(missing(node));
    }
    match (operation.cid, operation.prev) {
        (None, Some(prev)) if is_valid_key(operation.key.as_bytes()) => {
            Ok(leaf(operation.key, prev))
        }
        _ => Err(mismatch(operation)),
    }
}

fn mismatch(operation: &Operation<'_>) -> MstError {
    MstError::Operation(operation.key.to_owned())
}

fn leaf<'a>(key: &str, value: Cid<'a>) -> Item<'a> {
    Item::Leaf {
        key: key.to_owned(),
        value,
        height: key_height(key.as_bytes()),
    }
}

fn layer_of(item: &Item<'_>) -> u8 {
    match item {
        Item::Leaf { height, .. } => *height,
        Item::Stub { layer, .. } => *layer,
    }
}

/// A link to a node that was built here or was only ever known by its CID.
enum Link<'a> {
    Built(NodeCid),
    Known(Cid<'a>),
}

impl Link<'_> {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Built(cid) => cid,
            Self::Known(cid) => cid.as_bytes(),
        }
    }
}

struct Builder<S> {
    store: S,
}

impl<S: FnMut(NodeCid, Vec<u8>)> Builder<S> {
    fn root(&mut self, items: &[Item<'_>]) -> Result<NodeCid, MstError> {
        let top = items.iter().map(layer_of).max().unwrap_or_default();
        // A subtree that reaches the top would have to be opened: it may have no key there.
        for item in items {
            if let Item::Stub { node, layer } = item {
                if *layer == top {
                    return Err(missing(*node));
                }
            }
        }
        self.node(items, top)
    }

    fn node(&mut self, items: &[Item<'_>], layer: u8) -> Result<NodeCid, MstError> {
        let mut runs =
            items.split(|item| matches!(item, Item::Leaf { height, .. } if *height == layer));
        let keys = items.iter().filter_map(|item| match item {
            Item::Leaf { key, value, height } if *height == layer => Some((key.as_str(), *value)),
            _ => None,
        });
        let left = self.child(runs.next().unwrap_or_default(), layer)?;
        let mut entries = Vec::new();
        for ((key, value), run) in keys.zip(runs) {
            entries.push((key, value, self.child(run, layer)?));
        }
        let block = encode_node(left.as_ref(), &entries);
        let cid = block_cid(&block);
        (self.store)(cid, block);
        Ok(cid)
    }

    /// The subtree of what lies between two keys of layer `parent`.
    fn child<'a>(&mut self, items: &[Item<'a>], parent: u8) -> Result<Option<Link<'a>>, MstError> {
        if items.is_empty() {
            return Ok(None);
        }
        let layer = parent.checked_sub(1).ok_or(MstError::Layer)?;
        for item in items {
            if let Item::Stub { node, layer: its } = item {
                if *its >= layer {
                    return match items {
                        [_] if *its == layer => Ok(Some(Link::Known(*node))),
                        _ => Err(missing(*node)),
                    };
                }
            }
        }
        Ok(Some(Link::Built(self.node(items, layer)?)))
    }
}

fn encode_node(left: Option<&Link<'_>>, entries: &[(&str, Cid<'_>, Option<Link<'_>>)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + entries.len() * 128);
    out.extend_from_slice(b"\xa2\x61e");
    write_head(&mut out, 0x80, entries.len());
    let mut previous: &[u8] = b"";
    for (key, value, right) in entries {
        let key = key.as_bytes();
        let shared = common_prefix(previous, key);
        let suffix = key.get(shared..).unwrap_or_default();
        out.extend_from_slice(b"\xa4\x61k");
        write_head(&mut out, 0x40, suffix.len());
        out.extend_from_slice(suffix);
        out.extend_from_slice(b"\x61p");
        write_head(&mut out, 0x00, shared);
        out.extend_from_slice(b"\x61t");
        write_link(&mut out, right.as_ref().map(Link::as_bytes));
        out.extend_from_slice(b"\x61v");
        write_link(&mut out, Some(value.as_bytes()));
        previous = key;
    }
    out.extend_from_slice(b"\x61l");
    write_link(&mut out, left.map(Link::as_bytes));
    out
}

fn write_link(out: &mut Vec<u8>, cid: Option<&[u8]>) {
    match cid {
        None => out.push(0xf6),
        Some(cid) => {
            out.extend_from_slice(&[0xd8, 42]);
            write_head(out, 0x40, cid.len() + 1);
            out.push(0);
            out.extend_from_slice(cid);
        }
    }
}

/// A CBOR head in its shortest form; `major` is already in the upper three bits.
#[allow(clippy::cast_possible_truncation)] // each arm covers its width
pub(crate) fn write_head(out: &mut Vec<u8>, major: u8, number: usize) {
    match number {
        0..=23 => out.push(major | number as u8),
        24..=0xff => out.extend_from_slice(&[major | 0x18, number as u8]),
        0x100..=0xffff => {
            out.push(major | 0x19);
            out.extend_from_slice(&(number as u16).to_be_bytes());
        }
        _ => {
            out.push(major | 0x1a);
            out.extend_from_slice(&(number as u32).to_be_bytes());
        }
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
