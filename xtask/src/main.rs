//! The workspace's own tasks: `cargo xtask` lists them.
//!
//! This crate depends on none of the crates it serves, so that building it
//! costs seconds and a broken crate cannot take its tools down with it.

mod bench;
mod debian;
mod demo;
mod fixtures;
mod process;
mod test;
mod tidy;
mod toolchain;
mod workspace;

use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask <task>

  fixtures [--toolchain rustup|debian]
                     build the guests under tests/fixtures into <target>/fixtures
  test [ARGS…]       fixtures, servers, then `cargo test --workspace ARGS…`
  bench [GROUP…]     fixtures, then the benchmarks, into <target>/bench/summary.json
  demo               fixtures and examples, then a gateway with plugins, end to end
  tidy               check what no compiler checks: layering, size, leftovers
  help               print this
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let Some((task, rest)) = arguments.split_first() else {
        print!("{HELP}");
        return Ok(());
    };
    match task.as_str() {
        "fixtures" => fixtures::run(rest),
        "test" => test::run(rest),
        "bench" => bench::run(rest),
        "demo" => {
            no_arguments(rest)?;
            demo::run()
        }
        "tidy" => {
            no_arguments(rest)?;
            tidy::run()
        }
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        unknown => anyhow::bail!("there is no task `{unknown}`\n\n{HELP}"),
    }
}

fn no_arguments(rest: &[String]) -> anyhow::Result<()> {
    anyhow::ensure!(rest.is_empty(), "unexpected argument `{}`", rest[0]);
    Ok(())
}
