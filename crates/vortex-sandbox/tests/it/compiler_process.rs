//! Compilation in a process: it does what this process would do, and whatever it
//! does else is an error of one load.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vortex_sandbox::{
    ArtifactCache, CompileLimits, CompilerProcess, ModuleLimits, Runtime, RuntimeConfig,
    SandboxError,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_vortex-compile");

const LONG: Duration = Duration::from_secs(300);

/// Limits that nobody reaches on a busy machine.
fn generous() -> CompileLimits {
    CompileLimits {
        cpu_time: LONG,
        wall_time: LONG,
        ..CompileLimits::default()
    }
}

fn config() -> RuntimeConfig {
    RuntimeConfig {
        cpu_time: Duration::from_secs(2),
        wall_time: Some(LONG),
        ..RuntimeConfig::default()
    }
}

fn runtime(process: CompilerProcess, config: RuntimeConfig) -> Runtime {
    let builder = Runtime::builder(config).compiler_process(process);
    builder.build().unwrap()
}

/// A shell script in the place of the compiler.
struct Fake {
    path: PathBuf,
    _dir: TempDir,
}

impl Fake {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fake");
        let script = script.replace("REAL", PROGRAM);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Self { path, _dir: dir }
    }

    /// What comes of it when a module is loaded.
    fn load(&self, limits: CompileLimits) -> SandboxError {
        let process = CompilerProcess::at(&self.path).with_limits(limits);
        self.load_in(&runtime(process, config()), &answer())
    }

    fn load_in(&self, runtime: &Runtime, wasm: &[u8]) -> SandboxError {
        loop {
            let before = runtime.compilations();
            match runtime.load("plugin", wasm).unwrap_err() {
                // Another test has forked while the script was open for writing.
                SandboxError::CompilerStart { source, .. }
                    if source.kind() == std::io::ErrorKind::ExecutableFileBusy =>
                {
                    thread::sleep(Duration::from_millis(10));
                }
                error => {
                    // Once, and not a second time in this process.
                    assert_eq!(runtime.compilations(), before + 1);
                    assert!(runtime.get("plugin").is_none());
                    return error;
                }
            }
        }
    }
}

/// What comes of a script under generous limits.
fn fake(script: &str) -> SandboxError {
    Fake::new(script).load(generous())
}

fn answer() -> Vec<u8> {
    wat::parse_str(
        r#"(module (memory (export "memory") 2)
             (func (export "answer") (result i32) (i32.const 42))
             (func (export "mixed") (param i32 i64 f32 f64 v128) (result f64) (local.get 3))
             (func (export "spin") (loop (br 0)))
             (func (export "abort") unreachable))"#,
    )
    .unwrap()
}

/// A module of many functions, each of which keeps a compiler busy for a while and
/// passes every cap.
fn large(functions: usize) -> Vec<u8> {
    let block = "(if (i32.eqz (local.get 0)) (then (local.set 1 (i32.add (local.get 1) (i32.load (local.get 0))))))";
    let body = block.repeat(500);
    let function = format!("(func (param i32) (result i32) (local i32) {body} (local.get 1))");
    let text = format!("(module (memory 1) {})", function.repeat(functions));
    wat::parse_str(text).unwrap()
}

/// A module with so many bytes of data and no code.
fn bulky(data: u32) -> Vec<u8> {
    // As five bytes, whatever it is.
    let leb = |n: u32| {
        let septet = |shift: u32| (n >> shift) as u8 & 0x7f;
        [0, 7, 14, 21]
            .map(|shift| septet(shift) | 0x80)
            .into_iter()
            .chain([septet(28)])
    };
    let mut wasm = b"\0asm\x01\0\0\0\x05\x04\x01\x00\x80\x02\x0b".to_vec();
    wasm.extend(leb(data + 10));
    wasm.extend(b"\x01\x00\x41\x00\x0b");
    wasm.extend(leb(data));
    wasm.resize(wasm.len() + data as usize, 0);
    wasm
}

macro_rules! assert_fails {
    ($error:expr, $pattern:pat $(if $guard:expr)?) => {{
        let error = $error;
        assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
    }};
}

