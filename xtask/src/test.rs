//! `cargo xtask test`: the fixtures, then every test of the workspace.

use anyhow::Result;

use crate::{debian, fixtures, process};

/// Programs that tests run, each in Debian's package of that name: an OCI
/// registry, and a client to it that is not ours.
const SERVERS: [&str; 2] = ["docker-registry", "skopeo"];

/// Runs every test, doc tests included; `arguments` go to `cargo test`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    fixtures::build(None)?;
    get_servers();
    let mut cargo = process::cargo();
    cargo.args(["test", "--workspace"]).args(arguments);
    // The runtime captures a backtrace for each trap if it is told to, which
    // makes every test of a trapping guest slower by a hundred times.
    cargo.env("RUST_BACKTRACE", "0");
    process::run(&mut cargo)
}

/// Sees to it that the servers are there. Where that cannot be, the tests that
/// need them fail and say so; the others may run all the same.
fn get_servers() {
    let missing: Vec<_> = SERVERS
        .into_iter()
        .filter(|server| process::in_path(server).is_none())
        .collect();
    if missing.is_empty() {
        return;
    }
    if let Err(reason) = debian::install(&missing) {
        let missing = missing.join(" and ");
        println!("the tests that need {missing} will fail: {reason:#}");
    }
}
