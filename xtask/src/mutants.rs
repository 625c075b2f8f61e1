//! `cargo xtask mutants`: whether a test fails when the trust decision is changed.

use anyhow::Result;

use crate::{process, tools, workspace};

const CARGO_MUTANTS: &str = "27.1.0";

/// Tests that take long and fail for no change that another does not notice.
const SKIPPED: [&str; 6] = [
    "a_million_random",
    "concurrency::",
    "failure::",
    "flips::",
    "hostile_store::",
    "no_bit_of",
];

/// Changes the code that decides about trust, one place at a time, and runs the
/// registry's tests; `.cargo/mutants.toml` says where. `arguments` go to
/// `cargo mutants`. Fails if a change goes unnoticed that is not explained in
/// `crates/vortex-registry/MUTANTS.md` and excluded for that reason.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let program = tools::get("cargo-mutants", CARGO_MUTANTS)?;
    let mut mutants = std::process::Command::new(program);
    process::forget_build_settings(&mut mutants);
    mutants
        .arg("mutants")
        .current_dir(workspace::root())
        .args(["--package", "vortex-registry", "--no-shuffle", "--output"])
        .arg(workspace::target())
        .args(arguments)
        .args(["--", "--lib", "--test", "it", "--"]);
    for test in SKIPPED {
        mutants.args(["--skip", test]);
    }
    // A binary that runs for seconds is not worth minutes of optimising.
    mutants
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    process::run(&mut mutants)
}
