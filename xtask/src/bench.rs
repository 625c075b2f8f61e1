//! `cargo xtask bench`: the fixtures, then the benchmark harness.

use anyhow::Result;

use crate::{fixtures, process};

/// Runs every benchmark in the release profile; `arguments` name the groups to
/// run instead, and then no summary is written.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    fixtures::build(None)?;
    let mut cargo = process::cargo();
    cargo.args(["run", "--release", "--package", "vortex-benches", "--"]);
    cargo.args(arguments);
    // A backtrace for each trap would be most of what a stopped call costs.
    cargo.env("RUST_BACKTRACE", "0");
    process::run(&mut cargo)
}
