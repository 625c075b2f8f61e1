//! Fuel: the same call ends at the same operator, every time.

use std::time::Duration;

use vortex_sandbox::{Plugin, Runtime, RuntimeConfig, SandboxError};

use crate::util::{assert_fails, call, cpu, fixture, hook_with, isolated, runtime, wat};

/// Far more than it takes; a test that hangs fails then.
const LIMIT: Duration = Duration::from_secs(120);

fn fuel(limit: u64) -> RuntimeConfig {
    RuntimeConfig {
        max_fuel: Some(limit),
        ..cpu(20_000)
    }
}

/// Counts up in memory, so that it can be seen how far a stopped call came.
fn counting() -> Vec<u8> {
    wat(r#"(module (memory (export "memory") 1)
        (func (export "run") (param i32)
          (loop $next
            (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
            (br_if $next (i32.lt_u (i32.load (i32.const 0)) (local.get 0))))))"#)
}

/// How a call with so much fuel ends, and how far it came.
fn run(runtime: &Runtime, wasm: &[u8], limit: u64, turns: i32) -> (Result<(), SandboxError>, u32) {
    let plugin: &Plugin = &runtime.load_with("fuel", wasm, &fuel(limit)).unwrap();
    let mut instance = plugin.instance().unwrap();
    let result = instance.call("run", (turns,));
    let counted = instance.read(0, 4).unwrap();
    (result, u32::from_le_bytes(counted.try_into().unwrap()))
}

/// The least fuel with which a call of so many turns passes.
fn needed(runtime: &Runtime, wasm: &[u8], turns: i32) -> u64 {
    let (mut short, mut enough) = (0, 1_000_000);
    while enough - short > 1 {
        let middle = short + (enough - short) / 2;
        match run(runtime, wasm, middle, turns).0 {
            Ok(()) => enough = middle,
            _ => short = middle,
        }
    }
    enough
}

/// One operator less than enough is not enough; the cost of a turn is always the same.
#[test]
fn fuel_is_exact() {
    let (runtime, wasm) = (runtime(), counting());
    let [one, two, hundred] = [1, 2, 100].map(|turns| needed(&runtime, &wasm, turns));
    let turn = two - one;
    assert!((10..30).contains(&turn), "a turn costs {turn}");
    assert_eq!(hundred, one + 99 * turn);
    for _ in 0..20 {
        let (result, counted) = run(&runtime, &wasm, hundred, 100);
        assert_eq!((result.is_ok(), counted), (true, 100));
        let (result, counted) = run(&runtime, &wasm, hundred - 1, 100);
        assert_fails!(result, SandboxError::FuelExhausted { limit } if *limit == hundred - 1);
        assert!(counted <= 100);
    }
}

/// Bulk operations cost fuel, always as much for as many bytes, and stop without it.
#[test]
fn bulk_operations_cost_fuel() {
    let runtime = runtime();
    for operation in ["memory.copy", "memory.fill"] {
        let wasm = wat(&format!(
            r#"(module (memory (export "memory") 40)
                 (func (export "run") (param i32)
                   ({operation} (i32.const 99) (i32.const 7) (local.get 0))
                   ({operation} (i32.const 99) (i32.const 7) (local.get 0))))"#
        ));
        let chunk = 256 << 10;
        let [few, many, two, three] =
            [5, 120, chunk + 1, 2 * chunk + 1].map(|len| needed(&runtime, &wasm, len));
        assert!(few > 2 * 10 && many > few, "{few} and {many}");
        assert!(three > two + 2 * 10, "{two} and {three}");
        for (len, enough) in [(5, few), (120, many), (2 * chunk + 1, three)] {
            for _ in 0..5 {
                let (result, _) = run(&runtime, &wasm, enough, len);
                assert!(result.is_ok(), "{operation} of {len}: {result:?}");
                let (result, _) = run(&runtime, &wasm, enough - 1, len);
                assert_fails!(result, SandboxError::FuelExhausted { .. });
            }
        }
    }
}

/// A call that runs out stops at the same point in each run.
#[test]
fn fuel_is_deterministic() {
    let (runtime, wasm) = (runtime(), counting());
    for limit in [100, 1_003, 54_321] {
        let (_, reached) = run(&runtime, &wasm, limit, i32::MAX);
        assert!(reached > 0);
        for _ in 0..20 {
            let (result, counted) = run(&runtime, &wasm, limit, i32::MAX);
            assert_fails!(result, SandboxError::FuelExhausted { limit: l } if *l == limit);
            assert_eq!(counted, reached, "with {limit}");
        }
    }
}

/// Every call begins with a full tank, and one that ran dry spoils no other.
#[test]
fn each_call_has_its_own_fuel() {
    let hook = hook_with("spin-on-bang", fuel(20_000));
    for _ in 0..200 {
        assert!(call(&hook, "/").unwrap().allow);
    }
    assert_eq!(hook.plugin().stats().instances_created, 1);
    for _ in 0..20 {
        assert_fails!(
            call(&hook, "/!"),
            SandboxError::FuelExhausted { limit: 20_000 }
        );
        assert!(call(&hook, "/").unwrap().allow);
    }
}

/// A budget in time holds beside fuel, and a trap beside both is a trap.
#[test]
fn fuel_and_time_are_told_apart() {
    isolated(LIMIT, || {
        let config = RuntimeConfig {
            max_fuel: Some(u64::MAX >> 1),
            ..cpu(5)
        };
        let runtime = Runtime::new(config).unwrap();
        let made = |name| {
            let plugin = runtime.load(name, &fixture(name)).unwrap();
            vortex_sandbox::WasmHook::new(plugin).unwrap()
        };
        assert_fails!(
            call(&made("loop-nested"), "/"),
            SandboxError::CpuBudget { .. }
        );
        assert_fails!(call(&made("unreachable"), "/"), SandboxError::Aborted);
        assert_fails!(
            call(&made("recursion"), "/"),
            SandboxError::StackOverflow { .. }
        );
        assert_fails!(
            call(&made("div-zero"), "/"),
            SandboxError::Trap { reason } if reason == "integer divide by zero"
        );
        assert!(call(&made("answer-in-place"), "/").unwrap().allow);
    });
}

/// Under fuel, NaN bits are the same on every machine: they are visible to guests.
#[test]
fn nan_bits_are_canonical() {
    let wasm = wat(
        r#"(module (memory 1) (func (export "run") (param f64 f64) (result i64)
        (i64.reinterpret_f64 (f64.add (local.get 0) (local.get 1)))))"#,
    );
    let runtime = runtime();
    let plugin = runtime.load_with("nan", &wasm, &fuel(1_000)).unwrap();
    let odd = f64::from_bits(0xfff8_dead_beef_0001);
    let bits: i64 = plugin.instance().unwrap().call("run", (odd, 1.0)).unwrap();
    assert_eq!(bits.cast_unsigned(), 0x7ff8_0000_0000_0000);
}
