//! What stays resident.
//!
//! Read from `/proc/self/smaps_rollup`, which walks the page tables: the
//! counters in `/proc/self/statm` may be off by some hundred KiB.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use vortex_hook_core::{HookContext, HookInput, HookType};
use vortex_sandbox::{Plugin, PluginInstance, Runtime, RuntimeConfig, WasmHook};

use crate::json_call::call;
use crate::report::{Report, Target};
use crate::request::{REMOTE, ROUTE, check_answer, sample};
use crate::{place, poll};

const WARM_UP_ROUNDS: u32 = 20;
const ROUNDS: u32 = 1_000;

/// Instances that are alive together when one is measured.
const INSTANCES: u16 = 200;

/// Measures what a thousand rounds of loading, calling and unloading leave behind.
pub(crate) fn load_unload(report: &mut Report) -> Result<()> {
    let wasm = place::fixture("api-key")?;
    let request = sample()?;
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let rounds = |count: u32| -> Result<()> {
        for round in 1..=count {
            if round % 250 == 0 {
                eprintln!("bench: load-unload, {round} of {count}");
            }
            let hook = WasmHook::new(runtime.load("api-key", &wasm)?)?;
            check_answer(&call(&hook, &request)?)?;
            ensure!(
                runtime.unload("api-key"),
                "the plugin is gone before its time"
            );
        }
        Ok(())
    };
    rounds(WARM_UP_ROUNDS)?;
    let before = resident_kib()?;
    rounds(ROUNDS)?;
    let after = resident_kib()?;
    report.add(
        "load_unload_rss_kib_before",
        before,
        "after 20 rounds of load, call, unload",
    );
    report.add("load_unload_rss_kib_after", after, "after 1,000 more");
    report.add("load_unload_rss_growth_kib", after - before, "");
    Ok(())
}

/// Measures an instance that waits for its next call.
///
/// How many instances wait in a pool depends on how calls overlap, so that this
/// one holds instances itself: each has answered one call, as those in a pool
/// have, and each is the same store, memory and meter.
pub(crate) fn idle_instance(report: &mut Report) -> Result<()> {
    let wasm = place::fixture("api-key")?;
    let request = sample()?;
    let runtime = Runtime::new(RuntimeConfig {
        max_instances: usize::from(INSTANCES) + 1,
        ..RuntimeConfig::default()
    })?;
    let plugin = runtime.load("api-key", &wasm)?;
    let input = HookInput::from_request(HookType::PreRequest, &request)
        .with_remote(REMOTE)
        .with_route(ROUTE);
    // What is allocated once for all of them.
    let first = used_instance(&plugin, input.to_json())?;
    let mut held = Vec::with_capacity(usize::from(INSTANCES));

    let before = (resident_kib()?, page_tables_kib()?);
    for _ in 0..INSTANCES {
        held.push(used_instance(&plugin, input.to_json())?);
    }
    let after = (resident_kib()?, page_tables_kib()?);

    let each = |before: f64, after: f64| (after - before) / f64::from(INSTANCES);
    report.add_with_target(
        "idle_instance_kib",
        each(before.0, after.0),
        Target::of(96.0),
        "resident, mean of 200 held after one call each",
    );
    report.add(
        "idle_instance_page_tables_kib",
        each(before.1, after.1),
        "in the kernel, besides",
    );
    drop((held, first));
    Ok(())
}

/// Plugins that are loaded together when all of them are measured.
const PLUGINS: u16 = 1_000;

