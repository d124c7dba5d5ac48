//! Which records the protocol proves new, so that nobody need look whether they exist.

use std::collections::HashMap;

use super::batch::{Batch, Kind};
use super::events::tid_micros;
use super::known::Known;
use crate::entry::Action;

/// Creates of which the protocol says that the record did not exist: their commit follows
/// the one applied last, in a repository of which nothing is missing.
pub(super) fn proven(batch: &Batch, known: &Known) -> Vec<bool> {
    let mut proven = vec![false; batch.ops.len()];
    if !known.trusting {
        return proven;
    }
    let mut repos: HashMap<&str, (Option<&str>, bool)> = HashMap::new();
    for (did, rev, resync, ..) in &known.repos {
        repos.insert(did, (rev.as_deref(), resync.is_some()));
    }
    // While a snapshot is on its way, its slices may be ahead of what is applied.
    for (did, _) in &known.fetches {
        repos.entry(did).or_default().1 = true;
    }
    for event in &batch.events {
        let repo = repos.entry(&event.did).or_default();
        match &event.kind {
            Kind::Commit(commit) => {
                let in_time = tid_micros(&commit.rev).is_some_and(|micros| micros <= batch.latest);
                if !in_time || repo.0.is_some_and(|rev| &*commit.rev <= rev) {
                    continue;
                }
                repo.1 |= repo.0 != commit.since.as_deref();
                repo.0 = Some(&commit.rev);
                if !repo.1 {
                    for number in commit.ops.clone() {
                        let op = batch.ops.get(number);
                        if let (Some(op), Some(is_new)) = (op, proven.get_mut(number)) {
                            *is_new = op.action == Action::Create;
                        }
                    }
                }
            }
            Kind::Sync { .. } => repo.1 = true,
            Kind::Record(record) => {
                // It was looked for when the slice was compared with what is there.
                let op = batch.ops.get(record.op);
                if let (Some(op), Some(is_new)) = (op, proven.get_mut(record.op)) {
                    *is_new = op.action == Action::Create;
                }
            }
            _ => {}
        }
    }
    proven
}
