//! What crosses Redis: one stream entry, mirrored from `engine/core/wire.py`.
//!
//! One version byte, then one `MessagePack` array: the kind, then the fields in the
//! order of the declaration there. Additional fields at the end are skipped; another
//! version is its own error, for then the entry is newer than this build. CIDs are
//! checked, text must be UTF-8; all else is as the writer put it.

mod read;
mod write;

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::cid::Cid;
use crate::msgpack::Writer;
use crate::reason::Reason;

/// First byte of every entry.
pub const VERSION: u8 = 1;

/// A dead letter keeps this much of a frame.
pub const RAW_LIMIT_BYTES: usize = 256 * 1024;

/// Why bytes are not an entry that this build reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("entry version {0}, this build reads {VERSION}")]
    Version(u8),
    #[error("bytes are not an entry")]
    Malformed,
}

/// What an op does to its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Create,
    Update,
    Delete,
}

impl Action {
    /// By the word of the protocol.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "create" => Some(Self::Create),
            "update" => Some(Self::Update),
            "delete" => Some(Self::Delete),
            _ => None,
        }
    }

    const fn code(self) -> u64 {
        match self {
            Self::Create => 0,
            Self::Update => 1,
            Self::Delete => 2,
        }
    }

    const fn from_code(code: i64) -> Option<Self> {
        match code {
            0 => Some(Self::Create),
            1 => Some(Self::Update),
            2 => Some(Self::Delete),
            _ => None,
        }
    }
}

/// One change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op<'a> {
    pub action: Action,
    /// collection/rkey, as the relay sent it.
    pub path: Cow<'a, str>,
    pub cid: Option<Cid<'a>>,
    pub prev: Option<Cid<'a>>,
    /// The original DAG-CBOR block; `None` for a delete.
    pub record: Option<&'a [u8]>,
}

/// One op that the ingester could not carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedOp<'a> {
    pub reason: Reason,
    pub path: Cow<'a, str>,
    pub cid: Option<Cid<'a>>,
}

/// One block carried for verification downstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    pub cid: Cid<'a>,
    pub data: &'a [u8],
}

/// Where an event comes from and when it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    pub relay: &'a str,
    pub generation: i64,
    pub seq: i64,
    pub did: &'a str,
    /// The frame's time, verbatim.
    pub time: &'a str,
}

/// One commit of one repository, ops in commit order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit<'a> {
    pub origin: Origin<'a>,
    pub rev: &'a str,
    pub since: Option<&'a str>,
    pub commit: Cid<'a>,
    pub data: Option<Cid<'a>>,
    pub prev_data: Option<Cid<'a>>,
    pub part: i64,
    pub parts: i64,
    pub filtered: i64,
    pub ops: Vec<Op<'a>>,
    pub rejected: Vec<RejectedOp<'a>>,
    pub blocks: Vec<Block<'a>>,
}

/// The repository is now at this rev.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync<'a> {
    pub origin: Origin<'a>,
    pub rev: Cow<'a, str>,
    pub commit: Cid<'a>,
    pub blocks: Vec<Block<'a>>,
}

/// Look the DID's document and handle up again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    pub origin: Origin<'a>,
    pub handle: Option<Cow<'a, str>>,
}

/// The account's status at its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account<'a> {
    pub origin: Origin<'a>,
    pub active: bool,
    pub status: Option<Cow<'a, str>>,
}

/// A frame that could not be read, on its way to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedFrame<'a> {
    pub relay: &'a str,
    pub generation: i64,
    pub seq: Option<i64>,
    pub did: Option<Cow<'a, str>>,
    pub reason: Reason,
    pub detail: Cow<'a, str>,
    pub ops: i64,
    pub raw: &'a [u8],
}

/// One record of a repository's snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceRecord<'a> {
    /// collection/rkey: its key in the tree.
    pub path: &'a str,
    pub cid: Cid<'a>,
    /// The original DAG-CBOR block.
    pub record: &'a [u8],
}

/// What a fetched repository holds in one range of its keys, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice<'a> {
    pub did: &'a str,
    pub fetch_id: i64,
    /// Of the snapshot.
    pub rev: &'a str,
    /// The range begins behind this key; `None`: at the first.
    pub after: Option<&'a str>,
    /// It ends with this key; `None`: with the last.
    pub through: Option<&'a str>,
    /// The allow-list that was applied; empty: everything.
    pub collections: Vec<&'a str>,
    /// Records of the range that it left out.
    pub filtered: i64,
    /// Whether its records tell their notifications.
    pub notify: bool,
    pub records: Vec<SliceRecord<'a>>,
    pub rejected: Vec<RejectedOp<'a>>,
}

/// Every slice of a fetch is before this entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing<'a> {
    pub did: &'a str,
    pub fetch_id: i64,
    pub rev: &'a str,
    pub commit: Cid<'a>,
    /// Root of the tree.
    pub data: Cid<'a>,
    /// Leaves of the tree.
    pub records: i64,
}

/// One stream entry, borrowing from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    Commit(Commit<'a>),
    Sync(Sync<'a>),
    Identity(Identity<'a>),
    Account(Account<'a>),
    RejectedFrame(RejectedFrame<'a>),
    Slice(Slice<'a>),
    Closing(Closing<'a>),
}

/// The shard of a DID: the first 8 bytes of its SHA-256, big-endian, modulo the count.
///
/// Mirrors `streams.shard_of`. No shards are read as one.
pub fn shard_of(did: &str, shards: u32) -> u32 {
    let digest = Sha256::digest(did.as_bytes());
    let head = digest.first_chunk().copied().unwrap_or_default();
    let shard = u64::from_be_bytes(head) % u64::from(shards.max(1));
    u32::try_from(shard).unwrap_or_default()
}

impl<'a> Entry<'a> {
    /// Read one entry.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, EntryError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => read::entry(rest).ok_or(EntryError::Malformed),
            Some((&version, _)) => Err(EntryError::Version(version)),
            None => Err(EntryError::Malformed),
        }
    }

    /// Append the entry's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        write::entry(self, &mut Writer::new(out));
    }

    /// How many ops the entry stands for in the accounts: carried, left out and rejected.
    pub fn weight(&self) -> i64 {
        match self {
            Self::Commit(commit) => {
                let named = commit.ops.len() + commit.rejected.len();
                i64::try_from(named)
                    .unwrap_or(i64::MAX)
                    .saturating_add(commit.filtered)
            }
            Self::RejectedFrame(frame) => frame.ops,
            Self::Slice(slice) => {
                let named = slice.records.len() + slice.rejected.len();
                i64::try_from(named)
                    .unwrap_or(i64::MAX)
                    .saturating_add(slice.filtered)
            }
            _ => 1,
        }
    }

    /// How much the entry weighs against the high water mark: an empty one is work too.
    pub fn events(&self) -> usize {
        match self {
            Self::Commit(commit) => commit.ops.len().max(1),
            Self::Slice(slice) => slice.records.len().max(1),
            _ => 1,
        }
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
