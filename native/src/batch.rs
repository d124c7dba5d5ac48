//! Many frames become entries in one buffer, with what there is to count about them.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::entry::{shard_of, Action, Commit, Entry, RejectedFrame};
use crate::filter::Filter;
use crate::frame::{self, Notice, Outcome, Source};
use crate::reason::Reason;
use crate::resp;

/// Ops by what became of them; `frames` counts frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub create: u64,
    pub update: u64,
    pub delete: u64,
    pub identity: u64,
    pub account: u64,
    pub sync: u64,
    pub filtered: u64,
    pub rejected: u64,
    pub frames: u64,
}

impl Counts {
    /// All ops received: every kind, filtered and rejected included.
    pub const fn ops(&self) -> u64 {
        self.create
            + self.update
            + self.delete
            + self.identity
            + self.account
            + self.sync
            + self.filtered
            + self.rejected
    }
}

/// What one shard receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    pub entries: u64,
    /// At least one an entry: an empty commit is work too.
    pub events: u64,
    pub bytes: u64,
}

/// A frame that became a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Position in the batch.
    pub frame: usize,
    pub reason: Reason,
    pub detail: String,
}

/// A notice, owned: kind, name, message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub kind: &'static str,
    pub name: String,
    pub message: String,
}

struct Placed {
    shard: u32,
    bytes: Range<usize>,
    events: usize,
}

/// What became of a batch of frames.
#[derive(Default)]
pub struct FrameBatch {
    pub counts: Counts,
    pub last_seq: Option<i64>,
    pub last_time: Option<String>,
    pub notices: Vec<Said>,
    pub rejected: Vec<Rejected>,
    buffer: Vec<u8>,
    placed: Vec<Placed>,
}

impl FrameBatch {
    /// Read frames in order.
    pub fn decode(frames: &[&[u8]], source: Source<'_>, shards: u32, filter: &Filter) -> Self {
        let mut batch = Self::default();
        // Entries are nearly as large as the blocks they carry: mostly half a frame.
        let bytes: usize = frames.iter().map(|frame| frame.len()).sum();
        batch.buffer.reserve(bytes / 2);
        batch.placed.reserve(frames.len());
        let mut last_time = None;
        for (index, bytes) in frames.iter().enumerate() {
            let frame = frame::read(bytes, source, filter);
            batch.counts.frames += 1;
            if frame.seq.is_some() && frame.seq >= batch.last_seq {
                batch.last_seq = frame.seq;
                last_time = frame.time.or(last_time);
            }
            match frame.outcome {
                Outcome::Entry(entry) => batch.push(index, &entry, source.relay, shards),
                Outcome::Notice(notice) => batch.notices.push(said(notice)),
            }
        }
        batch.last_time = last_time.map(str::to_owned);
        batch
    }

    fn push(&mut self, index: usize, entry: &Entry<'_>, relay: &str, shards: u32) {
        let did = match entry {
            Entry::Commit(commit) => {
                self.count_commit(commit);
                commit.origin.did
            }
            Entry::Sync(sync) => {
                self.counts.sync += 1;
                sync.origin.did
            }
            Entry::Identity(identity) => {
                self.counts.identity += 1;
                identity.origin.did
            }
            Entry::Account(account) => {
                self.counts.account += 1;
                account.origin.did
            }
            Entry::RejectedFrame(frame) => {
                self.count_rejected(index, frame);
                frame.did.as_deref().unwrap_or(relay)
            }
            // No frame makes one.
            Entry::Slice(slice) => slice.did,
            Entry::Closing(closing) => closing.did,
        };
        let start = self.buffer.len();
        entry.encode(&mut self.buffer);
        self.placed.push(Placed {
            shard: shard_of(did, shards),
            bytes: start..self.buffer.len(),
            events: entry.events(),
        });
    }

    fn count_commit(&mut self, commit: &Commit<'_>) {
        for op in &commit.ops {
            match op.action {
                Action::Create => self.counts.create += 1,
                Action::Update => self.counts.update += 1,
                Action::Delete => self.counts.delete += 1,
            }
        }
        self.counts.filtered += commit.filtered.unsigned_abs();
        self.counts.rejected += commit.rejected.len() as u64;
    }

    fn count_rejected(&mut self, index: usize, frame: &RejectedFrame<'_>) {
        self.counts.rejected += frame.ops.unsigned_abs();
        self.rejected.push(Rejected {
            frame: index,
            reason: frame.reason,
            detail: frame.detail.to_string(),
        });
    }

    pub fn entries_count(&self) -> usize {
        self.placed.len()
    }

    /// Every entry with its shard, in the order of the frames.
    pub fn entries(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.placed.iter().map(|placed| {
            let bytes = self.buffer.get(placed.bytes.clone());
            (placed.shard, bytes.unwrap_or_default())
        })
    }

    /// What each touched shard receives.
    pub fn weights(&self) -> BTreeMap<u32, Weight> {
        let mut weights: BTreeMap<u32, Weight> = BTreeMap::new();
        for placed in &self.placed {
            let weight = weights.entry(placed.shard).or_default();
            weight.entries += 1;
            weight.events += placed.events as u64;
            weight.bytes += placed.bytes.len() as u64;
        }
        weights
    }

    /// The commands that append every entry, in the order of the frames.
    pub fn xadd(&self, stream: &[u8]) -> Vec<u8> {
        let each = resp::COMMAND_BYTES + stream.len();
        let mut out = Vec::with_capacity(self.buffer.len() + self.placed.len() * each);
        for (shard, entry) in self.entries() {
            resp::write_xadd(stream, shard, entry, &mut out);
        }
        out
    }
}

fn said(notice: Notice<'_>) -> Said {
    let (kind, name, message) = match notice {
        Notice::Info(name, message) => ("info", name, message),
        Notice::Error(name, message) => ("error", name, message),
        Notice::Unknown(name) => ("unknown", name, "".into()),
    };
    Said {
        kind,
        name: name.into_owned(),
        message: message.into_owned(),
    }
}
