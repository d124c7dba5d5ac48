//! The rows that exist, of those that matter to one batch: the answers to `wanted`.
//!
//! An answer is one JSON array of row arrays. Which look-ups there are is told by
//! `engine/collections/statements.py` and `engine/sql/lookups.sql`.

use std::collections::HashSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::batch::{Batch, Written};
use super::carried::Lengths;
use super::carry::Carry;
use super::decode::Validate;
use super::late_rows::LateRows;
use super::written;
use crate::plan::{Plan, TableId};

/// What is wrong with the answers: our own mistake, never the data's.
#[derive(Debug, thiserror::Error)]
pub enum KnownError {
    #[error("{0}: {1}")]
    Json(String, serde_json::Error),
    #[error("{0} was not asked for")]
    Strange(String),
}

/// did, rev, resync, `account_time`, `identity_time`, active, status.
pub(crate) type RepoRow = (
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<bool>,
    Option<String>,
);
/// did, whether it has a handle, `indexedAt`, time of a look-up still due.
pub(crate) type ActorRow = (String, bool, String, Option<String>);
/// uri, CID, sortAt, parent, root, invalidReplyRoot, violatesThreadGate.
pub(crate) type PostRow = (
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<bool>,
    Option<bool>,
);
/// uri of a post; uri and CID of its first embedded record; the same of its own quote.
pub(crate) type OwnRow = (
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);
/// uri, CID, what it duplicates, when.
pub(crate) type DuplicateRow = (String, String, String, String);
/// The same with CID, JSON text and `indexedAt` of its record, if that exists.
pub(crate) type CandidateRow = (
    String,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
);

/// A row of a collection's table.
#[derive(Clone, Debug)]
pub(crate) struct KnownRow {
    pub uri: String,
    pub cid: String,
    /// Values of the unique key, joined by NUL.
    pub key: Option<String>,
}

/// A record that lost a unique key and may take the winner's place.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub uri: String,
    pub collection: usize,
    pub did: String,
    pub cid: String,
    /// `indexedAt` of the record.
    pub time: String,
    /// `None` if it would not be accepted today.
    pub written: Option<Box<Written>>,
}

/// Whether other owners write at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Others {
    #[default]
    Away,
    Writing,
}

/// Every row that was looked up.
#[derive(Debug, Default)]
pub struct Known {
    pub(crate) round: usize,
    /// Creates are believed where the protocol proves them.
    pub(crate) trusting: bool,
    pub(crate) repos: Vec<RepoRow>,
    pub(crate) actors: Vec<ActorRow>,
    /// Repositories of which a snapshot is on its way, and its fetch.
    pub(crate) fetches: Vec<(String, i64)>,
    pub(crate) records: Vec<(String,)>,
    pub(crate) rows: Vec<KnownRow>,
    /// Occupied unique keys: table, key, uri of the row that holds it.
    pub(crate) keys: Vec<(TableId, String, String)>,
    pub(crate) duplicates: Vec<DuplicateRow>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) posts: Vec<PostRow>,
    pub(crate) own: Vec<OwnRow>,
    /// Subject, its CID as quoted, how many quotes name both.
    pub(crate) quoted: Vec<(String, String, i64)>,
    /// uri, uri of the post.
    pub(crate) feed_items: Vec<(String, String)>,
    /// uri and JSON text of records that others are judged by.
    pub(crate) texts: Vec<(String, String)>,
    /// Who mutes which thread.
    pub(crate) mutes: HashSet<(String, String)>,
    /// `mutes` is all there are.
    pub(crate) all_mutes: bool,
    /// The batch before, if it is not written yet.
    pub(crate) carry: Option<Arc<Carry>>,
    /// Only when that batch is written can this one be folded.
    pub(crate) is_blocked: bool,
    pub(crate) late: LateRows,
    pub(crate) others: Others,
    /// uri and T of what is settled.
    pub(crate) settling: Vec<(String, String)>,
}

impl Known {
    /// Nothing yet. If `trusting`, a record is not looked up where the protocol proves it new.
    /// `before` is what a batch leaves behind that is still being written.
    pub fn new(trusting: bool, before: Option<&Arc<Carry>>) -> Self {
        let mut known = Self {
            trusting,
            ..Self::default()
        };
        if let Some(carry) = before {
            known.begin_with(carry);
        }
        known
    }

    /// Whether other owners write at the same time.
    #[must_use]
    pub fn together(mut self, is_together: bool) -> Self {
        self.others = if is_together {
            Others::Writing
        } else {
            Others::Away
        };
        self
    }

