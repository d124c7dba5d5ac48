//! Repository exports for Python: opened, proved, cut into stream entries.

#![allow(clippy::needless_pass_by_value)] // arguments are handed over by Python

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use super::repo::RepoFault;
use crate::crypto::PublicKey;
use crate::export::{self, OpenError, Options, Source, LIMITS};

type Opened = export::Export<PyBackedBytes>;

/// A whole, consistent repository export.
#[pyclass(frozen, module = "engine._native")]
struct Export(Arc<Opened>);

type Leaf<'py> = (String, Bound<'py, PyBytes>, Bound<'py, PyBytes>);

#[pymethods]
impl Export {
    #[getter]
    fn did(&self) -> &str {
        &self.0.commit.did
    }

    #[getter]
    fn rev(&self) -> Option<&str> {
        self.0.commit.rev.as_deref()
    }

    #[getter]
    fn version(&self) -> i64 {
        self.0.commit.version
    }

    #[getter]
    fn cid<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.cid.get().as_bytes())
    }

    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.commit.data.get().as_bytes())
    }

    #[getter]
    fn prev<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let prev = self.0.commit.prev.as_ref()?;
        Some(PyBytes::new(py, prev.get().as_bytes()))
    }

    #[getter]
    fn sig<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.commit.sig)
    }

    #[getter]
    fn signed<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.commit.signed)
    }

    #[getter]
    fn nodes(&self) -> usize {
        self.0.nodes()
    }

    #[getter]
    fn blocks(&self) -> usize {
        self.0.blocks()
    }

    #[getter]
    fn length(&self) -> u64 {
        self.0.length()
    }

    fn __len__(&self) -> usize {
        self.0.leaves()
    }

    fn signed_by(&self, py: Python<'_>, key: &str) -> bool {
        py.detach(|| PublicKey::from_did_key(key).is_ok_and(|key| self.0.signed_by(&key)))
    }

    fn leaves<'py>(&self, py: Python<'py>) -> PyResult<Vec<Leaf<'py>>> {
        let mut leaves = Vec::with_capacity(self.0.leaves());
        self.0.each_leaf(|key, cid, record| {
            let cid = PyBytes::new(py, cid.as_bytes());
            leaves.push((key.to_owned(), cid, PyBytes::new(py, record)));
        })?;
        Ok(leaves)
    }

    #[pyo3(signature = (*, fetch_id, notify, collections, max_bytes, max_records))]
    fn slices(
        &self,
        fetch_id: i64,
        notify: bool,
        collections: Vec<String>,
        max_bytes: usize,
        max_records: usize,
    ) -> PyResult<Slices> {
        self.has_rev()?;
        let options = Options {
            fetch_id,
            notify,
            collections,
            max_bytes,
            max_records,
        };
        Ok(Slices {
            export: Arc::clone(&self.0),
            cutting: export::Slices::new(options),
            entry: Vec::new(),
        })
    }

    fn closing<'py>(&self, py: Python<'py>, fetch_id: i64) -> PyResult<Bound<'py, PyBytes>> {
        self.has_rev()?;
        let mut entry = Vec::new();
        export::closing(&self.0, fetch_id, &mut entry);
        Ok(PyBytes::new(py, &entry))
    }
}

impl Export {
    fn has_rev(&self) -> PyResult<()> {
        match self.0.commit.rev {
            Some(_) => Ok(()),
            None => Err(PyValueError::new_err("a commit of version 2 has no rev")),
        }
    }
}

/// The slices of an export, made one by one.
#[pyclass(module = "engine._native")]
struct Slices {
    export: Arc<Opened>,
    cutting: export::Slices,
    entry: Vec<u8>,
}

#[pymethods]
impl Slices {
    #[getter]
    fn records(&self) -> usize {
        self.cutting.records
    }

    #[getter]
    fn filtered(&self) -> usize {
        self.cutting.filtered
    }

    #[getter]
    fn rejected(&self) -> usize {
        self.cutting.rejected
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<(usize, Bound<'py, PyBytes>)>> {
        let (export, slices, entry) = (&self.export, &mut self.cutting, &mut self.entry);
        entry.clear();
        let events = py.detach(|| slices.next(export, entry))?;
        Ok(events.map(|events| (events, PyBytes::new(py, entry))))
    }
}

#[derive(FromPyObject)]
enum Place {
    Bytes(PyBackedBytes),
    File(PathBuf),
}

#[derive(IntoPyObject)]
enum Outcome {
    Whole(Export),
    Fault(RepoFault),
}

#[pyfunction]
fn read_repo(py: Python<'_>, source: Place) -> PyResult<Outcome> {
    let opened = py.detach(|| {
        let source = match source {
            Place::Bytes(bytes) => Source::Bytes(bytes),
            Place::File(path) => Source::open(&path)?,
        };
        Opened::open(source, LIMITS)
    });
    match opened {
        Ok(export) => Ok(Outcome::Whole(Export(Arc::new(export)))),
        Err(OpenError::Fault(fault)) => Ok(Outcome::Fault(fault.into())),
        Err(OpenError::Io(error)) => Err(error.into()),
    }
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Export>()?;
    module.add_class::<Slices>()?;
    module.add_function(wrap_pyfunction!(read_repo, module)?)
}
