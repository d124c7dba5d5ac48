//! The overlay over quotes, and their counts.
//!
//! The data plane counts the quotes of a post by the CID that they name, whatever uri they
//! name beside it, at the moment of the last event that touched the post's count. How many
//! quotes name a CID is kept in `quote_count`, so that nothing is ever counted by a scan; here
//! stand only the differences to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::known::Known;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Quote<'b> {
    pub uri: &'b str,
    pub cid: &'b str,
    pub subject: &'b str,
    pub subject_cid: &'b str,
    pub created_at: &'b str,
    pub time: &'b str,
    /// The op that made it.
    pub by: usize,
}

#[derive(Clone, Copy, Debug)]
enum State<'b> {
    Absent,
    /// In the database, with this subject and CID.
    Known(&'b str, &'b str),
    Fresh(Quote<'b>),
}

impl<'b> State<'b> {
    /// Subject and CID.
    fn names(&self) -> Option<(&'b str, &'b str)> {
        match self {
            Self::Absent => None,
            Self::Known(subject, cid) => Some((subject, cid)),
            Self::Fresh(quote) => Some((quote.subject, quote.subject_cid)),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Quotes<'b> {
    rows: HashMap<&'b str, State<'b>>,
    by_subject: HashMap<&'b str, Vec<&'b str>>,
    /// Quotes that came or went by themselves, by subject.
    changed_of: HashMap<&'b str, BTreeSet<&'b str>>,
    /// Quotes in the database by subject and CID, of subjects that may lose theirs.
    groups: HashMap<&'b str, BTreeMap<&'b str, i64>>,
    gone: BTreeSet<&'b str>,
    gone_subjects: BTreeSet<&'b str>,
    /// By CID: all changes so far; those of them that the removal of rows makes. That one is
    /// counted where it happens: an owner of other posts may remove the same quote.
    changed: BTreeMap<&'b str, (i64, i64)>,
    /// By uri: the CID whose quotes count, and its changes when that was looked at.
    counted: BTreeMap<&'b str, (&'b str, i64)>,
}

/// What becomes of the counts.
#[derive(Debug, Default)]
pub(crate) struct QuoteChanges<'b> {
    pub gone: BTreeSet<&'b str>,
    pub gone_subjects: BTreeSet<&'b str>,
    pub fresh: Vec<Quote<'b>>,
    /// CID, difference that the removals do not make themselves.
    pub counts: Vec<(&'b str, i64)>,
    /// uri, CID, what its count differs by from that of the CID after the removals and before
    /// `counts`.
    pub counted: Vec<(&'b str, &'b str, i64)>,
}

impl<'b> Quotes<'b> {
    pub fn new(known: &'b Known) -> Self {
        let mut quotes = Self::default();
        for (subject, cid, count) in &known.quoted {
            let group = quotes.groups.entry(subject).or_default();
            *group.entry(cid).or_default() += count;
        }
        for (uri, _, _, subject, cid) in &known.own {
            if let (Some(subject), Some(cid)) = (subject, cid) {
                quotes.rows.insert(uri, State::Known(subject, cid));
                quotes.by_subject.entry(subject).or_default().push(uri);
            }
        }
        for (subject, cid, uri) in &known.late.quoting {
            if !quotes.rows.contains_key(uri.as_str()) {
                quotes.rows.insert(uri, State::Known(subject, cid));
                quotes.by_subject.entry(subject).or_default().push(uri);
            }
        }
        quotes
    }

    /// The quotes of a post, sorted by uri.
    pub fn of(&self, subject: &str) -> BTreeSet<&'b str> {
        let quotes = self.by_subject.get(subject).into_iter().flatten().copied();
        let is_there = |uri: &&str| match self.rows.get(uri) {
            Some(State::Fresh(quote)) => quote.subject == subject,
            Some(State::Known(of, _)) => *of == subject,
            Some(State::Absent) | None => false,
        };
        quotes.filter(is_there).collect()
    }

