//! What the database holds of the ranges of slices, and what live traffic touched of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use crate::fold::carry::Carry;
use crate::fold::known::{rows, KnownError};
use crate::syntax;

/// Rows that exist.
#[derive(Debug, Default)]
pub(super) struct There {
    /// By repository, the CID by uri: all of a range, or of the uris that slices name.
    records: HashMap<String, BTreeMap<String, String>>,
    /// By repository, uris from before its first slice.
    stale: HashMap<String, BTreeSet<String>>,
    /// By repository, the rev by uri.
    touched: HashMap<String, HashMap<String, String>>,
}

impl There {
    pub fn learn(answers: &[(String, String)]) -> Result<Self, KnownError> {
        let mut there = Self::default();
        for (name, text) in answers {
            match name.as_str() {
                "lookup_touched" => {
                    for (did, uri, rev) in rows::<(String, String, String)>(name, text)? {
                        there.touched.entry(did).or_default().insert(uri, rev);
                    }
                }
                "lookup_repo_records" | "lookup_cids" => {
                    for (uri, cid) in rows::<(String, String)>(name, text)? {
                        let did = syntax::authority_of(&uri).to_owned();
                        there.records.entry(did).or_default().insert(uri, cid);
                    }
                }
                "lookup_stale" => {
                    for (did, uri) in rows::<(String, String)>(name, text)? {
                        there.stale.entry(did).or_default().insert(uri);
                    }
                }
                _ => return Err(KnownError::Strange(name.clone())),
            }
        }
        Ok(there)
    }

    /// What a batch that is still being written touched is as that leaves it.
    pub fn give_way(&mut self, carry: &Carry, is_ours: impl Fn(&str) -> bool) {
        for (uri, cid) in carry.versions() {
            let did = syntax::authority_of(uri);
            if !is_ours(did) {
                continue;
            }
            if let Some(cid) = cid {
                let records = self.records.entry(did.to_owned()).or_default();
                records.insert(uri.to_owned(), cid.to_owned());
            } else {
                self.records.get_mut(did).and_then(|of| of.remove(uri));
                self.stale.get_mut(did).map(|of| of.remove(uri));
            }
        }
        let touched = carry.fetched.touched.iter();
        for (did, uris) in touched.filter(|(did, _)| is_ours(did)) {
            let touched = self.touched.entry(did.clone()).or_default();
            for (uri, rev) in uris {
                let last = touched.entry(uri.clone()).or_default();
                if *last < *rev {
                    last.clone_from(rev);
                }
            }
        }
    }

    /// Whether live traffic has the last word on a uri, against a snapshot of this rev.
    pub fn is_touched(&self, did: &str, uri: &str, rev: &str) -> bool {
        let last = self.touched.get(did).and_then(|uris| uris.get(uri));
        last.is_some_and(|last| last.as_str() > rev)
    }

    pub fn cid(&self, did: &str, uri: &str) -> Option<&str> {
        Some(self.records.get(did)?.get(uri)?)
    }

    /// What is there of a range: (after, through].
    pub fn within(&self, did: &str, range: (Bound<String>, Bound<String>)) -> BTreeSet<String> {
        let records = self.records.get(did).into_iter();
        let records = records.flat_map(|of| of.range(range.clone()).map(|(uri, _)| uri));
        let stale = self.stale.get(did).into_iter();
        let stale = stale.flat_map(|of| of.range(range.clone()));
        records.chain(stale).cloned().collect()
    }
}
