//! Any bytes give a CAR or the one declared error; every block of what is read has the hash
//! that its CID names and is found by it, and the same content written again reads the same;
//! memory stays below a constant times the input.

use std::collections::BTreeMap;

use _native::car::{self, Car, CarError, Limits};
use _native::cid::Cid;
use sha2::{Digest, Sha256, Sha512};

use crate::{cbor, heap, Verdict};

const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    block_bytes: 1 << 16,
    blocks: 1 << 10,
};
/// A block of five bytes takes 48, three times that while its vector grows.
const EACH: usize = 100;

pub fn check(data: &[u8]) -> Verdict {
    let read = heap::bounded(cbor::NESTING_BYTES, EACH, data.len(), || {
        car::read(data, LIMITS)
    });
    let Ok(car) = read else {
        return Verdict::Rejected;
    };
    blocks_are_sound(&car);
    assert!(data.len() <= LIMITS.bytes);
    assert!(car.blocks().len() <= LIMITS.blocks);
    let blocks: Vec<_> = car.blocks().collect();
    assert!(blocks
        .iter()
        .all(|(_, block)| block.len() <= LIMITS.block_bytes));
    // In the other order, and once more.
    let again = write(&car.roots, blocks.iter().rev().chain(&blocks).copied());
    let doubled = Limits {
        bytes: usize::MAX,
        blocks: usize::MAX,
        ..LIMITS
    };
    let again = car::read(&again, doubled).expect("what was read");
    assert_eq!(again.roots, car.roots);
    let content = |car: &Car<'_>| -> BTreeMap<Vec<u8>, Vec<u8>> {
        car.blocks()
            .map(|(cid, block)| (cid.as_bytes().to_vec(), block.to_vec()))
            .collect()
    };
    assert_eq!(content(&again), content(&car));
    if let Some((_, block)) = blocks.iter().find(|(_, block)| !block.is_empty()) {
        one_changed_bit_is_found(data, block);
    }
    Verdict::Accepted
}

pub fn blocks_are_sound(car: &Car<'_>) {
    for (cid, block) in car.blocks() {
        let hash = cid.multihash();
        let found = match hash.code {
            0x12 => Sha256::digest(block).to_vec(),
            0x13 => Sha512::digest(block).to_vec(),
            code => panic!("hash {code} was not checked"),
        };
        assert_eq!(found, hash.digest);
        assert_eq!(car.get(cid), Some(block));
    }
}

fn one_changed_bit_is_found(data: &[u8], block: &[u8]) {
    let place = block.as_ptr() as usize - data.as_ptr() as usize;
    let mut changed = data.to_vec();
    changed[place] ^= 1;
    assert_eq!(car::read(&changed, LIMITS).err(), Some(CarError::Hash));
}

/// A CAR of these roots and blocks, in this order.
pub fn write<'a>(roots: &[Cid<'_>], blocks: impl Iterator<Item = (Cid<'a>, &'a [u8])>) -> Vec<u8> {
    let mut header = b"\xa2\x65roots".to_vec();
    cbor::head(4, roots.len() as u64, &mut header);
    for root in roots {
        cbor::write_link(*root, &mut header);
    }
    header.extend_from_slice(b"\x67version\x01");
    let mut out = Vec::new();
    section(&[&header], &mut out);
    for (cid, block) in blocks {
        section(&[cid.as_bytes(), block], &mut out);
    }
    out
}

fn section(parts: &[&[u8]], out: &mut Vec<u8>) {
    let mut length: usize = parts.iter().map(|part| part.len()).sum();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap_or_default());
    for part in parts {
        out.extend_from_slice(part);
    }
}
