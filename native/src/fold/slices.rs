//! Slices of fetched repositories, until what is there of their ranges is known: then they are a
//! batch of ops like any other.
//!
//! A record that is not there becomes a create, one with another CID an update, and a row that the
//! slice does not have a delete; whatever was touched after the snapshot is left alone. What the
//! database holds is asked for repository by repository where a fetch begins. Of one that takes
//! several batches, `begin_fetches` then keeps the uris still to come (`headrace.stale`), so that
//! every later slice asks for its own range only, in byte order, whatever order the database has.

mod made;
mod there;

use std::collections::{BTreeMap, BTreeSet};

use made::Maker;
use there::There;

use super::batch::{Batch, Counts, ShardEntries, Source};
use super::carry::Carry;
use super::decode::{Clock, Records, Validate};
use super::known::KnownError;
use super::wanted::{array, Lookup};
use crate::entry::{self, Entry, EntryError};
use crate::pgcopy::{array_texts, ArrayText};
use crate::plan::Plan;
use crate::syntax;

/// What positions and dead letters name as the relay of fetched repositories.
const RELAY: &str = "backfill";

/// What waits in some shards' streams of fetched repositories.
#[derive(Debug, Default)]
pub struct Slices {
    entries: Vec<Vec<u8>>,
    /// Of each entry, the position of its shard in `weights`.
    shards: Vec<usize>,
    weights: Vec<(u32, u64, u64, u64)>,
    weight: i64,
    latest: u64,
    now: String,
    /// Repositories whose first slice is here, and how far the ranges of their slices go.
    whole: BTreeMap<String, Option<String>>,
    /// Those of which only later slices are: with their ranges (after, through).
    parts: BTreeMap<String, Vec<(String, Option<String>)>>,
    /// Records of those.
    uris: BTreeSet<String>,
}

impl Slices {
    /// Take everything that waits.
    pub fn read(shards: Vec<ShardEntries>, now: f64) -> Result<Self, EntryError> {
        let clock = Clock::at(now);
        let mut slices = Self {
            latest: clock.latest(),
            now: clock.text,
            ..Self::default()
        };
        for (at, shard) in shards.into_iter().enumerate() {
            let (mut events, mut size) = (0, 0);
            for bytes in &shard.entries {
                let read = Entry::decode(bytes)?;
                match &read {
                    Entry::Slice(slice) => slices.meet(slice),
                    Entry::Closing(closing) => {
                        slices.parts.entry(closing.did.to_owned()).or_default();
                    }
                    Entry::Account(_) => {} // what a host says of it, who is asked or lists it
                    _ => return Err(EntryError::Malformed), // of another stream
                }
                events += read.events() as u64;
                size += bytes.len() as u64;
                slices.weight = slices.weight.saturating_add(read.weight());
                slices.shards.push(at);
            }
            let entries = shard.entries.len() as u64;
            slices.weights.push((shard.shard, entries, events, size));
            slices.entries.extend(shard.entries);
        }
        let whole = &slices.whole;
        slices.parts.retain(|did, _| !whole.contains_key(did));
        let is_part = |uri: &String| !whole.contains_key(syntax::authority_of(uri));
        slices.uris.retain(is_part);
        Ok(slices)
    }

    /// Note what must be known for a slice.
    fn meet(&mut self, slice: &entry::Slice<'_>) {
        let uri = |path: &str| format!("at://{}/{path}", slice.did);
        let through = slice.through.map(uri);
        if let Some(end) = self.whole.get_mut(slice.did) {
            // To the end is beyond all others.
            *end = end.take().zip(through).map(|(end, new)| end.max(new));
            return;
        }
        let Some(after) = slice.after else {
            self.whole.insert(slice.did.to_owned(), through);
            return;
        };
        let ranges = self.parts.entry(slice.did.to_owned()).or_default();
        ranges.push((uri(after), through));
        let paths = slice.records.iter().map(|record| uri(record.path));
        self.uris.extend(paths);
    }

    /// Ops of the entries in the accounts' sense.
    pub fn weight(&self) -> i64 {
        self.weight
    }

    /// For each shard: number, entries, events, bytes of entries.
    pub fn weights(&self) -> &[(u32, u64, u64, u64)] {
        &self.weights
    }

    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Whether a batch must be written first: it has the first slice of a fetch of which later
    /// ones are here.
    pub fn is_blocked(&self, before: Option<&Carry>) -> bool {
        let begun = before.map(|carry| &carry.fetched.begun);
        begun.is_some_and(|begun| self.parts.keys().any(|did| begun.contains(did)))
    }

    /// What to look up.
    pub fn wanted(&self) -> Vec<Lookup> {
        let dids = self.whole.keys().chain(self.parts.keys());
        let mut wanted = vec![(
            "lookup_touched".to_owned(),
            vec![array(dids.map(String::as_str))],
        )];
        if !self.whole.is_empty() {
            let mut columns: [ArrayText; 2] = array_texts();
            let [dids, ends] = &mut columns;
            for (did, through) in &self.whole {
                dids.push(Some(did));
                ends.push(through.as_deref());
            }
            let columns = columns.map(ArrayText::finish);
            wanted.push(("lookup_repo_records".into(), columns.into()));
        }
        if !self.uris.is_empty() {
            let uris = array(self.uris.iter().map(String::as_str));
            wanted.push(("lookup_cids".into(), vec![uris]));
        }
        let mut columns: [ArrayText; 3] = array_texts();
        for (did, ranges) in &self.parts {
            for (after, through) in ranges {
                let [dids, starts, ends] = &mut columns;
                dids.push(Some(did));
                starts.push(Some(after));
                ends.push(through.as_deref());
            }
        }
        if columns.first().is_some_and(|dids| !dids.is_empty()) {
            let columns = columns.map(ArrayText::finish);
            wanted.push(("lookup_stale".into(), columns.into()));
        }
        wanted
    }

    /// The batch that the slices are, given the answers and what is still being written.
    ///
    /// Ops are numbered alike whatever the answers: records in order, then what goes.
    pub fn resolve(
        &self,
        plan: &Plan,
        lexicons: &impl Validate,
        answers: &[(String, String)],
        before: Option<&Carry>,
    ) -> Result<Batch, KnownError> {
        let mut there = There::learn(answers)?;
        if let Some(carry) = before {
            let is_ours = |did: &str| self.whole.contains_key(did) || self.parts.contains_key(did);
            there.give_way(carry, is_ours);
        }
        let mut made = Maker {
            records: Records { plan, lexicons },
            there,
            batch: Batch {
                weights: self.weights.clone(),
                weight: self.weight,
                latest: self.latest,
                now: self.now.clone(),
                ..Batch::default()
            },
            removed: Vec::new(),
        };
        for (shard, ..) in &self.weights {
            made.batch.sources.push(Source {
                shard: *shard,
                relay: RELAY.to_owned(),
                generation: 0,
                seq: None,
                counts: Counts::new(),
            });
        }
        for (at, (bytes, source)) in self.entries.iter().zip(&self.shards).enumerate() {
            match Entry::decode(bytes) {
                Ok(Entry::Slice(slice)) => made.slice(&slice, (at, *source)),
                Ok(Entry::Closing(closing)) => made.closing(&closing, (at, *source)),
                Ok(Entry::Account(account)) => made.account(&account, (at, *source)),
                _ => {} // was read before
            }
        }
        let mut batch = made.finish();
        batch.entries.clone_from(&self.entries);
        Ok(batch)
    }
}
