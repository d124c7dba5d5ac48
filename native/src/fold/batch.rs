//! A decoded batch: events in order of effect, their ops, and the accounts so far.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use super::detail;
use crate::entry::Action;
use crate::pgcopy::Tuple;
use crate::plan::TableId;
use crate::reason::Reason;

/// What waits in one shard.
#[derive(Debug, Default)]
pub struct ShardEntries {
    pub shard: u32,
    /// Highest seq already held, by `host/generation`.
    pub held: HashMap<String, i64>,
    /// In stream order.
    pub entries: Vec<Vec<u8>>,
    /// More waits in its stream: nothing that comes after the last of these may be taken yet.
    pub is_cut: bool,
}

/// Ops by outcome: `applied`, `duplicate`, `filtered`, `no_effect:WORD`, `rejected:WORD`.
pub type Counts = BTreeMap<String, i64>;

/// One relay generation in one shard.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub shard: u32,
    pub relay: String,
    pub generation: i64,
    /// Highest seq held once the batch is written; `None` if no entry ever had one.
    pub seq: Option<i64>,
    pub counts: Counts,
}

impl Source {
    pub fn count(&mut self, outcome: &str, ops: i64) {
        if ops == 0 {
            return;
        }
        match self.counts.get_mut(outcome) {
            Some(count) => *count = count.saturating_add(ops),
            None => {
                self.counts.insert(outcome.to_owned(), ops);
            }
        }
    }

    pub fn key(&self) -> String {
        source_key(&self.relay, self.generation)
    }
}

/// How positions name a relay and the generation of its seqs.
pub(crate) fn source_key(relay: &str, generation: i64) -> String {
    format!("{relay}/{generation}")
}

/// One entry, owned, without the records.
#[derive(Debug)]
pub(crate) struct Event {
    /// Position in `Batch::sources`.
    pub source: usize,
    /// Position in `Batch::entries`.
    pub entry: usize,
    pub did: Box<str>,
    /// The frame's time, verbatim: T.
    pub time: Box<str>,
    pub seq: i64,
    /// How many ops it stands for in the accounts.
    pub weight: i64,
    pub kind: Kind,
}

