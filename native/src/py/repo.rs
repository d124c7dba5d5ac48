//! Keys, signatures and trees for Python.

#![allow(clippy::needless_pass_by_value)] // arguments are handed over by Python

use std::collections::HashMap;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::PyBytes;

use crate::car;
use crate::cid::Cid;
use crate::crypto::{Curve, PrivateKey, PublicKey};
use crate::mst::covering_proof;
use crate::repo::RepoError;
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
    module.add_class::<RepoFault>()?;
    module.add_function(wrap_pyfunction!(did_key, module)?)?;
    module.add_function(wrap_pyfunction!(verify_signature, module)?)?;
    module.add_function(wrap_pyfunction!(public_key, module)?)?;
    module.add_function(wrap_pyfunction!(sign, module)?)?;
    module.add_function(wrap_pyfunction!(build_mst, module)?)?;
    module.add_function(wrap_pyfunction!(invert_mst, module)?)?;
    module.add_function(wrap_pyfunction!(mst_proof, module)?)
}
