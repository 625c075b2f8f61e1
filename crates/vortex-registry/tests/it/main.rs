//! The registry through its public interface, one module per scenario.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod concurrency;
mod failure;
mod go_store;
mod install;
mod irregular;
mod keys;
mod list;
mod names;
mod read_only;
mod selection;
mod support;
mod tampering;
mod trust;
