//! CAR version 1: a header with roots, then blocks in any order.
//!
//! Every block is hashed against its CID (SHA-256, SHA-512) before it can be looked
//! up. A block that occurs twice is held once. Nothing is copied.

use sha2::{Digest, Sha256, Sha512};

use crate::cbor::{CborError, Decoder, Value};
use crate::cid::{self, Cid};
use crate::read::Reader;

/// A header carries two short fields and, in practice, one root.
pub(crate) const MAX_HEADER_BYTES: u64 = 64 * 1024;

/// What a CAR may hold at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of the whole file.
    pub bytes: usize,
    /// Of one block's content.
    pub block_bytes: usize,
    pub blocks: usize,
}

/// Why bytes are not a CAR that can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarError {
    #[error("CAR larger than allowed")]
    TooBig,
    #[error("CAR block larger than allowed")]
    BlockTooBig,
    #[error("more CAR blocks than allowed")]
    TooManyBlocks,
    #[error("CAR ends inside a section")]
    Truncated,
    #[error("CAR header: {0}")]
    Header(CborError),
    #[error("CAR header without version 1 and roots")]
    BadHeader,
    #[error("CAR block with a malformed CID")]
    Cid,
    #[error("CAR block with an unsupported hash")]
    UnsupportedHash,
    #[error("CAR block does not match its CID")]
    Hash,
}

impl CarError {
    /// Whether a block and its CID disagree, rather than the file being malformed.
    pub const fn is_hash(self) -> bool {
        matches!(self, Self::Hash | Self::UnsupportedHash)
    }
}

/// A CAR whose blocks all match their CIDs.
#[derive(Clone, Debug)]
pub struct Car<'a> {
    /// As in the header, which may be none.
    pub roots: Vec<Cid<'a>>,
    /// Sorted by (tail, CID). The tail of a hash tells nearly all CIDs apart, and held here it
    /// spares a search through a large export the jump to every CID that it passes. Sorted
    /// and not hashed: nobody can choose CIDs that make this slow.
    blocks: Vec<(u64, Cid<'a>, &'a [u8])>,
}

impl<'a> Car<'a> {
    /// The content of a block.
    pub fn get(&self, cid: Cid<'_>) -> Option<&'a [u8]> {
        let wanted = (tail(cid), cid.as_bytes());
        let found = self
            .blocks
            .binary_search_by(|(tail, known, _)| (*tail, known.as_bytes()).cmp(&wanted));
        let (_, _, block) = self.blocks.get(found.ok()?)?;
        Some(block)
    }

    /// All blocks, each once, in an order of no meaning.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = (Cid<'a>, &'a [u8])> + '_ {
        self.blocks.iter().map(|(_, cid, block)| (*cid, *block))
    }
}

/// The last eight bytes of a CID, which is hash in every CID that is long enough.
#[inline]
fn tail(cid: Cid<'_>) -> u64 {
    cid.as_bytes()
        .last_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Read a whole CAR.
pub fn read(bytes: &[u8], limits: Limits) -> Result<Car<'_>, CarError> {
    if bytes.len() > limits.bytes {
        return Err(CarError::TooBig);
    }
    let mut reader = Reader::new(bytes);
    let roots = read_header(read_section(&mut reader)?)?;
    let mut blocks = Vec::with_capacity(16);
    while !reader.is_empty() {
        if blocks.len() == limits.blocks {
            return Err(CarError::TooManyBlocks);
        }
        let (cid, block) = read_block(read_section(&mut reader)?, limits.block_bytes)?;
        check_hash(cid, block)?;
        blocks.push((tail(cid), cid, block));
    }
    blocks.sort_unstable();
    blocks.dedup_by_key(|(_, cid, _)| *cid);
    Ok(Car { roots, blocks })
}

/// Whether a block's content matches its CID.
pub fn check_hash(cid: Cid<'_>, block: &[u8]) -> Result<(), CarError> {
    let multihash = cid.multihash();
    let matches = match (multihash.code, multihash.digest.len()) {
        (cid::SHA2_256, 32) => Sha256::digest(block).as_slice() == multihash.digest,
        (cid::SHA2_512, 64) => Sha512::digest(block).as_slice() == multihash.digest,
        _ => return Err(CarError::UnsupportedHash),
    };
    if matches {
        Ok(())
    } else {
        Err(CarError::Hash)
    }
}

fn read_section<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], CarError> {
    let length = reader.varint().ok_or(CarError::Truncated)?;
    reader.take_u64(length).ok_or(CarError::Truncated)
}

/// A block and its CID, which is not yet compared.
pub(crate) fn read_block(section: &[u8], max_bytes: usize) -> Result<(Cid<'_>, &[u8]), CarError> {
    let (cid, block) = Cid::parse(section).map_err(|_| CarError::Cid)?;
    if block.len() > max_bytes {
        return Err(CarError::BlockTooBig);
    }
    Ok((cid, block))
}

