//! `cargo xtask test`: the fixtures, then every test of the workspace.

use anyhow::Result;

use crate::{fixtures, process};

/// Runs every test, doc tests included; `arguments` go to `cargo test`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    fixtures::build(None)?;
    let mut cargo = process::cargo();
    cargo.args(["test", "--workspace"]).args(arguments);
    // The runtime captures a backtrace for each trap if it is told to, which
    // makes every test of a trapping guest slower by a hundred times.
    cargo.env("RUST_BACKTRACE", "0");
    process::run(&mut cargo)
}
