//! Debian's packages: whether they are there, and getting them where one may.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::process;

/// Downloads and installation together; mirrors can be slow.
const INSTALL_LIMIT: Duration = Duration::from_secs(600);

/// Whether every one of the packages is installed.
pub(crate) fn has(packages: &[&str]) -> bool {
    let mut query = vec!["-W", "-f", "${db:Status-Status}\n"];
    query.extend(packages);
    process::output("dpkg-query", &query).is_some_and(|states| {
        states.lines().filter(|state| *state == "installed").count() == packages.len()
    })
}

/// Installs packages, which takes apt and root.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if process::in_path("apt-get").is_none() {
        bail!("there is no apt-get");
    }
    if process::output("id", &["-u"]).as_deref() != Some("0") {
        bail!(
            "{} are not installed, and only root may",
            packages.join(", ")
        );
    }
    println!("apt-get install {}", packages.join(" "));
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        process::run_bounded(&mut command, INSTALL_LIMIT)
    };
    apt_get(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(packages);
    apt_get(&install)
}
