//! The sandbox beside its peers: `cargo xtask bench --peers` builds and runs it.
//!
//! All of them run interleaved in one process, as in `benches/harness`, whose
//! request, clock and report these are. `target/bench/peers.json` has the figures;
//! with `--merge` they are added to `target/bench/summary.json` as well.

mod codec;
mod extism_guest;
mod fresh;
mod json_call;
mod stops;
mod ticker;
mod wasmtime_guest;

use std::process::ExitCode;

use anyhow::{Result, bail};
use vortex_benches::report::Report;

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

fn run(arguments: &[String]) -> Result<()> {
    let merge = match arguments {
        [] => false,
        [flag] if flag == "--merge" => true,
        _ => bail!("usage: peers [--merge]"),
    };
    let mut report = Report::default();
    eprintln!("peers: stops");
    stops::check()?;
    eprintln!("peers: json-call");
    json_call::run(&mut report)?;
    eprintln!("peers: fresh");
    fresh::run(&mut report)?;
    print!("{}", report.table());
    println!("written to {}", report.write("peers.json")?.display());
    if merge {
        println!("added to {}", report.merge("summary.json")?.display());
    }
    Ok(())
}
