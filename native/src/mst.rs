//! The Merkle search tree of a repository: reading and checking its nodes.
//!
//! Rules from the repository specification of the AT Protocol. A key's height is the
//! number of leading zeros of its SHA-256 in units of two bits; a node of layer `n`
//! holds exactly the keys of height `n` of its range, and between them links to nodes
//! of layer `n - 1`. A key repeats what it shares with the key before it in its node as a
//! length. So a set of (key, value) pairs has one tree only, and any deviation is refused
//! here: another shape of the same content would have another root.
//!
//! Layers fall by one per step, which bounds the recursion by [`MAX_LAYER`]; strictly
//! ascending keys keep a node from being counted twice, which bounds the work by the input.

use sha2::{Digest, Sha256};

use crate::cbor::{CborError, Decoder, Value};
use crate::cid::Cid;

/// No hash has more leading pairs of zero bits.
pub const MAX_LAYER: u8 = 128;
/// Longest key, as the reference limits it: a collection, a slash, a record key.
pub const MAX_KEY_BYTES: usize = 1024;

/// Why blocks are not (the whole of) a tree.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MstError {
    /// A block that is needed is not there; nothing is known to be wrong.
    #[error("missing block {0}")]
    Missing(String),
    #[error("tree node: {0}")]
    Cbor(#[from] CborError),
    #[error("tree node: not the fields of a node")]
    Shape,
    #[error("tree node: key is not a record path")]
    Key,
    #[error("tree node: prefix is not what the keys share")]
    Prefix,
    #[error("tree keys not ascending at {0}")]
    Order(String),
    #[error("tree node in the wrong layer")]
    Layer,
    #[error("tree node without content")]
    Empty,
    #[error("operation on {0} does not match the tree")]
    Operation(String),
}

/// One step of a walk in key order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    Leaf {
        key: String,
        value: Cid<'a>,
        height: u8,
    },
    /// A subtree whose block is not at hand.
    Stub { node: Cid<'a>, layer: u8 },
}

/// A node with its keys spelled out.
#[derive(Debug)]
struct Node<'a> {
    left: Option<Cid<'a>>,
    entries: Vec<Entry<'a>>,
}

#[derive(Debug)]
struct Entry<'a> {
    key: String,
    value: Cid<'a>,
    right: Option<Cid<'a>>,
}

/// How high in the tree `key` stands.
#[allow(clippy::cast_possible_truncation)] // at most 128
pub fn key_height(key: &[u8]) -> u8 {
    let mut zeros = 0;
    for byte in Sha256::digest(key) {
        zeros += byte.leading_zeros();
        if byte != 0 {
            break;
        }
    }
    (zeros / 2) as u8
}

/// How many bytes two keys share at their start.
pub fn common_prefix(left: &[u8], right: &[u8]) -> usize {
    left.iter().zip(right).take_while(|(a, b)| a == b).count()
}

/// Whether `key` is `collection/record key` in the characters of a record path.
pub fn is_valid_key(key: &[u8]) -> bool {
    let mut slashes = 0;
    for byte in key {
        match byte {
            b'/' => slashes += 1,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'~' | b'-' | b':' | b'.' => {}
            _ => return false,
        }
    }
    slashes == 1
        && key.len() <= MAX_KEY_BYTES
        && key.first() != Some(&b'/')
        && key.last() != Some(&b'/')
}

