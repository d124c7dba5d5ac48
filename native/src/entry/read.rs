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
            let handle = unpacker.or_nil(Unpacker::text)?.map(Cow::Borrowed);
            (Entry::Identity(Identity { origin, handle }), 7)
        }
        4 => {
            let origin = read_origin(&mut unpacker)?;
            let active = unpacker.bool()?;
            let status = unpacker.or_nil(Unpacker::text)?.map(Cow::Borrowed);
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
    unpacker.skip_fields(fields, known)?;
    unpacker.is_empty().then_some(entry)
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

fn read_cid<'a>(unpacker: &mut Unpacker<'a>) -> Option<Cid<'a>> {
    Cid::exact(unpacker.bytes()?).ok()
}

fn read_commit<'a>(unpacker: &mut Unpacker<'a>) -> Option<Commit<'a>> {
    Some(Commit {
        origin: read_origin(unpacker)?,
        rev: unpacker.text()?,
        since: unpacker.or_nil(Unpacker::text)?,
        commit: read_cid(unpacker)?,
        data: unpacker.or_nil(read_cid)?,
        prev_data: unpacker.or_nil(read_cid)?,
        part: unpacker.int()?,
        parts: unpacker.int()?,
        filtered: unpacker.int()?,
        ops: unpacker.list(5, read_op)?,
        rejected: unpacker.list(3, read_rejected_op)?,
        blocks: unpacker.list(2, read_block)?,
    })
}

fn read_op<'a>(unpacker: &mut Unpacker<'a>) -> Option<Op<'a>> {
    Some(Op {
        action: Action::from_code(unpacker.int()?)?,
        path: Cow::Borrowed(unpacker.text()?),
        cid: unpacker.or_nil(read_cid)?,
        prev: unpacker.or_nil(read_cid)?,
        record: unpacker.or_nil(Unpacker::bytes)?,
    })
}

fn read_rejected_op<'a>(unpacker: &mut Unpacker<'a>) -> Option<RejectedOp<'a>> {
    Some(RejectedOp {
        reason: Reason::from_code(unpacker.int()?)?,
        path: Cow::Borrowed(unpacker.text()?),
        cid: unpacker.or_nil(read_cid)?,
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
        blocks: unpacker.list(2, read_block)?,
    })
}

fn read_rejected_frame<'a>(unpacker: &mut Unpacker<'a>) -> Option<RejectedFrame<'a>> {
    Some(RejectedFrame {
        relay: unpacker.text()?,
        generation: unpacker.int()?,
        seq: unpacker.or_nil(Unpacker::int)?,
        did: unpacker.or_nil(Unpacker::text)?.map(Cow::Borrowed),
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
        after: unpacker.or_nil(Unpacker::text)?,
        through: unpacker.or_nil(Unpacker::text)?,
        collections: read_texts(unpacker)?,
        filtered: unpacker.int()?,
        notify: unpacker.bool()?,
        records: unpacker.list(3, read_slice_record)?,
        rejected: unpacker.list(3, read_rejected_op)?,
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
