//! Isolated calls on random modules: after each, memory and globals are those of an
//! instance that nobody has called, byte for byte.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use arbitrary::Unstructured;
use vortex_hook_core::HookContext;
use wasmer::{AsStoreMut, Value};

use super::guest::Guest;
use super::running::CallFailure;
use super::watchdog::Watchdog;
use crate::module::compile::Compiled;
use crate::{ExportType, Isolation, RuntimeConfig};

const MODULES: u64 = 10_000;
const THREADS: u64 = 2;

/// What has been seen over all modules.
#[derive(Default)]
struct Seen {
    refused: AtomicU64,
    copied: AtomicU64,
    compared: AtomicU64,
    changed: AtomicU64,
    grown: AtomicU64,
    spoiled: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Numbers without end from a seed (SplitMix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A module that the sandbox could run: one memory, no imports, and no features but
/// those that it accepts.
fn module(state: &mut u64) -> Option<Vec<u8>> {
    let noise: Vec<u8> = (0..512).flat_map(|_| next(state).to_le_bytes()).collect();
    let config = wasm_smith::Config {
        allow_start_export: true,
        bulk_memory_enabled: false,
        custom_page_sizes_enabled: false,
        disallow_traps: !next(state).is_multiple_of(8),
        exceptions_enabled: false,
        export_everything: true,
        extended_const_enabled: false,
        gc_enabled: false,
        max_data_segments: 6,
        max_funcs: 6,
        max_imports: 0,
        max_instructions: 80,
        max_memories: 1,
        max_memory32_bytes: 6 << 16,
        max_tables: 1,
        memory64_enabled: false,
        min_data_segments: 1,
        min_funcs: 2,
        min_globals: 1,
        min_memories: 1,
        reference_types_enabled: false,
        relaxed_simd_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..wasm_smith::Config::default()
    };
    let mut module = wasm_smith::Module::new(config, &mut Unstructured::new(&noise)).ok()?;
    module.ensure_termination(500).ok()?;
    Some(module.to_bytes())
}

/// Memory and globals.
fn state_of(guest: &mut Guest) -> (Vec<u8>, Vec<u128>) {
    let len = u32::try_from(guest.memory_len()).unwrap();
    let globals = guest.store_mut().objects_mut().as_u128_globals();
    (guest.bytes_of_memory(len).to_vec(), globals)
}

fn try_module(wasm: &[u8], watchdog: &Arc<Watchdog>, state: &mut u64, seen: &Seen) -> bool {
    let cx = HookContext::new();
    let mut config = RuntimeConfig {
        cpu_time: Duration::from_secs(5),
        ..RuntimeConfig::default()
    };
    let Ok(reuse) = Compiled::new(wasm, &config) else {
        return false;
    };
    // What an instance is like that knows nothing of isolation.
    let Ok(mut fresh) = Guest::new(&Arc::new(reuse), watchdog, &cx) else {
        return false;
    };
    let expected = state_of(&mut fresh);
    config.isolation = Isolation::PerCall;
    let isolated = Arc::new(Compiled::new(wasm, &config).unwrap());
    // A quarter of them goes back to an image that could not be mapped.
    let is_copied = next(state).is_multiple_of(4);
    if is_copied {
        fresh.lend_copied_snapshot(&isolated);
        count(&seen.copied);
    }
    drop(fresh);
    let mut guest = Guest::new(&isolated, watchdog, &cx).unwrap();
    assert!(state_of(&mut guest) == expected, "at first");
    for (name, ty) in &*isolated.exports {
        let ExportType::Function { params, .. } = ty else {
            continue;
        };
        let params: Vec<_> = params.iter().map(|ty| value(ty, next(state))).collect();
        let called = guest.on_budget(&cx, |running| {
            Ok::<_, CallFailure>(running.call_dynamic(name, &params)?)
        });
        let after = state_of(&mut guest);
        if guest.recycle() {
            assert!(state_of(&mut guest) == expected, "after `{name}`");
            count(&seen.compared);
            if after.0.len() != expected.0.len() {
                count(&seen.grown);
            }
            if after != expected {
                count(&seen.changed);
            }
        } else {
            // A start function may have grown it past what is kept.
            let len = guest.memory_len();
            assert!(
                called.is_err() || len > config.keep_bytes,
                "`{name}` came to a good end, with {len} bytes"
            );
            count(&seen.spoiled);
            guest = Guest::new(&isolated, watchdog, &cx).unwrap();
            assert!(state_of(&mut guest) == expected, "an instance of the image");
        }
    }
    true
}

fn value(ty: &str, noise: u64) -> Value {
    match ty {
        "i32" => Value::I32(noise as i32),
        "i64" => Value::I64(noise as i64),
        "f32" => Value::F32(noise as f32),
        "f64" => Value::F64(noise as f64),
        "v128" => Value::V128(u128::from(noise)),
        other => panic!("no value of type {other}"),
    }
}

#[test]
fn random_modules_cannot_remember() {
    let (seen, watchdog) = (Seen::default(), Watchdog::start().unwrap());
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (seen, watchdog) = (&seen, &watchdog);
            scope.spawn(move || {
                let mut state = number;
                let mut tried = 0;
                while tried < MODULES / THREADS {
                    let Some(wasm) = module(&mut state) else {
                        continue;
                    };
                    if try_module(&wasm, watchdog, &mut state, seen) {
                        tried += 1;
                    } else {
                        count(&seen.refused);
                    }
                }
            });
        }
    });
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{MODULES} modules, {} of them by copy, {} more refused; {} calls compared, {} had changed something, \
         {} had grown the memory; {} instances spoiled",
        read(&seen.copied),
        read(&seen.refused),
        read(&seen.compared),
        read(&seen.changed),
        read(&seen.grown),
        read(&seen.spoiled)
    );
    // A comparison of what nobody changes would show nothing.
    assert!(read(&seen.changed) > MODULES / 4 && read(&seen.grown) > 20);
    assert!(read(&seen.copied) > MODULES / 5);
}
