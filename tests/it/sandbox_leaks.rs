//! Loading and unloading for ever needs no more than doing it a hundred times.

use std::sync::Arc;
use std::time::Duration;

use vortex_sandbox::{Runtime, SandboxError, WasmHook};

use crate::util::{
    assert_fails, call, count_in_proc, cpu, eventually, fixture, isolated, lines_in_proc, resident,
};

const LIMIT: Duration = Duration::from_secs(300);

/// What a process has.
#[derive(Clone, Copy, Debug)]
struct Usage {
    resident: usize,
    maps: usize,
    threads: usize,
}

impl Usage {
    fn now() -> Self {
        Self {
            resident: resident(),
            maps: lines_in_proc("maps"),
            threads: count_in_proc("task"),
        }
    }
}

/// Runs rounds, and compares what the process has after a tenth with what it has
/// at the end. A module of 200 bytes has some 10 KB of code and data here, its
/// instance some mappings: one of either a round is more than what is allowed.
fn stays_flat(rounds: usize, mut round: impl FnMut(usize)) {
    for n in 0..rounds / 10 {
        round(n);
    }
    let early = Usage::now();
    for n in rounds / 10..rounds {
        round(n);
    }
    let late = Usage::now();
    eprintln!("{early:?}\n{late:?}");
    assert!(
        late.resident < early.resident + (3 << 20),
        "{early:?} {late:?}"
    );
    assert!(late.maps.abs_diff(early.maps) < 50, "{early:?} {late:?}");
    // The compiler's own threads end a little later than its work.
    eventually("threads end", || count_in_proc("task") <= early.threads);
}

#[test]
fn loading_and_unloading_is_flat() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(cpu(2_000)).unwrap();
        let [allow, traps] = ["allow", "trap-on-bang"].map(fixture);
        stays_flat(1_000, |n| {
            let name = format!("plugin-{}", n % 7);
            let hook = WasmHook::new(runtime.load(&name, &allow).unwrap()).unwrap();
            assert!(call(&hook, "/").unwrap().allow);
            let trapping = WasmHook::new(runtime.load("traps", &traps).unwrap()).unwrap();
            assert_fails!(call(&trapping, "/!"), SandboxError::Aborted);
            assert!(runtime.unload(&name) && runtime.unload("traps"));
            assert_fails!(call(&hook, "/"), SandboxError::Unloaded { .. });
        });
    });
}

/// Replaced under the same name, with the old hook dropped after the new one is there.
#[test]
fn replacing_is_flat() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(cpu(2_000)).unwrap();
        let versions = ["allow", "deny"].map(fixture);
        let mut held = None;
        stays_flat(1_000, |n| {
            let hook = WasmHook::new(runtime.load("one", &versions[n % 2]).unwrap()).unwrap();
            assert_eq!(call(&hook, "/").unwrap().allow, n % 2 == 0);
            held = Some(hook);
        });
        drop(held);
    });
}

/// Refused and failed loads leave nothing behind either.
#[test]
fn failing_loads_are_flat() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(cpu(1)).unwrap();
        let names = [
            "table-grow",
            "no-handle",
            "start-trap",
            "start-loop",
            "imports-wasi",
        ];
        let modules = names.map(fixture);
        stays_flat(1_000, |n| {
            if let Ok(plugin) = runtime.load("failing", &modules[n % 5]) {
                assert!(WasmHook::new(Arc::clone(&plugin)).is_err());
            }
        });
    });
}

/// Calls that fail, which costs an instance each.
#[test]
fn failing_calls_are_flat() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(cpu(1)).unwrap();
        let guilty: Vec<WasmHook> = [
            "unreachable",
            "loop-empty",
            "answer-bad-json",
            "grow-forever",
            "recursion",
        ]
        .map(|name| WasmHook::new(runtime.load(name, &fixture(name)).unwrap()).unwrap())
        .into();
        stays_flat(2_000, |n| assert!(call(&guilty[n % 5], "/").is_err()));
    });
}

/// Whole runtimes, with their watchdogs.
#[test]
fn runtimes_are_flat() {
    isolated(LIMIT, || {
        let allow = fixture("allow");
        stays_flat(500, |_| {
            let runtime = Runtime::new(cpu(2_000)).unwrap();
            let hook = WasmHook::new(runtime.load("allow", &allow).unwrap()).unwrap();
            assert!(call(&hook, "/").unwrap().allow);
        });
    });
}
