//! Keys and signatures of the protocol: secp256k1 (K-256) and P-256.
//!
//! The cryptography specification of the AT Protocol decides everything here: a
//! signature is 64 bytes, `r` then `s`, over the SHA-256 of the message, and a
//! signature with a high `s` is invalid although curve arithmetic accepts it.

use std::fmt;

use aws_lc_rs::agreement::{PrivateKey as P256Scalar, ECDH_P256};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    EcdsaKeyPair, ParsedPublicKey, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING,
};
use secp256k1::ecdsa::{self, Signature};
use sha2::{Digest, Sha256};

use crate::base58;

const DID_KEY: &str = "did:key:";
const SIGNATURE_LENGTH: usize = 64;
const COMPRESSED_LENGTH: usize = 33;
const UNCOMPRESSED_LENGTH: usize = 65;
/// More than any form of a key takes.
const MAX_KEY_BYTES: usize = 80;

/// The order of P-256's group and its half, big-endian: `s` above the half is "high".
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
const P256_HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Curve {
    K256,
    P256,
}

impl Curve {
    /// The varint multicodec that stands before a compressed key of this curve.
    const fn codec(self) -> [u8; 2] {
        match self {
            Self::K256 => [0xe7, 0x01],
            Self::P256 => [0x80, 0x24],
        }
    }

    /// The curve's JOSE algorithm name, as the interoperability vectors write it.
    pub fn from_algorithm(name: &str) -> Option<Self> {
        match name {
            "ES256K" => Some(Self::K256),
            "ES256" => Some(Self::P256),
            _ => None,
        }
    }
}

/// Why a text is not a usable key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    #[error("not a did:key")]
    NotDidKey,
    #[error("not base58btc multibase")]
    NotMultibase,
    #[error("not a key type of the protocol")]
    UnknownType,
    #[error("not a point of the curve")]
    BadPoint,
    #[error("not a private key of the curve")]
    BadScalar,
}

/// A parsed public key. Parsing costs a good part of a verification, so keep it.
#[derive(Clone)]
pub struct PublicKey {
    compressed: [u8; COMPRESSED_LENGTH],
    parsed: Parsed,
}

#[derive(Clone)]
enum Parsed {
    K256(secp256k1::PublicKey),
    P256(ParsedPublicKey),
}

impl PublicKey {
    /// Reads `did:key:z...`.
    pub fn from_did_key(text: &str) -> Result<Self, KeyError> {
        Self::from_multikey(text.strip_prefix(DID_KEY).ok_or(KeyError::NotDidKey)?)
    }

    /// Reads `publicKeyMultibase` of type `Multikey`: codec and compressed point.
    pub fn from_multikey(multibase: &str) -> Result<Self, KeyError> {
        let mut buffer = [0; MAX_KEY_BYTES];
        let bytes = multibase_bytes(multibase, &mut buffer)?;
        let curve = [Curve::K256, Curve::P256]
            .into_iter()
            .find(|curve| bytes.starts_with(&curve.codec()))
            .ok_or(KeyError::UnknownType)?;
        let point = bytes.get(curve.codec().len()..).unwrap_or_default();
        if point.len() != COMPRESSED_LENGTH {
            return Err(KeyError::BadPoint);
        }
        Self::from_point(curve, point)
    }

    /// Reads a `verificationMethod` of a DID document from its `type` and `publicKeyMultibase`.
    ///
    /// The two types of 2019 hold the point without a codec, mostly uncompressed.
    pub fn from_method(kind: &str, multibase: &str) -> Result<Self, KeyError> {
        let curve = match kind {
            "Multikey" => return Self::from_multikey(multibase),
            "EcdsaSecp256k1VerificationKey2019" => Curve::K256,
            "EcdsaSecp256r1VerificationKey2019" => Curve::P256,
            _ => return Err(KeyError::UnknownType),
        };
        let mut buffer = [0; MAX_KEY_BYTES];
        Self::from_point(curve, multibase_bytes(multibase, &mut buffer)?)
    }

    /// Reads an SEC1 point, compressed or uncompressed (no hybrid form).
    pub fn from_point(curve: Curve, point: &[u8]) -> Result<Self, KeyError> {
        match (point.len(), point.first()) {
            (COMPRESSED_LENGTH, Some(2 | 3)) | (UNCOMPRESSED_LENGTH, Some(4)) => {}
            _ => return Err(KeyError::BadPoint),
        }
        let parsed = match curve {
            Curve::K256 => Parsed::K256(
                secp256k1::PublicKey::from_slice(point).map_err(|_| KeyError::BadPoint)?,
            ),
            Curve::P256 => Parsed::P256(
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .map_err(|_| KeyError::BadPoint)?,
            ),
        };
        Ok(Self {
            compressed: compress(point).ok_or(KeyError::BadPoint)?,
            parsed,
        })
    }

    pub fn curve(&self) -> Curve {
        match self.parsed {
            Parsed::K256(_) => Curve::K256,
            Parsed::P256(_) => Curve::P256,
        }
    }