#[test]
fn it_makes_the_same_plugin() {
    let process = CompilerProcess::at(PROGRAM).with_limits(generous());
    for max_fuel in [None, Some(1 << 40)] {
        let config = RuntimeConfig {
            max_fuel,
            cpu_time: Duration::from_millis(50),
            ..config()
        };
        let here = Runtime::new(config.clone()).unwrap();
        let there = runtime(process.clone(), config);
        let [here, there] = [&here, &there].map(|r| r.load("plugin", &answer()).unwrap());
        assert_eq!(here.digest(), there.digest());
        let exports: Vec<_> = there.exports().collect();
        assert_eq!(exports, here.exports().collect::<Vec<_>>());
        for plugin in [here, there] {
            let call = |export| plugin.instance().unwrap().call::<(), ()>(export, ());
            let answer: i32 = plugin.instance().unwrap().call("answer", ()).unwrap();
            assert_eq!(answer, 42);
            assert_fails!(call("spin").unwrap_err(), SandboxError::CpuBudget { .. });
            assert_fails!(call("abort").unwrap_err(), SandboxError::Aborted);
        }
    }
}

#[test]
fn what_it_has_compiled_is_cached() {
    let dir = tempfile::tempdir().unwrap();
    let cache = ArtifactCache::open(dir.path().join("cache")).unwrap();
    let process = CompilerProcess::at(PROGRAM).with_limits(generous());
    // The last one has no process and needs none.
    for (process, compilations) in [(Some(process.clone()), 1), (Some(process), 0), (None, 0)] {
        let runtime = Runtime::builder(config())
            .artifact_cache(cache.clone())
            .compiler_process(process)
            .build()
            .unwrap();
        let plugin = runtime.load("plugin", &answer()).unwrap();
        let answer: i32 = plugin.instance().unwrap().call("answer", ()).unwrap();
        assert_eq!((answer, runtime.compilations()), (42, compilations));
    }
    assert_eq!(cache.stats().stored, 1);
}

#[test]
fn what_it_fails_to_compile_is_not_cached() {
    let dir = tempfile::tempdir().unwrap();
    let cache = ArtifactCache::open(dir.path().join("cache")).unwrap();
    let fake = Fake::new("exec REAL | head -c 1000");
    let runtime = Runtime::builder(config())
        .artifact_cache(cache.clone())
        .compiler_process(CompilerProcess::at(&fake.path))
        .build()
        .unwrap();
    let error = fake.load_in(&runtime, &answer());
    assert_fails!(error, SandboxError::CompilerAnswer { .. });
    assert_eq!(cache.stats().stored, 0);
}

/// Tests are built where cargo puts programs, and so is the facade's host.
#[test]
fn it_is_found_beside_the_program() {
    let found = CompilerProcess::find().unwrap();
    let same = |path: &Path| fs::canonicalize(path).unwrap();
    assert_eq!(same(found.path()), same(Path::new(PROGRAM)));
}

/// A path is one, and never looked up elsewhere; a limit may be as large as can be.
#[test]
fn paths_and_limits_of_any_kind_do() {
    let limits = CompileLimits {
        cpu_time: Duration::MAX,
        wall_time: Duration::MAX,
        memory_bytes: u64::MAX,
        code_bytes: u64::MAX,
    };
    let here = std::env::current_dir().unwrap();
    let up = "../".repeat(here.components().count());
    let relative = format!("{up}{}", PROGRAM.trim_start_matches('/'));
    let process = CompilerProcess::at(relative).with_limits(limits);
    let loaded = runtime(process, config()).load("plugin", &answer());
    loaded.unwrap();
    // There is one in PATH.
    let error = runtime(CompilerProcess::at("true"), config()).load("plugin", &answer());
    assert_fails!(error.unwrap_err(), SandboxError::CompilerStart { .. });
}

