//! What a task needs and the machine has not: packages of PyPI and npm, and programs of Debian's.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{debian, process};

/// How long one installation may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Sees to it that a program is there, which these packages of Debian's have.
pub(crate) fn program(name: &str, packages: &[&str]) -> Result<()> {
    if process::in_path(name).is_none() {
        debian::install(packages)?;
    }
    Ok(())
}

/// Installs packages of PyPI, as `name==version`, into a virtual environment.
pub(crate) fn pypi(packages: &[&str], dir: &Path) -> Result<()> {
    once(packages, dir, || {
        program("python3", &["python3", "python3-venv"])?;
        let venv = |dir: &Path| {
            let mut command = Command::new("python3");
            command.args(["-m", "venv", "--clear"]).arg(dir);
            process::run_bounded(&mut command, LIMIT)
        };
        // Debian's python3 comes without the module.
        venv(dir).or_else(|_| debian::install(&["python3-venv"]).and_then(|()| venv(dir)))?;
        let mut pip = Command::new(dir.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps"])
            .args(packages);
        process::run_bounded(&mut pip, LIMIT)
    })
}

/// Installs packages of npm, as `name@version`, without running their scripts.
pub(crate) fn npm(packages: &[&str], dir: &Path) -> Result<()> {
    once(packages, dir, || {
        program("npm", &["nodejs", "npm"])?;
        // Without one of its own, npm would take a package.json further up.
        std::fs::write(dir.join("package.json"), "{}")?;
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--no-save",
        ])
        .args(packages)
        .current_dir(dir);
        process::run_bounded(&mut npm, LIMIT)
    })
}

/// Does nothing if this very list was installed there before.
fn once(packages: &[&str], dir: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let note = dir.join(".installed");
    let list = packages.join("\n");
    if std::fs::read_to_string(&note).is_ok_and(|noted| noted == list) {
        return Ok(());
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    println!("installing {}", packages.join(" "));
    install()?;
    std::fs::write(&note, list).with_context(|| format!("cannot write {}", note.display()))
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn what_is_installed_is_not_installed_again() {
        let dir = std::env::temp_dir().join(format!("xtask-install-{}", std::process::id()));
        let mut times = 0;
        for list in [["a==1"], ["a==1"], ["a==2"]] {
            once(&list, &dir, || {
                times += 1;
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(times, 2);
        once(&["b"], &dir, || bail!("no network")).unwrap_err();
        once(&["b"], &dir, || {
            times += 1;
            Ok(())
        })
        .unwrap();
        std::fs::remove_dir_all(dir).unwrap();
        assert_eq!(times, 3);
    }
}
