//! What must hold for any bytes at all, as one function a target.
//!
//! Each module opens with its invariant. `check` panics where the invariant is broken and
//! otherwise says whether the input was accepted, so that a run which rejects everything
//! can be told from one that tests something. The same functions are driven by libFuzzer
//! (`make fuzz`) and, on stable Rust, by the seeded mutator in `run`: there this file is the
//! test `fuzz` of the crate above.

#![allow(clippy::missing_panics_doc)] // a panic is the finding

pub mod answers;
pub mod batches;
pub mod car;
pub mod cbor;
pub mod database;
pub mod entry;
pub mod fold;
pub mod frame;
pub mod heap;
pub mod labels;
pub mod lexicon;
pub mod log;
pub mod mst;
pub mod records;
pub mod repo;
#[cfg(test)]
mod run;
pub mod seeds;
pub mod sums;
pub mod tape;
pub mod text;
pub mod trees;
pub mod wire;

/// Whether the code under test took the input for what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Rejected,
}

impl Verdict {
    pub const fn of(accepted: bool) -> Self {
        if accepted {
            Self::Accepted
        } else {
            Self::Rejected
        }
    }
}

/// One target: its name and its function.
pub type Target = (&'static str, fn(&[u8]) -> Verdict);

/// All targets, by name.
pub const TARGETS: &[Target] = &[
    ("car", car::check),
    ("cbor", cbor::check),
    ("entry", entry::check),
    ("fold", fold::check),
    ("frame", frame::check),
    ("labels", labels::check),
    ("lexicon", lexicon::check),
    ("mst", mst::check),
    ("repo", repo::check),
    ("text", text::check),
];
