//! Tests that need a program of this package; the others are in `tests/it` of the
//! workspace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod compiler_process;
