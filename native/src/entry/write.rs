//! An entry as bytes.

use super::{Block, Closing, Commit, Entry, Origin, RejectedFrame, RejectedOp, Slice, Sync};
use crate::cid::Cid;
use crate::msgpack::Writer;

pub(super) fn entry(entry: &Entry<'_>, writer: &mut Writer<'_>) {
    match entry {
        Entry::Commit(commit) => write_commit(commit, writer),
        Entry::Sync(sync) => write_sync(sync, writer),
        Entry::Identity(identity) => {
            write_origin(7, 3, &identity.origin, writer);
            writer.text_or_nil(identity.handle.as_deref());
        }
        Entry::Account(account) => {
            write_origin(8, 4, &account.origin, writer);
            writer.bool(account.active);
            writer.text_or_nil(account.status.as_deref());
        }
        Entry::RejectedFrame(frame) => write_rejected_frame(frame, writer),
        Entry::Slice(slice) => write_slice(slice, writer),
        Entry::Closing(closing) => write_closing(closing, writer),
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
    write_rejected(&commit.rejected, writer);
    write_blocks(&commit.blocks, writer);
}

fn write_rejected(ops: &[RejectedOp<'_>], writer: &mut Writer<'_>) {
    writer.array(ops.len());
    for op in ops {
        writer.array(3);
        writer.uint(op.reason.code());
        writer.text(&op.path);
        write_cid(op.cid, writer);
    }
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

fn write_slice(slice: &Slice<'_>, writer: &mut Writer<'_>) {
    writer.array(11);
    writer.uint(6);
    writer.text(slice.did);
    writer.int(slice.fetch_id);
    writer.text(slice.rev);
    writer.text_or_nil(slice.after);
    writer.text_or_nil(slice.through);
    writer.array(slice.collections.len());
    for collection in &slice.collections {
        writer.text(collection);
    }
    writer.int(slice.filtered);
    writer.bool(slice.notify);
    writer.array(slice.records.len());
    for record in &slice.records {
        writer.array(3);
        writer.text(record.path);
        writer.bytes(record.cid.as_bytes());
        writer.bytes(record.record);
    }
    write_rejected(&slice.rejected, writer);
}

fn write_closing(closing: &Closing<'_>, writer: &mut Writer<'_>) {
    writer.array(7);
    writer.uint(7);
    writer.text(closing.did);
    writer.int(closing.fetch_id);
    writer.text(closing.rev);
    writer.bytes(closing.commit.as_bytes());
    writer.bytes(closing.data.as_bytes());
    writer.int(closing.records);
}