/// The roots, if the header says version 1. Further fields are ignored.
pub(crate) fn read_header(header: &[u8]) -> Result<Vec<Cid<'_>>, CarError> {
    if header.len() as u64 > MAX_HEADER_BYTES {
        return Err(CarError::TooBig);
    }
    let mut decoder = Decoder::new(header);
    let value = decoder.value().map_err(CarError::Header)?;
    decoder.finish().map_err(CarError::Header)?;
    if value.get("version").and_then(Value::as_int) != Some(1) {
        return Err(CarError::BadHeader);
    }
    let roots = value.get("roots").and_then(Value::as_list);
    let roots = roots.ok_or(CarError::BadHeader)?;
    let roots: Option<Vec<_>> = roots.iter().map(Value::as_link).collect();
    roots.ok_or(CarError::BadHeader)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        bytes: 10_000,
        block_bytes: 1_000,
        blocks: 4,
    };

    fn cid_of(block: &[u8]) -> Vec<u8> {
        let mut cid = vec![1, 0x71, 0x12, 32];
        cid.extend_from_slice(&Sha256::digest(block));
        cid
    }

    fn section(cid: &[u8], block: &[u8]) -> Vec<u8> {
        let length = cid.len() + block.len();
        let mut out = Vec::new();
        if length >= 128 {
            out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            out.push(u8::try_from(length >> 7).unwrap());
        } else {
            out.push(u8::try_from(length).unwrap());
        }
        out.extend_from_slice(cid);
        out.extend_from_slice(block);
        out
    }

    fn header(roots: &[&[u8]]) -> Vec<u8> {
        let mut body = b"\xa2\x65roots".to_vec();
        body.push(0x80 + u8::try_from(roots.len()).unwrap());
        for root in roots {
            body.extend_from_slice(b"\xd8\x2a\x58\x25\x00");
            body.extend_from_slice(root);
        }
        body.extend_from_slice(b"\x67version\x01");
        section(&[], &body)
    }

    #[test]
    fn blocks_are_found_in_any_order_and_once() {
        let (one, two) = (cid_of(b"one"), cid_of(b"two"));
        for order in [["one", "two", "one"], ["two", "one", "two"]] {
            let mut bytes = header(&[&one]);
            for block in order {
                bytes.extend(section(&cid_of(block.as_bytes()), block.as_bytes()));
            }
            let car = read(&bytes, LIMITS).unwrap();
            assert_eq!(car.roots, [Cid::exact(&one).unwrap()]);
            assert_eq!(car.blocks().len(), 2);
            assert_eq!(car.get(Cid::exact(&two).unwrap()), Some(&b"two"[..]));
            let absent = cid_of(b"three");
            assert_eq!(car.get(Cid::exact(&absent).unwrap()), None);
        }
    }

    #[test]
    fn sha_512_is_known_and_other_hashes_are_not() {
        let mut cid = vec![1, 0x71, 0x13, 64];
        cid.extend_from_slice(&Sha512::digest(b"block"));
        let mut bytes = header(&[]);
        bytes.extend(section(&cid, b"block"));
        assert_eq!(read(&bytes, LIMITS).unwrap().blocks().len(), 1);
        let identity = [1, 0x71, 0x00, 5, b'b', b'l', b'o', b'c', b'k'];
        let mut bytes = header(&[]);
        bytes.extend(section(&identity, b"block"));
        assert_eq!(read(&bytes, LIMITS).unwrap_err(), CarError::UnsupportedHash);
    }

    #[test]
    fn every_block_is_hashed() {
        for changed in 0..3 {
            let mut bytes = header(&[]);
            for index in 0..3 {
                let block = [index; 8];
                let mut found = block;
                found[3] ^= u8::from(index == changed);
                bytes.extend(section(&cid_of(&block), &found));
            }
            let error = read(&bytes, LIMITS).unwrap_err();
            assert_eq!(error, CarError::Hash);
            assert!(error.is_hash());
        }
    }

    #[test]
    fn every_truncation_is_an_error_or_a_shorter_car() {
        let mut bytes = header(&[&cid_of(b"one")]);
        let mut whole = vec![bytes.len()];
        for block in [&b"one"[..], &[7; 200]] {
            bytes.extend(section(&cid_of(block), block));
            whole.push(bytes.len());
        }
        for end in 0..bytes.len() {
            let result = read(&bytes[..end], LIMITS);
            assert_eq!(result.is_ok(), whole.contains(&end), "{end}");
        }
    }

    #[test]
    fn limits_hold() {
        let mut bytes = header(&[]);
        for index in 0..5_u8 {
            bytes.extend(section(&cid_of(&[index]), &[index]));
        }
        assert_eq!(read(&bytes, LIMITS).unwrap_err(), CarError::TooManyBlocks);
        let large = [0; 1_001];
        let mut bytes = header(&[]);
        bytes.extend(section(&cid_of(&large), &large));
        assert_eq!(read(&bytes, LIMITS).unwrap_err(), CarError::BlockTooBig);
        assert_eq!(read(&[0; 10_001], LIMITS).unwrap_err(), CarError::TooBig);
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(read(&huge, LIMITS).unwrap_err(), CarError::Truncated);
    }

    #[test]
    fn headers_must_say_version_1_and_roots() {
        for body in [
            &b"\xa1\x67version\x01"[..],
            b"\xa1\x65roots\x80",
            b"\xa2\x65roots\x80\x67version\x02",
            b"\xa2\x65roots\x81\x01\x67version\x01",
            b"\x80",
        ] {
            let error = read(&section(&[], body), LIMITS).unwrap_err();
            assert_eq!(error, CarError::BadHeader);
        }
        let error = read(&[0], LIMITS).unwrap_err();
        assert_eq!(error, CarError::Header(CborError::Truncated));
    }
}
