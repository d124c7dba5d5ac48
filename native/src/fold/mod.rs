//! The fold: events in, rows out.
//!
//! 1. `decode` reads entries once, those that `admit` lets in and in its order: every op is
//!    validated and turned into the compact rows it may become; what is wrong with it is
//!    settled here.
//! 2. `wanted` says what must be looked up, in rounds, and `known` reads the answers.
//! 3. `apply` walks the events in order of effect, (seq, op index), over an overlay
//!    (`world`, `repos`) of what is known, by the rules of `events` and `ops`. It is strictly
//!    sequential: whatever an op sees is the state left by the op before it, from the
//!    database or from this batch.
//! 4. `changes` turns the overlay's net effect into deletes, COPY bytes and statements.
//!
//! Steps 3 and 4 are a pure function of (batch, known rows, voided ops) and may be
//! run again: an op that Postgres refused is voided, and the rest folds as if it
//! had never been there. Nothing here knows a database or a clock.
//!
//! Rules are those of the reference run serially, with the differences on the
//! side of keeping data that `ARCHITECTURE.md` lists.

mod admit;
mod apply;
mod batch;
mod carried;
mod carry;
mod changes;
mod collect;
mod dead;
mod decode;
mod detail;
mod duplicates;
mod effects;
mod events;
mod feed;
mod fetches;
mod gates;
mod judge;
mod known;
mod late;
mod late_rows;
mod mutes;
mod op_threads;
mod ops;
mod people;
mod posts;
mod proof;
mod quotes;
mod readings;
mod repos;
mod rows;
mod shared;
mod slices;
mod tallies;
mod tell;
mod told;
mod unsettled;
mod wanted;
mod world;
mod written;

pub use batch::{Batch, ShardEntries};
pub use carry::Carry;
pub use changes::Changes;
pub use decode::decode;
pub use decode::Validate;
pub use known::{Known, KnownError};
pub use slices::Slices;

use std::collections::HashMap;
use std::sync::Arc;

use crate::plan::Plan;

/// Ops that Postgres refused, by number, with its words.
pub type Voided = HashMap<usize, String>;

/// What the batch changes, given what is known.
pub fn fold(plan: &Plan, batch: &Batch, known: &Known, voided: &Voided) -> Changes {
    let applied = apply::apply(plan, batch, known, voided);
    changes::collect(plan, batch, known, applied)
}

/// The same, and what the next batch must know of it while it is being written.
pub fn fold_ahead(
    plan: &Plan,
    batch: &Arc<Batch>,
    known: &Known,
    voided: &Voided,
) -> (Changes, Carry) {
    let applied = apply::apply(plan, batch, known, voided);
    let carry = Carry::of(plan, batch, known, &applied);
    (changes::collect(plan, batch, known, applied), carry)
}

#[cfg(test)]
mod tests;