impl Event {
    /// The rev that its ops bring.
    pub fn rev(&self) -> Option<&str> {
        match &self.kind {
            Kind::Commit(commit) => Some(&commit.rev),
            Kind::Record(record) => Some(&record.rev),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Kind {
    Commit(Commit),
    Sync {
        rev: Box<str>,
        commit: Box<str>,
    },
    Identity,
    Account {
        active: bool,
        status: Option<Box<str>>,
    },
    RejectedFrame(Reason),
    Slice(Slice),
    Record(Record),
    Closing(Closing),
}

/// What a slice is beside its records: those follow as events of their own, each with its T.
#[derive(Debug)]
pub(crate) struct Slice {
    pub fetch_id: i64,
    pub rev: Box<str>,
    /// It is the first of its fetch.
    pub is_first: bool,
    /// The uri that its range ends with; `None`: with the last.
    pub through: Option<Box<str>>,
    pub filtered: i64,
    pub rejected: Vec<Reason>,
}

/// A record of a slice, or one that the slice does not have and the database does.
#[derive(Debug)]
pub(crate) struct Record {
    pub fetch_id: i64,
    pub rev: Box<str>,
    pub notify: bool,
    /// Position in `Batch::ops`.
    pub op: usize,
}

/// The end of a fetch.
#[derive(Debug)]
pub(crate) struct Closing {
    pub fetch_id: i64,
    pub rev: Box<str>,
    /// CID of the commit, as text.
    pub commit: Box<str>,
    /// CID of the tree, as text, and how many leaves it has.
    pub data: Box<str>,
    pub records: i64,
    /// Something was missed that the snapshot is too old for.
    pub is_outdated: bool,
}

#[derive(Debug)]
pub(crate) struct Commit {
    pub rev: Box<str>,
    pub since: Option<Box<str>>,
    /// Of the commit, as text.
    pub cid: Box<str>,
    /// Positions in `Batch::ops`.
    pub ops: Range<usize>,
    pub filtered: i64,
    pub rejected: Vec<Reason>,
}

/// One op of a commit; its position in `Batch::ops` is its number.
#[derive(Debug)]
pub(crate) struct Op {
    /// Position in `Batch::events`.
    pub event: usize,
    /// Position among the entry's ops.
    pub position: usize,
    pub action: Action,
    pub body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    /// Of a collection that is not indexed.
    Unindexed,
    Rejected(Reason, String),
    /// There is nothing to do, for this reason.
    Settled(&'static str),
    Delete(Target),
    Write(Target, Box<Written>),
}

impl Body {
    /// Which record the op is about, if it may have an effect.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Delete(target) | Self::Write(target, _) => Some(target),
            Self::Unindexed | Self::Rejected(..) | Self::Settled(_) => None,
        }
    }
}

/// A record of an indexed collection.
#[derive(Debug)]
pub(crate) struct Target {
    pub collection: usize,
    pub uri: Box<str>,
    /// Whether the rkey is `self`.
    pub is_self: bool,
}

/// A valid record, as it would be written.
#[derive(Debug)]
pub(crate) struct Written {
    pub cid: Box<str>,
    pub json: Box<str>,
    pub rkey: Box<str>,
    /// The collection's own row; `None` if it has none for this rkey.
    pub row: Option<Row>,
    /// An at-uri that costs the op, if its row is inserted and not replaced.
    pub bad_insert_uri: Option<Box<str>>,
}

/// A row of a collection's own table, encoded, with its side rows and what it says to others.
#[derive(Debug)]
pub(crate) struct Row {
    /// Without the columns that the fold judges.
    pub tuple: Tuple,
    /// Values of the unique key, joined by NUL, which no value holds.
    pub key: Option<Box<str>>,
    pub sides: Vec<SideRow>,
    /// What an insert tells, before any thread is muted.
    pub notices: Vec<RowNotice>,
    pub detail: Detail,
}

/// One notification, without what it shares with its record.
#[derive(Debug)]
pub(crate) struct RowNotice {
    /// Position in the collection's notices.
    pub reason: usize,
    pub did: Box<str>,
    pub subject: Option<Box<str>>,
    pub sort_at: Box<str>,
}

/// What the code of a collection's role needs.
#[derive(Debug)]
pub(crate) enum Detail {
    None,
    Post(Box<PostDetail>),
    Repost {
        subject: Box<str>,
        sort_at: Box<str>,
    },
    /// The post that it guards, as uris are printed.
    Gate {
        post: Box<str>,
    },
}

impl Detail {
    pub fn post(&self) -> Option<&PostDetail> {
        match self {
            Self::Post(post) => Some(post),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct PostDetail {
    pub root: Option<Box<str>>,
    pub parent: Option<Box<str>>,
    pub mentions: Vec<Box<str>>,
    /// Every record that is embedded, posts or not, in order.
    pub quoted: Vec<Subject>,
    pub created_at: Box<str>,
    pub sort_at: Box<str>,
}

impl PostDetail {
    /// The posts among what is embedded.
    pub fn quoted_posts(&self) -> impl Iterator<Item = &Subject> {
        self.quoted
            .iter()
            .filter(|quoted| detail::is_post(&quoted.uri))
    }
}

/// A strong reference.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub uri: Box<str>,
    pub cid: Box<str>,
}

/// What a gate's record says.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // each is a rule of its own
pub(crate) struct Rules {
    /// Only those may reply that a rule lets in.
    pub closed: bool,
    pub mentioned: bool,
    pub followers: bool,
    pub following: bool,
    pub lists: Vec<String>,
    pub hidden: Vec<String>,
    pub no_embeds: bool,
}

/// DIDs that a record mentions.
pub(crate) type Mentioned = HashSet<String>;

/// One embed: its table and the row.
#[derive(Debug)]
pub(crate) struct SideRow {
    pub table: TableId,
    pub tuple: Tuple,
}

/// A decoded batch. Owns its entries: dead letters quote their bytes.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) events: Vec<Event>,
    pub(crate) ops: Vec<Op>,
    pub(crate) sources: Vec<Source>,
    /// Ops of all entries, duplicates included.
    pub(crate) weight: i64,
    /// Shard, and the entries, events and bytes that are taken of it.
    pub(crate) weights: Vec<(u32, u64, u64, u64)>,
    /// Revs and times after this instant (microseconds since 1970) are from the future.
    pub(crate) latest: u64,
    /// The clock, as an ISO string.
    pub(crate) now: String,
}

impl Batch {
    /// Ops in the accounts' sense, of everything in the batch.
    pub fn weight(&self) -> i64 {
        self.weight
    }

    /// For each shard what is taken of its entries, from the first on: number, entries, events
    /// (the ops carried, but one at least for each entry), bytes of entries.
    pub fn weights(&self) -> &[(u32, u64, u64, u64)] {
        &self.weights
    }

    /// Number of stream entries that are taken.
    pub fn entries(&self) -> usize {
        let taken: u64 = self.weights.iter().map(|(_, entries, ..)| entries).sum();
        usize::try_from(taken).unwrap_or(usize::MAX)
    }
}
