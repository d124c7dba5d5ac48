//! Batches written down, entry by entry.

use std::collections::HashMap;

use super::{decode, record, rev, Batch, Change, ShardEntries, CID};
use crate::cid::{self, Cid};
use crate::dag_json;
use crate::entry::{Account, Action, Commit, Entry, Identity, Op, Origin, Sync};
use crate::plan::Plan;

/// Entries in the making: each has the next seq, and by default the next rev of its DID.
pub(in crate::fold) struct Log {
    pub entries: Vec<Vec<u8>>,
    pub seq: i64,
    revs: HashMap<String, String>,
    pub time: String,
}

impl Log {
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            seq: 0,
            revs: HashMap::new(),
            time: "2024-01-01T00:00:00.000Z".into(),
        }
    }

    pub fn push(&mut self, did: &str, entry: impl FnOnce(Origin<'_>) -> Vec<u8>) {
        self.seq += 1;
        let bytes = entry(Origin {
            relay: "relay.test",
            generation: 1,
            seq: self.seq,
            did,
            time: &self.time,
        });
        self.entries.push(bytes);
    }

    pub fn commit(&mut self, did: &str, changes: &[Change<'_>]) {
        let since = self.revs.get(did).cloned();
        let next = rev(self.entries.len() + 1);
        self.revs.insert(did.to_owned(), next.clone());
        self.commit_at(did, &next, since.as_deref(), changes);
    }

    pub fn commit_at(&mut self, did: &str, rev: &str, since: Option<&str>, changes: &[Change<'_>]) {
        let records = changes.iter().map(|(.., fields)| record(fields));
        let changes: Vec<_> = changes
            .iter()
            .zip(records)
            .map(|((sign, path, _), record)| (*sign, *path, record))
            .collect();
        self.commit_of(did, rev, since, &changes);
    }

    /// A commit that follows the last, with records as JSON.
    pub fn write(&mut self, did: &str, changes: &[(char, &str, &str)]) {
        let since = self.revs.get(did).cloned();
        let next = rev(self.entries.len() + 1);
        self.revs.insert(did.to_owned(), next.clone());
        let changes: Vec<_> = changes
            .iter()
            .map(|(sign, path, json)| (*sign, *path, dag_json::to_cbor(json).unwrap_or_default()))
            .collect();
        self.commit_of(did, &next, since.as_deref(), &changes);
    }

    fn commit_of(
        &mut self,
        did: &str,
        rev: &str,
        since: Option<&str>,
        changes: &[(char, &str, Vec<u8>)],
    ) {
        let bytes = cid::parse_str(CID).unwrap();
        let cid = Cid::exact(&bytes).unwrap();
        let ops = changes
            .iter()
            .map(|(sign, path, record)| {
                let action = match sign {
                    '+' => Action::Create,
                    '~' => Action::Update,
                    _ => Action::Delete,
                };
                let written = action != Action::Delete;
                Op {
                    action,
                    path: (*path).into(),
                    cid: written.then_some(cid),
                    prev: None,
                    record: written.then_some(record.as_slice()),
                }
            })
            .collect();
        self.push(did, |origin| {
            encode(&Entry::Commit(Commit {
                origin,
                rev,
                since,
                commit: cid,
                data: None,
                prev_data: None,
                part: 0,
                parts: 1,
                filtered: 0,
                ops,
                rejected: vec![],
                blocks: vec![],
            }))
        });
    }

    pub fn sync(&mut self, did: &str, rev: &str) {
        let bytes = cid::parse_str(CID).unwrap();
        let commit = Cid::exact(&bytes).unwrap();
        self.push(did, |origin| {
            encode(&Entry::Sync(Sync {
                origin,
                rev: rev.into(),
                commit,
                blocks: vec![],
            }))
        });
    }

    pub fn identity(&mut self, did: &str) {
        self.push(did, |origin| {
            encode(&Entry::Identity(Identity {
                origin,
                handle: None,
            }))
        });
    }

    pub fn account(&mut self, did: &str, active: bool, status: Option<&str>) {
        self.push(did, |origin| {
            encode(&Entry::Account(Account {
                origin,
                active,
                status: status.map(Into::into),
            }))
        });
    }

    /// Decode what was logged as one shard's entries. A record with `bad` is invalid.
    pub fn batch(self, plan: &Plan) -> Batch {
        decode(
            plan,
            vec![ShardEntries {
                shard: 3,
                held: HashMap::new(),
                entries: self.entries,
                is_cut: false,
            }],
        )
    }

    pub fn entries(self) -> Vec<Vec<u8>> {
        self.entries
    }
}

pub(super) fn encode(entry: &Entry<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    entry.encode(&mut out);
    out
}
