//! The client against real registries and hostile ones, one module per scenario.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod access;
mod fleet;
mod layout;
mod mirrors;
mod redirects;
mod resume;
mod round_trip;
mod scripted;
mod support;
