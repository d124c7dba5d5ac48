//! A repository as `com.atproto.sync.getRepo` exports it: commit, tree, records.
//!
//! [`read`] answers whether the export is whole and consistent: every block matches its
//! CID, the tree has its one possible shape, every record that it names is there. A CAR has
//! no length of its own, so one that was cut between two blocks reads well; only the tree
//! tells that something is absent. Who signed is asked separately ([`Commit::signed_by`]),
//! because the key comes from elsewhere and may have to be fetched again.

use std::borrow::Cow;

use crate::car::{self, Car, CarError, Limits};
use crate::cbor::{CborError, Decoder, Value};
use crate::cid::Cid;
use crate::crypto::PublicKey;
use crate::mst::{self, Item, MstError};
use crate::syntax::{is_did, is_tid};
use crate::tree::write_head;

/// What one export may hold. Memory follows the bytes that the caller already has.
pub const LIMITS: Limits = Limits {
    bytes: usize::MAX,
    block_bytes: 8 * 1024 * 1024,
    blocks: usize::MAX,
};
/// The current commit format, and the one before it, which had no `rev`.
const VERSIONS: [i64; 2] = [3, 2];
/// A commit has six fields; more are kept, within reason.
const MAX_COMMIT_FIELDS: usize = 64;

/// Why an export is not a repository that can be trusted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RepoError {
    #[error("{0}")]
    Car(#[from] CarError),
    #[error("CAR without a root")]
    NoRoot,
    #[error("commit block: {0}")]
    CommitCbor(#[from] CborError),
    #[error("commit field {0} is absent or malformed")]
    CommitField(&'static str),
    #[error("{0}")]
    Tree(#[from] MstError),
    /// A commit or record that is named but not there.
    #[error("missing block {0}")]
    Missing(String),
}

impl RepoError {
    /// The class of the failure, for counting and for deciding what to do.
    ///
    /// `incomplete`: nothing is wrong with what is there, fetch again; `hash`: content and
    /// CID disagree; `car`, `commit`, `tree`: malformed at its source.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Missing(_)
            | Self::Tree(MstError::Missing(_))
            | Self::Car(CarError::Truncated) => "incomplete",
            Self::Car(error) if error.is_hash() => "hash",
            Self::Car(_) | Self::NoRoot => "car",
            Self::CommitCbor(_) | Self::CommitField(_) => "commit",
            Self::Tree(_) => "tree",
        }
    }
}

/// The signed root of a repository.
#[derive(Clone, PartialEq, Debug)]
pub struct Commit<'a> {
    pub did: Cow<'a, str>,
    pub version: i64,
    /// A TID; version 2 has none.
    pub rev: Option<Cow<'a, str>>,
    /// Root of the tree.
    pub data: Cid<'a>,
    pub prev: Option<Cid<'a>>,
    pub sig: &'a [u8],
    /// What `sig` signs: the commit without it, keys in DAG-CBOR order.
    pub signed: Vec<u8>,
}

impl Commit<'_> {
    /// Whether `key` made the signature.
    pub fn signed_by(&self, key: &PublicKey) -> bool {
        key.verify(&self.signed, self.sig)
    }
}

/// One record, at its place in key order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaf<'a> {
    /// `collection/record key`.
    pub key: String,
    pub cid: Cid<'a>,
    /// DAG-CBOR as stored; its hash is checked, its content is not.
    pub record: &'a [u8],
}

/// A whole, consistent repository. Everything but the keys borrows from the CAR.
#[derive(Clone, PartialEq, Debug)]
pub struct Repo<'a> {
    pub cid: Cid<'a>,
    pub commit: Commit<'a>,
    /// In ascending key order.
    pub leaves: Vec<Leaf<'a>>,
    /// How many blocks the tree has.
    pub nodes: usize,
}

