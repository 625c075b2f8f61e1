//! Loads what other compilers made: `cargo xtask languages` builds it and runs this.
//!
//! `languages call NAME=PATH…` loads each module under the default limits and
//! calls it as the `api-key` guest, whose behaviour it must have; it fails if one is
//! refused or answers wrong. `languages count NAME=PATH…` counts what is in modules
//! that are no plugins. Both print a table.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use http::{Request, StatusCode};
use vortex_hook_core::{HookContext, HookInput, HookOutput, HookType};
use vortex_sandbox::{ModuleReport, Runtime, RuntimeConfig, SandboxError, WasmHook};

use vortex_benches::poll;
use vortex_benches::request::{REMOTE, ROUTE, check_answer, sample};

/// What every table begins with.
const COUNTED: &str = "bytes | functions | largest | locals | blocks | merged | nesting | stack | targets | closest cap";

/// Calls of which the fastest counts, and which an instance must survive.
const CALLS: u32 = 2_000;

/// As much of a body as a hook gets to see.
const BODY: usize = 64 << 10;

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
    let (row, rest) = match arguments.split_first() {
        Some((task, rest)) if task == "call" => (call as fn(&[u8]) -> Result<Row>, rest),
        Some((task, rest)) if task == "count" => (count as _, rest),
        _ => bail!("usage: languages call|count NAME=PATH…"),
    };
    let mut failed = 0;
    for (at, argument) in rest.iter().enumerate() {
        let (name, path) = argument.split_once('=').context("expected NAME=PATH")?;
        let wasm = std::fs::read(path).with_context(|| format!("cannot read {path}"))?;
        let row = row(&wasm).with_context(|| name.to_owned())?;
        if at == 0 {
            println!("| module | {COUNTED} | {} |", row.headings);
            let columns = COUNTED.split('|').chain(row.headings.split('|')).count();
            println!("|---|{}", "---|".repeat(columns));
        }
        println!("| {name} | {} | {} |", row.counted, row.rest);
        for problem in row.problems {
            failed += 1;
            eprintln!("{name}: {problem}");
        }
    }
    ensure!(failed == 0, "{failed} problems");
    Ok(())
}

/// A line of a table.
struct Row {
    counted: String,
    headings: &'static str,
    rest: String,
    problems: Vec<String>,
}

fn counted(report: &ModuleReport) -> String {
    let used = &report.used;
    let (cap, part) = report.closest(&RuntimeConfig::default().module);
    let columns = [
        used.module_bytes,
        used.functions,
        used.function_bytes,
        used.locals,
        used.blocks,
        used.merged_locals,
        used.nesting,
        used.operand_stack,
        used.branch_targets,
    ];
    let columns: Vec<String> = columns.iter().map(|&value| grouped(value)).collect();
    format!("{} | `{cap}` {:.0} %", columns.join(" | "), part * 100.0)
}

/// A number with commas.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A module of somebody else's, with imports and all.
fn count(wasm: &[u8]) -> Result<Row> {
    let report = ModuleReport::of(wasm, &RuntimeConfig::default())?;
    let (over, others): (Vec<_>, Vec<_>) = report
        .objections
        .iter()
        .partition(|why| matches!(why, SandboxError::ModuleLimit { .. }));
    let over = over.into_iter().filter_map(|why| match why {
        SandboxError::ModuleLimit { limit, value, .. } => {
            Some(format!("`{limit}` {}", grouped(*value)))
        }
        _ => None,
    });
    let others = others.into_iter().map(|why| match why {
        SandboxError::Imports { .. } => "imports".to_owned(),
        SandboxError::RefusedOperator { operator, .. } => format!("`{operator}`"),
        SandboxError::InvalidModule { reason } => {
            let end = reason.find(" (at offset").unwrap_or(reason.len());
            reason[..end].to_owned()
        }
        other => other.to_string(),
    });
    Ok(Row {
        counted: counted(&report),
        headings: "past its cap | refused besides for",
        rest: [over.collect::<Vec<_>>(), others.collect()]
            .map(|list| list.join(", "))
            .join(" | "),
        problems: Vec::new(),
    })
}

/// A plugin, loaded and called.
fn call(wasm: &[u8]) -> Result<Row> {
    let config = RuntimeConfig::default();
    let report = ModuleReport::of(wasm, &config)?;
    let mut row = Row {
        counted: counted(&report),
        headings: "load ms | memory | call µs",
        rest: "– | – | –".to_owned(),
        problems: report.objections.iter().map(ToString::to_string).collect(),
    };
    if row.problems.is_empty() {
        match load_and_call(wasm, config) {
            Ok(rest) => row.rest = rest,
            Err(error) => row.problems.push(format!("{error:#}")),
        }
    }
    Ok(row)
}

fn load_and_call(wasm: &[u8], config: RuntimeConfig) -> Result<String> {
    let runtime = Runtime::new(config)?;
    let begun = Instant::now();
    let hook = WasmHook::new(runtime.load("plugin", wasm)?)?;
    let loaded = begun.elapsed();
    let cx = HookContext::new();
    let answer = |request: &Request<()>, body: Option<&[u8]>| -> Result<HookOutput> {
        let mut input = HookInput::from_request(HookType::PreRequest, request)
            .with_remote(REMOTE)
            .with_route(ROUTE);
        if let Some(body) = body {
            input = input.with_body(body);
        }
        Ok(poll::call(&hook, &cx, &input)??)
    };

    let known = sample()?;
    check_answer(&answer(&known, None)?)?;
    // A buffer that has to grow in the middle of a plugin's life.
    check_answer(&answer(&known, Some(&[b'x'; BODY]))?)?;
    for wrong in [None, Some("k-nobody"), Some("k-demo-123\""), Some("")] {
        let mut request = Request::get("/x");
        if let Some(key) = wrong {
            request = request.header("x-api-key", key);
        }
        let output = answer(&request.body(())?, None)?;
        ensure!(
            !output.allow && output.status == Some(StatusCode::UNAUTHORIZED),
            "for the key {wrong:?} it answered {output:?}"
        );
    }
    let mut fastest = f64::INFINITY;
    for _ in 0..CALLS {
        let begun = Instant::now();
        let output = answer(&known, None)?;
        fastest = fastest.min(begun.elapsed().as_secs_f64() * 1e6);
        check_answer(&output)?;
    }
    let stats = hook.plugin().stats();
    ensure!(
        stats.instances_discarded == 0 && stats.failures == 0,
        "not every call went well: {stats:?}"
    );
    let memory = hook.plugin().instance()?.memory_len();
    Ok(format!(
        "{:.0} | {} KiB | {fastest:.1}",
        loaded.as_secs_f64() * 1e3,
        grouped(memory as u64 >> 10),
    ))
}
