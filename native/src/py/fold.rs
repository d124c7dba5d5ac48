//! Plans, batches of entries, and what they change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::fold::{self, ShardEntries};
use crate::lexicon::Catalog;
use crate::plan;

create_exception!(
    engine._native,
    UnknownEnvelopeError,
    PyException,
    "An entry of another version, or bytes that are no entry."
);

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Plan>()?;
    module.add_class::<Batch>()?;
    module.add_class::<Fetched>()?;
    module.add_class::<Known>()?;
    module.add_class::<Changes>()?;
    let error = module.py().get_type::<UnknownEnvelopeError>();
    module.add("UnknownEnvelopeError", error)
}

/// Shard number, seqs held by `host/generation`, entries, whether more waits.
type Shard = (u32, HashMap<String, i64>, Vec<PyBackedBytes>, bool);

fn misuse(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// The compiled declarations and lexicons of one database.
#[pyclass(frozen, module = "engine._native")]
struct Plan(Arc<Compiled>);

struct Compiled {
    plan: plan::Plan,
    lexicons: Catalog,
}

#[pymethods]
impl Plan {
    #[new]
    fn new(py: Python<'_>, plan: &[u8], lexicons: &[u8]) -> PyResult<Self> {
        py.detach(|| {
            let plan = plan::Plan::parse(plan).map_err(misuse)?;
            let lexicons = Catalog::from_json(lexicons).map_err(misuse)?;
            let unknown = plan
                .collections
                .iter()
                .find(|each| each.validated && !lexicons.has_record(&each.nsid));
            match unknown {
                Some(each) => Err(misuse(format!("plan: {} has no lexicon", each.nsid))),
                None => Ok(Self(Arc::new(Compiled { plan, lexicons }))),
            }
        })
    }

    #[pyo3(signature = (shards, *, now))]
    fn decode(&self, py: Python<'_>, shards: Vec<Shard>, now: f64) -> PyResult<Batch> {
        py.detach(|| {
            fold::decode(&self.0.plan, &self.0.lexicons, owned(shards), now)
                .map(|batch| Batch {
                    compiled: Arc::clone(&self.0),
                    batch: Arc::new(batch),
                })
                .map_err(|error| UnknownEnvelopeError::new_err(error.to_string()))
        })
    }

    #[pyo3(signature = (shards, *, now))]
    fn decode_fetched(&self, py: Python<'_>, shards: Vec<Shard>, now: f64) -> PyResult<Fetched> {
        py.detach(|| {
            fold::Slices::read(owned(shards), now)
                .map(|slices| Fetched {
                    compiled: Arc::clone(&self.0),
                    slices,
                })
                .map_err(|error| UnknownEnvelopeError::new_err(error.to_string()))
        })
    }
}

fn owned(shards: Vec<Shard>) -> Vec<ShardEntries> {
    shards
        .into_iter()
        .map(|(shard, held, entries, is_cut)| ShardEntries {
            shard,
            held,
            entries: entries.iter().map(|entry| entry.to_vec()).collect(),
            is_cut,
        })
        .collect()
}

/// Slices of fetched repositories, which become a batch with what is there of their ranges.
#[pyclass(frozen, module = "engine._native")]
struct Fetched {
    compiled: Arc<Compiled>,
    slices: fold::Slices,
}

#[pymethods]
impl Fetched {
    #[getter]
    fn ops(&self) -> i64 {
        self.slices.weight()
    }

    #[getter]
    fn entries(&self) -> usize {
        self.slices.entries()
    }

    /// Shard, entries, events, bytes.
    fn weights(&self) -> &[(u32, u64, u64, u64)] {
        self.slices.weights()
    }

    #[pyo3(signature = (*, before=None))]
    #[allow(clippy::needless_pass_by_value)] // as Python hands it over
    fn blocked(&self, before: Option<PyRef<'_, Changes>>) -> bool {
        let carry = before.as_ref().map(|changes| &*changes.carry);
        self.slices.is_blocked(carry)
    }

    fn wanted(&self, py: Python<'_>) -> Vec<(String, Vec<String>)> {
        py.detach(|| self.slices.wanted())
    }

    #[pyo3(signature = (answers, *, before=None))]
    #[allow(clippy::needless_pass_by_value)] // owned, to work without the GIL
    fn resolve(
        &self,
        py: Python<'_>,
        answers: Vec<(String, String)>,
        before: Option<PyRef<'_, Changes>>,
    ) -> PyResult<Batch> {
        let before = before.map(|changes| Arc::clone(&changes.carry));
        py.detach(|| {
            let Compiled { plan, lexicons } = &*self.compiled;
            let batch = self
                .slices
                .resolve(plan, lexicons, &answers, before.as_deref())
                .map_err(misuse)?;
            Ok(Batch {
                compiled: Arc::clone(&self.compiled),
                batch: Arc::new(batch),
            })
        })
    }
}

/// Decoded entries, ready to be folded as often as needed.
#[pyclass(frozen, module = "engine._native")]
struct Batch {
    compiled: Arc<Compiled>,
    batch: Arc<fold::Batch>,
}

#[pymethods]
impl Batch {
    #[getter]
    fn ops(&self) -> i64 {
        self.batch.weight()
    }

    #[getter]
    fn entries(&self) -> usize {
        self.batch.entries()
    }

    /// Shard, entries, events, bytes.
    fn weights(&self) -> &[(u32, u64, u64, u64)] {
        self.batch.weights()
    }

    /// Nothing known yet, but what `before` leaves behind.
    #[pyo3(signature = (*, trusting, before=None, together=false, settling=vec![]))]
    fn known(
        &self,
        py: Python<'_>,
        trusting: bool,
        before: Option<PyRef<'_, Changes>>,
        together: bool,
        settling: Vec<(String, String)>,
    ) -> Known {
        let before = before.map(|changes| Arc::clone(&changes.carry));
        py.detach(|| {
            let rows = fold::Known::new(trusting, before.as_ref());
            Known {
                compiled: Arc::clone(&self.compiled),
                batch: Arc::clone(&self.batch),
                rows: rows.together(together).settle(settling),
            }
        })
    }

    #[allow(clippy::needless_pass_by_value)] // owned, to work without the GIL
    fn fold(
        &self,
        py: Python<'_>,
        known: PyRef<'_, Known>,
        voided: Vec<(usize, String)>,
    ) -> PyResult<Changes> {
        if !Arc::ptr_eq(&known.batch, &self.batch) {
            return Err(misuse("known rows of another batch"));
        }
        let known = &known.rows;
        py.detach(|| {
            let voided = voided.into_iter().collect();
            let plan = &self.compiled.plan;
            let (changes, carry) = fold::fold_ahead(plan, &self.batch, known, &voided);
            Ok(Changes {
                changes,
                carry: Arc::new(carry),
            })
        })
    }
}

/// The rows that exist, of those that matter to one batch: learned in rounds.
#[pyclass(module = "engine._native")]
struct Known {
    compiled: Arc<Compiled>,
    batch: Arc<fold::Batch>,
    rows: fold::Known,
}

#[pymethods]
impl Known {
    fn wanted(&mut self, py: Python<'_>) -> Vec<(String, Vec<String>)> {
        let Self {
            compiled,
            batch,
            rows,
        } = self;
        py.detach(|| rows.wanted(&compiled.plan, batch))
    }

    #[getter]
    fn blocked(&self) -> bool {
        self.rows.is_blocked()
    }

    #[allow(clippy::needless_pass_by_value)] // owned, to work without the GIL
    fn learn(&mut self, py: Python<'_>, answers: Vec<(String, String)>) -> PyResult<()> {
        let Self {
            compiled,
            batch,
            rows,
        } = self;
        py.detach(|| {
            rows.learn(&compiled.plan, &compiled.lexicons, batch, &answers)
                .map_err(misuse)
        })
    }
}

/// What a batch changes, in the order in which it is done.
#[pyclass(frozen, module = "engine._native")]
struct Changes {
    changes: fold::Changes,
    carry: Arc<fold::Carry>,
}

/// Shard, `host/generation`, seq, ops by outcome.
type Tally<'c> = (u32, &'c str, Option<i64>, BTreeMap<String, i64>);
type Statements<'c> = Vec<(&'c str, Vec<&'c str>)>;