    /// Insert-or-nothing.
    pub fn insert(&mut self, quote: Quote<'b>) {
        if matches!(self.rows.get(quote.uri), None | Some(State::Absent)) {
            self.rows.insert(quote.uri, State::Fresh(quote));
            self.by_subject
                .entry(quote.subject)
                .or_default()
                .push(quote.uri);
            self.note(quote.subject, quote.uri);
            self.changed.entry(quote.subject_cid).or_default().0 += 1;
        }
    }

    fn note(&mut self, subject: &'b str, uri: &'b str) {
        self.changed_of.entry(subject).or_default().insert(uri);
    }

    /// The quote that this post makes goes.
    pub fn remove(&mut self, uri: &'b str) {
        match self.rows.insert(uri, State::Absent) {
            Some(State::Fresh(quote)) => self.changed.entry(quote.subject_cid).or_default().0 -= 1,
            Some(State::Known(subject, cid)) => {
                self.note(subject, uri);
                self.gone.insert(uri);
                let changed = self.changed.entry(cid).or_default();
                changed.0 -= 1;
                changed.1 -= 1;
                if let Some(count) = self.groups.get_mut(subject).and_then(|of| of.get_mut(cid)) {
                    *count -= 1;
                }
            }
            Some(State::Absent) | None => {}
        }
    }

    /// Every quote of this post goes, also those that the batch does not know; their counts
    /// stay as they were until somebody looks again.
    pub fn remove_of(&mut self, subject: &'b str) {
        self.gone_subjects.insert(subject);
        for uri in self.by_subject.remove(subject).unwrap_or_default() {
            match self.rows.get(uri) {
                Some(State::Fresh(quote)) if quote.subject == subject => {
                    self.changed.entry(quote.subject_cid).or_default().0 -= 1;
                    self.rows.insert(uri, State::Absent);
                }
                Some(State::Known(of, _)) if *of == subject => {
                    self.rows.insert(uri, State::Absent);
                }
                _ => {}
            }
        }
        for (cid, count) in self.groups.remove(subject).unwrap_or_default() {
            let changed = self.changed.entry(cid).or_default();
            changed.0 -= count;
            changed.1 -= count;
        }
    }

    /// The count of this post is looked at: the quotes that name this CID now.
    pub fn count(&mut self, uri: &'b str, cid: &'b str) {
        let changed = self.changed.entry(cid).or_default().0;
        self.counted.insert(uri, (cid, changed));
    }

    /// The quote that a post makes: subject and CID.
    pub fn made(&self, uri: &str) -> Option<(&'b str, &'b str)> {
        self.rows.get(uri).and_then(State::names)
    }

    /// Quotes that came or went, with what they name now.
    pub fn changed(&self) -> impl Iterator<Item = (&'b str, Option<(&'b str, &'b str)>)> + '_ {
        let rows = self.rows.iter();
        rows.filter(|(_, state)| !matches!(state, State::Known(..)))
            .map(|(uri, state)| (*uri, state.names()))
    }

    /// Quotes that came or went by themselves, by the subjects that they have or had.
    pub fn changed_of(&self) -> &HashMap<&'b str, BTreeSet<&'b str>> {
        &self.changed_of
    }

    /// Posts of which every quote went but for those that came later.
    pub fn gone_subjects(&self) -> impl Iterator<Item = &'b str> + '_ {
        self.gone_subjects.iter().copied()
    }

    pub fn into_changes(self) -> QuoteChanges<'b> {
        let Self { changed, .. } = self;
        let removed = |cid: &str| changed.get(cid).map_or(0, |(_, removed)| *removed);
        let counted = self
            .counted
            .into_iter()
            .map(|(uri, (cid, then))| (uri, cid, then - removed(cid)))
            .collect();
        let mut fresh: Vec<_> = self
            .rows
            .into_values()
            .filter_map(|state| match state {
                State::Fresh(quote) => Some(quote),
                _ => None,
            })
            .collect();
        fresh.sort_unstable_by_key(|quote| quote.uri);
        QuoteChanges {
            gone: self.gone,
            gone_subjects: self.gone_subjects,
            fresh,
            counts: changed
                .iter()
                .map(|(cid, (all, removed))| (*cid, all - removed))
                .collect(),
            counted,
        }
    }
}
