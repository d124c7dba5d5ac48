//! What crosses Redis: one stream entry, mirrored from `engine/core/wire.py`.
//!
//! One version byte, then one `MessagePack` array: the kind, then the fields in the
//! order of the declaration there. Additional fields at the end are skipped; another
//! version is its own error, for then the entry is newer than this build. CIDs are
//! checked, text must be UTF-8; all else is as the writer put it.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::cid::Cid;
use crate::msgpack::{Unpacker, Writer};
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

/// One stream entry, borrowing from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    Commit(Commit<'a>),
    Sync(Sync<'a>),
    Identity(Identity<'a>),
    Account(Account<'a>),
    RejectedFrame(RejectedFrame<'a>),
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
            Some((&VERSION, rest)) => read_entry(rest).ok_or(EntryError::Malformed),
            Some((&version, _)) => Err(EntryError::Version(version)),
            None => Err(EntryError::Malformed),
        }
    }

    /// Append the entry's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        let mut writer = Writer::new(out);
        match self {
            Self::Commit(commit) => write_commit(commit, &mut writer),
            Self::Sync(sync) => write_sync(sync, &mut writer),
            Self::Identity(identity) => {
                write_origin(7, 3, &identity.origin, &mut writer);
                writer.text_or_nil(identity.handle.as_deref());
            }
            Self::Account(account) => {
                write_origin(8, 4, &account.origin, &mut writer);
                writer.bool(account.active);
                writer.text_or_nil(account.status.as_deref());
            }
            Self::RejectedFrame(frame) => write_rejected_frame(frame, &mut writer),
        }
    }

    /// How much the entry weighs against the high water mark: an empty commit is work too.
    pub fn events(&self) -> usize {
        match self {
            Self::Commit(commit) => commit.ops.len().max(1),
            _ => 1,
        }
    }
}

fn write_origin(fields: usize, kind: u64, origin: &Origin<'_>, writer: &mut Writer<'_>) {
    writer.array(fields);
    writer.uint(kind);
    writer.text(origin.relay);
    writer.int(origin.generation);
    writer.int(origin.seq);
    writer.text(origin.did);
    writer.text(origin.time);
}

fn write_cid(cid: Option<Cid<'_>>, writer: &mut Writer<'_>) {
    writer.bytes_or_nil(cid.map(|cid| cid.as_bytes()));
}

fn write_commit(commit: &Commit<'_>, writer: &mut Writer<'_>) {
    write_origin(17, 1, &commit.origin, writer);
    writer.text(commit.rev);
    writer.text_or_nil(commit.since);
    writer.bytes(commit.commit.as_bytes());
    write_cid(commit.data, writer);
    write_cid(commit.prev_data, writer);
    writer.int(commit.part);
    writer.int(commit.parts);
    writer.int(commit.filtered);
    writer.array(commit.ops.len());
    for op in &commit.ops {
        writer.array(5);
        writer.uint(op.action.code());
        writer.text(&op.path);
        write_cid(op.cid, writer);
        write_cid(op.prev, writer);
        writer.bytes_or_nil(op.record);
    }
    writer.array(commit.rejected.len());
    for op in &commit.rejected {
        writer.array(3);
        writer.uint(op.reason.code());
        writer.text(&op.path);
        write_cid(op.cid, writer);
    }
    write_blocks(&commit.blocks, writer);
}

fn write_sync(sync: &Sync<'_>, writer: &mut Writer<'_>) {
    write_origin(9, 2, &sync.origin, writer);
    writer.text(&sync.rev);
    writer.bytes(sync.commit.as_bytes());
    write_blocks(&sync.blocks, writer);
}

fn write_blocks(blocks: &[Block<'_>], writer: &mut Writer<'_>) {
    writer.array(blocks.len());
    for block in blocks {
        writer.array(2);
        writer.bytes(block.cid.as_bytes());
        writer.bytes(block.data);
    }
}

fn write_rejected_frame(frame: &RejectedFrame<'_>, writer: &mut Writer<'_>) {
    writer.array(9);
    writer.uint(5);
    writer.text(frame.relay);
    writer.int(frame.generation);
    match frame.seq {
        Some(seq) => writer.int(seq),
        None => writer.nil(),
    }
    writer.text_or_nil(frame.did.as_deref());
    writer.uint(frame.reason.code());
    writer.text(&frame.detail);
    writer.int(frame.ops);
    writer.bytes(frame.raw);
}

fn read_entry(bytes: &[u8]) -> Option<Entry<'_>> {
    let mut unpacker = Unpacker::new(bytes);
    let fields = unpacker.array()?;
    let (entry, known) = match unpacker.int()? {
        1 => (Entry::Commit(read_commit(&mut unpacker)?), 17),
        2 => (Entry::Sync(read_sync(&mut unpacker)?), 9),
        3 => {
            let origin = read_origin(&mut unpacker)?;
            let handle = or_nil(&mut unpacker, Unpacker::text)?.map(Cow::Borrowed);
            (Entry::Identity(Identity { origin, handle }), 7)
        }
        4 => {
            let origin = read_origin(&mut unpacker)?;
            let active = unpacker.bool()?;
            let status = or_nil(&mut unpacker, Unpacker::text)?.map(Cow::Borrowed);
            let account = Account {
                origin,
                active,
                status,
            };
            (Entry::Account(account), 8)
        }
        5 => (Entry::RejectedFrame(read_rejected_frame(&mut unpacker)?), 9),
        _ => return None,
    };
    skip_fields(&mut unpacker, fields, known)?;
    unpacker.is_empty().then_some(entry)
}

