use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::*;
use crate::entry::{Entry, Slice};
use crate::repo::tests::{export, record};

fn options(max_bytes: usize, max_records: usize) -> Options {
    Options {
        fetch_id: 7,
        notify: true,
        collections: Vec::new(),
        max_bytes,
        max_records,
    }
}

fn opened(bytes: &[u8]) -> Export<&[u8]> {
    Export::open(Source::Bytes(bytes), LIMITS).unwrap()
}

/// The entries of all slices, and what they weigh.
fn cut<B: AsRef<[u8]>>(export: &Export<B>, options: Options) -> Vec<(usize, Vec<u8>)> {
    let mut slices = Slices::new(options);
    let mut entries = Vec::new();
    loop {
        let mut entry = Vec::new();
        match slices.next(export, &mut entry).unwrap() {
            Some(events) => entries.push((events, entry)),
            None => return entries,
        }
    }
}

fn read(entry: &[u8]) -> Slice<'_> {
    match Entry::decode(entry) {
        Ok(Entry::Slice(slice)) => slice,
        other => panic!("{other:?}"),
    }
}

/// A file in the temporary folder, gone with this value.
struct Spool(PathBuf);

impl Spool {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("headrace-{}-{name}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        Self(path)
    }

    fn open(&self) -> Result<Export<Vec<u8>>, OpenError> {
        Export::open(Source::open(&self.0).unwrap(), LIMITS)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn slices_adjoin_and_hold_every_record_once() {
    let (bytes, _) = export(300);
    let export = opened(&bytes);
    for (max_bytes, max_records) in [(1, 1), (1 << 20, 7), (1000, 300), (1 << 20, 300)] {
        let entries = cut(&export, options(max_bytes, max_records));
        let mut held = Vec::new();
        let mut after = None;
        for (events, entry) in &entries {
            let slice = read(entry);
            assert_eq!(slice.after.map(str::to_owned), after);
            assert_eq!(*events, slice.records.len());
            assert!((1..=max_records).contains(events));
            assert!(*events == 1 || entry.len() <= max_bytes + 100);
            let own = slice.records.iter();
            held.extend(own.map(|own| (own.path.to_owned(), own.record.to_vec())));
            after = slice.through.map(str::to_owned);
            assert!(after.is_none() || after.as_ref() == held.last().map(|(key, _)| key));
            assert_eq!((slice.fetch_id, slice.notify, slice.filtered), (7, true, 0));
        }
        assert_eq!(after, None);
        assert_eq!(held, (0..300).map(record).collect::<Vec<_>>());
        assert!(entries.len() >= 300 / max_records);
    }
}

#[test]
fn an_empty_repository_is_one_empty_slice() {
    let (bytes, _) = export(0);
    let entries = cut(&opened(&bytes), options(1000, 10));
    assert_eq!(entries.len(), 1);
    let slice = read(&entries[0].1);
    assert_eq!((slice.after, slice.through), (None, None));
    assert!(slice.records.is_empty());
    assert_eq!(entries[0].0, 1);
}

#[test]
fn what_is_filtered_is_inside_of_a_range_and_counted() {
    let (bytes, _) = export(20);
    let export = opened(&bytes);
    let mut wanted = options(1000, 3);
    wanted.collections = vec!["app.bsky.graph.*".to_owned()];
    let entries = cut(&export, wanted.clone());
    assert_eq!(entries.len(), 1);
    let slice = read(&entries[0].1);
    assert_eq!((slice.filtered, slice.records.len()), (20, 0));
    assert_eq!(slice.collections, ["app.bsky.graph.*"]);
    wanted.collections = vec!["app.bsky.feed.post".to_owned()];
    assert_eq!(cut(&export, wanted).len(), 7);
}

#[test]
fn the_closing_entry_counts_the_leaves() {
    let (bytes, _) = export(20);
    let export = opened(&bytes);
    let mut entry = Vec::new();
    closing(&export, 7, &mut entry);
    let Ok(Entry::Closing(closing)) = Entry::decode(&entry) else {
        panic!("no closing entry");
    };
    assert_eq!((closing.records, closing.fetch_id), (20, 7));
    assert_eq!(closing.commit, export.cid.get());
    assert_eq!(closing.data, export.commit.data.get());
}

#[test]
fn a_file_gives_what_its_bytes_give() {
    for count in [0, 1, 5000] {
        let (bytes, ends) = export(count);
        let spool = Spool::new(&format!("same-{count}"), &bytes);
        let (from_file, from_bytes) = (spool.open().unwrap(), opened(&bytes));
        assert_eq!(from_file.commit, from_bytes.commit);
        assert_eq!(
            cut(&from_file, options(10_000, 100)),
            cut(&from_bytes, options(10_000, 100))
        );
        for end in ends.iter().rev().skip(1).step_by(1 + ends.len() / 10) {
            let cut = Spool::new(&format!("cut-{count}-{end}"), &bytes[..*end]);
            match cut.open() {
                Err(OpenError::Fault(fault)) => assert_eq!(fault.kind(), "incomplete"),
                other => panic!("{other:?}"),
            }
        }
    }
    let whole = export(5000).0;
    assert!(whole.len() > 2 * 256 * 1024, "more than one window");
}

#[test]
fn a_file_that_changes_after_the_proof_is_an_error() {
    let (bytes, _) = export(200);
    let spool = Spool::new("changed", &bytes);
    let export = spool.open().unwrap();
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&spool.0, &changed).unwrap();
    let mut slices = Slices::new(options(1000, 10));
    let error = loop {
        match slices.next(&export, &mut Vec::new()) {
            Ok(events) => assert!(events.is_some(), "nothing was noticed"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    fs::write(&spool.0, b"").unwrap();
    let error = export.each_leaf(|_, _, _| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn limits_hold() {
    let (bytes, _) = export(10);
    let error = |limits| match Export::open(Source::Bytes(&bytes), limits) {
        Err(OpenError::Fault(RepoError::Car(error))) => error,
        other => panic!("{other:?}"),
    };
    let bytes = bytes.len() - 1;
    assert_eq!(error(Limits { bytes, ..LIMITS }), CarError::TooBig);
    assert_eq!(
        error(Limits {
            blocks: 5,
            ..LIMITS
        }),
        CarError::TooManyBlocks
    );
    let block_bytes = 20;
    assert_eq!(
        error(Limits {
            block_bytes,
            ..LIMITS
        }),
        CarError::BlockTooBig
    );
}
