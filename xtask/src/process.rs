//! Starting other programs, in an environment that is theirs.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The cargo that runs this task, or the one that PATH has.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(crate::workspace::root());
    forget_package(&mut command);
    command
}

/// Takes away what cargo told this program about its own package: another
/// cargo would hand it on, and build scripts that watch it would run again.
fn forget_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if is_about_package(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
}

fn is_about_package(name: &str) -> bool {
    name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || name.starts_with("CARGO_BIN_")
        || name == "CARGO_CRATE_NAME"
        || name == "CARGO_PRIMARY_PACKAGE"
}

/// Takes away, besides, everything that would change how a guest is built or
/// by which compiler, and leaves what says how to reach the registry.
pub(crate) fn forget_build_settings(command: &mut Command) {
    forget_package(command);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let settings = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_"]
            .iter()
            .any(|prefix| text.starts_with(prefix));
        let compiler = matches!(
            text.as_ref(),
            "CARGO"
                | "CARGO_ENCODED_RUSTFLAGS"
                | "RUSTC"
                | "RUSTC_BOOTSTRAP"
                | "RUSTC_WORKSPACE_WRAPPER"
                | "RUSTC_WRAPPER"
                | "RUSTDOC"
                | "RUSTDOCFLAGS"
                | "RUSTFLAGS"
        );
        if settings || compiler {
            command.env_remove(name);
        }
    }
}

/// Runs a program whose output the user sees, and fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command
        .status()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// What a program printed on standard output, or `None` if it cannot be run
/// or fails.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(crate::workspace::root())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Runs a program for at most `limit` and returns the last line of its
/// standard error when it fails.
pub(crate) fn run_bounded(command: &mut Command, limit: Duration) -> Result<()> {
    let shown = shown(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{shown}`"))?;
    let stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut stderr) = stderr {
            // What cannot be read can only be missing from a message.
            let _ = stderr.read_to_string(&mut text);
        }
        text
    });
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(());
            }
            let text = reader.join().unwrap_or_default();
            let reason = text.lines().rfind(|line| !line.trim().is_empty());
            bail!("`{shown}`: {}", reason.unwrap_or("no reason given"));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!("`{shown}` took longer than {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The file that PATH has for a program.
pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_told_from_a_setting() {
        assert!(is_about_package("CARGO_PKG_NAME"));
        assert!(is_about_package("CARGO_MANIFEST_DIR"));
        assert!(!is_about_package("CARGO_HOME"));
        assert!(!is_about_package("CARGO_TERM_COLOR"));
    }

    #[test]
    fn a_bounded_program_is_ended_in_time() {
        let begun = Instant::now();
        let error =
            run_bounded(Command::new("sleep").arg("20"), Duration::from_millis(100)).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert!(error.to_string().contains("sleep 20"), "{error}");
    }

    #[test]
    fn a_failing_program_says_why() {
        let error = run_bounded(
            Command::new("sh").args(["-c", "echo because >&2; exit 3"]),
            Duration::from_secs(10),
        )
        .unwrap_err();
        assert!(error.to_string().ends_with("because"), "{error}");
    }
}
