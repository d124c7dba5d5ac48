//! Bytes as an entry: `None` is anything but one.

use std::borrow::Cow;

use super::{
    Account, Action, Block, Closing, Commit, Entry, Identity, Op, Origin, RejectedFrame,
    RejectedOp, Slice, SliceRecord, Sync,
};
use crate::cid::Cid;
use crate::msgpack::Unpacker;
use crate::reason::Reason;

pub(super) fn entry(bytes: &[u8]) -> Option<Entry<'_>> {
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
        6 => (Entry::Slice(read_slice(&mut unpacker)?), 11),
        7 => (Entry::Closing(read_closing(&mut unpacker)?), 7),
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

fn read_slice<'a>(unpacker: &mut Unpacker<'a>) -> Option<Slice<'a>> {
    Some(Slice {
        did: unpacker.text()?,
        fetch_id: unpacker.int()?,
        rev: unpacker.text()?,
        after: or_nil(unpacker, Unpacker::text)?,
        through: or_nil(unpacker, Unpacker::text)?,
        collections: read_texts(unpacker)?,
        filtered: unpacker.int()?,
        notify: unpacker.bool()?,
        records: read_list(unpacker, 3, read_slice_record)?,
        rejected: read_list(unpacker, 3, read_rejected_op)?,
    })
}

fn read_texts<'a>(unpacker: &mut Unpacker<'a>) -> Option<Vec<&'a str>> {
    (0..unpacker.array()?).map(|_| unpacker.text()).collect()
}

fn read_slice_record<'a>(unpacker: &mut Unpacker<'a>) -> Option<SliceRecord<'a>> {
    Some(SliceRecord {
        path: unpacker.text()?,
        cid: read_cid(unpacker)?,
        record: unpacker.bytes()?,
    })
}

fn read_closing<'a>(unpacker: &mut Unpacker<'a>) -> Option<Closing<'a>> {
    Some(Closing {
        did: unpacker.text()?,
        fetch_id: unpacker.int()?,
        rev: unpacker.text()?,
        commit: read_cid(unpacker)?,
        data: read_cid(unpacker)?,
        records: unpacker.int()?,
    })
}
