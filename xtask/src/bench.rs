//! `cargo xtask bench`: the fixtures, then the benchmark harness, then its peers.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::toolchain::{TARGET, Toolchain};
use crate::{debian, fixtures, process, workspace};

/// Says that the peers are measured as well.
const PEERS: &str = "--peers";

/// Runs every benchmark in the release profile; `arguments` name the groups to
/// run instead, and then no summary is written. `--peers` adds the peers.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (flags, groups): (Vec<_>, Vec<_>) =
        arguments.iter().partition(|argument| *argument == PEERS);
    fixtures::build(None)?;
    let mut cargo = process::cargo();
    cargo.args(["run", "--release", "--package", "vortex-benches", "--"]);
    cargo.args(&groups);
    // A backtrace for each trap would be most of what a stopped call costs.
    cargo.env("RUST_BACKTRACE", "0");
    process::run(&mut cargo)?;
    if groups.is_empty() {
        count_instructions()?;
    }
    if flags.is_empty() {
        return Ok(());
    }
    run_peers(groups.is_empty())
}

/// Counts the instructions of what the host does by itself.
fn count_instructions() -> Result<()> {
    if process::in_path("valgrind").is_none() {
        debian::install(&["valgrind"])?;
    }
    let mut cargo = process::cargo();
    cargo.args(["run", "--release", "--package", "vortex-benches"]);
    cargo.args(["--bin", "count"]);
    process::run(&mut cargo)
}

/// Builds the peers, a workspace of its own, and measures them. They take their
/// time: wasmtime is built twice, once of them for Extism.
fn run_peers(merge: bool) -> Result<()> {
    build_guest()?;
    let mut cargo = process::cargo();
    cargo.args(["run", "--release", "--manifest-path"]);
    cargo.arg(peers().join("Cargo.toml"));
    cargo.arg("--target-dir").arg(target());
    cargo.arg("--");
    if merge {
        cargo.arg("--merge");
    }
    cargo.env("RUST_BACKTRACE", "0");
    process::run(&mut cargo)
}

/// Builds the guest that is an Extism plugin.
fn build_guest() -> Result<()> {
    let name = "extism-api-key";
    let out = target().join("guests");
    let build_dir = out.join("target");
    let mut cargo = Toolchain::find(None)?.build();
    cargo
        .current_dir(peers().join("guests").join(name))
        .arg("--target-dir")
        .arg(&build_dir);
    process::run(&mut cargo)?;
    let built = build_dir
        .join(TARGET)
        .join("release")
        .join(format!("{}.wasm", name.replace('-', "_")));
    std::fs::copy(&built, out.join(name).with_extension("wasm"))
        .with_context(|| format!("cannot copy {}", built.display()))?;
    Ok(())
}

fn peers() -> PathBuf {
    workspace::root().join("benches/peers")
}

/// Apart from the workspace's own, whose crates have other features.
fn target() -> PathBuf {
    workspace::target().join("peers")
}
