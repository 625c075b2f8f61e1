//! The registry through its public interface, one module per scenario.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod concurrency;
mod decision;
mod failure;
mod fleet_index;
mod flips;
mod go_store;
mod hostile_store;
mod index_trust;
mod install;
mod irregular;
mod keys;
mod kill;
mod list;
mod names;
mod policy_file;
mod published_bugs;
mod random_names;
mod read_only;
mod rules;
mod sbom;
mod selection;
mod storm;
mod support;
mod swaps;
mod tampering;
mod trust;