fn statements(statements: &[(String, Vec<String>)]) -> Statements<'_> {
    statements
        .iter()
        .map(|(name, arrays)| (name.as_str(), arrays.iter().map(String::as_str).collect()))
        .collect()
}

#[pymethods]
impl Changes {
    fn checks(&self) -> Statements<'_> {
        statements(&self.changes.checks)
    }

    fn deletes(&self) -> Statements<'_> {
        statements(&self.changes.deletes)
    }

    fn copies<'py>(&self, py: Python<'py>) -> Vec<(&str, Bound<'py, PyBytes>, usize)> {
        let copies = self.changes.copies.iter();
        copies
            .map(|(table, bytes, rows)| (table.as_str(), PyBytes::new(py, bytes), *rows))
            .collect()
    }

    fn statements(&self) -> Statements<'_> {
        statements(&self.changes.statements)
    }

    fn tally(&self) -> Vec<Tally<'_>> {
        let tally = self.changes.tally.iter();
        tally
            .map(|(shard, source, seq, counts)| (*shard, source.as_str(), *seq, counts.clone()))
            .collect()
    }

    fn fetches(&self) -> Vec<(String, i64)> {
        self.changes.fetches.clone()
    }

    fn op_of(&self, copy: usize, line: usize) -> i64 {
        let op = self.changes.op_of(copy, line);
        op.and_then(|op| i64::try_from(op).ok()).unwrap_or(-1)
    }

    fn part<'py>(
        &self,
        py: Python<'py>,
        copy: usize,
        first: usize,
        count: usize,
    ) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.changes.part(copy, first, count))
    }
}
