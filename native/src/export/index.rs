//! Which blocks an export has and where: what is held of it in memory, 48 bytes a block.

use sha2::{Digest, Sha256};

use super::source::Source;
use super::OpenError;
use crate::car::{self, CarError, Limits, MAX_HEADER_BYTES};
use crate::cid::{Cid, CidBuf};
use crate::read::Reader;

/// A file is read in pieces of this size, larger for a larger block.
const WINDOW_BYTES: usize = 256 * 1024;
/// No CID that is read here is longer.
const MAX_CID_BYTES: u64 = 128;
/// Marks the names that are the hash of a CID.
const OTHER: u8 = 0x80;

/// What tells two CIDs apart: digest and codec of nearly all, the hash of the CID for others.
/// The digest is in words, which compare as its bytes do and much faster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Name([u64; 4], u8);

impl Name {
    #[inline]
    fn of(cid: Cid<'_>) -> Self {
        match cid.as_bytes() {
            [1, codec, 0x12, 0x20, digest @ ..] if *codec < OTHER => Self(words(digest), *codec),
            other => Self(words(&Sha256::digest(other)), OTHER),
        }
    }

    const fn head(self) -> u64 {
        self.0[0]
    }
}

#[inline]
fn words(digest: &[u8]) -> [u64; 4] {
    let (chunks, _) = digest.as_chunks::<8>();
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(chunks) {
        *word = u64::from_be_bytes(*chunk);
    }
    words
}

/// One block, and where its section (CID, then content) is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    name: Name,
    length: u32,
    at: u64,
}

impl Block {
    /// Of the section, in bytes.
    pub(super) const fn length(&self) -> usize {
        self.length as usize
    }

    pub(super) const fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn is(&self, cid: Cid<'_>) -> bool {
        self.name == Name::of(cid)
    }
}

/// All blocks, each once.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Sorted by name. Not hashed by a key of ours: nobody can choose CIDs that make this slow.
    blocks: Vec<Block>,
    /// Where the names with each first bits begin: as digests are spread evenly, nearly every
    /// search is short. CIDs chosen to begin alike only make it as long as it would be without.
    starts: Vec<u32>,
}

impl Index {
    fn new(mut blocks: Vec<Block>) -> Self {
        blocks.sort_unstable_by_key(|block| block.name);
        blocks.dedup_by_key(|block| block.name);
        blocks.shrink_to_fit();
        let mut starts = vec![0; (1 << bits(blocks.len())) + 1];
        let shift = 64 - bits(blocks.len());
        for block in &blocks {
            let bucket = usize::try_from(block.name.head() >> shift).unwrap_or_default();
            if let Some(count) = starts.get_mut(bucket + 1) {
                *count += 1;
            }
        }
        let mut before = 0;
        for start in &mut starts {
            before += *start;
            *start = before;
        }
        Self { blocks, starts }
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// The number of a block.
    pub(super) fn find(&self, cid: Cid<'_>) -> Option<u32> {
        let name = Name::of(cid);
        let shift = 64 - bits(self.blocks.len());
        let bucket = usize::try_from(name.head() >> shift).ok()?;
        let (start, end) = (*self.starts.get(bucket)?, *self.starts.get(bucket + 1)?);
        let among = self.blocks.get(start as usize..end as usize)?;
        let place = among.binary_search_by_key(&name, |block| block.name).ok()?;
        Some(start + u32::try_from(place).ok()?)
    }

    pub(super) fn get(&self, number: u32) -> Option<&Block> {
        self.blocks.get(number as usize)
    }
}

/// How many first bits of a name choose its bucket: one or two names in each; one bit at least.
fn bits(blocks: usize) -> u32 {
    blocks.checked_ilog2().unwrap_or(0).clamp(1, 31)
}

/// Reads a CAR from its begin to its end: its first root, and every block, each of which matches
/// its CID.
pub(super) fn scan<B: AsRef<[u8]>>(
    source: &Source<B>,
    limits: Limits,
) -> Result<(Option<CidBuf>, Index), OpenError> {
    let length = source.length();
    if length > limits.bytes as u64 {
        return Err(CarError::TooBig.into());
    }
    let mut scan = Scan {
        limits,
        length,
        at: 0,
        begun: false,
        root: None,
        blocks: Vec::new(),
    };
    let (mut buffer, mut wanted) = (Vec::new(), WINDOW_BYTES);
    while scan.at < length || !scan.begun {
        let window = source.window(scan.at, wanted, &mut buffer)?;
        wanted = scan.read(window)?.max(WINDOW_BYTES);
    }
    Ok((scan.root, Index::new(scan.blocks)))
}

struct Scan {
    limits: Limits,
    length: u64,
    /// Where the next section begins.
    at: u64,
    /// Whether the header is read.
    begun: bool,
    root: Option<CidBuf>,
    blocks: Vec<Block>,
}

impl Scan {
    /// Reads the sections that are whole in a window; returns what the next one needs.
    fn read(&mut self, window: &[u8]) -> Result<usize, CarError> {
        let mut reader = Reader::new(window);
        let rest = self.length - self.at;
        while !reader.is_empty() || !self.begun {
            let before = reader;
            let Some(section) = reader.varint() else {
                // The number may only be cut by the window, if anything was read from it.
                if before.remaining() == window.len() || window.len() as u64 == rest {
                    return Err(CarError::Truncated);
                }
                return Ok(0);
            };
            let head = before.remaining() - reader.remaining();
            let gone = window.len() - reader.remaining();
            if section > rest - gone as u64 {
                return Err(CarError::Truncated);
            }
            let (most, error) = if self.begun {
                let most = self.limits.block_bytes as u64 + MAX_CID_BYTES;
                (most, CarError::BlockTooBig)
            } else {
                (MAX_HEADER_BYTES, CarError::TooBig)
            };
            if section > most {
                return Err(error);
            }
            let Some(section) = reader.take_u64(section) else {
                return Ok(head + usize::try_from(section).unwrap_or(usize::MAX));
            };
            self.section(self.at + head as u64, section)?;
            self.at += (head + section.len()) as u64;
        }
        Ok(0)
    }

    fn section(&mut self, at: u64, section: &[u8]) -> Result<(), CarError> {
        if !self.begun {
            self.root = car::read_header(section)?.first().map(Cid::to_buf);
            self.begun = true;
            return Ok(());
        }
        if self.blocks.len() == self.limits.blocks {
            return Err(CarError::TooManyBlocks);
        }
        let (cid, block) = car::read_block(section, self.limits.block_bytes)?;
        car::check_hash(cid, block)?;
        self.blocks.push(Block {
            name: Name::of(cid),
            length: u32::try_from(section.len()).map_err(|_| CarError::BlockTooBig)?,
            at,
        });
        Ok(())
    }
}
