//! Content identifiers: binary form, borrowed; text form made on demand.
//!
//! A `Cid` is bytes that were checked once: version 1 with any codec and any
//! hash of at most 64 bytes, or the 34 bytes of version 0. Text is base32 lower case
//! (version 1) or base58 (version 0): the forms that parse and print back
//! identically (`cid string` of the lexicon language).

use std::fmt;

use crate::base58;
use crate::read::Reader;

/// Codec of raw blobs.
pub const RAW: u64 = 0x55;
/// Codec of DAG-CBOR blocks.
pub const DAG_CBOR: u64 = 0x71;
/// Multihash code of SHA-256.
pub const SHA2_256: u64 = 0x12;
/// Multihash code of SHA-512.
pub const SHA2_512: u64 = 0x13;

const V0_PREFIX: [u8; 2] = [0x12, 0x20];
const V0_BYTES: usize = 34;
const MAX_DIGEST_BYTES: u64 = 64;
const DAG_PB: u64 = 0x70;
const MAX_TEXT_BYTES: usize = 256;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The bytes are not a CID, or not one that the network uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed CID")]
pub struct CidError;

/// One validated CID in binary form.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Cid<'a>(&'a [u8]);

/// The hash part of a CID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Multihash<'a> {
    pub code: u64,
    pub digest: &'a [u8],
}

/// A CID that does not borrow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CidBuf(Box<[u8]>);

impl CidBuf {
    pub fn get(&self) -> Cid<'_> {
        Cid(&self.0)
    }
}

impl<'a> Cid<'a> {
    /// The identity hash of nothing, which names no block of a repository.
    pub(crate) const NONE: Self = Self(&[1, 0x55, 0, 0]);

    pub fn to_buf(&self) -> CidBuf {
        CidBuf(self.0.into())
    }

    /// Read one CID from the front of `bytes`; also returns what follows it.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), CidError> {
        // Nearly every CID of the network: version 1, codec < 0x80, SHA-256.
        if let [1, codec, 0x12, 0x20, ..] = bytes {
            if *codec < 0x80 {
                let (head, rest) = bytes.split_at_checked(36).ok_or(CidError)?;
                return Ok((Self(head), rest));
            }
        }
        Self::parse_any(bytes).ok_or(CidError)
    }

    fn parse_any(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        if bytes.starts_with(&V0_PREFIX) {
            let (head, rest) = bytes.split_at_checked(V0_BYTES)?;
            return Some((Self(head), rest));
        }
        let mut reader = Reader::new(bytes);
        if reader.varint()? != 1 {
            return None;
        }
        reader.varint()?;
        reader.varint()?;
        let length = reader.varint()?;
        if length > MAX_DIGEST_BYTES {
            return None;
        }
        reader.take_u64(length)?;
        let (head, rest) = bytes.split_at_checked(bytes.len() - reader.remaining())?;
        Some((Self(head), rest))
    }

    /// Bytes that are exactly one CID.
    pub fn exact(bytes: &'a [u8]) -> Result<Self, CidError> {
        match Self::parse(bytes)? {
            (cid, []) => Ok(cid),
            _ => Err(CidError),
        }
    }

    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    pub fn is_v1(&self) -> bool {
        self.0.first() == Some(&1)
    }

    /// Multicodec of the content; version 0 means DAG-PB.
    pub fn codec(&self) -> u64 {
        if !self.is_v1() {
            return DAG_PB;
        }
        let mut reader = Reader::new(self.0);
        reader.varint();
        reader.varint().unwrap_or_default()
    }

    pub fn multihash(&self) -> Multihash<'a> {
        let mut reader = Reader::new(self.0);
        if self.is_v1() {
            reader.varint();
            reader.varint();
        }
        let code = reader.varint().unwrap_or_default();
        reader.varint();
        Multihash {
            code,
            digest: reader.rest(),
        }
    }

    /// Append the text form, ASCII.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        if self.is_v1() {
            out.push(b'b');
            write_base32(self.0, out);
        } else {
            base58::write(self.0, out);
        }
    }
}

impl fmt::Display for Cid<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(MAX_TEXT_BYTES);
        self.write_text(&mut text);
        formatter.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// The binary form of a CID string; `None` unless it prints back identically.
