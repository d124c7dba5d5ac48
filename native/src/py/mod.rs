//! The border to Python: the only place with `PyO3` types.
//!
//! Calls are coarse and release the GIL; what crosses is bytes. Bad data comes back
//! as data, only misuse raises. `engine/core/codec.py` is the one importer.

mod export;
mod fold;
mod frames;
mod labels;
mod lexicon;
mod repo;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    labels::register(module)?;
    lexicon::register(module)?;
    frames::register(module)?;
    fold::register(module)?;
    repo::register(module)?;
    export::register(module)?;
    Ok(())
}