/// Pass over fields that a newer producer added at the end.
fn skip_fields(unpacker: &mut Unpacker<'_>, fields: usize, known: usize) -> Option<()> {
    for _ in 0..fields.checked_sub(known)? {
        unpacker.skip()?;
    }
    Some(())
}

fn read_origin<'a>(unpacker: &mut Unpacker<'a>) -> Option<Origin<'a>> {
    Some(Origin {
        relay: unpacker.text()?,
        generation: unpacker.int()?,
        seq: unpacker.int()?,
        did: unpacker.text()?,
        time: unpacker.text()?,
    })
}

/// A value that may be nil; the outer `None` is a malformed one.
#[allow(clippy::option_option)]
fn or_nil<'a, T>(
    unpacker: &mut Unpacker<'a>,
    read: impl FnOnce(&mut Unpacker<'a>) -> Option<T>,
) -> Option<Option<T>> {
    if unpacker.is_nil() {
        return Some(None);
    }
    read(unpacker).map(Some)
}

fn read_cid<'a>(unpacker: &mut Unpacker<'a>) -> Option<Cid<'a>> {
    Cid::exact(unpacker.bytes()?).ok()
}

/// A list of arrays that have `known` fields each, or more.
fn read_list<'a, T>(
    unpacker: &mut Unpacker<'a>,
    known: usize,
    read: impl Fn(&mut Unpacker<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = unpacker.array()?;
    // A count is only a claim; commits have few ops.
    let mut items = Vec::with_capacity(count.min(256));
    for _ in 0..count {
        let fields = unpacker.array()?;
        items.push(read(unpacker)?);
        skip_fields(unpacker, fields, known)?;
    }
    Some(items)
}

fn read_commit<'a>(unpacker: &mut Unpacker<'a>) -> Option<Commit<'a>> {
    Some(Commit {
        origin: read_origin(unpacker)?,
        rev: unpacker.text()?,
        since: or_nil(unpacker, Unpacker::text)?,
        commit: read_cid(unpacker)?,
        data: or_nil(unpacker, read_cid)?,
        prev_data: or_nil(unpacker, read_cid)?,
        part: unpacker.int()?,
        parts: unpacker.int()?,
        filtered: unpacker.int()?,
        ops: read_list(unpacker, 5, read_op)?,
        rejected: read_list(unpacker, 3, read_rejected_op)?,
        blocks: read_list(unpacker, 2, read_block)?,
    })
}

fn read_op<'a>(unpacker: &mut Unpacker<'a>) -> Option<Op<'a>> {
    Some(Op {
        action: Action::from_code(unpacker.int()?)?,
        path: Cow::Borrowed(unpacker.text()?),
        cid: or_nil(unpacker, read_cid)?,
        prev: or_nil(unpacker, read_cid)?,
        record: or_nil(unpacker, Unpacker::bytes)?,
    })
}

fn read_rejected_op<'a>(unpacker: &mut Unpacker<'a>) -> Option<RejectedOp<'a>> {
    Some(RejectedOp {
        reason: Reason::from_code(unpacker.int()?)?,
        path: Cow::Borrowed(unpacker.text()?),
        cid: or_nil(unpacker, read_cid)?,
    })
}

fn read_block<'a>(unpacker: &mut Unpacker<'a>) -> Option<Block<'a>> {
    Some(Block {
        cid: read_cid(unpacker)?,
        data: unpacker.bytes()?,
    })
}

fn read_sync<'a>(unpacker: &mut Unpacker<'a>) -> Option<Sync<'a>> {
    Some(Sync {
        origin: read_origin(unpacker)?,
        rev: Cow::Borrowed(unpacker.text()?),
        commit: read_cid(unpacker)?,
        blocks: read_list(unpacker, 2, read_block)?,
    })
}

fn read_rejected_frame<'a>(unpacker: &mut Unpacker<'a>) -> Option<RejectedFrame<'a>> {
    Some(RejectedFrame {
        relay: unpacker.text()?,
        generation: unpacker.int()?,
        seq: or_nil(unpacker, Unpacker::int)?,
        did: or_nil(unpacker, Unpacker::text)?.map(Cow::Borrowed),
        reason: Reason::from_code(unpacker.int()?)?,
        detail: Cow::Borrowed(unpacker.text()?),
        ops: unpacker.int()?,
        raw: unpacker.bytes()?,
    })
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
