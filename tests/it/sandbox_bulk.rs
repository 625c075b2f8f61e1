//! Break 3: one bulk operation moves up to the whole memory, so it must be
//! stoppable in between, and come out as if it were one.

use std::time::Duration;

use vortex_sandbox::{PluginInstance, Runtime, RuntimeConfig, SandboxError};

use crate::util::{
    Random, assert_fails, call, cpu, fixture, hook_with, isolated, runtime, wat, within,
};

/// Far more than it takes; a test that hangs fails then.
const LIMIT: Duration = Duration::from_secs(120);

const PAGES: usize = 80;
const MEMORY: usize = PAGES * 65536;
/// What is copied at a time, about which lengths are chosen.
const CHUNK: u64 = 256 << 10;

fn bulk_module() -> Vec<u8> {
    bulk_module_of(PAGES)
}

fn bulk_module_of(pages: usize) -> Vec<u8> {
    wat(&format!(
        r#"(module (memory (export "memory") {pages})
             (func (export "copy") (param i32 i32 i32)
               (memory.copy (local.get 0) (local.get 1) (local.get 2)))
             (func (export "fill") (param i32 i32 i32)
               (memory.fill (local.get 0) (local.get 1) (local.get 2))))"#
    ))
}

/// Fixtures that repeat one operation of 60 MiB are stopped, and a next call is too.
#[test]
fn large_operations_are_stopped() {
    for name in ["fill-64mib", "copy-64mib"] {
        within(Duration::from_secs(60), move || {
            let hook = hook_with(name, cpu(20));
            for _ in 0..3 {
                let limit = Duration::from_millis(20);
                assert_fails!(
                    call(&hook, "/"),
                    SandboxError::CpuBudget { limit: l, used } if *l == limit && *used >= limit
                );
            }
        });
    }
}

/// One operation, in a memory of the largest size: the only safepoints are those
/// between its chunks. Were they missing, it would take some hundred milliseconds
/// and then succeed.
#[test]
fn one_operation_is_stopped_inside() {
    isolated(LIMIT, || {
        let most = 0x3f00_0000;
        for operation in [
            format!("(memory.fill (i32.const 0) (i32.const 1) (i32.const {most}))"),
            format!("(memory.copy (i32.const 0) (i32.const 65536) (i32.const {most}))"),
            format!("(memory.copy (i32.const 65536) (i32.const 0) (i32.const {most}))"),
        ] {
            let wasm = wat(&format!(
                r#"(module (memory 16384) (func (export "run") {operation}))"#
            ));
            let config = RuntimeConfig {
                memory_bytes: RuntimeConfig::MAX_MEMORY,
                ..cpu(5)
            };
            let runtime = Runtime::new(config).unwrap();
            let plugin = runtime.load("once", &wasm).unwrap();
            assert_fails!(
                plugin.instance().unwrap().call::<(), ()>("run", ()),
                SandboxError::CpuBudget { .. }
            );
        }
    });
}

/// The guest's own checks of its bulk operations, byte by byte.
#[test]
fn a_guest_finds_its_bytes_right() {
    let config = RuntimeConfig {
        cpu_time: Duration::from_secs(20),
        ..cpu(0)
    };
    let runtime = Runtime::new(config).unwrap();
    let plugin = runtime.load("bulk-ok", &fixture("bulk-ok")).unwrap();
    let right: i32 = plugin.instance().unwrap().call("run", ()).unwrap();
    assert_eq!(right, 1);
    let hook = vortex_sandbox::WasmHook::new(plugin).unwrap();
    assert!(call(&hook, "/").unwrap().allow);
}

/// One operation as the specification has it: all bytes or, out of bounds, none.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Copy { dst: u64, src: u64, len: u64 },
    Fill { dst: u64, value: i32, len: u64 },
}

impl Operation {
    fn random(random: &mut Random) -> Self {
        let memory = MEMORY as u64;
        let len = match random.below(8) {
            0 => random.below(4),
            1 => random.below(300),
            2 => CHUNK - 1 + random.below(3),
            3 => 2 * CHUNK - 1 + random.below(3),
            4 => CHUNK + random.below(CHUNK),
            5 => 11 * CHUNK + random.below(2 * CHUNK),
            6 => random.below(CHUNK),
            // Out of bounds, or nearly.
            _ => [memory, memory + 1, 1 << 30, 0xffff_ffff][random.below(4) as usize],
        };
        let place = |random: &mut Random| match random.below(12) {
            0 => 0,
            // The end of the range at the end of the memory, or one beyond.
            1..4 => memory.saturating_sub(len) + random.below(2),
            4 => memory - random.below(2),
            5 => [0x7fff_0000, 0xffff_ffff, 1 << 30, memory + 1][random.below(4) as usize],
            _ => random.below(memory.saturating_sub(len).max(1)),
        };
        let dst = place(random);
        match random.below(5) {
            0 => Self::Fill {
                dst,
                value: random.below(1000) as i32 - 300,
                len,
            },
            1 => Self::Copy {
                dst,
                src: place(random),
                len,
            },
            // Overlapping, one or the other way round, by much or little.
            _ => {
                let near = [1, 7, CHUNK / 3, CHUNK - 1, CHUNK, CHUNK + 1][random.below(6) as usize];
                let src = match random.below(3) {
                    0 => dst.saturating_add(near).min(0xffff_ffff),
                    1 => dst.saturating_sub(near),
                    _ => dst,
                };
                Self::Copy { dst, src, len }
            }
        }
    }

