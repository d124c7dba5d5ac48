//! What is known of a batch, overlaid with what the one before it leaves behind (`carry`).

use std::collections::HashSet;
use std::sync::Arc;

use super::batch::{Batch, Body};
use super::carry::{Carry, Said};
use super::known::{CandidateRow, Known, KnownRow};

/// Keep of the rows from here on only these.
fn tail<T>(rows: &mut Vec<T>, from: usize, keep: impl FnMut(&T) -> bool) {
    let mut fresh = rows.split_off(from.min(rows.len()));
    fresh.retain(keep);
    rows.append(&mut fresh);
}

impl Known {
    /// Begin with what an earlier batch leaves behind.
    pub(super) fn begin_with(&mut self, carry: &Arc<Carry>) {
        self.repos.extend(carry.repos.values().cloned());
        self.actors.extend(carry.actors.values().cloned());
        let present = carry.records.iter().filter(|(_, now)| now.is_present());
        self.records.extend(present.map(|(uri, _)| (uri.clone(),)));
        self.rows.extend(carry.rows.iter().filter_map(|(uri, row)| {
            let (cid, key) = row.clone()?;
            let uri = uri.clone();
            Some(KnownRow { uri, cid, key })
        }));
        self.keys.extend(
            carry
                .keys
                .iter()
                .filter_map(|((table, key), holder)| Some((*table, key.clone(), holder.clone()?))),
        );
        self.posts.extend(carry.posts.values().cloned());
        self.own.extend(carry.own.values().cloned());
        let quotes = carry.quotes.values().flatten();
        let quotes = quotes.map(|(subject, cid)| (subject.clone(), cid.clone(), 1));
        self.quoted.extend(quotes);
        self.duplicates
            .extend(carry.losers.values().flatten().cloned());
        let items = carry.items.iter();
        self.feed_items
            .extend(items.filter_map(|(uri, post)| Some((uri.clone(), post.clone()?))));
        if let Some(latest) = carry.latest {
            self.late.reach(latest);
        }
        self.carry = Some(Arc::clone(carry));
    }

    /// Leave out, of rows that were looked up, what the earlier batch has the last word on.
    pub(super) fn give_way(&mut self, lengths: &Lengths) {
        let Some(carry) = self.carry.take() else {
            return;
        };
        tail(&mut self.repos, lengths.repos, |row| {
            !carry.repos.contains_key(&row.0)
        });
        tail(&mut self.actors, lengths.actors, |row| {
            !carry.actors.contains_key(&row.0)
        });
        // A fetch begins whenever a backfiller likes; only its end is the indexer's.
        self.fetches
            .retain(|(did, fetch)| carry.fetched.ended.get(did) != Some(fetch));
        tail(&mut self.records, lengths.records, |row| {
            !carry.records.contains_key(&row.0)
        });
        tail(&mut self.rows, lengths.rows, |row| {
            !carry.rows.contains_key(&row.uri)
        });
        tail(&mut self.keys, lengths.keys, |(table, key, _)| {
            !carry.keys.contains_key(&(*table, key.clone()))
        });
        tail(&mut self.posts, lengths.posts, |row| {
            !carry.posts.contains_key(&row.0) && !carry.gone_posts.contains(&row.0)
        });
        self.late.posts.retain(|late| {
            let uri = &late.post.0;
            !carry.posts.contains_key(uri) && !carry.gone_posts.contains(uri)
        });
        tail(&mut self.feed_items, lengths.feed_items, |(uri, post)| {
            !carry.records.contains_key(uri) && !carry.gone_items.contains(post)
        });
        tail(&mut self.texts, lengths.texts, |(uri, _)| {
            matches!(carry.said(uri), Said::Nothing)
        });
        tail(&mut self.duplicates, lengths.duplicates, |row| {
            !carry.losers.contains_key(&row.0)
        });
        tail(&mut self.own, lengths.own, |row| {
            !carry.own.contains_key(&row.0)
        });
        for (_, _, _, subject, cid) in self.own.iter_mut().skip(lengths.own) {
            if subject
                .as_ref()
                .is_some_and(|of| carry.gone_subjects.contains(of))
            {
                (*subject, *cid) = (None, None);
            }
        }
        tail(&mut self.quoted, lengths.quoted, |(subject, ..)| {
            !carry.gone_subjects.contains(subject)
        });
        self.carry = Some(carry);
    }

    /// Losers to the winners asked for, as the earlier batch left them and their records; the
    /// others are as they were looked up.
    pub(super) fn candidates_by(
        &mut self,
        batch: &Batch,
        found: Vec<CandidateRow>,
    ) -> Vec<CandidateRow> {
        let Some(carry) = self.carry.clone() else {
            return found;
        };
        let winners: HashSet<&str> = batch
            .ops
            .iter()
            .filter_map(|op| match &op.body {
                Body::Delete(target) => Some(&*target.uri),
                _ => None,
            })
            .collect();
        let losers = carry.losers.values().flatten();
        let fresh = losers.filter(|(.., of, _)| winners.contains(of.as_str()));
        let fresh = fresh.map(|(uri, cid, of, at)| {
            (
                uri.clone(),
                cid.clone(),
                of.clone(),
                at.clone(),
                None,
                None,
                None,
            )
        });
        let fresh: Vec<CandidateRow> = fresh.collect();
        // Whose record the earlier batch left alone, nobody has looked up.
        let is_unknown = |row: &CandidateRow| matches!(carry.said(&row.0), Said::Nothing);
        self.is_blocked |= fresh.iter().any(is_unknown);
        let found = found
            .into_iter()
            .filter(|row| !carry.losers.contains_key(&row.0));
        let mut all: Vec<CandidateRow> = found.chain(fresh).collect();
        for (uri, _, _, _, cid, json, time) in &mut all {
            [*cid, *json, *time] = match carry.said(uri) {
                Said::Nothing => continue,
                Said::Gone => [None, None, None],
                Said::Record(record) => record.map(|text| Some(text.to_owned())),
            };
        }
        all
    }

    /// T of a record that the earlier batch wrote.
    pub(super) fn carried_time(&self, uri: &str) -> Option<&str> {
        match self.carry.as_ref()?.said(uri) {
            Said::Record([_, _, time]) => Some(time),
            Said::Gone | Said::Nothing => None,
        }
    }

    /// What the earlier batch wrote of records that are asked for as texts.
    pub(super) fn add_texts(&mut self, uris: &[String]) {
        let Some(carry) = &self.carry else { return };
        for uri in uris {
            if let Said::Record([_, text, _]) = carry.said(uri) {
                self.texts.push((uri.clone(), text.to_owned()));
            }
        }
    }
}

/// How many rows there were before an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    repos: usize,
    actors: usize,
    records: usize,
    rows: usize,
    keys: usize,
    posts: usize,
    feed_items: usize,
    texts: usize,
    own: usize,
    quoted: usize,
    duplicates: usize,
}

impl Lengths {
    pub fn of(known: &Known) -> Self {
        Self {
            repos: known.repos.len(),
            actors: known.actors.len(),
            records: known.records.len(),
            rows: known.rows.len(),
            keys: known.keys.len(),
            posts: known.posts.len(),
            feed_items: known.feed_items.len(),
            texts: known.texts.len(),
            own: known.own.len(),
            quoted: known.quoted.len(),
            duplicates: known.duplicates.len(),
        }
    }
}
