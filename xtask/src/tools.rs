//! Programs of cargo's that not every machine has.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::{process, workspace};

/// The program of that name: the one in PATH, or one built from crates.io into
/// cargo's target directory, once.
pub(crate) fn get(name: &str, version: &str) -> Result<PathBuf> {
    if let Some(program) = process::in_path(name) {
        return Ok(program);
    }
    let root = workspace::target().join("tools");
    let program = root.join("bin").join(name);
    if !program.is_file() {
        println!("xtask: cargo install {name} {version}");
        let mut install = process::cargo();
        install
            .args(["install", "--quiet", "--locked", "--version", version])
            .arg("--root")
            .arg(&root)
            .arg("--target-dir")
            .arg(root.join("build"))
            .arg(name);
        process::run(&mut install)?;
        ensure!(program.is_file(), "{name} has been installed elsewhere");
    }
    Ok(program)
}