    /// Carries it out on a model of the memory; `false` where it traps.
    fn model(self, memory: &mut [u8]) -> bool {
        let fits = |start: u64, len: u64| start + len <= memory.len() as u64;
        match self {
            Self::Copy { dst, src, len } => {
                let fits = fits(dst, len) && fits(src, len);
                if fits {
                    memory.copy_within(src as usize..(src + len) as usize, dst as usize);
                }
                fits
            }
            Self::Fill { dst, value, len } => {
                let fits = fits(dst, len);
                if fits {
                    memory[dst as usize..(dst + len) as usize].fill(value as u8);
                }
                fits
            }
        }
    }

    fn run(self, instance: &mut PluginInstance<'_>) -> Result<(), SandboxError> {
        let word = |value: u64| u32::try_from(value).unwrap().cast_signed();
        match self {
            Self::Copy { dst, src, len } => {
                instance.call("copy", (word(dst), word(src), word(len)))
            }
            Self::Fill { dst, value, len } => instance.call("fill", (word(dst), value, word(len))),
        }
    }
}

#[test]
fn chunks_come_out_as_one_operation() {
    let runtime = runtime();
    let plugin = runtime.load("bulk", &bulk_module()).unwrap();
    let mut random = Random::new(0x5eed_0001);
    let mut model: Vec<u8> = (0..MEMORY).map(|_| random.below(256) as u8).collect();
    let mut instance = plugin.instance().unwrap();
    assert!(instance.write(0, &model));
    let (mut done, mut trapped) = (0, 0);
    for round in 0..250 {
        let operation = Operation::random(&mut random);
        let fits = operation.model(&mut model);
        let result = operation.run(&mut instance);
        // Also after a trap, which must not have written anything.
        let memory = instance.read(0, MEMORY as u32).unwrap();
        let wrong = memory
            .iter()
            .zip(&model)
            .position(|(is, should)| is != should);
        assert_eq!(
            wrong, None,
            "first wrong byte in round {round}, {operation:?}"
        );
        if fits {
            result.unwrap_or_else(|error| panic!("round {round}, {operation:?}: {error}"));
            done += 1;
        } else {
            assert_fails!(
                result,
                SandboxError::Trap { reason } if reason == "out of bounds memory access"
            );
            trapped += 1;
            instance = plugin.instance().unwrap();
            assert!(instance.write(0, &model));
        }
    }
    assert!(done > 100 && trapped > 40, "{done} done, {trapped} trapped");
}

/// The corners of the specification, one by one.
#[test]
fn bounds_are_exact() {
    let runtime = runtime();
    let plugin = runtime.load("bulk", &bulk_module()).unwrap();
    let end = MEMORY as u64;
    let copy = |dst, src, len| Operation::Copy { dst, src, len };
    let fill = |dst, len| Operation::Fill { dst, value: 1, len };
    for (operation, fits) in [
        (fill(end, 0), true),
        (fill(end + 1, 0), false),
        (fill(end - 1, 1), true),
        (fill(end - 1, 2), false),
        (fill(0, end), true),
        (fill(0, end + 1), false),
        (fill(0, 0), true),
        (fill(0xffff_ffff, 0), false),
        (fill(0xffff_ffff, 0xffff_ffff), false),
        // Bytes of the safepoint region, which a guest may read.
        (fill(0x7fff_0000, 1), false),
        (copy(0, 0x7fff_0000, 16), false),
        (copy(end, end, 0), true),
        (copy(end + 1, 0, 0), false),
        (copy(0, end + 1, 0), false),
        (copy(0, end - 1, 1), true),
        (copy(0, end - 1, 2), false),
        (copy(1, 0, end - 1), true),
        (copy(1, 0, end), false),
        (copy(0, 0xffff_ffff, 0xffff_ffff), false),
    ] {
        let result = operation.run(&mut plugin.instance().unwrap());
        assert_eq!(result.is_ok(), fits, "{operation:?}: {result:?}");
    }
}

/// Lengths about those at which bytes are moved in another way.
fn lengths() -> impl Iterator<Item = u64> {
    [0..40, 60..70, 120..140, CHUNK - 1..CHUNK + 2]
        .into_iter()
        .flatten()
}

