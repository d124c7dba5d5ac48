//! A repository as `com.atproto.sync.getRepo` exports it, opened, proved and cut into slices.
//!
//! [`Export::open`] answers whether the export is whole and consistent: every block matches its
//! CID, the tree has its one possible shape, every record that it names is there. A CAR has no
//! length of its own, so one that was cut between two blocks reads well; only the tree tells that
//! something is absent. Who signed is asked separately ([`Export::signed_by`]), because the key
//! comes from elsewhere and may have to be fetched again.
//!
//! Blocks may come in any order. What is held in memory is where each of them is, and a path from
//! the root of the tree to where a walk stands; the rest is read again when it is needed. So a
//! file of any size can be opened. A block of a file is hashed again each time: if the file
//! was changed, that is an error of ours and never another record.

mod cursor;
mod index;
mod slices;
mod source;

use std::borrow::Cow;
use std::io;

use crate::car::{self, CarError, Limits};
use crate::cid::{Cid, CidBuf};
use crate::crypto::PublicKey;
use crate::mst::{self, MstError, Progress, Visitor};
use crate::repo::{read_commit, Commit, RepoError};

use cursor::Cursor;
use index::{Block, Index};

pub use slices::{closing, Options, Slices};
pub use source::Source;

/// What one export may hold.
pub const LIMITS: Limits = Limits {
    bytes: usize::MAX,
    block_bytes: 8 * 1024 * 1024,
    blocks: u32::MAX as usize,
};

/// Why there is no export: it is none, or its file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0}")]
    Fault(#[from] RepoError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<CarError> for OpenError {
    fn from(error: CarError) -> Self {
        Self::Fault(error.into())
    }
}

impl From<MstError> for OpenError {
    fn from(error: MstError) -> Self {
        Self::Fault(error.into())
    }
}

/// A whole, consistent repository.
#[derive(Debug)]
pub struct Export<B> {
    /// Of the commit.
    pub cid: CidBuf,
    pub commit: Commit,
    source: Source<B>,
    index: Index,
    /// The blocks of the records in key order, and of the nodes as a walk in that order meets
    /// them: so no later walk has to look for a block.
    leaves: Vec<u32>,
    nodes: Vec<u32>,
}

impl<B: AsRef<[u8]>> Export<B> {
    /// Reads and proves an export. The signature is not checked.
    pub fn open(source: Source<B>, limits: Limits) -> Result<Self, OpenError> {
        let (root, index) = index::scan(&source, limits)?;
        let cid = root.ok_or(RepoError::NoRoot)?;
        let number = index.find(cid.get());
        let number = number.ok_or_else(|| RepoError::Missing(cid.get().to_string()))?;
        let blocks = Blocks {
            source: &source,
            index: &index,
        };
        let commit = read_commit(blocks.read(number)?.parts().1)?;
        let mut proof = Proof {
            blocks,
            leaves: Vec::new(),
            nodes: Vec::new(),
            absent: None,
        };
        let mut progress = Progress::default();
        proof.node(commit.data.get(), None, &mut progress)?;
        if let Some(cid) = proof.absent {
            return Err(RepoError::Missing(cid).into());
        }
        Ok(Self {
            leaves: proof.leaves,
            nodes: proof.nodes,
            cid,
            commit,
            source,
            index,
        })
    }

    /// How many records the tree has.
    pub fn leaves(&self) -> usize {
        self.leaves.len()
    }

    /// How many blocks the tree has.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// How many different blocks it has, those too that the tree does not name.
    pub fn blocks(&self) -> usize {
        self.index.len()
    }

    /// Size in bytes.
    pub fn length(&self) -> u64 {
        self.source.length()
    }

    /// Whether `key` made the commit's signature.
    pub fn signed_by(&self, key: &PublicKey) -> bool {
        key.verify(&self.commit.signed, &self.commit.sig)
    }

    /// Calls `visit` with each record, in ascending key order.
    pub fn each_leaf(&self, mut visit: impl FnMut(&str, Cid<'_>, &[u8])) -> io::Result<()> {
        let mut cursor = Cursor::default();
        while let Some((key, number)) = cursor.next(self)? {
            let section = self.read(number)?;
            let (cid, record) = section.parts();
            visit(key, cid, record);
        }
        Ok(())
    }

    fn read(&self, number: u32) -> io::Result<Section<'_>> {
        let blocks = Blocks {
            source: &self.source,
            index: &self.index,
        };
        blocks.read(number)
    }
}

/// A file that is no longer what was proved.
fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the export was changed")
}

/// A block that was read, with its CID before it.
struct Section<'s>(Cow<'s, [u8]>);

impl Section<'_> {
    fn parts(&self) -> (Cid<'_>, &[u8]) {
        // Only what begins with a CID becomes one.
        Cid::parse(&self.0).unwrap_or((Cid::NONE, &[]))
    }
}

struct Blocks<'s, B> {
    source: &'s Source<B>,
    index: &'s Index,
}

impl<'s, B: AsRef<[u8]>> Blocks<'s, B> {
    fn read(&self, number: u32) -> io::Result<Section<'s>> {
        let block: &Block = self.index.get(number).ok_or_else(changed)?;
        let bytes = self.source.piece(block.at(), block.length())?;
        let (cid, content) = Cid::parse(&bytes).map_err(|_| changed())?;
        if self.source.may_change() && !(block.is(cid) && car::check_hash(cid, content).is_ok()) {
            return Err(changed());
        }
        Ok(Section(bytes))
    }
}

/// The walk that proves the tree.
struct Proof<'s, B> {
    blocks: Blocks<'s, B>,
    leaves: Vec<u32>,
    nodes: Vec<u32>,
    /// The first record that is named but not there.
    absent: Option<String>,
}

impl<B: AsRef<[u8]>> Proof<'_, B> {
    fn node(
        &mut self,
        node: Cid<'_>,
        layer: Option<u8>,
        progress: &mut Progress,
    ) -> Result<(), OpenError> {
        let number = self.blocks.index.find(node);
        let number = number.ok_or_else(|| MstError::Missing(node.to_string()))?;
        self.nodes.push(number);
        let section = self.blocks.read(number)?;
        mst::descend(self, progress, section.parts().1, layer)
    }
}

impl<'n, B: AsRef<[u8]>> Visitor<'n> for Proof<'_, B> {
    type Error = OpenError;

    fn leaf(&mut self, _: &str, value: Cid<'n>, _: u8) -> Result<(), OpenError> {
        match self.blocks.index.find(value) {
            Some(number) => self.leaves.push(number),
            None if self.absent.is_none() => self.absent = Some(value.to_string()),
            None => {}
        }
        Ok(())
    }

    fn child(
        &mut self,
        node: Cid<'n>,
        layer: u8,
        progress: &mut Progress,
    ) -> Result<(), OpenError> {
        self.node(node, Some(layer), progress)
    }
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
