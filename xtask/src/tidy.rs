//! `cargo xtask tidy`: what no compiler checks.
//!
//! Each check is a function from the files of the repository to a list of
//! findings; one run shows all of them.

mod fixtures;
mod layering;
mod source;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// A file that git tracks, or would if it were added.
pub(crate) struct File {
    /// Its path from the root, with slashes.
    path: String,
    /// Its contents, if they are text.
    text: Option<String>,
    /// Its size in bytes.
    size: u64,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Each line of a text file with its number.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let text = self.text.as_deref().unwrap_or_default();
        text.lines().enumerate().map(|(at, line)| (at + 1, line))
    }

    #[cfg(test)]
    fn of(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: Some(text.to_owned()),
            size: text.len() as u64,
        }
    }
}

/// Runs every check and fails if one of them found something.
pub(crate) fn run() -> Result<()> {
    let files = files()?;
    let home = std::env::var("HOME").unwrap_or_default();
    let root = workspace::root();
    let machine = [root.to_string_lossy(), home.into()];
    let machine: Vec<&str> = machine.iter().map(AsRef::as_ref).collect();

    let mut findings = Vec::new();
    findings.extend(source::too_long(&files));
    findings.extend(source::mod_rs(&files));
    findings.extend(source::leftovers(&files));
    findings.extend(source::machine_paths(&files, &machine));
    findings.extend(source::unsafe_code(&files));
    findings.extend(source::binaries(&files));
    findings.extend(layering::check(&files));
    findings.extend(fixtures::untested(&files)?);

    for finding in &findings {
        println!("{finding}");
    }
    ensure!(findings.is_empty(), "tidy: {} findings", findings.len());
    println!("tidy: {} files, nothing to complain about", files.len());
    Ok(())
}

/// What is tracked, and what is neither tracked nor ignored: a file that was
/// forgotten in `git add` is checked as well.
fn files() -> Result<Vec<File>> {
    let root = workspace::root();
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(&root)
        .output()
        .context("cannot run git")?;
    ensure!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let list = String::from_utf8(output.stdout).context("git lists a path that is not UTF-8")?;
    let mut files = Vec::new();
    for path in list.split('\0').filter(|path| !path.is_empty()) {
        let full: PathBuf = root.join(path);
        // What is tracked may have been removed, or be a link to nowhere.
        let Ok(bytes) = std::fs::read(&full) else {
            continue;
        };
        files.push(File {
            path: path.to_owned(),
            size: bytes.len() as u64,
            text: String::from_utf8(bytes).ok(),
        });
    }
    Ok(files)
}
