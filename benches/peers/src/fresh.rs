//! What it adds to a call to run it in an instance that nobody has used.

use std::hint::black_box;

use anyhow::{Result, ensure};
use vortex_benches::compare::minima;
use vortex_benches::report::{Report, Target};
use vortex_benches::{place, poll, request};
use vortex_hook_core::{HookContext, HookInput, HookType};
use vortex_sandbox::{Isolation, Runtime, RuntimeConfig, WasmHook};
use wasmtime::{ModuleExport, TypedFunc};

use crate::json_call::{check, in_wasmtime};
use crate::ticker::Ticker;
use crate::wasmtime_guest::{Allocation, Bound, Instance, JsonTemplate, Template};

/// Rounds, and calls of each side in one of them.
const ROUNDS: u32 = 3_000;
const BATCH: u32 = 40;

/// A guest with one page of memory, which it writes to: it adds one to a number
/// in its data and returns it, and so tells whether it has run before.
const SMALL: &str = r#"(module
    (memory (export "memory") 1)
    (global $calls (mut i32) (i32.const 0))
    (data (i32.const 1024) "\29\00\00\00")
    (func (export "count") (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store (i32.const 1024) (i32.add (i32.load (i32.const 1024)) (i32.const 1)))
        (i32.load (i32.const 1024))))"#;

/// What it answers the first time.
const FIRST: i32 = 42;

/// The same for the sandbox, in frames: it denies unless nobody has used it.
const SMALL_FRAME: &str = r#"(module
    (memory (export "memory") 1)
    (global $calls (mut i32) (i32.const 0))
    (data (i32.const 16) "\00\10\00\00\00\10\00\00\00\20\00\00\00\10\00\00")
    (data (i32.const 1024) "\29\00\00\00")
    (data (i32.const 8192) "\28\00\00\00\02\00")
    (func (export "vortex_abi_v2") (result i32) (i32.const 16))
    (func (export "vortex_handle") (param i32) (result i32)
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store (i32.const 1024) (i32.add (i32.load (i32.const 1024)) (i32.const 1)))
        (i32.store8 (i32.const 8198) (i32.or (i32.ne (global.get $calls) (i32.const 1))
            (i32.ne (i32.load (i32.const 1024)) (i32.const 42))))
        (i32.const 40)))"#;

/// A hook on the small guest.
fn small_hook(runtime: &Runtime, isolation: Isolation) -> Result<WasmHook> {
    let config = RuntimeConfig {
        isolation,
        ..RuntimeConfig::default()
    };
    let name = format!("{isolation:?}");
    let plugin = runtime.load_with(&name, &wat::parse_str(SMALL_FRAME)?, &config)?;
    Ok(WasmHook::new(plugin)?)
}

/// The small guest and its export.
struct Small {
    template: Template,
    count: ModuleExport,
}

impl Small {
    fn new(allocation: Allocation) -> Result<Self> {
        let template = Template::new(&wat::parse_str(SMALL)?, Bound::Epoch, allocation)?;
        let count = template.export("count")?;
        Ok(Self { template, count })
    }

    fn instance(&self) -> Result<(Instance, TypedFunc<(), i32>)> {
        let mut instance = self.template.instance()?;
        let count = instance.function(&self.count)?;
        Ok((instance, count))
    }

    /// A call in an instance of its own.
    fn call(&self) -> Result<()> {
        let (mut instance, count) = self.instance()?;
        let answer = instance.call(&count, ())?;
        ensure!(answer == FIRST, "a fresh instance answered {answer}");
        Ok(())
    }
}

/// Measures both guests, warm and fresh, with either kind of pool.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let wasm = place::fixture("api-key")?;
    let request = request::sample()?;
    let small = Small::new(Allocation::Pooling)?;
    let small_resident = Small::new(Allocation::PoolingResident)?;
    let json = JsonTemplate::new(&wasm, Bound::Epoch, Allocation::Pooling)?;
    let json_resident = JsonTemplate::new(&wasm, Bound::Epoch, Allocation::PoolingResident)?;
    let _ticker = Ticker::start(vec![
        small.template.engine().clone(),
        small_resident.template.engine().clone(),
        json.engine().clone(),
        json_resident.engine().clone(),
    ]);

    let (mut warm, count) = small.instance()?;
    let mut warm_json = json.guest()?;
    check(&in_wasmtime(&mut warm_json, &request)?)?;
    for template in [&json, &json_resident] {
        check(&in_wasmtime(&mut template.guest()?, &request)?)?;
    }
    let fresh_json = |template: &JsonTemplate| -> Result<()> {
        drop(black_box(in_wasmtime(&mut template.guest()?, &request)?));
        Ok(())
    };

    let runtime = Runtime::new(RuntimeConfig::default())?;
    let reused = small_hook(&runtime, Isolation::Reuse)?;
    let isolated = small_hook(&runtime, Isolation::PerCall)?;
    let input = HookInput::new(HookType::OnConnect);
    let ours = |hook: &WasmHook| -> Result<bool> {
        Ok(poll::call(hook, &HookContext::new(), &input)??.allow)
    };

    let [
        our_reused,
        our_isolated,
        small_warm,
        small_fresh,
        small_resident,
        json_warm,
        json_fresh,
        json_resident,
    ] = minima(
        ROUNDS,
        BATCH,
        [
            &mut || ours(&reused).map(|allow| _ = black_box(allow)),
            &mut || {
                ensure!(ours(&isolated)?, "an isolated call met another");
                Ok(())
            },
            &mut || warm.call(&count, ()).map(|answer| _ = black_box(answer)),
            &mut || small.call(),
            &mut || small_resident.call(),
            &mut || in_wasmtime(&mut warm_json, &request).map(|output| drop(black_box(output))),
            &mut || fresh_json(&json),
            &mut || fresh_json(&json_resident),
        ],
    )?;
    let fastest = small_fresh.min(small_resident) - small_warm;
    report.add(
        "isolated_small_extra_ns",
        our_isolated - our_reused,
        "what PerCall adds to a small frame call",
    );
    report.add_with_target(
        "isolated_vs_wasmtime_pooling",
        (our_isolated - our_reused) / fastest,
        Target::of(0.8),
        "the same / what a fresh instance of wasmtime's adds",
    );
    report.add(
        "wasmtime_pooling_warm_ns",
        small_warm,
        "a small guest, one call, instance reused",
    );
    report.add(
        "wasmtime_pooling_fresh_ns",
        small_fresh,
        "the same in a fresh instance from the pool",
    );
    report.add(
        "wasmtime_pooling_extra_ns",
        small_fresh - small_warm,
        "what the fresh instance adds",
    );
    report.add(
        "wasmtime_pooling_resident_extra_ns",
        small_resident - small_warm,
        "the same, written pages put back by PAGEMAP_SCAN",
    );
    report.add(
        "wasmtime_pooling_json_fresh_ns",
        json_fresh,
        "the JSON call in a fresh instance",
    );
    report.add(
        "wasmtime_pooling_json_extra_ns",
        json_fresh - json_warm,
        "what the fresh instance adds",
    );
    report.add(
        "wasmtime_pooling_resident_json_extra_ns",
        json_resident - json_warm,
        "the same, written pages put back by PAGEMAP_SCAN",
    );
    Ok(())
}
