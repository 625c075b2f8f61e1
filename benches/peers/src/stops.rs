//! Each engine stops a guest, though others have installed signal handlers too.
//!
//! What is measured counts only if the limits are in force, in this process: of
//! two engines that both catch signals one could take the other's for its own.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use extism::Plugin;
use vortex_sandbox::{Runtime, RuntimeConfig};

use crate::extism_guest;
use crate::ticker::Ticker;
use crate::wasmtime_guest::{Allocation, Bound, Template};

/// A guest that does something else in each of its exports.
const GUEST: &str = r#"(module
    (memory (export "memory") 1)
    (global $zero (mut i32) (i32.const 0))
    (func (export "fine"))
    (func (export "access")
        (drop (i32.load (i32.const -4))))
    (func (export "unreachable")
        unreachable)
    (func (export "division")
        (drop (i32.div_s (i32.const 1) (global.get $zero))))
    (func (export "grow")
        (if (i32.lt_s (memory.grow (i32.const 1025)) (i32.const 0))
            (then unreachable)))
    (func (export "spin")
        (loop $again (br $again))))"#;

/// What must end each export, in the words of one engine or another.
const STOPS: [(&str, &[&str]); 5] = [
    ("access", &["out of bounds"]),
    ("unreachable", &["aborted", "unreachable"]),
    ("division", &["divide by zero"]),
    ("grow", &["memory limit", "unreachable", "oom"]),
    ("spin", &["CPU budget", "interrupt", "timeout", "fuel"]),
];

/// Extism's is the only one that could stand in the way of the run.
const TIMEOUT: Duration = Duration::from_millis(50);

/// Spent after some milliseconds.
const FUEL: u64 = 1 << 20;

/// What calls an export of a new instance.
type Engine<'a> = (&'a str, &'a dyn Fn(&str) -> Result<()>);

/// Checks that every engine survives what its guests do, one after the other and
/// twice, so that each has run before and after each other one.
pub(crate) fn check() -> Result<()> {
    let wasm = wat::parse_str(GUEST)?;
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let ours = runtime.load("stops", &wasm)?;
    let epoch = Template::new(&wasm, Bound::Epoch, Allocation::OnDemand)?;
    let pooling = Template::new(&wasm, Bound::Epoch, Allocation::Pooling)?;
    let fuel = Template::new(&wasm, Bound::Fuel(FUEL), Allocation::OnDemand)?;
    let extism = extism_guest::compile(wasm, TIMEOUT)?;
    let _ticker = Ticker::start(vec![epoch.engine().clone(), pooling.engine().clone()]);

    let in_ours = |export: &str| -> Result<()> {
        ours.instance()?.call::<(), ()>(export, ())?;
        Ok(())
    };
    let in_extism = |export: &str| {
        let mut plugin = Plugin::new_from_compiled(&extism)?;
        plugin.call::<&[u8], &[u8]>(export, b"").map(|_| ())
    };
    let in_epoch = |export: &str| in_wasmtime(&epoch, export);
    let in_pooling = |export: &str| in_wasmtime(&pooling, export);
    let in_fuel = |export: &str| in_wasmtime(&fuel, export);
    let engines: [Engine<'_>; 5] = [
        ("the sandbox", &in_ours),
        ("wasmtime with epochs", &in_epoch),
        ("wasmtime with a pool", &in_pooling),
        ("Extism", &in_extism),
        ("wasmtime with fuel", &in_fuel),
    ];
    for (export, reasons) in STOPS.repeat(2) {
        for (name, call) in engines {
            let Err(error) = call(export) else {
                bail!("`{export}` returned in {name}");
            };
            let error = format!("{error:#}");
            ensure!(
                reasons.iter().any(|reason| error.contains(reason)),
                "`{export}` ended in {name} with: {error}"
            );
            call("fine").with_context(|| format!("{name} after `{export}`"))?;
        }
    }
    Ok(())
}

fn in_wasmtime(template: &Template, export: &str) -> Result<()> {
    let mut instance = template.instance()?;
    let function = instance.function::<(), ()>(&template.export(export)?)?;
    instance.call(&function, ())
}