/// Ranges that overlap, by every distance and length: few bytes are moved at once.
#[test]
fn overlapping_bytes_are_read_before_they_are_written() {
    const WINDOW: u64 = 512;
    let runtime = runtime();
    let plugin = runtime.load("bulk", &bulk_module()).unwrap();
    let mut instance = plugin.instance().unwrap();
    let bytes: Vec<u8> = (0..WINDOW).map(|n| (n * 7 + n / 256) as u8).collect();
    let mut try_one = |operation: Operation| {
        assert!(instance.write(0, &bytes));
        let mut model = bytes.clone();
        assert!(operation.model(&mut model));
        operation.run(&mut instance).unwrap();
        let memory = instance.read(0, WINDOW as u32).unwrap();
        assert_eq!(memory, model, "{operation:?}");
    };
    for len in 0..140 {
        for distance in (0..=40).chain([63, 64, 65, 127, 128, 129]) {
            let (low, high) = (100, 100 + distance);
            for (dst, src) in [(low, high), (high, low)] {
                try_one(Operation::Copy { dst, src, len });
            }
        }
        for (dst, value) in [(0, 0), (1, 1), (7, 0x1ff), (15, -1), (100, 0x7fff_ff80)] {
            try_one(Operation::Fill { dst, value, len });
        }
    }
}

/// A trap leaves every byte as it was, by however few a range is too long.
#[test]
fn a_range_that_does_not_fit_changes_nothing() {
    let runtime = runtime();
    let plugin = runtime.load("bulk", &bulk_module()).unwrap();
    let end = MEMORY as u64;
    let marks: Vec<u8> = (0..300u32).map(|n| (n % 251) as u8 + 1).collect();
    let mut instance = plugin.instance().unwrap();
    for len in lengths() {
        // By how much both ranges reach beyond the memory; `None` for one inside of it.
        for (dst, src) in [
            (Some(0), None),
            (None, Some(0)),
            (Some(0), Some(0)),
            (Some(1), None),
            (None, Some(1)),
            (Some(len), None),
            (None, Some(len.max(1))),
            (Some(1), Some(0)),
        ] {
            let place = |beyond: Option<u64>| beyond.map_or(1000, |beyond| end + beyond - len);
            let (dst, src) = (place(dst), place(src));
            let fill = Operation::Fill { dst, value: 9, len };
            for operation in [Operation::Copy { dst, src, len }, fill] {
                let places = [1000, end - 300].map(|at| at as u32);
                for at in places {
                    assert!(instance.write(at, &marks));
                }
                let mut model = instance.read(0, MEMORY as u32).unwrap();
                let fits = operation.model(&mut model);
                let result = operation.run(&mut instance);
                assert_eq!(result.is_ok(), fits, "{operation:?}: {result:?}");
                for at in places {
                    let bytes = instance.read(at, 300).unwrap();
                    assert_eq!(bytes, model[at as usize..][..300], "{operation:?}");
                }
                if !fits {
                    assert_fails!(
                        result,
                        SandboxError::Trap { reason } if reason == "out of bounds memory access"
                    );
                    instance = plugin.instance().unwrap();
                }
            }
        }
    }
}

/// The safepoint region can be read, and addresses wrap around at 4 GiB: neither makes
/// a range that is out of bounds look like one inside.
#[test]
fn few_bytes_at_odd_addresses_are_out_of_bounds() {
    let runtime = runtime();
    let plugin = runtime.load("bulk", &bulk_module()).unwrap();
    let region = 0x7fff_0000_u64;
    for far in [
        region,
        region - 1,
        region + 0xffff,
        1 << 30,
        1 << 31,
        0xffff_ffff,
    ] {
        for len in [1, 2, 3, 4, 8, 15, 16, 32, 33, 64, 65, 128, 129] {
            for operation in [
                Operation::Copy {
                    dst: 0,
                    src: far,
                    len,
                },
                Operation::Copy {
                    dst: far,
                    src: 0,
                    len,
                },
                Operation::Copy {
                    dst: far,
                    src: far,
                    len,
                },
                Operation::Fill {
                    dst: far,
                    value: 1,
                    len,
                },
            ] {
                let mut instance = plugin.instance().unwrap();
                assert_fails!(
                    operation.run(&mut instance),
                    SandboxError::Trap { reason } if reason == "out of bounds memory access"
                );
                let start = instance.read(0, 256).unwrap();
                assert!(start.iter().all(|byte| *byte == 0), "{operation:?}");
            }
        }
    }
}

/// The end of the largest memory there can be.
#[test]
fn few_bytes_fit_at_the_end_of_the_largest_memory() {
    let config = RuntimeConfig {
        memory_bytes: RuntimeConfig::MAX_MEMORY,
        ..cpu(20_000)
    };
    let runtime = Runtime::new(config).unwrap();
    let wasm = bulk_module_of(RuntimeConfig::MAX_MEMORY / 65536);
    let plugin = runtime.load("bulk", &wasm).unwrap();
    let end = RuntimeConfig::MAX_MEMORY as u64;
    for len in lengths() {
        for (beyond, fits) in [(0, true), (1, false)] {
            let at = end - len + beyond;
            for operation in [
                Operation::Copy {
                    dst: 0,
                    src: at,
                    len,
                },
                Operation::Copy {
                    dst: at,
                    src: 0,
                    len,
                },
                Operation::Fill {
                    dst: at,
                    value: 1,
                    len,
                },
            ] {
                let result = operation.run(&mut plugin.instance().unwrap());
                assert_eq!(result.is_ok(), fits, "{operation:?}: {result:?}");
            }
        }
    }
}