    /// Settle posts and gates, uri and T of each, beside what the batch does.
    #[must_use]
    pub fn settle(mut self, uris: Vec<(String, String)>) -> Self {
        self.settling = uris;
        self
    }

    pub(super) fn is_together(&self) -> bool {
        self.others == Others::Writing
    }

    /// Whether what something is late for is judged again when that is settled, and not now.
    pub(super) fn defers(&self) -> bool {
        self.is_together() && self.settling.is_empty()
    }

    /// Whether the batch before must be written first: then everything is to be learned anew.
    pub fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Read the answers to what was `wanted` last.
    pub fn learn(
        &mut self,
        plan: &Plan,
        lexicons: &impl Validate,
        batch: &Batch,
        answers: &[(String, String)],
    ) -> Result<(), KnownError> {
        let lengths = Lengths::of(self);
        for (name, text) in answers {
            self.answer(plan, lexicons, batch, name, text)?;
        }
        self.give_way(&lengths);
        self.late.read(plan, lexicons, batch, &self.texts);
        self.round += 1;
        Ok(())
    }

    fn answer(
        &mut self,
        plan: &Plan,
        lexicons: &impl Validate,
        batch: &Batch,
        name: &str,
        text: &str,
    ) -> Result<(), KnownError> {
        match name {
            "lookup_repos" => self.repos.extend(rows(name, text)?),
            "lookup_actors" => self.actors.extend(rows(name, text)?),
            "lookup_fetches" => self.fetches.extend(rows(name, text)?),
            "lookup_record" => self.records.extend(rows(name, text)?),
            "lookup_duplicates" => self.duplicates.extend(rows(name, text)?),
            "lookup_candidates" => {
                let found = rows::<CandidateRow>(name, text)?;
                for row in self.candidates_by(batch, found) {
                    self.candidate(plan, lexicons, batch, row);
                }
            }
            "lookup_post_chain" | "lookup_post_tree" | "lookup_posts" => {
                self.posts.extend(rows(name, text)?);
            }
            "lookup_own_posts" => self.own.extend(rows(name, text)?),
            "lookup_quoted" => self.quoted.extend(rows(name, text)?),
            "lookup_feed_items" => self.feed_items.extend(rows(name, text)?),
            "lookup_texts" => self.texts.extend(rows(name, text)?),
            "lookup_some_mutes" => {
                self.mutes = rows::<(String, String)>(name, text)?.into_iter().collect();
                self.all_mutes = self.mutes.len() < super::mutes::SOME;
            }
            "lookup_mutes" => self.mutes.extend(rows(name, text)?),
            _ if self.late.answer(name, text)? => {}
            _ => return self.answer_of_table(plan, name, text),
        }
        Ok(())
    }

    fn answer_of_table(&mut self, plan: &Plan, name: &str, text: &str) -> Result<(), KnownError> {
        let strange = || KnownError::Strange(name.to_owned());
        let of = name.strip_prefix("lookup_").ok_or_else(strange)?;
        if let Some(table) = of.strip_suffix("_key").and_then(|of| plan.table_named(of)) {
            for mut row in rows::<Vec<String>>(name, text)? {
                if let Some(uri) = row.pop() {
                    self.keys.push((table, row.join("\0"), uri));
                }
            }
            return Ok(());
        }
        plan.table_named(of).ok_or_else(strange)?;
        for mut row in rows::<Vec<String>>(name, text)? {
            let key = row.split_off(row.len().min(2));
            if let (Some(cid), Some(uri)) = (row.pop(), row.pop()) {
                let key = (!key.is_empty()).then(|| key.join("\0"));
                self.rows.push(KnownRow { uri, cid, key });
            }
        }
        Ok(())
    }

    fn candidate(
        &mut self,
        plan: &Plan,
        lexicons: &impl Validate,
        batch: &Batch,
        (uri, cid, of, at, record_cid, json, time): CandidateRow,
    ) {
        self.duplicates.push((uri.clone(), cid, of, at));
        let (Some(cid), Some(json), Some(time)) = (record_cid, json, time) else {
            return;
        };
        let Some((collection, did)) = written::place(plan, &uri) else {
            return;
        };
        let did = did.to_owned();
        let written = written::again(plan, lexicons, &batch.now, [&uri, &cid, &time, &json]);
        self.candidates.push(Candidate {
            uri,
            collection,
            did,
            cid,
            time,
            written: written.map(Box::new),
        });
    }
}

pub(super) fn rows<T: DeserializeOwned>(name: &str, text: &str) -> Result<Vec<T>, KnownError> {
    serde_json::from_str(text).map_err(|error| KnownError::Json(name.to_owned(), error))
}
