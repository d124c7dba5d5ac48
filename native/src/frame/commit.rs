//! A commit and its ops: carried, filtered or rejected, each by itself.

use std::borrow::Cow;

use super::{car_of, link_or_absent, origin_of, text_or_absent, Rejection, Source, COMMIT_CAR};
use crate::car::Car;
use crate::cbor::decode_record;
use crate::cid::Cid;
use crate::entry::{Action, Commit, Op, RejectedOp};
use crate::filter::Filter;
use crate::message::{Fields, OpFields, MAX_OPS};
use crate::reason::Reason;
use crate::syntax::is_tid;

pub(super) fn read_commit<'a>(
    fields: &Fields<'a>,
    source: Source<'a>,
    filter: &Filter,
) -> Result<Commit<'a>, Rejection> {
    let origin = origin_of(fields, &fields.repo, source)?;
    let rev = fields.rev.identifier().filter(|rev| is_tid(rev));
    let rev = rev.ok_or(Rejection::field("rev"))?;
    let since = fields.since.identifier().filter(|since| is_tid(since));
    if since.is_none() && !fields.since.is_absent() {
        return Err(Rejection::field("since"));
    }
    let commit = link_or_absent(&fields.commit, "commit")?.ok_or(Rejection::field("commit"))?;
    let prev_data = link_or_absent(&fields.prev_data, "prevData")?;
    let ops = fields.ops.as_ref().ok_or(Rejection::field("ops"))?;
    if fields.ops_count > MAX_OPS {
        let detail = format!("{} ops, at most {MAX_OPS}", fields.ops_count);
        return Err(Rejection::new(Reason::TooManyOps, detail));
    }
    let car = car_of(fields, COMMIT_CAR)?;
    let mut out = Commit {
        origin,
        rev,
        since,
        commit,
        data: data_of(&car, commit),
        prev_data,
        part: 0,
        parts: 1,
        filtered: 0,
        ops: Vec::with_capacity(ops.len()),
        rejected: Vec::new(),
        blocks: Vec::new(),
    };
    let mut room = COMMIT_CAR.bytes;
    for op in ops {
        read_op(op, &car, filter, &mut room, &mut out)?;
    }
    // Changes that an older host left out: they are missing, and nobody says how many.
    if ops.is_empty() && fields.too_big.bool() == Some(true) {
        reject(Reason::TooBig, "".into(), None, &mut out);
    }
    Ok(out)
}

/// The MST root that the commit block names, if the block is there and readable.
fn data_of<'a>(car: &Car<'a>, commit: Cid<'a>) -> Option<Cid<'a>> {
    decode_record(car.get(commit)?).ok()?.get("data")?.as_link()
}

/// Put one op where it belongs: carried, filtered or rejected. A record takes of `room`.
fn read_op<'a>(
    op: &OpFields<'a>,
    car: &Car<'a>,
    filter: &Filter,
    room: &mut usize,
    out: &mut Commit<'a>,
) -> Result<(), Rejection> {
    let action = text_or_absent(&op.action, "ops.action")?;
    let action = action.ok_or(Rejection::field("ops.action"))?;
    let path = text_or_absent(&op.path, "ops.path")?.ok_or(Rejection::field("ops.path"))?;
    let cid = link_or_absent(&op.cid, "ops.cid")?;
    let prev = link_or_absent(&op.prev, "ops.prev")?;
    let Some(collection) = collection_of(&path) else {
        reject(Reason::BadPath, path, cid, out);
        return Ok(());
    };
    if !filter.admits(collection) {
        out.filtered += 1;
        return Ok(());
    }
    let Some(action) = Action::named(&action) else {
        reject(Reason::UnknownAction, path, cid, out);
        return Ok(());
    };
    let (cid, record) = match action {
        Action::Delete => (None, None),
        Action::Create | Action::Update => {
            let Some(record) = cid.and_then(|cid| car.get(cid)) else {
                reject(Reason::MissingBlock, path, cid, out);
                return Ok(());
            };
            let Some(left) = room.checked_sub(record.len()) else {
                reject(Reason::TooBig, path, cid, out);
                return Ok(());
            };
            *room = left;
            (cid, Some(record))
        }
    };
    out.ops.push(Op {
        action,
        path,
        cid,
        prev,
        record,
    });
    Ok(())
}

/// The first segment, if it and the second are not empty. Further segments stay in the path.
pub(super) fn collection_of(path: &str) -> Option<&str> {
    let (collection, rest) = path.split_once('/')?;
    (!collection.is_empty() && !rest.is_empty() && !rest.starts_with('/')).then_some(collection)
}

fn reject<'a>(reason: Reason, path: Cow<'a, str>, cid: Option<Cid<'a>>, out: &mut Commit<'a>) {
    out.rejected.push(RejectedOp { reason, path, cid });
}
