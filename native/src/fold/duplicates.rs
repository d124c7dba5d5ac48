//! The overlay over records that lost a unique key.

use std::collections::{BTreeSet, HashMap};

use super::known::Known;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Duplicate<'b> {
    pub uri: &'b str,
    pub cid: &'b str,
    /// The record that held the key then.
    pub of: &'b str,
    pub time: &'b str,
    /// The op that made it what it is.
    pub by: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Duplicates<'b> {
    known: HashMap<&'b str, Duplicate<'b>>,
    now: HashMap<&'b str, Duplicate<'b>>,
    /// Losers by winner: time and uri.
    by_winner: HashMap<&'b str, BTreeSet<(&'b str, &'b str)>>,
}

impl<'b> Duplicates<'b> {
    pub fn new(known: &'b Known) -> Self {
        let mut duplicates = Self::default();
        for (uri, cid, of, time) in &known.duplicates {
            let duplicate = Duplicate {
                uri,
                cid,
                of,
                time,
                by: 0,
            };
            duplicates.known.insert(uri, duplicate);
            duplicates.put(duplicate);
        }
        duplicates
    }

    fn put(&mut self, duplicate: Duplicate<'b>) {
        self.remove(duplicate.uri);
        self.by_winner
            .entry(duplicate.of)
            .or_default()
            .insert((duplicate.time, duplicate.uri));
        self.now.insert(duplicate.uri, duplicate);
    }

    /// Insert-or-nothing; whether it was inserted.
    pub fn insert(&mut self, duplicate: Duplicate<'b>) -> bool {
        let is_new = !self.now.contains_key(duplicate.uri);
        if is_new {
            self.put(duplicate);
        }
        is_new
    }

    /// Replace it where it is there.
    pub fn update(&mut self, duplicate: Duplicate<'b>) {
        if self.now.contains_key(duplicate.uri) {
            self.put(duplicate);
        }
    }

    pub fn remove(&mut self, uri: &str) {
        if let Some(duplicate) = self.now.remove(uri) {
            if let Some(losers) = self.by_winner.get_mut(duplicate.of) {
                losers.remove(&(duplicate.time, duplicate.uri));
            }
        }
    }

    /// The losers to this winner, earliest first.
    pub fn of(&self, winner: &str) -> impl Iterator<Item = &'b str> + '_ {
        let losers = self.by_winner.get(winner).into_iter().flatten();
        losers.map(|(_, uri)| *uri)
    }

    /// Losers that changed, and what they are now.
    pub fn changed(&self) -> Vec<(&'b str, Option<Duplicate<'b>>)> {
        let now = |uri: &str| self.now.get(uri).copied();
        let gone = self.known.values().map(|known| known.uri);
        let gone = gone.filter(|uri| now(uri).is_none());
        let come = self.now.values();
        let come = come.filter(|each| self.known.get(each.uri) != Some(each));
        gone.map(|uri| (uri, None))
            .chain(come.map(|each| (each.uri, Some(*each))))
            .collect()
    }

    /// uris to delete and rows to insert, both sorted.
    pub fn into_changes(self) -> (Vec<&'b str>, Vec<Duplicate<'b>>) {
        let same = |left: &Duplicate<'_>, right: Option<&Duplicate<'_>>| {
            right.is_some_and(|right| {
                (left.cid, left.of, left.time) == (right.cid, right.of, right.time)
            })
        };
        let mut gone: Vec<_> = self
            .known
            .values()
            .filter(|known| !same(known, self.now.get(known.uri)))
            .map(|known| known.uri)
            .collect();
        let mut fresh: Vec<_> = self
            .now
            .values()
            .filter(|now| !same(now, self.known.get(now.uri)))
            .copied()
            .collect();
        gone.sort_unstable();
        fresh.sort_unstable_by_key(|duplicate| duplicate.uri);
        (gone, fresh)
    }
}
