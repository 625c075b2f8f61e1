//! `cargo xtask crash` and `cargo xtask storm`: tests of the registry, for longer.

use anyhow::{Context, Result, bail};

use crate::process;

/// A test that makes as many rounds as it is told.
pub(crate) struct Test {
    name: &'static str,
    /// How the test is told.
    variable: &'static str,
    default: u64,
}

/// Writers are killed, and what they acknowledged must be there.
pub(crate) const CRASH: Test = Test {
    name: "kill::what_a_killed_writer_acknowledged_is_there",
    variable: "REGISTRY_KILL_ROUNDS",
    default: 10_000,
};

/// Processes share a store, each for so many rounds.
pub(crate) const STORM: Test = Test {
    name: "storm::many_processes_share_a_store",
    variable: "REGISTRY_STORM_ROUNDS",
    default: 1_000,
};

/// Runs the test for as many rounds as the argument says.
pub(crate) fn run(test: &Test, arguments: &[String]) -> Result<()> {
    let rounds = rounds(test, arguments)?;
    let mut cargo = process::cargo();
    cargo.args(["test", "--package", "vortex-registry", "--test", "it"]);
    cargo.args(["--", "--exact", test.name, "--nocapture"]);
    cargo.env(test.variable, rounds.to_string());
    process::run(&mut cargo)
}

fn rounds(test: &Test, arguments: &[String]) -> Result<u64> {
    match arguments {
        [] => Ok(test.default),
        [rounds] => rounds
            .parse()
            .ok()
            .filter(|rounds| *rounds > 1)
            .with_context(|| format!("`{rounds}` is no number of rounds: use 2 or more")),
        _ => bail!("more than one number of rounds"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_a_number_or_the_default() {
        let rounds = |arguments: &[&str]| {
            let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
            super::rounds(&CRASH, &arguments).ok()
        };
        assert_eq!(rounds(&[]), Some(10_000));
        assert_eq!(rounds(&["7"]), Some(7));
        for bad in [&["0"][..], &["1"], &["many"], &["2", "3"]] {
            assert_eq!(rounds(bad), None);
        }
    }

    /// Cargo would run no test at all, and say that all is well.
    #[test]
    fn the_tests_are_there() {
        for test in [CRASH, STORM] {
            let (module, name) = test.name.split_once("::").unwrap();
            let tests = "crates/vortex-registry/tests/it";
            let path = crate::workspace::root().join(format!("{tests}/{module}.rs"));
            let text = std::fs::read_to_string(path).unwrap();
            assert!(text.contains(&format!("fn {name}()")), "{}", test.name);
            assert!(text.contains(&format!("\"{}\"", test.variable)));
        }
    }
}
