//! Frames, records, entries.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::batch::FrameBatch as Frames;
use crate::cbor;
use crate::entry::{self, Entry};
use crate::filter::Filter;
use crate::frame::Source;
use crate::json;
use crate::reason::Reason;

/// What became of a batch of frames.
#[pyclass(frozen, module = "engine._native")]
struct FrameBatch(Frames);

#[pymethods]
impl FrameBatch {
    #[getter]
    fn ops(&self) -> u64 {
        self.0.counts.ops()
    }

    #[getter]
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = &self.0.counts;
        let dict = PyDict::new(py);
        for (name, count) in [
            ("create", counts.create),
            ("update", counts.update),
            ("delete", counts.delete),
            ("identity", counts.identity),
            ("account", counts.account),
            ("sync", counts.sync),
            ("filtered", counts.filtered),
            ("rejected", counts.rejected),
            ("frames", counts.frames),
        ] {
            dict.set_item(name, count)?;
        }
        Ok(dict)
    }

    #[getter]
    fn last_seq(&self) -> Option<i64> {
        self.0.last_seq
    }

    #[getter]
    fn last_time(&self) -> Option<&str> {
        self.0.last_time.as_deref()
    }

    #[getter]
    fn notices(&self) -> Vec<(&'static str, &str, &str)> {
        let notices = self.0.notices.iter();
        notices
            .map(|said| (said.kind, said.name.as_str(), said.message.as_str()))
            .collect()
    }

    #[getter]
    fn rejected(&self) -> Vec<(usize, &'static str, &str)> {
        let rejected = self.0.rejected.iter();
        rejected
            .map(|rejected| {
                (
                    rejected.frame,
                    rejected.reason.word(),
                    rejected.detail.as_str(),
                )
            })
            .collect()
    }

    #[getter]
    fn entries_count(&self) -> usize {
        self.0.entries_count()
    }

    fn entries<'py>(&self, py: Python<'py>) -> Vec<(u32, Bound<'py, PyBytes>)> {
        let entries = self.0.entries();
        entries
            .map(|(shard, entry)| (shard, PyBytes::new(py, entry)))
            .collect()
    }

    fn weights(&self) -> Vec<(u32, u64, u64, u64)> {
        let weights = self.0.weights();
        weights
            .iter()
            .map(|(shard, weight)| (*shard, weight.entries, weight.events, weight.bytes))
            .collect()
    }

    fn xadd<'py>(&self, py: Python<'py>, stream: &[u8]) -> Bound<'py, PyBytes> {
        let commands = py.detach(|| self.0.xadd(stream));
        PyBytes::new(py, &commands)
    }
}

/// Read raw frames, in order.
#[pyfunction]
#[pyo3(signature = (frames, *, relay, generation, shards, allow))]
fn decode_frames(
    py: Python<'_>,
    frames: &Bound<'_, PyList>,
    relay: &str,
    generation: i64,
    shards: u32,
    allow: Vec<String>,
) -> PyResult<FrameBatch> {
    if shards == 0 {
        return Err(PyValueError::new_err("shards must be at least 1"));
    }
    // Own references: the list may change while the GIL is released, its bytes cannot.
    let frames: Vec<Bound<'_, PyBytes>> = frames.extract()?;
    let slices: Vec<&[u8]> = frames.iter().map(PyBytesMethods::as_bytes).collect();
    let filter = Filter::new(allow);
    let source = Source { relay, generation };
    let batch = py.detach(|| Frames::decode(&slices, source, shards, &filter));
    Ok(FrameBatch(batch))
}

/// The JSON text of one record.
#[pyfunction]
fn record_json<'py>(py: Python<'py>, record: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let mut out = Vec::with_capacity(record.len() * 2);
    let value = cbor::decode_record(record).map_err(to_value_error)?;
    json::write_record(&value, &mut out).map_err(to_value_error)?;
    Ok(PyBytes::new(py, &out))
}

/// Decode an entry and encode it again: both halves of the mirror.
#[pyfunction]
fn recode_entry<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let entry = Entry::decode(data).map_err(to_value_error)?;
    let mut out = Vec::with_capacity(data.len());
    entry.encode(&mut out);
    Ok(PyBytes::new(py, &out))
}

#[pyfunction]
fn shard_of(did: &str, shard_count: u32) -> u32 {
    entry::shard_of(did, shard_count)
}

fn to_value_error(error: impl std::error::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let words: Vec<&str> = Reason::ALL.iter().map(|reason| reason.word()).collect();
    module.add("REASONS", words)?;
    module.add("ENTRY_VERSION", entry::VERSION)?;
    module.add_class::<FrameBatch>()?;
    module.add_function(wrap_pyfunction!(decode_frames, module)?)?;
    module.add_function(wrap_pyfunction!(record_json, module)?)?;
    module.add_function(wrap_pyfunction!(recode_entry, module)?)?;
    module.add_function(wrap_pyfunction!(shard_of, module)?)?;
    Ok(())
}
