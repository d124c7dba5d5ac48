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

/// A node as its block holds it: keys are checked, but not spelled out. So it is never larger
/// than a constant times the block, though a few bytes of it may repeat a key of a kilobyte.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub left: Option<Cid<'a>>,
    pub entries: Vec<Entry<'a>>,
}

#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// How much of the key before it in the node the key begins with.
    pub prefix: usize,
    pub suffix: &'a str,
    pub value: Cid<'a>,
    pub right: Option<Cid<'a>>,
}

impl Entry<'_> {
    /// Makes `key`, the one before it in the node, this entry's.
    pub fn spell(&self, key: &mut String) {
        key.truncate(self.prefix);
        key.push_str(self.suffix);
    }
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
    let mut progress = Progress::default();
    descend(&mut Items { block, visit }, &mut progress, bytes, None)?;
    Ok(progress.nodes)
}

/// The walk over blocks that are all in memory.
struct Items<B, V> {
    block: B,
    visit: V,
}

impl<'a, B, V> Visitor<'a> for Items<B, V>
where
    B: Fn(Cid<'a>) -> Option<&'a [u8]>,
    V: FnMut(Item<'a>) -> Result<(), MstError>,
{
    type Error = MstError;

    fn leaf(&mut self, key: &str, value: Cid<'a>, height: u8) -> Result<(), MstError> {
        let key = key.to_owned();
        (self.visit)(Item::Leaf { key, value, height })
    }

    fn child(&mut self, node: Cid<'a>, layer: u8, progress: &mut Progress) -> Result<(), MstError> {
        match (self.block)(node) {
            Some(bytes) => descend(self, progress, bytes, Some(layer)),
            None => (self.visit)(Item::Stub { node, layer }),
        }
    }
}

/// Who walks a tree: is told its leaves in key order, and finds its nodes.
pub(crate) trait Visitor<'n> {
    type Error: From<MstError>;

    fn leaf(&mut self, key: &str, value: Cid<'n>, height: u8) -> Result<(), Self::Error>;

    /// A subtree that must have this layer: find its block and [`descend`] into it.
    fn child(
        &mut self,
        node: Cid<'n>,
        layer: u8,
        progress: &mut Progress,
    ) -> Result<(), Self::Error>;
}

/// How far a walk has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    last: String,
    pub nodes: usize,
}

/// Walks the subtree of one node. `expected` is the layer that the parent leaves to it; the root
/// chooses its own.
pub(crate) fn descend<'n, V: Visitor<'n>>(
    visitor: &mut V,
    progress: &mut Progress,
    bytes: &'n [u8],
    expected: Option<u8>,
) -> Result<(), V::Error> {
    let mut key = String::new();
    let node = parse_node(bytes, &mut key)?;
    progress.nodes += 1;
    key.clear();
    let layer = match (node.entries.first(), node.left, expected) {
        (Some(first), _, _) => key_height(first.suffix.as_bytes()),
        (None, Some(_), Some(layer)) => layer,
        (None, None, None) => return Ok(()), // the empty tree
        // A root that only leads downwards, a node that leads nowhere.
        (None, _, _) => return Err(MstError::Empty.into()),
    };
    if expected.is_some_and(|expected| expected != layer) {
        return Err(MstError::Layer.into());
    }
    below(visitor, progress, node.left, layer)?;
    let mut first = true;
    for entry in node.entries {
        entry.spell(&mut key);
        if !first && key_height(key.as_bytes()) != layer {
            return Err(MstError::Layer.into());
        }
        first = false;
        if key <= progress.last {
            return Err(MstError::Order(key).into());
        }
        progress.last.clone_from(&key);
        visitor.leaf(&key, entry.value, layer)?;
        below(visitor, progress, entry.right, layer)?;
    }
    Ok(())
}

fn below<'n, V: Visitor<'n>>(
    visitor: &mut V,
    progress: &mut Progress,
    link: Option<Cid<'n>>,
    parent: u8,
) -> Result<(), V::Error> {
    let Some(link) = link else { return Ok(()) };
    let layer = parent.checked_sub(1).ok_or(MstError::Layer)?;
    visitor.child(link, layer, progress)
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
            let mut spelled = String::new();
            let node = parse_node(block(cid).ok_or_else(|| missing(cid))?, &mut spelled)?;
            if !proof.contains(&cid) {
                proof.push(cid);
            }
            spelled.clear();
            let mut found = false;
            let mut smaller = |entry: &Entry<'_>| {
                entry.spell(&mut spelled);
                found = spelled == *key;
                *spelled < **key
            };
            let below = node
                .entries
                .iter()
                .take_while(|entry| smaller(entry))
                .count();
            let before = match below.checked_sub(1) {
                Some(index) => node.entries.get(index).and_then(|entry| entry.right),
                None => node.left,
            };
            let at = node.entries.get(below).filter(|_| found);
            let after = at.and_then(|entry| entry.right);
            pending.extend(after.into_iter().chain(before));
        }
    }
    Ok(proof)
}

