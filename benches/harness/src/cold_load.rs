//! From a module's bytes to the answer of its first call.

use std::time::Instant;

use anyhow::Result;
use vortex_sandbox::{Runtime, RuntimeConfig, WasmHook};

use crate::json_call::call;
use crate::place;
use crate::report::Report;
use crate::request::{check_answer, sample};

const ROUNDS: u32 = 5;

/// Measures loading and the first call.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let wasm = place::fixture("api-key")?;
    let request = sample()?;
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let mut minimum = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let hook = WasmHook::new(runtime.load("api-key", &wasm)?)?;
        let output = call(&hook, &request)?;
        minimum = minimum.min(start.elapsed().as_secs_f64() * 1e3);
        check_answer(&output)?;
        runtime.unload("api-key");
    }
    report.add(
        "cold_load_ms",
        minimum,
        "compile and first call, minimum of 5",
    );
    Ok(())
}