    /// `z` and base58 of codec and compressed point.
    pub fn multikey(&self) -> String {
        let mut bytes = self.curve().codec().to_vec();
        bytes.extend_from_slice(&self.compressed);
        let mut text = vec![b'z'];
        base58::write(&bytes, &mut text);
        text.into_iter().map(char::from).collect()
    }

    pub fn did_key(&self) -> String {
        format!("{DID_KEY}{}", self.multikey())
    }

    /// Whether `signature` (64 bytes, low `s`) is this key's over the SHA-256 of `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        if signature.len() != SIGNATURE_LENGTH {
            return false;
        }
        match &self.parsed {
            // libsecp256k1 refuses a high s itself.
            Parsed::K256(key) => Signature::from_compact(signature)
                .is_ok_and(|signature| ecdsa::verify(&signature, digest(message), key).is_ok()),
            Parsed::P256(key) => {
                signature[32..] <= P256_HALF_ORDER[..] && key.verify_sig(message, signature).is_ok()
            }
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({})", self.did_key())
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.curve() == other.curve() && self.compressed == other.compressed
    }
}

impl Eq for PublicKey {}

/// A private key, for simulated repositories and tests; the pipeline itself signs nothing.
pub struct PrivateKey(Secret);

enum Secret {
    K256(secp256k1::SecretKey),
    P256(Box<EcdsaKeyPair>, Vec<u8>),
}

impl PrivateKey {
    /// Takes a 32-byte big-endian scalar.
    pub fn from_bytes(curve: Curve, scalar: &[u8]) -> Result<Self, KeyError> {
        let secret = match curve {
            Curve::K256 => {
                let scalar = scalar.try_into().map_err(|_| KeyError::BadScalar)?;
                let key = secp256k1::SecretKey::from_secret_bytes(scalar);
                Secret::K256(key.map_err(|_| KeyError::BadScalar)?)
            }
            Curve::P256 => {
                let point = P256Scalar::from_private_key(&ECDH_P256, scalar)
                    .ok()
                    .and_then(|key| key.compute_public_key().ok())
                    .ok_or(KeyError::BadScalar)?
                    .as_ref()
                    .to_vec();
                let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, scalar, &point);
                Secret::P256(Box::new(pair.map_err(|_| KeyError::BadScalar)?), point)
            }
        };
        Ok(Self(secret))
    }

    pub fn public(&self) -> Result<PublicKey, KeyError> {
        match &self.0 {
            Secret::K256(key) => {
                let point = secp256k1::PublicKey::from_secret_key(key).serialize();
                PublicKey::from_point(Curve::K256, &point)
            }
            Secret::P256(_, point) => PublicKey::from_point(Curve::P256, point),
        }
    }

    /// Signs the SHA-256 of `message` with a low `s`. K-256 is deterministic (RFC 6979), P-256 is not.
    pub fn sign(&self, message: &[u8]) -> Option<[u8; SIGNATURE_LENGTH]> {
        match &self.0 {
            Secret::K256(key) => Some(ecdsa::sign(digest(message), key).serialize_compact()),
            Secret::P256(pair, _) => {
                let signed = pair.sign(&SystemRandom::new(), message).ok()?;
                let mut signature: [u8; SIGNATURE_LENGTH] = signed.as_ref().try_into().ok()?;
                if signature[32..] > P256_HALF_ORDER[..] {
                    negate_p256(&mut signature[32..]);
                }
                Some(signature)
            }
        }
    }
}

/// The bytes of a base58btc multibase text, in `buffer`, which bounds the work too.
fn multibase_bytes<'a>(
    text: &str,
    buffer: &'a mut [u8; MAX_KEY_BYTES],
) -> Result<&'a [u8], KeyError> {
    text.strip_prefix('z')
        .filter(|digits| digits.len() <= 2 * MAX_KEY_BYTES)
        .and_then(|digits| base58::read(digits.as_bytes(), buffer))
        .ok_or(KeyError::NotMultibase)
}

fn compress(point: &[u8]) -> Option<[u8; COMPRESSED_LENGTH]> {
    let mut compressed: [u8; COMPRESSED_LENGTH] =
        point.get(..COMPRESSED_LENGTH)?.try_into().ok()?;
    if point.len() == UNCOMPRESSED_LENGTH {
        compressed[0] = 2 | (point.last()? & 1);
    }
    Some(compressed)
}

fn digest(message: &[u8]) -> secp256k1::Message {
    secp256k1::Message::from_digest(Sha256::digest(message).into())
}

/// `scalar = order - scalar`, big-endian; the scalar is below the order and not zero.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0..=255
fn negate_p256(scalar: &mut [u8]) {
    let mut borrow = 0;
    for (place, order) in scalar.iter_mut().zip(P256_ORDER).rev() {
        let difference = i16::from(order) - i16::from(*place) - borrow;
        borrow = i16::from(difference < 0);
        *place = difference.rem_euclid(256) as u8;
    }
}

#[cfg(test)]
#[path = "crypto_tests.rs"]
mod tests;