pub(crate) fn missing(cid: Cid<'_>) -> MstError {
    MstError::Missing(cid.to_string())
}

/// Reads `{e: [{k, p, t, v}], l}`; all fields must be there, no others. `key` is room to
/// spell keys in, empty at first.
pub(crate) fn parse_node<'a>(bytes: &'a [u8], key: &mut String) -> Result<Node<'a>, MstError> {
    let mut decoder = Decoder::new(bytes);
    let (mut left, mut entries) = (None, None);
    for _ in 0..decoder.map_start()? {
        match decoder.letter()? {
            b'l' if left.is_none() => left = Some(link(&decoder.value()?)?),
            b'e' if entries.is_none() => entries = Some(parse_entries(&mut decoder, key)?),
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

fn parse_entries<'a>(
    decoder: &mut Decoder<'a>,
    key: &mut String,
) -> Result<Vec<Entry<'a>>, MstError> {
    if !decoder.at_list() {
        return Err(MstError::Shape);
    }
    // Not reserved by the claim: an entry is longer in memory than an item must be.
    let mut entries: Vec<Entry<'a>> = Vec::new();
    for _ in 0..decoder.list_start()? {
        let entry = parse_entry(decoder, key)?;
        entries.push(entry);
    }
    decoder.end();
    Ok(entries)
}

/// Reads an entry; `key` is the one before it in the node and becomes the entry's.
fn parse_entry<'a>(decoder: &mut Decoder<'a>, key: &mut String) -> Result<Entry<'a>, MstError> {
    let (mut suffix, mut prefix, mut right, mut value) = (None, None, None, None);
    for _ in 0..decoder.map_start()? {
        match decoder.letter()? {
            b'k' if suffix.is_none() => suffix = decoder.value()?.as_bytes(),
            b'p' if prefix.is_none() => prefix = decoder.value()?.as_int(),
            b't' if right.is_none() => right = Some(link(&decoder.value()?)?),
            b'v' if value.is_none() => value = decoder.value()?.as_link(),
            _ => return Err(MstError::Shape),
        }
    }
    decoder.end();
    let (Some(suffix), Some(prefix), Some(right), Some(value)) = (suffix, prefix, right, value)
    else {
        return Err(MstError::Shape);
    };
    let prefix = usize::try_from(prefix)
        .ok()
        .filter(|prefix| *prefix <= key.len())
        .ok_or(MstError::Prefix)?;
    let rest = key.as_bytes().get(prefix);
    if rest.is_some() && rest == suffix.first() {
        return Err(MstError::Prefix);
    }
    let suffix = std::str::from_utf8(suffix).map_err(|_| MstError::Key)?;
    let entry = Entry {
        prefix,
        suffix,
        value,
        right,
    };
    entry.spell(key);
    if is_valid_key(key.as_bytes()) {
        Ok(entry)
    } else {
        Err(MstError::Key)
    }
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
