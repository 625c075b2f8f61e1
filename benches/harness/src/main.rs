//! The benchmark harness: `cargo xtask bench` builds the fixtures and runs it.
//!
//! Time is noisy, so nothing is compared across runs: what is set against each
//! other runs interleaved in one process, and the minimum counts. Every figure
//! is measured in this run; `target/bench/summary.json` has them all by name.

mod cold_load;
mod frame_call;
mod memory;
mod overshoot;
mod scaling;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use vortex_benches::{compare, json_call, place, poll, report, request};

use report::Report;

/// A group of metrics: its name and what measures it.
type Group = (&'static str, fn(&mut Report) -> Result<()>);

/// In this order: those that measure resident memory come before others have
/// left theirs in the allocator, and the one that leaves most is the last of them.
const GROUPS: [Group; 8] = [
    ("idle-instance", memory::idle_instance),
    ("plugins", memory::plugins),
    ("load-unload", memory::load_unload),
    ("json-call", json_call::run),
    ("frame-call", frame_call::run),
    ("overshoot", overshoot::run),
    ("cold-load", cold_load::run),
    ("scaling", scaling::run),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    match run(&wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the groups named, or all of them. Only a run of all writes the summary.
fn run(wanted: &[String]) -> Result<()> {
    for name in wanted {
        let known = GROUPS.map(|(group, _)| group);
        ensure!(
            known.contains(&name.as_str()),
            "there is no group `{name}`, only {}",
            known.join(", ")
        );
    }
    let mut report = Report::default();
    for (name, measure) in GROUPS {
        if wanted.is_empty() || wanted.iter().any(|group| group == name) {
            eprintln!("bench: {name}");
            measure(&mut report)?;
        }
    }
    print!("{}", report.table());
    if wanted.is_empty() {
        let path = report.write("summary.json")?;
        println!("written to {}", path.display());
    }
    Ok(())
}