/// A bad module never gets there, and its error is exact.
#[test]
fn modules_are_validated_first() {
    let runtime = runtime(CompilerProcess::at("/nowhere/vortex-compile"), config());
    let refused = runtime
        .load("plugin", b"\0asm\x01\0\0\0 and more")
        .unwrap_err();
    assert_fails!(refused, SandboxError::InvalidModule { .. });
    let imports = wat::parse_str(r#"(module (import "a" "b" (func)))"#).unwrap();
    let refused = runtime.load("plugin", &imports).unwrap_err();
    assert_fails!(refused, SandboxError::Imports { .. });
    assert_eq!(runtime.compilations(), 0);

    let missing = runtime.load("plugin", &answer()).unwrap_err();
    assert_fails!(
        missing,
        SandboxError::CompilerStart { source, .. } if source.kind() == std::io::ErrorKind::NotFound
    );
}

#[test]
fn a_compilation_that_takes_too_long_is_killed() {
    let wasm = large(200);
    for limits in [
        CompileLimits {
            wall_time: Duration::from_millis(50),
            ..generous()
        },
        CompileLimits {
            cpu_time: Duration::from_secs(1),
            ..generous()
        },
    ] {
        let process = CompilerProcess::at(PROGRAM).with_limits(limits.clone());
        let runtime = runtime(process, config());
        let error = runtime.load("plugin", &wasm).unwrap_err();
        if limits.wall_time < LONG {
            assert_fails!(error, SandboxError::CompileWallLimit { limit } if *limit == limits.wall_time);
        } else {
            assert_fails!(error, SandboxError::CompileCpuLimit { limit } if *limit == limits.cpu_time);
        }
        // The runtime goes on as if nothing had happened.
        let error = runtime.load("plugin", b"nonsense").unwrap_err();
        assert_fails!(error, SandboxError::InvalidModule { .. });
    }
    no_child_is_left();
}

#[test]
fn a_compilation_that_takes_too_much_memory_ends() {
    let limits = CompileLimits {
        memory_bytes: 64 << 20,
        ..generous()
    };
    let process = CompilerProcess::at(PROGRAM).with_limits(limits);
    // It is enough for a small module.
    let runtime = runtime(process, config());
    runtime.load("plugin", &answer()).unwrap();
    let error = runtime.load("plugin", &bulky(15 << 20)).unwrap_err();
    assert_fails!(error, SandboxError::CompileMemoryLimit { limit } if *limit == 64 << 20);
}

/// Something is wrong with the compiler, and it is said what.
#[test]
fn a_crash_is_told_apart() {
    for (script, status) in [
        ("kill -SEGV $$", "signal: 11"),
        ("kill -KILL $$", "signal: 9"),
        ("exit 3", "exit status: 3"),
        ("cat >/dev/null; exit 1", "exit status: 1"),
        ("exec 0<&-; exit 101", "exit status: 101"),
    ] {
        let error = fake(&format!("printf 'it\\033[31m hurts' >&2\n{script}"));
        assert_fails!(
            error,
            SandboxError::CompilerCrashed { status: found, said, .. }
                if found.starts_with(status) && said == "it [31m hurts"
        );
    }
}

#[test]
fn what_is_not_sealed_is_never_run() {
    for script in [
        "exit 0",
        "exec cat",
        "cat >/dev/null; echo garbage",
        "cat >/dev/null; head -c 100000 /dev/zero",
        // All of the real answer but one byte, and one byte more.
        "REAL | head -c -1",
        "REAL; printf x",
        "printf x; REAL",
        // Other code than was sealed.
        "REAL | tr 'a-z' 'A-Z'",
    ] {
        let error = fake(script);
        assert_fails!(
            error,
            SandboxError::CompilerAnswer { reason, .. } if reason.contains("sealed")
        );
    }
}

/// What was sealed for one compilation is worth nothing in the next.
#[test]
fn an_answer_cannot_be_used_again() {
    // It asks for code under a key of its own, for the same toolchain and module.
    let error = fake("{ head -c 32; head -c 32 >/dev/null; head -c 32 /dev/zero; cat; } | REAL");
    assert_fails!(
        error,
        SandboxError::CompilerAnswer { reason, .. } if reason.contains("sealed")
    );
}

#[test]
fn a_compiler_of_another_version_is_told_apart() {
    let error = fake("{ head -c 1 >/dev/null; printf X; cat; } | REAL");
    assert_fails!(error, SandboxError::CompilerVersion { .. });
    // Or one that gets less of a module than it was promised.
    let error = fake("head -c 300 | REAL");
    assert_fails!(error, SandboxError::CompilerVersion { .. });
}

#[test]
fn an_endless_answer_is_cut_off() {
    let limits = CompileLimits {
        code_bytes: 1 << 20,
        ..generous()
    };
    let error = Fake::new("exec cat /dev/zero").load(limits);
    assert_fails!(
        error,
        SandboxError::CompilerAnswer { reason, .. } if reason.contains("1048640")
    );
    no_child_is_left();
}

#[test]
fn a_process_that_hangs_is_killed() {
    let limits = CompileLimits {
        wall_time: Duration::from_millis(200),
        ..generous()
    };
    for script in [
        "exec sleep 60",
        // Without reading its request, and with nothing left to be read from it.
        "exec sleep 60 >&- 2>&-",
        "exec cat /dev/zero >&2",
        // A grandchild that holds its pipes.
        "sleep 60 & exit 0",
    ] {
        let error = Fake::new(script).load(limits.clone());
        assert_fails!(error, SandboxError::CompileWallLimit { .. });
    }
    no_child_is_left();
}

#[test]
fn a_busy_process_is_killed() {
    let limits = CompileLimits {
        cpu_time: Duration::from_millis(1),
        ..generous()
    };
    let error = Fake::new("while :; do :; done").load(limits);
    assert_fails!(error, SandboxError::CompileCpuLimit { limit } if limit.as_millis() == 1);
}

/// It gets nothing but its request, whatever this process has.
#[test]
fn a_process_has_an_empty_environment_and_limits() {
    // The limits are there before the request is, and no sooner.
    let script = "head -c 1 >/dev/null; env >&2; ulimit -v >&2; pwd >&2; exit 1";
    let error = fake(script);
    let SandboxError::CompilerCrashed { said, .. } = error else {
        panic!("{error:?}");
    };
    assert!(said.contains("MALLOC_ARENA_MAX=2"), "{said}");
    assert!(!said.contains("CARGO") && !said.contains("HOME"), "{said}");
    assert!(
        said.ends_with(&format!("{} /", (2u64 << 30) >> 10)),
        "{said}"
    );
}

#[test]
fn a_module_larger_than_a_pipe_gets_through() {
    let mut wasm = answer();
    // A custom section of 4 MiB, which a script does not read.
    let len = 4 << 20;
    let section = [&[0, 0x81, 0x80, 0x80, 0x02][..], &[0][..], &vec![0; len]].concat();
    wasm.extend_from_slice(&section);
    let process = CompilerProcess::at(PROGRAM).with_limits(generous());
    let there = runtime(process, config());
    let plugin = there.load("plugin", &wasm).unwrap();
    let answer: i32 = plugin.instance().unwrap().call("answer", ()).unwrap();
    assert_eq!(answer, 42);
    let deaf = Fake::new("exit 5");
    let runtime = runtime(CompilerProcess::at(&deaf.path), config());
    let error = deaf.load_in(&runtime, &wasm);
    assert_fails!(error, SandboxError::CompilerCrashed { .. });
}

/// What only a larger cap lets through is compiled under that cap there too.
#[test]
fn limits_reach_the_process() {
    let wasm = large(1);
    let config = |blocks| RuntimeConfig {
        module: ModuleLimits {
            blocks,
            ..ModuleLimits::default()
        },
        ..config()
    };
    let process = CompilerProcess::at(PROGRAM).with_limits(generous());
    let load = |blocks| runtime(process.clone(), config(blocks)).load("plugin", &wasm);
    load(60_000).unwrap();
    assert_fails!(load(10).unwrap_err(), SandboxError::ModuleLimit { .. });
}

/// Waits until no process that has ended waits to be reaped by this one.
fn no_child_is_left() {
    let me = std::process::id().to_string();
    let is_zombie = |entry: fs::DirEntry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        Some(fields.next()? == "Z" && fields.next()? == me)
    };
    let count = || {
        let processes = fs::read_dir("/proc").unwrap();
        processes
            .filter_map(|entry| is_zombie(entry.ok()?))
            .filter(|zombie| *zombie)
            .count()
    };
    let begun = Instant::now();
    // Those of other tests come and go.
    while count() > 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{} zombies",
            count()
        );
        thread::sleep(Duration::from_millis(1));
    }
}
