//! What the gates of threads may look at, so that it is looked up.

use std::collections::{BTreeSet, HashMap};

use super::batch::{Batch, Rules};
use super::detail;
use super::known::Known;
use super::wanted::written_of;
use crate::plan::{Plan, Role};

/// By gate: what any of its versions that a reply of the batch may meet lets in. One that lets
/// everybody in looks at nothing.
pub(super) fn merged(plan: &Plan, batch: &Batch, known: &Known) -> HashMap<String, Rules> {
    let mut gates: HashMap<String, (Rules, BTreeSet<String>)> = HashMap::new();
    let mut add = |uri: String, json: &str| {
        let rules = detail::rules(json);
        if rules.closed {
            let (all, lists) = gates.entry(uri).or_default();
            all.closed = true;
            all.mentioned |= rules.mentioned;
            all.followers |= rules.followers;
            all.following |= rules.following;
            lists.extend(rules.lists);
        }
    };
    for (uri, json) in &known.texts {
        add(uri.clone(), json);
    }
    for (target, written) in batch.ops.iter().filter_map(written_of) {
        let collection = plan.collections.get(target.collection);
        if collection.is_some_and(|of| of.role == Role::Threadgate) {
            add(target.uri.to_string(), &written.json);
        }
    }
    let merged = gates.into_iter().map(|(uri, (rules, lists))| {
        let lists = lists.into_iter().collect();
        (uri, Rules { lists, ..rules })
    });
    merged.collect()
}
