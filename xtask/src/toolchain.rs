//! Finds a compiler that builds for `wasm32-unknown-unknown`, or gets one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::{debian, process};

/// What guests are built for.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's packages of a second, newer toolchain, with the sources of `std`.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_STD: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";

/// A target is some 25 MB; a machine that cannot reach its server should not
/// keep anyone waiting for the fallback.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(90);

/// Which toolchain builds the guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// rustup's, with its precompiled `std` for the target.
    Rustup,
    /// Debian's, which compiles `std` from source.
    Debian,
}

impl Kind {
    /// The kind of that name on the command line.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        match name {
            "rustup" => Ok(Self::Rustup),
            "debian" => Ok(Self::Debian),
            _ => bail!("there is no toolchain `{name}`: say rustup or debian"),
        }
    }
}

/// A toolchain that is there and complete.
#[derive(Debug)]
pub(crate) enum Toolchain {
    Rustup,
    Debian { linker: PathBuf },
}

impl Toolchain {
    /// The wanted toolchain, or the first that can be had, installing what is
    /// missing where that is possible.
    pub(crate) fn find(wanted: Option<Kind>) -> Result<Self> {
        let mut reasons = Vec::new();
        if wanted != Some(Kind::Debian) {
            match rustup() {
                Ok(()) => return Ok(Self::Rustup),
                Err(reason) => reasons.push(format!("rustup: {reason:#}")),
            }
        }
        if wanted != Some(Kind::Rustup) {
            match debian_linker() {
                Ok(linker) => return Ok(Self::Debian { linker }),
                Err(reason) => reasons.push(format!("Debian: {reason:#}")),
            }
        }
        bail!(
            "no compiler for {TARGET}\n  {}\n\
             Install one of these and try again:\n  \
             rustup target add {TARGET}\n  \
             apt-get install --no-install-recommends {}",
            reasons.join("\n  "),
            DEBIAN_PACKAGES.join(" "),
        )
    }

    /// One phrase for a progress line.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::Rustup => "rustup's wasm32 target",
            Self::Debian { .. } => "Debian's rustc-web, which compiles std as well",
        }
    }

    /// A cargo that is ready to build guests for [`TARGET`] in release mode.
    pub(crate) fn build(&self) -> Command {
        let mut cargo = match self {
            Self::Rustup => process::cargo(),
            Self::Debian { .. } => Command::new(DEBIAN_CARGO),
        };
        process::forget_build_settings(&mut cargo);
        cargo.args(["build", "--release", "--locked", "--target", TARGET]);
        if let Self::Debian { linker } = self {
            // Named by its path, since the first rustc in PATH is rustup's.
            cargo.env("RUSTC", DEBIAN_RUSTC);
            // Compiling std is a nightly feature; Debian's compiler is a
            // stable one that has to be talked into it.
            cargo.env("RUSTC_BOOTSTRAP", "1");
            cargo.arg("-Zbuild-std=std,panic_abort");
            cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
            cargo.env(
                "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
                "-Clinker-flavor=wasm-ld",
            );
            // `cargo run` puts the libraries of rustup's compiler first.
            cargo.env_remove("LD_LIBRARY_PATH");
            cargo.env_remove("RUSTUP_TOOLCHAIN");
        }
        cargo
    }
}

/// Sees to it that the active rustup toolchain has the target.
fn rustup() -> Result<()> {
    let Some(sysroot) = sysroot() else {
        bail!("there is no rustc in PATH");
    };
    if has_target(&sysroot) {
        return Ok(());
    }
    if process::in_path("rustup").is_none() {
        bail!("{} has no {TARGET}", sysroot.display());
    }
    println!(
        "fixtures: rustup target add {TARGET} (at most {} s)",
        DOWNLOAD_LIMIT.as_secs()
    );
    let mut add = Command::new("rustup");
    add.args(["target", "add", TARGET])
        .current_dir(crate::workspace::root());
    process::run_bounded(&mut add, DOWNLOAD_LIMIT)?;
    if !has_target(&sysroot) {
        bail!(
            "the target was added to another toolchain than {}",
            sysroot.display()
        );
    }
    Ok(())
}

fn sysroot() -> Option<PathBuf> {
    process::output("rustc", &["--print", "sysroot"]).map(PathBuf::from)
}

/// Looks for a library, since rustup leaves empty directories behind.
fn has_target(sysroot: &Path) -> bool {
    let lib = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    std::fs::read_dir(lib).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
        })
    })
}

/// Sees to it that Debian's toolchain is there, and finds a linker for it.
fn debian_linker() -> Result<PathBuf> {
    if !debian_installed() {
        debian::install(&DEBIAN_PACKAGES)?;
        if !debian_installed() {
            bail!("apt-get installed no complete toolchain");
        }
    }
    let Some(linker) = linker() else {
        bail!("there is no linker for wasm32: neither rustup's rust-lld nor a wasm-ld in PATH");
    };
    Ok(linker)
}

/// Whether the packages are there. Debian's ordinary rustc has the same paths
/// and is too old, so the paths alone do not say it.
fn debian_installed() -> bool {
    debian::has(&DEBIAN_PACKAGES)
        && [DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_STD]
            .iter()
            .all(|file| Path::new(file).is_file())
}

fn linker() -> Option<PathBuf> {
    let bundled = sysroot()?
        .join("lib/rustlib")
        .join(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .join("bin/rust-lld");
    if bundled.is_file() {
        return Some(bundled);
    }
    ["wasm-ld", "rust-lld"]
        .into_iter()
        .find_map(process::in_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchain_is_called_by_its_name() {
        assert_eq!(Kind::parse("rustup").unwrap(), Kind::Rustup);
        assert_eq!(Kind::parse("debian").unwrap(), Kind::Debian);
        assert!(Kind::parse("gcc").is_err());
    }

    #[test]
    fn debian_is_not_led_astray_by_rustup() {
        let toolchain = Toolchain::Debian {
            linker: PathBuf::from("/x/rust-lld"),
        };
        let build = toolchain.build();
        assert_eq!(build.get_program(), DEBIAN_CARGO);
        let env: Vec<_> = build.get_envs().collect();
        assert!(env.contains(&("RUSTC".as_ref(), Some(DEBIAN_RUSTC.as_ref()))));
        assert!(env.contains(&("RUSTUP_TOOLCHAIN".as_ref(), None)));
    }
}