/// Reads and checks an export. The signature is not checked.
pub fn read(bytes: &[u8], limits: Limits) -> Result<Repo<'_>, RepoError> {
    let car = car::read(bytes, limits)?;
    let cid = *car.roots.first().ok_or(RepoError::NoRoot)?;
    let commit = read_commit(find(&car, cid)?)?;
    let mut leaves = Vec::new();
    let mut absent = None;
    let nodes = mst::walk(
        commit.data,
        |cid| car.get(cid),
        |item| match item {
            Item::Stub { node, .. } => Err(mst::missing(node)),
            Item::Leaf { key, value, .. } => {
                match car.get(value) {
                    Some(record) => leaves.push(Leaf {
                        key,
                        cid: value,
                        record,
                    }),
                    None => absent = absent.or(Some(value)),
                }
                Ok(())
            }
        },
    )?;
    if let Some(cid) = absent {
        return Err(RepoError::Missing(cid.to_string()));
    }
    Ok(Repo {
        cid,
        commit,
        leaves,
        nodes,
    })
}

fn find<'a>(car: &Car<'a>, cid: Cid<'_>) -> Result<&'a [u8], RepoError> {
    car.get(cid)
        .ok_or_else(|| RepoError::Missing(cid.to_string()))
}

/// Reads a commit block of version 2 or 3; fields that are not known are only signed.
pub fn read_commit(block: &[u8]) -> Result<Commit<'_>, RepoError> {
    let mut decoder = Decoder::new(block);
    let count = decoder.map_start()?;
    if count > MAX_COMMIT_FIELDS {
        return Err(RepoError::CommitField("count"));
    }
    let mut fields: Vec<(Cow<'_, str>, Value<'_>)> = Vec::with_capacity(count);
    let mut raw: Vec<(&str, &[u8])> = Vec::with_capacity(count);
    for _ in 0..count {
        let start = decoder.rest();
        let key = decoder.key()?;
        let Cow::Borrowed(name) = key else {
            return Err(RepoError::CommitField("name"));
        };
        let value = decoder.value()?;
        let length = start.len() - decoder.rest().len();
        if raw.iter().any(|(known, _)| *known == name) {
            return Err(CborError::DuplicateKey.into());
        }
        raw.push((name, start.get(..length).unwrap_or_default()));
        fields.push((key, value));
    }
    decoder.end();
    decoder.finish()?;
    let fields = Value::Map(fields);
    let text = |name| match fields.get(name) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let version = fields.get("version").and_then(Value::as_int);
    let version = version
        .filter(|version| VERSIONS.contains(version))
        .ok_or(RepoError::CommitField("version"))?;
    let did = text("did").filter(|did| is_did(did));
    let rev = match (fields.get("rev"), version) {
        (None, 2) => None,
        _ => Some(
            text("rev")
                .filter(|rev| is_tid(rev))
                .ok_or(RepoError::CommitField("rev"))?,
        ),
    };
    let prev = match fields.get("prev") {
        None | Some(Value::Null) => None,
        Some(Value::Link(cid)) => Some(*cid),
        Some(_) => return Err(RepoError::CommitField("prev")),
    };
    let data = fields.get("data").and_then(Value::as_link);
    let sig = fields.get("sig").and_then(Value::as_bytes);
    Ok(Commit {
        did: did.ok_or(RepoError::CommitField("did"))?,
        version,
        rev,
        data: data.ok_or(RepoError::CommitField("data"))?,
        prev,
        sig: sig.ok_or(RepoError::CommitField("sig"))?,
        signed: without_signature(raw),
    })
}

/// The map again, without `sig`, its entries sorted as DAG-CBOR sorts them.
fn without_signature(mut entries: Vec<(&str, &[u8])>) -> Vec<u8> {
    entries.retain(|(name, _)| *name != "sig");
    entries.sort_unstable_by_key(|(name, _)| (name.len(), *name));
    let mut out = Vec::new();
    write_head(&mut out, 0xa0, entries.len());
    for (_, entry) in entries {
        out.extend_from_slice(entry);
    }
    out
}

#[cfg(test)]
#[path = "repo_tests.rs"]
mod tests;
