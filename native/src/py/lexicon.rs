//! Lexicons and syntax for tests and tools; the indexer's path never comes here.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::lexicon::Catalog;
use crate::syntax::Format;
use crate::{cbor, datetime};

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Lexicons>()?;
    module.add_function(wrap_pyfunction!(check_syntax, module)?)?;
    module.add_function(wrap_pyfunction!(normalize_datetime, module)?)
}

#[pyfunction]
fn check_syntax(format: &str, text: &str) -> PyResult<bool> {
    let known = Format::named(format)
        .ok_or_else(|| PyValueError::new_err(format!("unknown format {format:?}")))?;
    Ok(known.matches(text))
}

#[pyfunction]
fn normalize_datetime(text: &str) -> Option<String> {
    datetime::normalize(text)
}

/// A compiled set of lexicon documents.
#[pyclass(frozen, module = "engine._native")]
struct Lexicons(Catalog);

#[pymethods]
impl Lexicons {
    #[new]
    fn new(py: Python<'_>, documents: &[u8]) -> PyResult<Self> {
        py.detach(|| Catalog::from_json(documents))
            .map(Self)
            .map_err(|error| PyValueError::new_err(error.to_string()))
    }

    #[getter]
    fn record_types(&self) -> Vec<&str> {
        self.0.record_types()
    }

    fn validate(&self, py: Python<'_>, collection: &str, record: &[u8]) -> Option<String> {
        py.detach(|| match cbor::decode(record) {
            Ok(value) => self.0.validate_record(collection, &value).err(),
            Err(error) => Some(error.to_string()),
        })
    }
}