/// Walks the tree under `root` in key order, checking every rule on the way.
///
/// `block` finds a block by its CID and answers for its hash. A root that is not at hand is
/// an error, any other absent node becomes an [`Item::Stub`]. Returns how many nodes were read.
pub fn walk<'a>(
    root: Cid<'a>,
    block: impl Fn(Cid<'a>) -> Option<&'a [u8]>,
    visit: impl FnMut(Item<'a>) -> Result<(), MstError>,
) -> Result<usize, MstError> {
    let bytes = block(root).ok_or_else(|| missing(root))?;
    let mut walk = Walk {
        block,
        visit,
        last: String::new(),
        nodes: 0,
    };
    walk.node(bytes, None)?;
    Ok(walk.nodes)
}

struct Walk<B, V> {
    block: B,
    visit: V,
    last: String,
    nodes: usize,
}

impl<'a, B, V> Walk<B, V>
where
    B: Fn(Cid<'a>) -> Option<&'a [u8]>,
    V: FnMut(Item<'a>) -> Result<(), MstError>,
{
    /// `expected` is the layer that the parent leaves to this node; the root chooses its own.
    fn node(&mut self, bytes: &'a [u8], expected: Option<u8>) -> Result<(), MstError> {
        let node = parse_node(bytes)?;
        self.nodes += 1;
        let layer = match (node.entries.first(), node.left, expected) {
            (Some(first), _, _) => key_height(first.key.as_bytes()),
            (None, Some(_), Some(layer)) => layer,
            (None, None, None) => return Ok(()), // the empty tree
            // A root that only leads downwards, a node that leads nowhere.
            (None, _, _) => return Err(MstError::Empty),
        };
        if expected.is_some_and(|expected| expected != layer) {
            return Err(MstError::Layer);
        }
        self.child(node.left, layer)?;
        let mut first = true;
        for entry in node.entries {
            if !first && key_height(entry.key.as_bytes()) != layer {
                return Err(MstError::Layer);
            }
            first = false;
            if entry.key <= self.last {
                return Err(MstError::Order(entry.key));
            }
            self.last.clone_from(&entry.key);
            (self.visit)(Item::Leaf {
                key: entry.key,
                value: entry.value,
                height: layer,
            })?;
            self.child(entry.right, layer)?;
        }
        Ok(())
    }

    fn child(&mut self, link: Option<Cid<'a>>, parent: u8) -> Result<(), MstError> {
        let Some(link) = link else { return Ok(()) };
        let layer = parent.checked_sub(1).ok_or(MstError::Layer)?;
        match (self.block)(link) {
            Some(bytes) => self.node(bytes, Some(layer)),
            None => (self.visit)(Item::Stub { node: link, layer }),
        }
    }
}

/// The nodes by which a receiver can check, from the new tree alone, what became of `keys`.
///
/// For each key: the path to where it stands or would stand, and the paths to both
/// neighbours. In order of discovery, each once. Every block on these paths must be there.
pub fn covering_proof<'a>(
    root: Cid<'a>,
    block: impl Fn(Cid<'a>) -> Option<&'a [u8]>,
    keys: &[&str],
) -> Result<Vec<Cid<'a>>, MstError> {
    let mut proof: Vec<Cid<'a>> = Vec::new();
    for key in keys {
        // Below the key itself both spines that touch it are followed, else one path.
        let mut pending = vec![root];
        let mut seen = Vec::new();
        while let Some(cid) = pending.pop() {
            if seen.contains(&cid) {
                return Err(MstError::Order((*key).to_owned()));
            }
            seen.push(cid);
            let node = parse_node(block(cid).ok_or_else(|| missing(cid))?)?;
            if !proof.contains(&cid) {
                proof.push(cid);
            }
            let below = node.entries.partition_point(|entry| *entry.key < **key);
            let before = match below.checked_sub(1) {
                Some(index) => node.entries.get(index).and_then(|entry| entry.right),
                None => node.left,
            };
            let at = node.entries.get(below).filter(|entry| entry.key == *key);
            let after = at.and_then(|entry| entry.right);
            pending.extend(after.into_iter().chain(before));
        }
    }
    Ok(proof)
}

pub(crate) fn missing(cid: Cid<'_>) -> MstError {
    MstError::Missing(cid.to_string())
}

/// Reads `{e: [{k, p, t, v}], l}`; all fields must be there, no others.
fn parse_node(bytes: &[u8]) -> Result<Node<'_>, MstError> {
    let mut decoder = Decoder::new(bytes);
    let (mut left, mut entries) = (None, None);
    for _ in 0..decoder.map_start()? {
        match decoder.key()?.as_ref() {
            "l" if left.is_none() => left = Some(link(&decoder.value()?)?),
            "e" if entries.is_none() => entries = Some(parse_entries(&mut decoder)?),
            _ => return Err(MstError::Shape),
        }
    }
    decoder.end();
    decoder.finish()?;
    match (left, entries) {
        (Some(left), Some(entries)) => Ok(Node { left, entries }),
        _ => Err(MstError::Shape),
    }
}

fn parse_entries<'a>(decoder: &mut Decoder<'a>) -> Result<Vec<Entry<'a>>, MstError> {
    if !decoder.at_list() {
        return Err(MstError::Shape);
    }
    // Not reserved by the claim: an entry is far longer in memory than in the block.
    let mut entries: Vec<Entry<'a>> = Vec::new();
    for _ in 0..decoder.list_start()? {
        let previous = entries.last().map_or("", |entry| &entry.key);
        let entry = parse_entry(decoder, previous)?;
        entries.push(entry);
    }
    decoder.end();
    Ok(entries)
}

fn parse_entry<'a>(decoder: &mut Decoder<'a>, previous: &str) -> Result<Entry<'a>, MstError> {
    let (mut suffix, mut prefix, mut right, mut value) = (None, None, None, None);
    for _ in 0..decoder.map_start()? {
        match decoder.key()?.as_ref() {
            "k" if suffix.is_none() => suffix = decoder.value()?.as_bytes(),
            "p" if prefix.is_none() => prefix = decoder.value()?.as_int(),
            "t" if right.is_none() => right = Some(link(&decoder.value()?)?),
            "v" if value.is_none() => value = decoder.value()?.as_link(),
            _ => return Err(MstError::Shape),
        }
    }
    decoder.end();
    let (Some(suffix), Some(prefix), Some(right), Some(value)) = (suffix, prefix, right, value)
    else {
        return Err(MstError::Shape);
    };
    let shared = usize::try_from(prefix)
        .ok()
        .and_then(|prefix| previous.get(..prefix))
        .ok_or(MstError::Prefix)?;
    let rest = previous.as_bytes().get(shared.len());
    if rest.is_some() && rest == suffix.first() {
        return Err(MstError::Prefix);
    }
    let mut key = String::with_capacity(shared.len() + suffix.len());
    key.push_str(shared);
    key.push_str(std::str::from_utf8(suffix).map_err(|_| MstError::Key)?);
    if !is_valid_key(key.as_bytes()) {
        return Err(MstError::Key);
    }
    Ok(Entry { key, value, right })
}

fn link<'a>(value: &Value<'a>) -> Result<Option<Cid<'a>>, MstError> {
    match value {
        Value::Null => Ok(None),
        Value::Link(cid) => Ok(Some(*cid)),
        _ => Err(MstError::Shape),
    }
}

#[cfg(test)]
#[path = "mst_tests.rs"]
mod tests;
