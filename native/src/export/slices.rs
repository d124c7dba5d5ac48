//! An export as stream entries: slices in key order whose ranges adjoin, and the closing one.

use std::io;

use super::{Cursor, Export};
use crate::cid::Cid;
use crate::entry::{Closing, Entry, RejectedOp, Slice, SliceRecord};
use crate::filter::Filter;
use crate::reason::Reason;

/// A larger record could not have come in a commit's frame either.
const MAX_RECORD_BYTES: usize = 2_000_000;
/// What a record takes in an entry besides its key and its block, at most.
const RECORD_HEAD_BYTES: usize = 16;

/// How an export is cut, and what is said in every slice.
#[derive(Clone, Debug)]
pub struct Options {
    pub fetch_id: i64,
    pub notify: bool,
    /// The allow-list; empty: every collection.
    pub collections: Vec<String>,
    /// Of keys and blocks in one slice. A larger record has a slice of its own.
    pub max_bytes: usize,
    /// In one slice, those counted that could not be carried.
    pub max_records: usize,
}

/// Where the cutting of an export stands, and what was found until there.
pub struct Slices {
    options: Options,
    filter: Option<Filter>,
    cursor: Cursor,
    /// The last key of the slices made.
    after: Option<String>,
    /// The leaf that did not fit into the last one.
    pending: Option<(String, u32)>,
    done: bool,
    /// Records in the slices made.
    pub records: usize,
    /// Records that the allow-list left out.
    pub filtered: usize,
    /// Records that could not be carried.
    pub rejected: usize,
}

/// What goes into one slice, in the order of keys.
struct Content {
    keys: String,
    sections: Vec<u8>,
    items: Vec<Item>,
    filtered: usize,
}

/// Where a record's key, CID and content end; each begins where the one before it ends.
struct Item {
    key: usize,
    cid: usize,
    end: usize,
    reason: Option<Reason>,
}

impl Slices {
    pub fn new(options: Options) -> Self {
        let all = options.collections.is_empty();
        Self {
            filter: (!all).then(|| Filter::new(&options.collections)),
            options,
            cursor: Cursor::default(),
            after: None,
            pending: None,
            done: false,
            records: 0,
            filtered: 0,
            rejected: 0,
        }
    }

    /// Appends the next slice's bytes to `out`. Returns what it weighs against the high water
    /// mark, or `None` after the last one. An export without records is one empty slice.
    pub fn next<B: AsRef<[u8]>>(
        &mut self,
        export: &Export<B>,
        out: &mut Vec<u8>,
    ) -> io::Result<Option<usize>> {
        if self.done {
            return Ok(None);
        }
        let mut content = Content::new(&self.options);
        let through = self.fill(export, &mut content)?;
        let mut slice = Slice {
            did: &export.commit.did,
            fetch_id: self.options.fetch_id,
            rev: export.commit.rev.as_deref().unwrap_or_default(),
            after: self.after.as_deref(),
            through: through.as_deref(),
            collections: self
                .options
                .collections
                .iter()
                .map(String::as_str)
                .collect(),
            filtered: i64::try_from(content.filtered).unwrap_or(i64::MAX),
            notify: self.options.notify,
            records: Vec::with_capacity(content.items.len()),
            rejected: Vec::new(),
        };
        content.put_into(&mut slice);
        self.records += slice.records.len();
        self.rejected += slice.rejected.len();
        self.filtered += content.filtered;
        let entry = Entry::Slice(slice);
        entry.encode(out);
        let events = entry.events();
        self.done = through.is_none();
        self.after = through;
        Ok(Some(events))
    }

    /// Takes leaves until one does not fit; the last key that was taken, `None` if it is the
    /// last of all.
    fn fill<B: AsRef<[u8]>>(
        &mut self,
        export: &Export<B>,
        content: &mut Content,
    ) -> io::Result<Option<String>> {
        let mut last = String::new();
        if let Some((key, number)) = self.pending.take() {
            content.take(export, &key, number)?;
            last = key;
        }
        while let Some((key, number)) = self.cursor.next(export)? {
            let collection = key.split('/').next().unwrap_or_default();
            if self
                .filter
                .as_ref()
                .is_some_and(|filter| !filter.admits(collection))
            {
                content.filtered += 1;
            } else if content.has_room(&self.options, key, export.length_of(number)) {
                content.take(export, key, number)?;
            } else {
                self.pending = Some((key.to_owned(), number));
                return Ok(Some(last));
            }
            last.clear();
            last.push_str(key);
        }
        Ok(None)
    }
}

impl<B> Export<B> {
    /// Of a block with its CID, in bytes.
    fn length_of(&self, number: u32) -> usize {
        self.index.get(number).map_or(0, super::Block::length)
    }
}

impl Content {
    fn new(options: &Options) -> Self {
        Self {
            keys: String::new(),
            // One piece from the begin on, but no more than a claim may ask for.
            sections: Vec::with_capacity(options.max_bytes.min(1 << 18)),
            items: Vec::new(),
            filtered: 0,
        }
    }

    /// Whether one more record fits; the first one always does.
    fn has_room(&self, options: &Options, key: &str, length: usize) -> bool {
        let bytes = self.keys.len() + self.sections.len() + self.items.len() * RECORD_HEAD_BYTES;
        let more = key.len() + length + RECORD_HEAD_BYTES;
        self.items.is_empty()
            || (self.items.len() < options.max_records && bytes + more <= options.max_bytes)
    }

    fn take<B: AsRef<[u8]>>(
        &mut self,
        export: &Export<B>,
        key: &str,
        number: u32,
    ) -> io::Result<()> {
        let section = export.read(number)?;
        let (cid, mut record) = section.parts();
        let mut reason = None;
        if record.len() > MAX_RECORD_BYTES {
            (reason, record) = (Some(Reason::TooBig), &[]);
        }
        self.keys.push_str(key);
        self.sections.extend_from_slice(cid.as_bytes());
        let cid = self.sections.len();
        self.sections.extend_from_slice(record);
        self.items.push(Item {
            key: self.keys.len(),
            cid,
            end: self.sections.len(),
            reason,
        });
        Ok(())
    }

    fn put_into<'c>(&'c self, slice: &mut Slice<'c>) {
        let (mut key, mut start) = (0, 0);
        for item in &self.items {
            let path = self.keys.get(key..item.key).unwrap_or_default();
            let cid = self.sections.get(start..item.cid).unwrap_or_default();
            let record = self.sections.get(item.cid..item.end).unwrap_or_default();
            (key, start) = (item.key, item.end);
            // Sections begin with a CID, or they would not have been read.
            let Ok(cid) = Cid::exact(cid) else { continue };
            match item.reason {
                None => slice.records.push(SliceRecord { path, cid, record }),
                Some(reason) => slice.rejected.push(RejectedOp {
                    reason,
                    path: path.into(),
                    cid: Some(cid),
                }),
            }
        }
    }
}

/// Appends the entry that says that every slice of a fetch is before it.
pub fn closing<B>(export: &Export<B>, fetch_id: i64, out: &mut Vec<u8>) {
    let entry = Entry::Closing(Closing {
        did: &export.commit.did,
        fetch_id,
        rev: export.commit.rev.as_deref().unwrap_or_default(),
        commit: export.cid.get(),
        data: export.commit.data.get(),
        records: i64::try_from(export.leaves.len()).unwrap_or(i64::MAX),
    });
    entry.encode(out);
}
