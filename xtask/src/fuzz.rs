//! `cargo xtask fuzz`: the parsers of the registry under libFuzzer.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{process, tools, workspace};

const CARGO_FUZZ: &str = "0.13.2";

/// Each target, and the dictionary that knows its format.
const TARGETS: [(&str, &str); 5] = [
    ("envelope", "json"),
    ("index", "json"),
    ("manifest", "json"),
    ("names", "names"),
    ("policy", "policy"),
];

/// How long each target runs when nobody says, in seconds.
const SECONDS: u64 = 60;

/// Inputs longer than this find nothing that shorter ones do not, in bytes.
const MAX_LEN: usize = 8192;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    targets: Vec<(&'static str, &'static str)>,
    seconds: u64,
}

/// Runs the targets, one after the other, each from its committed corpus.
///
/// What is found goes to the target directory, and is where the next run goes on.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let request = parse(arguments)?;
    let cargo_fuzz = tools::get("cargo-fuzz", CARGO_FUZZ)?;
    let mut build = cargo(&cargo_fuzz);
    // Without a sanitizer: the crate has no unsafe code, and what its
    // dependencies have is not what is fuzzed here.
    build.args(["build", "--sanitizer", "none"]);
    process::run(&mut build)?;
    for (target, dictionary) in request.targets {
        let found = target_dir().join("found").join(target);
        let committed = workspace::root().join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&found)?;
        println!("fuzz: {target} for {} s", request.seconds);
        let mut fuzz = Command::new(binary(target)?);
        fuzz.args([
            format!("-max_total_time={}", request.seconds),
            format!("-max_len={MAX_LEN}"),
            format!("-artifact_prefix={}/{target}-", artifacts()?.display()),
            format!("-dict={}", dictionary_file(dictionary).display()),
            "-timeout=60".to_owned(),
            "-print_final_stats=1".to_owned(),
        ]);
        process::run(fuzz.arg(&found).arg(&committed))
            .with_context(|| format!("{target}: libFuzzer names the file of the input above"))?;
    }
    Ok(())
}

fn parse(arguments: &[String]) -> Result<Request> {
    let mut request = Request {
        targets: Vec::new(),
        seconds: SECONDS,
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--seconds" {
            let value = arguments.next().context("--seconds needs a number")?;
            let seconds = value.parse();
            request.seconds = seconds.with_context(|| format!("`{value}` is no number"))?;
            // libFuzzer would take 0 for no end.
            ensure!(request.seconds > 0, "--seconds must be 1 or more");
        } else if let Some(target) = TARGETS.iter().find(|(name, _)| name == argument) {
            request.targets.push(*target);
        } else {
            let names = TARGETS.map(|(name, _)| name).join(", ");
            bail!("there is no fuzz target `{argument}`: say one of {names}");
        }
    }
    if request.targets.is_empty() {
        request.targets = TARGETS.to_vec();
    }
    Ok(request)
}

/// A cargo-fuzz whose flags the stable compiler takes.
fn cargo(cargo_fuzz: &Path) -> Command {
    let mut command = Command::new(cargo_fuzz);
    process::forget_build_settings(&mut command);
    command
        .arg("fuzz")
        .current_dir(workspace::root())
        // Instrumentation is a nightly feature.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", target_dir());
    command
}

fn target_dir() -> PathBuf {
    workspace::target().join("fuzz")
}

fn artifacts() -> Result<PathBuf> {
    let dir = target_dir().join("artifacts");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn dictionary_file(name: &str) -> PathBuf {
    let dir = workspace::root().join("fuzz/dictionaries");
    dir.join(name).with_extension("dict")
}

fn binary(target: &str) -> Result<PathBuf> {
    let mut candidates = Vec::new();
    for entry in std::fs::read_dir(target_dir())? {
        // One directory for each platform that has been built for.
        let binary = entry?.path().join("release").join(target);
        if binary.is_file() {
            candidates.push(binary);
        }
    }
    candidates.pop().context("cargo fuzz has built nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Request> {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        parse(&arguments)
    }

    #[test]
    fn targets_are_all_or_those_named() {
        let all = parsed(&[]).unwrap();
        assert_eq!(all.targets, TARGETS);
        assert_eq!(all.seconds, SECONDS);
        let one = parsed(&["names", "--seconds", "600"]).unwrap();
        assert_eq!(one.targets, [("names", "names")]);
        assert_eq!(one.seconds, 600);
        for bad in [&["name"][..], &["--seconds"], &["--seconds", "0"]] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_target_has_its_files() {
        let fuzz = workspace::root().join("fuzz");
        for (target, dictionary) in TARGETS {
            let source = format!("fuzz_targets/{target}.rs");
            assert!(fuzz.join(&source).is_file(), "{source}");
            assert!(dictionary_file(dictionary).is_file(), "{dictionary}");
        }
        let sources = std::fs::read_dir(fuzz.join("fuzz_targets")).unwrap();
        assert_eq!(sources.count(), TARGETS.len());
    }
}
