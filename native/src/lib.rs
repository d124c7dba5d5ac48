//! The per-record half of Headrace.
//!
//! Everything here is a pure function of its arguments: no clock, no threads, and no I/O
//! but that an export may be read from a file ([`export::Source`]). Bad input is an outcome (a
//! value), never a panic. Only the modules under `py` know Python.

pub mod base58;
pub mod batch;
pub mod car;
pub mod cbor;
pub mod cid;
pub mod crypto;
pub mod dag_json;
pub mod datetime;
pub mod entry;
pub mod export;
pub mod filter;
pub mod fold;
pub mod frame;
pub mod json;
pub mod labels;
pub mod lexicon;
pub mod message;
pub mod msgpack;
pub mod mst;
pub mod pgcopy;
pub mod plan;
pub mod post;
#[cfg(feature = "python")]
mod py;
pub mod read;
pub mod reason;
pub mod repo;
pub mod resp;
pub mod syntax;
pub mod tree;
