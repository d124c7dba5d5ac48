//! Entries to rows: within one stream the later (seq, index) wins.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;

use super::wire::{Entry, NotCarried};
use super::Label;
use crate::entry::EntryError;
use crate::pgcopy::{array_texts, ArrayText};

/// The stream that the entries come from, as dead letters name it.
const SOURCE: &str = "label_live";
const MAX_ERROR_CHARS: usize = 1_000;

/// A label's row; `stream` is the position of its stream in `Gathered::streams`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub src: Box<str>,
    pub uri: Box<str>,
    /// Empty: of every version.
    pub cid: Box<str>,
    pub val: Box<str>,
    pub neg: bool,
    pub cts: Box<str>,
    pub exp: Option<Box<str>>,
    pub stream: usize,
}

/// What one life of a labeler's seqs brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamTally {
    pub host: String,
    pub generation: i64,
    /// Highest seq that is then held; None if none was ever read.
    pub seq: Option<i64>,
    /// Labels by outcome: `applied`, `duplicate`, `rejected:WORD`.
    pub outcomes: BTreeMap<String, u64>,
    /// Of those applied, the ones whose signature nobody checked, or is bad.
    pub unverified: u64,
}

/// What a batch of entries changes.
#[derive(Debug, Default)]
pub struct Gathered {
    /// The last label of each key and stream, in the order in which they came.
    pub rows: Vec<Row>,
    pub streams: Vec<StreamTally>,
    /// Which source's labels came in which stream.
    pub sources: BTreeSet<(Box<str>, usize)>,
    /// Labels in the entries, one at least for each.
    pub events: u64,
    pub labels: u64,
    letters: Vec<Letter>,
}

/// A label on its way to the dead letters.
#[derive(Debug)]
struct Letter {
    /// Place of its stream in `Gathered::streams`.
    stream: usize,
    fields: [Option<String>; 8],
    raw: Vec<u8>,
}

type Key<'e> = (usize, &'e str, &'e str, &'e str, &'e str);

/// Read entries in the order of their stream.
///
/// `held` is the highest seq held of each `host/generation`: labels up to it are duplicates.
pub fn gather<S: BuildHasher>(
    entries: &[&[u8]],
    held: &HashMap<String, i64, S>,
) -> Result<Gathered, EntryError> {
    let mut gathered = Gathered::default();
    let mut places: HashMap<(String, i64), usize> = HashMap::new();
    let mut last: HashMap<Key<'_>, (usize, Label<'_>)> = HashMap::new();
    let mut order = 0;
    for bytes in entries {
        let entry = Entry::decode(bytes)?;
        gathered.events += entry.events();
        let name = (entry.host.to_string(), entry.generation);
        let place = *places.entry(name).or_insert_with(|| {
            let key = format!("{}/{}", entry.host, entry.generation);
            gathered.streams.push(StreamTally {
                host: entry.host.to_string(),
                generation: entry.generation,
                seq: held.get(&key).copied(),
                outcomes: BTreeMap::new(),
                unverified: 0,
            });
            gathered.streams.len() - 1
        });
        gathered.labels += (entry.labels.len() + entry.rejected.len()) as u64;
        let Some(stream) = gathered.streams.get_mut(place) else {
            continue;
        };
        if entry.seq.is_some() && entry.seq <= stream.seq {
            let labels = (entry.labels.len() + entry.rejected.len()) as u64;
            count(stream, "duplicate".into(), labels);
            continue;
        }
        stream.seq = stream.seq.max(entry.seq);
        count(stream, "applied".into(), entry.labels.len() as u64);
        stream.unverified += entry.unverified;
        for label in &entry.rejected {
            count(stream, format!("rejected:{}", label.reason.word()), 1);
        }
        for label in &entry.rejected {
            gathered.keep(place, &entry, label);
        }
        for label in entry.labels {
            order += 1;
            let cid = label.cid.unwrap_or("");
            let key = (place, label.src, label.uri, cid, label.val);
            last.insert(key, (order, label));
        }
    }
    let mut rows: Vec<_> = last.into_iter().collect();
    rows.sort_unstable_by_key(|(_, (order, _))| *order);
    for ((stream, src, uri, cid, val), (_, label)) in rows {
        gathered.sources.insert((src.into(), stream));
        gathered.rows.push(Row {
            src: src.into(),
            uri: uri.into(),
            cid: cid.into(),
            val: val.into(),
            neg: label.neg,
            cts: label.cts.into(),
            exp: label.exp.map(Into::into),
            stream,
        });
    }
    Ok(gathered)
}

fn count(stream: &mut StreamTally, outcome: String, labels: u64) {
    if labels > 0 {
        *stream.outcomes.entry(outcome).or_default() += labels;
    }
}

impl Gathered {
    fn keep(&mut self, stream: usize, entry: &Entry<'_>, label: &NotCarried<'_>) {
        let owned = |text: &Option<_>| text.as_deref().map(str::to_owned);
        let fields = [
            Some(entry.host.to_string()),
            Some(entry.generation.to_string()),
            entry.seq.map(|seq| seq.to_string()),
            owned(&label.src),
            owned(&label.uri),
            owned(&label.cid),
            Some(label.reason.word().to_owned()),
            Some(label.error.chars().take(MAX_ERROR_CHARS).collect()),
        ];
        self.letters.push(Letter {
            stream,
            fields,
            raw: label.raw.to_vec(),
        });
    }

    /// Array literals of the rows, sorted by key: sources, uris, cids, values, negations, `cts`,
    /// `exp`; without those of the sources named.
    pub fn columns(&self, without: &[String]) -> Vec<String> {
        let mut columns: [ArrayText; 7] = array_texts();
        let left_out = |row: &Row| without.iter().any(|src| **src == *row.src);
        let mut rows: Vec<&Row> = self.rows.iter().filter(|row| !left_out(row)).collect();
        rows.sort_unstable_by_key(|row| (&row.src, &row.uri, &row.cid, &row.val));
        for row in rows {
            let [sources, uris, cids, values, negations, times, ends] = &mut columns;
            sources.push(Some(&row.src));
            uris.push(Some(&row.uri));
            cids.push(Some(&row.cid));
            values.push(Some(&row.val));
            negations.push(Some(if row.neg { "t" } else { "f" }));
            times.push(Some(&row.cts));
            ends.push(row.exp.as_deref());
        }
        columns.into_iter().map(ArrayText::finish).collect()
    }

    /// Of each label that is to become a dead letter, in the order in which they came: the place of
    /// its stream, and how many bytes would be kept of it.
    pub fn letters(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let letters = self.letters.iter();
        letters.map(|letter| (letter.stream, letter.raw.len()))
    }

    /// Parameters of `insert_dead_letters`: of those letters, by their places, that are kept.
    pub fn letter_columns(&self, kept: &[usize]) -> Vec<String> {
        let mut columns: [ArrayText; 11] = array_texts();
        for letter in kept.iter().filter_map(|place| self.letters.get(*place)) {
            let [host, generation, seq, src, uri, cid, reason, error] = &letter.fields;
            let [sources, shards, hosts, generations, seqs, dids, paths, cids, reasons, errors, raws] =
                &mut columns;
            sources.push(Some(SOURCE));
            shards.push(Some("0"));
            for (column, value) in [
                (hosts, host),
                (generations, generation),
                (seqs, seq),
                (dids, src),
                (paths, uri),
                (cids, cid),
                (reasons, reason),
                (errors, error),
            ] {
                column.push(value.as_deref());
            }
            raws.push_bytes(Some(&letter.raw));
        }
        columns.into_iter().map(ArrayText::finish).collect()
    }
}
