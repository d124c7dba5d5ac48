//! Slices against what is there: the ops that make the two equal.

use std::collections::HashSet;
use std::ops::Bound;

use super::there::There;
use crate::datetime;
use crate::entry::{self, Action};
use crate::filter::Filter;
use crate::fold::batch::{Batch, Body, Closing, Event, Kind, Op, Record, Slice};
use crate::fold::decode::{Records, Said, Validate};
use crate::fold::events::tid_micros;
use crate::fold::fetches;
use crate::syntax;

/// Where an event is from: its entry and source.
pub(super) type From = (usize, usize);

pub(super) struct Maker<'p, L> {
    pub records: Records<'p, L>,
    pub there: There,
    pub batch: Batch,
    /// Events of deletes, which have no number yet, and what they delete.
    pub removed: Vec<(usize, Body)>,
}

impl<L: Validate> Maker<'_, L> {
    pub fn slice(&mut self, slice: &entry::Slice<'_>, from: From) {
        let did = slice.did;
        let uri = |path: &str| format!("at://{did}/{path}");
        let of_rev = instant(slice.rev);
        let rejected = i64::try_from(slice.rejected.len()).unwrap_or(i64::MAX);
        let head = Slice {
            fetch_id: slice.fetch_id,
            rev: slice.rev.into(),
            is_first: slice.after.is_none(),
            through: slice.through.map(|path| uri(path).into()),
            filtered: slice.filtered,
            rejected: slice.rejected.iter().map(|op| op.reason).collect(),
        };
        let weight = slice.filtered.saturating_add(rejected);
        self.event(did, &of_rev, from, weight, Kind::Slice(head));
        for body in self.gone(slice, &of_rev) {
            self.removed.push((self.batch.events.len(), body));
            // Its op gets a number when all records have theirs.
            self.op_event(slice, &of_rev, from, usize::MAX);
        }
        for (position, record) in slice.records.iter().enumerate() {
            let rkey = record.path.split_once('/').map_or("", |(_, rkey)| rkey);
            let is_older = syntax::is_tid(rkey) && rkey <= slice.rev;
            let time = if is_older {
                instant(rkey)
            } else {
                of_rev.clone()
            };
            let (action, body) = self.compared(slice, record, &time);
            let number = self.batch.ops.len();
            self.batch.ops.push(Op {
                event: self.batch.events.len(),
                position,
                action,
                body,
            });
            self.op_event(slice, &time, from, number);
        }
    }

    /// A record against what is there.
    fn compared(
        &self,
        slice: &entry::Slice<'_>,
        record: &entry::SliceRecord<'_>,
        time: &str,
    ) -> (Action, Body) {
        let uri = format!("at://{}/{}", slice.did, record.path);
        if self.there.is_touched(slice.did, &uri, slice.rev) {
            return (Action::Create, Body::Settled("touched"));
        }
        let action = match self.there.cid(slice.did, &uri) {
            Some(cid) if cid == record.cid.to_string() => {
                return (Action::Update, Body::Settled("unchanged"))
            }
            Some(_) => Action::Update,
            None => Action::Create,
        };
        let op = entry::Op {
            action,
            path: record.path.into(),
            cid: Some(record.cid),
            prev: None,
            record: Some(record.record),
        };
        let said = Said {
            did: slice.did,
            time,
            rev: slice.rev,
            now: &self.batch.now,
        };
        (action, self.records.body(said, &op))
    }

    /// What is there of the slice's range and not in the slice.
    fn gone(&self, slice: &entry::Slice<'_>, time: &str) -> Vec<Body> {
        let did = slice.did;
        let uri = |path: &str| format!("at://{did}/{path}");
        let (after, through) = (slice.after.map(uri), slice.through.map(uri));
        if after
            .as_ref()
            .zip(through.as_ref())
            .is_some_and(|(after, through)| after >= through)
        {
            return Vec::new();
        }
        let range = (
            after.map_or(Bound::Unbounded, Bound::Excluded),
            through.map_or(Bound::Unbounded, Bound::Included),
        );
        // What could not be carried is there nevertheless.
        let records = slice.records.iter().map(|record| record.path);
        let rejected = slice.rejected.iter().map(|op| op.path.as_ref());
        let held: HashSet<&str> = records.chain(rejected).collect();
        let filter = Filter::new(&slice.collections);
        let root = format!("{}/", fetches::whole(did));
        let mut gone = Vec::new();
        for uri in self.there.within(did, range) {
            let Some(path) = uri.strip_prefix(&root).filter(|path| !held.contains(path)) else {
                continue;
            };
            let collection = path.split_once('/').map_or("", |(nsid, _)| nsid);
            let is_listed = slice.collections.is_empty() || filter.admits(collection);
            if !is_listed || self.there.is_touched(did, &uri, slice.rev) {
                continue;
            }
            let op = entry::Op {
                action: Action::Delete,
                path: path.into(),
                cid: None,
                prev: None,
                record: None,
            };
            let said = Said {
                did,
                time,
                rev: slice.rev,
                now: &self.batch.now,
            };
            let body = self.records.body(said, &op);
            if body.target().is_some() {
                gone.push(body);
            }
        }
        gone
    }

    pub fn closing(&mut self, closing: &entry::Closing<'_>, from: From) {
        let whole = fetches::whole(closing.did);
        let end = Closing {
            fetch_id: closing.fetch_id,
            rev: closing.rev.into(),
            commit: closing.commit.to_string().into(),
            data: closing.data.to_string().into(),
            records: closing.records,
            is_outdated: self.there.is_touched(closing.did, &whole, closing.rev),
        };
        let time = instant(closing.rev);
        self.event(closing.did, &time, from, 1, Kind::Closing(end));
    }

    /// The account's status at its host, as of the event's own time.
    pub fn account(&mut self, account: &entry::Account<'_>, from: From) {
        let kind = Kind::Account {
            active: account.active,
            status: account.status.as_deref().map(Box::from),
        };
        self.event(account.origin.did, account.origin.time, from, 1, kind);
    }

    fn op_event(&mut self, slice: &entry::Slice<'_>, time: &str, from: From, op: usize) {
        let record = Record {
            fetch_id: slice.fetch_id,
            rev: slice.rev.into(),
            notify: slice.notify,
            op,
        };
        self.event(slice.did, time, from, 1, Kind::Record(record));
    }

    fn event(&mut self, did: &str, time: &str, from: From, weight: i64, kind: Kind) {
        let (entry, source) = from;
        self.batch.events.push(Event {
            source,
            entry,
            did: did.into(),
            time: time.into(),
            seq: 0,
            weight,
            kind,
        });
    }

    pub fn finish(mut self) -> Batch {
        for (at, body) in self.removed {
            let number = self.batch.ops.len();
            if let Some(Kind::Record(record)) =
                self.batch.events.get_mut(at).map(|event| &mut event.kind)
            {
                record.op = number;
            }
            self.batch.weight = self.batch.weight.saturating_add(1);
            self.batch.ops.push(Op {
                event: at,
                position: usize::MAX,
                action: Action::Delete,
                body,
            });
        }
        self.batch
    }
}

/// The instant of a TID as columns hold times; 1970 of what is none.
fn instant(tid: &str) -> String {
    let micros = tid_micros(tid).unwrap_or_default();
    let seconds = i64::try_from(micros / 1_000_000).unwrap_or_default();
    let millis = u32::try_from(micros / 1_000 % 1_000).unwrap_or_default();
    datetime::print(seconds, millis)
}
