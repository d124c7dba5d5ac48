//! The border to Python: the only place with `PyO3` types.

mod lexicon;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    lexicon::register(module)
}