pub fn parse_str(text: &str) -> Option<Vec<u8>> {
    read_text(text, &mut [0; MAX_TEXT_BYTES]).map(<[u8]>::to_vec)
}

/// Whether `parse_str` would accept `text`; allocates nothing.
pub fn is_text(text: &str) -> bool {
    read_text(text, &mut [0; MAX_TEXT_BYTES]).is_some()
}

fn read_text<'a>(text: &str, buffer: &'a mut [u8; MAX_TEXT_BYTES]) -> Option<&'a [u8]> {
    // Before any work: no CID that this module accepts prints longer.
    if text.len() > MAX_TEXT_BYTES {
        return None;
    }
    let bytes = match text.strip_prefix('b') {
        Some(base32) => read_base32(base32.as_bytes(), buffer)?,
        None => base58::read(text.as_bytes(), buffer)?,
    };
    let cid = Cid::exact(bytes).ok()?;
    (cid.is_v1() == text.starts_with('b')).then_some(bytes)
}

#[allow(clippy::cast_possible_truncation)] // five bits are kept
fn write_base32(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.chunks(5) {
        let mut word = [0_u8; 8];
        for (slot, byte) in word.iter_mut().skip(3).zip(chunk) {
            *slot = *byte;
        }
        let word = u64::from_be_bytes(word);
        let letters = (chunk.len() * 8).div_ceil(5);
        for index in 0..letters {
            out.push(BASE32[(word >> (35 - 5 * index)) as usize & 31]);
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // `word` holds fewer than 8 bits more than the byte
fn read_base32<'a>(text: &[u8], buffer: &'a mut [u8; MAX_TEXT_BYTES]) -> Option<&'a [u8]> {
    let (mut word, mut bits, mut length) = (0_u32, 0_u32, 0);
    for &letter in text {
        let value = match letter {
            b'a'..=b'z' => letter - b'a',
            b'2'..=b'7' => letter - b'2' + 26,
            _ => return None,
        };
        word = (word << 5) | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            *buffer.get_mut(length)? = (word >> bits) as u8;
            length += 1;
            word &= (1 << bits) - 1;
        }
    }
    // Left-over bits must be padding: fewer than a letter, all zero.
    (bits < 5 && word == 0).then(|| buffer.get(..length))?
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a";
    const V0: &str = "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR";

    #[test]
    fn text_and_binary_round_trip() {
        for text in [V1, V0] {
            let bytes = parse_str(text).unwrap();
            assert_eq!(Cid::exact(&bytes).unwrap().to_string(), text);
        }
        let bytes = parse_str(V1).unwrap();
        assert_eq!(Cid::exact(&bytes).unwrap().codec(), DAG_CBOR);
        assert!(!Cid::exact(&parse_str(V0).unwrap()).unwrap().is_v1());
    }

    #[test]
    fn other_texts_of_a_cid_are_refused() {
        let upper = V1.to_uppercase();
        let long = "b".repeat(300);
        let padded = format!("{V1}a");
        for text in [
            "",
            "b",
            "Qm",
            &upper,
            &long,
            &padded,
            "zb2rhe5P4gXftAwvA4eXQ5HJwsER2owDyS9sKaQRRVQPn93bA",
        ] {
            assert_eq!(parse_str(text), None, "{text}");
        }
    }

    #[test]
    fn truncated_and_overlong_cids_are_refused() {
        let bytes = parse_str(V1).unwrap();
        for end in 0..bytes.len() {
            assert_eq!(Cid::parse(&bytes[..end]), Err(CidError));
        }
        let mut long = vec![1, 0x71, 0x12, 65];
        long.extend([0; 65]);
        assert_eq!(Cid::parse(&long), Err(CidError));
    }

    #[test]
    fn parse_returns_what_follows() {
        let mut bytes = parse_str(V1).unwrap();
        bytes.extend(b"tail");
        let (cid, rest) = Cid::parse(&bytes).unwrap();
        assert_eq!((cid.to_string().as_str(), rest), (V1, &b"tail"[..]));
        assert_eq!(Cid::exact(&bytes), Err(CidError));
    }
}
