//! The signed root of a repository, and what an export of one can fail by.

use std::borrow::Cow;

use crate::car::CarError;
use crate::cbor::{CborError, Decoder, Value};
use crate::cid::{Cid, CidBuf};
use crate::mst::MstError;
use crate::syntax::{is_did, is_tid};
use crate::tree::write_head;

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
pub struct Commit {
    pub did: String,
    pub version: i64,
    /// A TID; version 2 has none.
    pub rev: Option<String>,
    /// Root of the tree.
    pub data: CidBuf,
    pub prev: Option<CidBuf>,
    pub sig: Vec<u8>,
    /// What `sig` signs: the commit without it, keys in DAG-CBOR order.
    pub signed: Vec<u8>,
}

/// Reads a commit block of version 2 or 3; fields that are not known are only signed.
pub fn read_commit(block: &[u8]) -> Result<Commit, RepoError> {
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
        Some(Value::Text(text)) => Some(text.clone().into_owned()),
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
        Some(Value::Link(cid)) => Some(cid.to_buf()),
        Some(_) => return Err(RepoError::CommitField("prev")),
    };
    let data = fields
        .get("data")
        .and_then(Value::as_link)
        .map(|cid| Cid::to_buf(&cid));
    let sig = fields
        .get("sig")
        .and_then(Value::as_bytes)
        .map(<[u8]>::to_vec);
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
pub(crate) mod tests;
