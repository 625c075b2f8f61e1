//! Reader and writer against the test vectors of the frame ABI, and the JSON
//! ABI against the host's own reader and writer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod c_header;
mod frames;
mod json;
mod output;
mod vectors;
