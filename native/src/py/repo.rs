//! Keys, signatures, trees and repository exports for Python.

#![allow(clippy::needless_pass_by_value)] // arguments are handed over by Python

use std::collections::HashMap;
use std::ops::Range;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::PyBytes;

use crate::car;
use crate::cid::Cid;
use crate::crypto::{Curve, PrivateKey, PublicKey};
use crate::mst::covering_proof;
use crate::repo::{self, RepoError};
use crate::tree::{self, Operation};

/// Why bytes are no repository or no tree: an outcome, not an exception.
#[pyclass(frozen, get_all, module = "engine._native")]
pub struct RepoFault {
    kind: &'static str,
    detail: String,
}

#[pymethods]
impl RepoFault {
    fn __repr__(&self) -> String {
        format!("RepoFault({}: {})", self.kind, self.detail)
    }
}

impl From<RepoError> for RepoFault {
    fn from(error: RepoError) -> Self {
        Self {
            kind: error.kind(),
            detail: error.to_string(),
        }
    }
}

/// A leaf by its places in the export, so that the export is held once.
struct StoredLeaf {
    key: String,
    cid: Range<usize>,
    record: Range<usize>,
}

/// A whole, consistent repository export.
#[pyclass(frozen, module = "engine._native")]
pub struct Repo {
    export: PyBackedBytes,
    leaves: Vec<StoredLeaf>,
    signed: Vec<u8>,
    sig: Vec<u8>,
    cid: Vec<u8>,
    data: Vec<u8>,
    prev: Option<Vec<u8>>,
    #[pyo3(get)]
    did: String,
    #[pyo3(get)]
    version: i64,
    #[pyo3(get)]
    rev: Option<String>,
    #[pyo3(get)]
    nodes: usize,
}

#[pymethods]
impl Repo {
    #[getter]
    fn cid<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.cid)
    }

    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.data)
    }

    #[getter]
    fn prev<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        Some(PyBytes::new(py, self.prev.as_deref()?))
    }

    #[getter]
    fn sig<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.sig)
    }

    #[getter]
    fn signed<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.signed)
    }

    fn signed_by(&self, py: Python<'_>, key: &str) -> bool {
        py.detach(|| {
            PublicKey::from_did_key(key).is_ok_and(|key| key.verify(&self.signed, &self.sig))
        })
    }

    fn __len__(&self) -> usize {
        self.leaves.len()
    }

    fn leaves<'py>(
        &self,
        py: Python<'py>,
    ) -> Vec<(&str, Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let bytes = |range: &Range<usize>| {
            PyBytes::new(py, self.export.get(range.clone()).unwrap_or_default())
        };
        self.leaves
            .iter()
            .map(|leaf| (leaf.key.as_str(), bytes(&leaf.cid), bytes(&leaf.record)))
            .collect()
    }
}

/// Where `part`, a slice of `whole`, lies in it.
fn place(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    start..start.wrapping_add(part.len())
}

#[derive(IntoPyObject)]
enum RepoOutcome {
    Whole(Repo),
    Fault(RepoFault),
}

#[pyfunction]
fn read_repo(py: Python<'_>, export: PyBackedBytes) -> RepoOutcome {
    py.detach(|| {
        let repo = match repo::read(&export, repo::LIMITS) {
            Ok(repo) => repo,
            Err(error) => return RepoOutcome::Fault(error.into()),
        };
        let commit = repo.commit;
        let leaves = repo.leaves.into_iter().map(|leaf| StoredLeaf {
            cid: place(&export, leaf.cid.as_bytes()),
            record: place(&export, leaf.record),
            key: leaf.key,
        });
        RepoOutcome::Whole(Repo {
            leaves: leaves.collect(),
            sig: commit.sig.to_vec(),
            cid: repo.cid.as_bytes().to_vec(),
            data: commit.data.as_bytes().to_vec(),
            prev: commit.prev.map(|prev| prev.as_bytes().to_vec()),
            did: commit.did.into_owned(),
            version: commit.version,
            rev: commit.rev.map(std::borrow::Cow::into_owned),
            nodes: repo.nodes,
            signed: commit.signed,
            export,
        })
    })
}

fn curve(algorithm: &str) -> PyResult<Curve> {
    Curve::from_algorithm(algorithm)
        .ok_or_else(|| PyValueError::new_err("the algorithm is ES256K or ES256"))
}

fn invalid(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

#[pyfunction]
fn did_key(kind: &str, multibase: &str) -> Option<String> {
    Some(PublicKey::from_method(kind, multibase).ok()?.did_key())
}

#[pyfunction]
fn verify_signature(py: Python<'_>, key: &str, message: &[u8], signature: &[u8]) -> bool {
    py.detach(|| PublicKey::from_did_key(key).is_ok_and(|key| key.verify(message, signature)))
}

#[pyfunction]
fn public_key(algorithm: &str, secret: &[u8]) -> PyResult<String> {
    let key = PrivateKey::from_bytes(curve(algorithm)?, secret).map_err(invalid)?;
    Ok(key.public().map_err(invalid)?.did_key())
}

#[pyfunction]
fn sign<'py>(
    py: Python<'py>,
    algorithm: &str,
    secret: &[u8],
    message: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let key = PrivateKey::from_bytes(curve(algorithm)?, secret).map_err(invalid)?;
    let signature = py.detach(|| key.sign(message));
    let signature = signature.ok_or_else(|| invalid("the signature failed"))?;
    Ok(PyBytes::new(py, &signature))
}

