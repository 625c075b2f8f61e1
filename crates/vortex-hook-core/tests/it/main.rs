//! The public API of `vortex-hook-core`, tested from outside in one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod chain;
mod chain_answers;
mod chain_runs;
mod context;
mod errors;
mod exchange;
mod frame;
mod frame_vectors;
mod header_changes;
mod hook_input;
mod hook_output;
mod properties;
mod util;
mod vectors;
