//! Any bytes give an entry, the error of another version, or the error of a malformed one;
//! an entry written again reads the same, in bytes that are no longer and do not change any
//! more; memory stays below a constant times the input.

use _native::entry::{self, Entry, EntryError};

use crate::{heap, Verdict};

/// An op of seven bytes takes 120, three times that while its vector grows.
const EACH: usize = 100;

pub fn check(data: &[u8]) -> Verdict {
    let read = heap::bounded(1 << 17, EACH, data.len(), || Entry::decode(data));
    match (&read, data.first()) {
        (Err(EntryError::Version(version)), Some(first)) => {
            assert!(version == first && *version != entry::VERSION);
        }
        (Err(EntryError::Version(_)), None) => panic!("a version of nothing"),
        (_, first) => assert!(first.is_none_or(|first| *first == entry::VERSION)),
    }
    let Ok(entry) = read else {
        return Verdict::Rejected;
    };
    assert!(round_trip(&entry).len() <= data.len());
    assert!(entry.events() >= 1);
    // Of an array with one field more the fields that we know are the same.
    if let [version, fields @ 0x90..=0x9e, rest @ ..] = data {
        let mut newer = vec![*version, fields + 1];
        newer.extend_from_slice(rest);
        newer.push(0xc0);
        assert_eq!(Entry::decode(&newer).as_ref(), Ok(&entry));
    }
    Verdict::Accepted
}

/// The entry's bytes, which read and write the same.
pub fn round_trip(entry: &Entry<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    let read = Entry::decode(&bytes).expect("what was written");
    assert_eq!(&read, entry);
    let mut again = Vec::new();
    read.encode(&mut again);
    assert_eq!(again, bytes);
    bytes
}
