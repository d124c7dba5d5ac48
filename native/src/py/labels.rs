//! Labels: frames to entries, entries to rows.

use std::collections::{BTreeMap, HashMap, HashSet};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::fold::UnknownEnvelopeError;
use crate::crypto::PublicKey;
use crate::datetime;
use crate::labels::{self, Check, Gathered as Rows, LabelBatch as Batch, Source, Trust};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LabelBatch>()?;
    module.add_class::<LabelRows>()?;
    module.add_function(wrap_pyfunction!(decode_labels, module)?)?;
    module.add_function(wrap_pyfunction!(gather_labels, module)?)?;
    module.add_function(wrap_pyfunction!(datetime_instant, module)?)
}

/// What became of a labeler's frames.
#[pyclass(frozen, module = "engine._native")]
struct LabelBatch(Batch);

#[pymethods]
impl LabelBatch {
    #[getter]
    fn ops(&self) -> u64 {
        self.0.labels
    }

    #[getter]
    fn counts(&self) -> BTreeMap<&'static str, u64> {
        let batch = &self.0;
        let rejected: u64 = batch.rejected.values().map(|(count, _)| count).sum();
        BTreeMap::from([
            ("frames", batch.frames),
            ("labels", batch.labels),
            ("negations", batch.negations),
            ("rejected", rejected),
            ("unverified", batch.unverified.values().sum()),
        ])
    }

    #[getter]
    fn last_seq(&self) -> Option<i64> {
        self.0.last_seq
    }

    #[getter]
    fn notices(&self) -> Vec<(&'static str, &str, &str)> {
        let notices = self.0.notices.iter();
        notices
            .map(|(kind, name, message)| (*kind, name.as_str(), message.as_str()))
            .collect()
    }

    #[getter]
    fn rejected(&self) -> BTreeMap<&'static str, (u64, &str)> {
        let rejected = self.0.rejected.iter();
        rejected
            .map(|(reason, (count, detail))| (reason.word(), (*count, detail.as_str())))
            .collect()
    }

    #[getter]
    fn unverified(&self) -> BTreeMap<&str, u64> {
        let unverified = self.0.unverified.iter();
        unverified
            .map(|(src, count)| (src.as_str(), *count))
            .collect()
    }

    #[getter]
    fn unknown(&self) -> Vec<&str> {
        self.0.unknown.iter().map(String::as_str).collect()
    }

    #[getter]
    fn entries_count(&self) -> usize {
        self.0.entries_count()
    }

    fn entries<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.0
            .entries()
            .map(|entry| PyBytes::new(py, entry))
            .collect()
    }

    fn weights(&self) -> Vec<(u32, u64, u64, u64)> {
        let entries = self.0.entries_count() as u64;
        if entries == 0 {
            return Vec::new();
        }
        vec![(0, entries, self.0.events, self.0.bytes() as u64)]
    }

    fn xadd<'py>(&self, py: Python<'py>, stream: &[u8]) -> Bound<'py, PyBytes> {
        let commands = py.detach(|| self.0.xadd(stream));
        PyBytes::new(py, &commands)
    }
}

/// Read a labeler's frames, in order.
#[pyfunction]
#[pyo3(signature = (frames, *, host, generation, keys, foreign, closed, check))]
#[allow(clippy::too_many_arguments)] // all by name
fn decode_labels(
    py: Python<'_>,
    frames: &Bound<'_, PyList>,
    host: &str,
    generation: i64,
    keys: HashMap<String, Option<String>>,
    foreign: HashSet<String>,
    closed: bool,
    check: &str,
) -> PyResult<LabelBatch> {
    let check = Check::named(check)
        .ok_or_else(|| PyValueError::new_err(format!("no check is named {check:?}")))?;
    // A key that is none verifies nothing.
    let keys = keys
        .into_iter()
        .map(|(did, key)| (did, key.and_then(|key| PublicKey::from_did_key(&key).ok())))
        .collect();
    let trust = Trust {
        keys,
        foreign,
        closed,
    };
    let frames: Vec<Bound<'_, PyBytes>> = frames.extract()?;
    let slices: Vec<&[u8]> = frames.iter().map(PyBytesMethods::as_bytes).collect();
    let batch = py.detach(|| {
        let trust = &trust;
        Batch::decode(
            &slices,
            Source {
                host,
                generation,
                trust,
                check,
            },
        )
    });
    Ok(LabelBatch(batch))
}

/// The rows that entries become.
#[pyclass(frozen, module = "engine._native")]
struct LabelRows(Rows);

/// One row: src, uri, cid, val, neg, cts, exp, stream.
type Plain<'r> = (
    &'r str,
    &'r str,
    &'r str,
    &'r str,
    bool,
    &'r str,
    Option<&'r str>,
    usize,
);

/// Host, generation, highest seq held, labels by outcome, unverified ones.
type Tally<'r> = (&'r str, i64, Option<i64>, BTreeMap<String, u64>, u64);

#[pymethods]
impl LabelRows {
    #[getter]
    fn labels(&self) -> u64 {
        self.0.labels
    }

    #[getter]
    fn events(&self) -> u64 {
        self.0.events
    }

    #[getter]
    fn letters(&self) -> Vec<(usize, usize)> {
        self.0.letters().collect()
    }

    #[getter]
    fn streams(&self) -> Vec<Tally<'_>> {
        let streams = self.0.streams.iter();
        streams
            .map(|each| {
                (
                    each.host.as_str(),
                    each.generation,
                    each.seq,
                    each.outcomes.clone(),
                    each.unverified,
                )
            })
            .collect()
    }

    #[getter]
    fn sources(&self) -> Vec<(&str, usize)> {
        let sources = self.0.sources.iter();
        sources.map(|(src, stream)| (&**src, *stream)).collect()
    }

    fn __len__(&self) -> usize {
        self.0.rows.len()
    }

    #[allow(clippy::needless_pass_by_value)] // as PyO3 hands it over
    fn rows(&self, of: HashSet<String>) -> Vec<Plain<'_>> {
        let rows = self.0.rows.iter().filter(|row| of.contains(&*row.src));
        rows.map(|row| {
            let exp = row.exp.as_deref();
            (
                &*row.src, &*row.uri, &*row.cid, &*row.val, row.neg, &*row.cts, exp, row.stream,
            )
        })
        .collect()
    }

    #[allow(clippy::needless_pass_by_value)] // as PyO3 hands it over
    fn columns(&self, py: Python<'_>, without: Vec<String>) -> Vec<String> {
        py.detach(|| self.0.columns(&without))
    }

    #[allow(clippy::needless_pass_by_value)] // as PyO3 hands it over
    fn letter_columns(&self, py: Python<'_>, kept: Vec<usize>) -> Vec<String> {
        py.detach(|| self.0.letter_columns(&kept))
    }
}

/// Read entries in the order of their stream.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // as PyO3 hands it over
fn gather_labels(
    py: Python<'_>,
    entries: &Bound<'_, PyList>,
    held: HashMap<String, i64>,
) -> PyResult<LabelRows> {
    let entries: Vec<Bound<'_, PyBytes>> = entries.extract()?;
    let slices: Vec<&[u8]> = entries.iter().map(PyBytesMethods::as_bytes).collect();
    py.detach(|| labels::gather(&slices, &held))
        .map(LabelRows)
        .map_err(|error| UnknownEnvelopeError::new_err(error.to_string()))
}

#[pyfunction]
fn datetime_instant(text: &str) -> Option<(i64, u32)> {
    datetime::instant(text)
}