/// How long their instances wait for a call: long enough for all of them to be
/// loaded, and a third of the default, so as not to wait for minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Measures a thousand small plugins, each called once: right after the calls, and
/// when their instances have been dropped since nobody called them again.
pub(crate) fn plugins(report: &mut Report) -> Result<()> {
    let runtime = Runtime::new(RuntimeConfig {
        idle_timeout: Some(IDLE_TIMEOUT),
        ..RuntimeConfig::default()
    })?;
    let input = HookInput::new(HookType::OnConnect);
    let call = |hook: &WasmHook| -> Result<()> {
        let output = poll::call(hook, &HookContext::new(), &input)??;
        ensure!(output.allow, "{} denied", hook.plugin().name());
        Ok(())
    };
    let load = |number: u16| -> Result<WasmHook> {
        let name = format!("plugin-{number}");
        let hook = WasmHook::new(runtime.load(&name, &small_plugin(number)?)?)?;
        call(&hook)?;
        Ok(hook)
    };
    let mut held = Vec::with_capacity(usize::from(PLUGINS));
    let first = load(0)?;
    let before = resident_kib()?;
    for number in 1..=PLUGINS {
        held.push(load(number)?);
    }
    let loaded = resident_kib()?;
    let instances = |held: &[WasmHook]| -> usize {
        let idle = held.iter().map(|hook| hook.plugin().stats().instances_idle);
        idle.sum()
    };
    ensure!(instances(&held) == held.len(), "some were trimmed too soon");

    eprintln!("bench: plugins, which nobody calls for {IDLE_TIMEOUT:?}");
    let start = Instant::now();
    while instances(&held) > 0 {
        ensure!(start.elapsed() < IDLE_TIMEOUT * 4, "some were not trimmed");
        thread::sleep(Duration::from_millis(100));
    }
    let trimmed = resident_kib()?;
    report.add(
        "plugins_1000_mib",
        (trimmed - before) / 1024.0,
        "resident, 1,000 small plugins called once, after idle_timeout: no instances",
    );
    report.add(
        "plugins_1000_before_trim_mib",
        (loaded - before) / 1024.0,
        "the same right after the calls, with an instance each",
    );
    let mut again = Vec::with_capacity(held.len());
    for hook in &held {
        let start = Instant::now();
        call(hook)?;
        again.push(start.elapsed());
    }
    again.sort_unstable();
    report.add(
        "call_after_trim_us",
        again[again.len() / 2].as_secs_f64() * 1e6,
        "their next call, which makes an instance, median",
    );
    drop(first);
    Ok(())
}

/// A module with code and data of its own, so that nothing could be shared.
fn small_plugin(number: u16) -> Result<Vec<u8>> {
    Ok(wat::parse_str(format!(
        r#"(module (memory (export "memory") 2)
          (data (i32.const 16) "{{\"allow\":true}}")
          (data (i32.const 64) "plugin {number}")
          (global $calls (mut i32) (i32.const {number}))
          (func (export "alloc") (param i32) (result i32) (i32.const 65536))
          (func (export "handle") (param i32 i32) (result i64)
            (global.set $calls (i32.add (global.get $calls) (i32.const {number})))
            (i32.store (i32.const 1024) (global.get $calls))
            (i64.const 0x10_0000000e)))"#
    ))?)
}

/// An instance that has answered one call, made by hand through its exports.
fn used_instance<'p>(plugin: &'p Plugin, json: &[u8]) -> Result<PluginInstance<'p>> {
    let mut instance = plugin.instance()?;
    let len = i32::try_from(json.len())?;
    let ptr: i32 = instance.call("alloc", len)?;
    ensure!(
        instance.write(ptr.cast_unsigned(), json),
        "the guest gave no room for the input"
    );
    let packed: i64 = instance.call("handle", (ptr, len))?;
    let packed = packed.cast_unsigned();
    let (ptr, len) = (packed >> 32, packed & u64::from(u32::MAX));
    let answer = instance.read(u32::try_from(ptr)?, u32::try_from(len)?);
    let answer = answer.context("the guest's answer lies outside of its memory")?;
    check_answer(&vortex_hook_core::HookOutput::from_json(&answer)?)?;
    Ok(instance)
}

fn resident_kib() -> Result<f64> {
    field("/proc/self/smaps_rollup", "Rss:")
}

fn page_tables_kib() -> Result<f64> {
    field("/proc/self/status", "VmPTE:")
}

/// The value of a line such as `Rss:   1234 kB`.
fn field(file: &str, name: &str) -> Result<f64> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.and_then(|value| value.trim().strip_suffix("kB"));
    let value = value.with_context(|| format!("{file} has no {name} in kB"))?;
    Ok(value.trim().parse()?)
}