type Block<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

#[pyfunction]
fn build_mst(
    py: Python<'_>,
    entries: Vec<(PyBackedStr, PyBackedBytes)>,
) -> PyResult<(Bound<'_, PyBytes>, Vec<Block<'_>>)> {
    let mut blocks = Vec::new();
    let root = py.detach(|| -> Result<_, String> {
        let mut leaves = Vec::with_capacity(entries.len());
        for (key, cid) in &entries {
            let cid = Cid::exact(cid).map_err(|error| format!("{key}: {error}"))?;
            leaves.push((&**key, cid));
        }
        tree::build(leaves, |cid, block| blocks.push((cid, block)))
            .map_err(|error| error.to_string())
    });
    let root = PyBytes::new(py, &root.map_err(invalid)?);
    let blocks = blocks.iter();
    let blocks = blocks.map(|(cid, block)| (PyBytes::new(py, cid), PyBytes::new(py, block)));
    Ok((root, blocks.collect()))
}

/// Blocks to look up, each hashed against its CID.
fn checked(blocks: &[(PyBackedBytes, PyBackedBytes)]) -> Result<HashMap<&[u8], &[u8]>, RepoError> {
    let mut found = HashMap::with_capacity(blocks.len());
    for (cid, block) in blocks {
        let exact = Cid::exact(cid).map_err(|_| car::CarError::Cid)?;
        car::check_hash(exact, block)?;
        found.insert(&**cid, &**block);
    }
    Ok(found)
}

fn exact(cid: &[u8]) -> Result<Cid<'_>, RepoError> {
    Cid::exact(cid).map_err(|_| car::CarError::Cid.into())
}

#[derive(IntoPyObject)]
enum CidOutcome<'py> {
    Cid(Bound<'py, PyBytes>),
    Fault(RepoFault),
}

#[derive(IntoPyObject)]
enum CidsOutcome<'py> {
    Cids(Vec<Bound<'py, PyBytes>>),
    Fault(RepoFault),
}

type Change = (PyBackedStr, Option<PyBackedBytes>, Option<PyBackedBytes>);

#[pyfunction]
fn invert_mst<'py>(
    py: Python<'py>,
    root: &[u8],
    blocks: Vec<(PyBackedBytes, PyBackedBytes)>,
    operations: Vec<Change>,
) -> CidOutcome<'py> {
    let before = py.detach(|| -> Result<_, RepoError> {
        let blocks = checked(&blocks)?;
        let mut changes = Vec::with_capacity(operations.len());
        for (key, cid, prev) in &operations {
            changes.push(Operation {
                key,
                cid: cid.as_deref().map(exact).transpose()?,
                prev: prev.as_deref().map(exact).transpose()?,
            });
        }
        let find = |cid: Cid<'_>| blocks.get(cid.as_bytes()).copied();
        Ok(tree::invert(exact(root)?, find, &changes)?)
    });
    match before {
        Ok(cid) => CidOutcome::Cid(PyBytes::new(py, &cid)),
        Err(error) => CidOutcome::Fault(error.into()),
    }
}

#[pyfunction]
fn mst_proof<'py>(
    py: Python<'py>,
    root: &[u8],
    blocks: Vec<(PyBackedBytes, PyBackedBytes)>,
    keys: Vec<PyBackedStr>,
) -> CidsOutcome<'py> {
    let proof = py.detach(|| -> Result<Vec<Vec<u8>>, RepoError> {
        let blocks = checked(&blocks)?;
        let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let find = |cid: Cid<'_>| blocks.get(cid.as_bytes()).copied();
        let proof = covering_proof(exact(root)?, find, &keys)?;
        Ok(proof.iter().map(|cid| cid.as_bytes().to_vec()).collect())
    });
    match proof {
        Ok(proof) => CidsOutcome::Cids(proof.iter().map(|cid| PyBytes::new(py, cid)).collect()),
        Err(error) => CidsOutcome::Fault(error.into()),
    }
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Repo>()?;
    module.add_class::<RepoFault>()?;
    module.add_function(wrap_pyfunction!(read_repo, module)?)?;
    module.add_function(wrap_pyfunction!(did_key, module)?)?;
    module.add_function(wrap_pyfunction!(verify_signature, module)?)?;
    module.add_function(wrap_pyfunction!(public_key, module)?)?;
    module.add_function(wrap_pyfunction!(sign, module)?)?;
    module.add_function(wrap_pyfunction!(build_mst, module)?)?;
    module.add_function(wrap_pyfunction!(invert_mst, module)?)?;
    module.add_function(wrap_pyfunction!(mst_proof, module)?)
}
