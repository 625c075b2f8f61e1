//! Compiled modules on disk: what is intact is not compiled again, and whatever
//! else lies there is never run.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use vortex_sandbox::{
    ArtifactCache, CacheStats, ExportType, ModuleLimits, Runtime, RuntimeConfig, SandboxError,
    WasmHook,
};

use crate::util::{Random, assert_fails, call, cpu, fixture, wat};

/// A cache in a directory of its own.
pub(crate) struct Cache {
    _dir: TempDir,
    pub(crate) path: PathBuf,
}

impl Cache {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        Self { _dir: dir, path }
    }

    /// A cache with one entry, and where that is.
    pub(crate) fn with_entry(wasm: &[u8]) -> (Self, PathBuf) {
        let cache = Self::new();
        let runtime = cache.runtime(cpu(2_000));
        runtime.load("plugin", wasm).unwrap();
        assert_eq!(runtime.compilations(), 1);
        let entry = cache.entries().pop().unwrap();
        (cache, entry)
    }

    pub(crate) fn open(&self) -> ArtifactCache {
        ArtifactCache::open(&self.path).unwrap()
    }

    pub(crate) fn runtime(&self, config: RuntimeConfig) -> Runtime {
        with(&self.open(), config)
    }

    /// Whatever is there besides the key.
    pub(crate) fn entries(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(&self.path).unwrap();
        let files = files.map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.filter(|file| !file.ends_with("key")).collect();
        files.sort();
        files
    }

    /// Loads a module and says whether it was compiled, and what the cache did.
    pub(crate) fn load(&self, wasm: &[u8]) -> (bool, CacheStats) {
        let cache = self.open();
        let runtime = with(&cache, cpu(2_000));
        let plugin = runtime.load("plugin", wasm).unwrap();
        let answer: i32 = plugin.instance().unwrap().call("answer", ()).unwrap();
        assert_eq!(answer, 42);
        (runtime.compilations() == 1, cache.stats())
    }

    /// Asserts that what lies at `entry` is rejected and the module compiled, and
    /// that a good entry is there then.
    fn assert_rejected(&self, entry: &Path, wasm: &[u8], what: &str) {
        let (compiled, stats) = self.load(wasm);
        assert!(compiled, "{what}: it was not compiled");
        let counts = (stats.hits, stats.misses, stats.rejected, stats.stored);
        assert_eq!(counts, (0, 1, 1, 1), "{what}");
        assert_eq!(
            fs::symlink_metadata(entry).unwrap().mode(),
            0o100_600,
            "{what}"
        );
        let (compiled, stats) = self.load(wasm);
        assert!(
            !compiled && stats.hits == 1,
            "{what}: nothing good came after it"
        );
    }
}

pub(crate) fn with(cache: &ArtifactCache, config: RuntimeConfig) -> Runtime {
    let builder = Runtime::builder(config).artifact_cache(cache.clone());
    builder.build().unwrap()
}

/// A module of which `n` makes as many different ones.
pub(crate) fn answer(n: usize) -> Vec<u8> {
    wat(&format!(
        r#"(module (memory (export "memory") 2) (global (export "g") i32 (i32.const {n}))
             (table (export "t") 1 funcref)
             (func (export "answer") (result i32) (i32.const 42))
             (func (export "mixed") (param i32 i64 f32 f64 v128) (result f64)
               (local.get 3)))"#
    ))
}

/// Writes a file as the cache would, but for what is in it.
pub(crate) fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn what_is_there_is_not_compiled_again() {
    let (cache, entry) = Cache::with_entry(&answer(0));
    assert_eq!(cache.entries(), [entry]);
    for _ in 0..3 {
        let (compiled, stats) = cache.load(&answer(0));
        assert!(!compiled);
        let counts = (stats.hits, stats.misses, stats.rejected, stats.stored);
        assert_eq!(counts, (1, 0, 0, 0));
    }
    let (compiled, _) = cache.load(&answer(1));
    assert!(compiled);
    assert_eq!(cache.entries().len(), 2);
}

/// It is the same plugin, wherever its code comes from.
#[test]
fn a_cached_plugin_is_no_other() {
    let wasm = answer(0);
    let (cache, _) = Cache::with_entry(&wasm);
    let fresh = Runtime::new(cpu(2_000)).unwrap();
    let fresh = fresh.load("plugin", &wasm).unwrap();
    let runtime = cache.runtime(cpu(2_000));
    let cached = runtime.load("plugin", &wasm).unwrap();
    assert_eq!(runtime.compilations(), 0);
    assert_eq!(cached.digest(), fresh.digest());
    let exports: Vec<_> = cached.exports().collect();
    assert_eq!(exports, fresh.exports().collect::<Vec<_>>());
    assert_eq!(exports.len(), 5);
    let params = ["i32", "i64", "f32", "f64", "v128"];
    let mixed = ExportType::Function {
        params: params.map(str::to_owned).to_vec(),
        results: vec!["f64".to_owned()],
    };
    assert!(exports.contains(&("mixed", &mixed)), "{exports:?}");
    let instance = cached.instance().unwrap();
    assert_eq!(instance.memory_len(), 2 << 16);
}

/// What stops a guest is in its code, so it must be in the code that is kept.
#[test]
fn cached_code_is_bounded_as_any() {
    let cache = Cache::new();
    let fuel = RuntimeConfig {
        max_fuel: Some(100_000),
        ..cpu(2_000)
    };
    for compilations in [1, 0] {
        let runtime = cache.runtime(cpu(200));
        for name in ["loop-empty", "fill-64mib", "recursion", "unreachable"] {
            let load = |runtime: &Runtime| runtime.load(name, &fixture(name));
            let hook = WasmHook::new(load(&runtime).unwrap()).unwrap();
            let result = call(&hook, "/");
            match name {
                "recursion" => assert_fails!(result, SandboxError::StackOverflow { .. }),
                "unreachable" => assert_fails!(result, SandboxError::Aborted),
                _ => assert_fails!(result, SandboxError::CpuBudget { .. }),
            }
        }
        assert_eq!(runtime.compilations(), 4 * compilations);
        let runtime = cache.runtime(fuel.clone());
        let hook = WasmHook::new(runtime.load("loop", &fixture("loop-empty")).unwrap()).unwrap();
        let result = call(&hook, "/");
        assert_fails!(result, SandboxError::FuelExhausted { limit: 100_000 });
        assert_eq!(runtime.compilations(), compilations);
    }
}

#[test]
fn flipped_bits_are_never_run() {
    let wasm = answer(0);
    let (cache, entry) = Cache::with_entry(&wasm);
    let good = fs::read(&entry).unwrap();
    // Every byte of the header, and then one here and there.
    let mut random = Random::new(1);
    let rest = (0..100).map(|_| 64 + random.below(good.len() as u64 - 64) as usize);
    for (n, place) in (0..64).chain(rest).enumerate() {
        let mut bad = good.clone();
        bad[place] ^= 1 << (n % 8);
        put(&entry, &bad);
        cache.assert_rejected(&entry, &wasm, &format!("bit {} of byte {place}", n % 8));
    }
}

#[test]
fn a_file_of_another_length_is_never_run() {
    let wasm = answer(0);
    let (cache, entry) = Cache::with_entry(&wasm);
    let good = fs::read(&entry).unwrap();
    for len in [0, 1, 15, 16, 47, 63, 64, 65, 1000, good.len() - 1] {
        put(&entry, &good[..len]);
        cache.assert_rejected(&entry, &wasm, &format!("{len} bytes"));
    }
    put(&entry, &[&good[..], b"x"].concat());
    cache.assert_rejected(&entry, &wasm, "one byte more");
    // Without reading a terabyte.
    let file = fs::File::create(&entry).unwrap();
    file.set_len(1 << 40).unwrap();
    cache.assert_rejected(&entry, &wasm, "a sparse terabyte");
}

/// Somebody without the key can move entries, and no more.
#[test]
fn an_entry_is_none_under_another_name() {
    let (cache, first) = Cache::with_entry(&answer(0));
    cache.load(&answer(1));
    let second = cache.entries().into_iter().find(|e| *e != first).unwrap();
    let swap = cache.path.join("swap");
    for (from, to) in [(&first, &swap), (&second, &first), (&swap, &second)] {
        fs::rename(from, to).unwrap();
    }
    cache.assert_rejected(&first, &answer(0), "another module's code");
    cache.assert_rejected(&second, &answer(1), "another module's code");
}

#[test]
fn another_hosts_entries_are_never_run() {
    let wasm = answer(0);
    let (ours, entry) = Cache::with_entry(&wasm);
    let (_theirs, foreign) = Cache::with_entry(&wasm);
    assert_ne!(entry.file_name(), foreign.file_name());
    fs::copy(&foreign, &entry).unwrap();
    ours.assert_rejected(&entry, &wasm, "sealed elsewhere");
    // Even the whole directory but for its key.
    fs::remove_file(ours.path.join("key")).unwrap();
    let (compiled, stats) = ours.load(&wasm);
    assert!(compiled);
    assert_eq!(
        (stats.misses, stats.rejected),
        (1, 0),
        "it has another name now"
    );
}

#[test]
fn other_limits_are_another_entry() {
    let wasm = answer(0);
    let (cache, _) = Cache::with_entry(&wasm);
    let default = cpu(2_000);
    let module = |change: fn(&mut ModuleLimits)| {
        let mut module = ModuleLimits::default();
        change(&mut module);
        RuntimeConfig {
            module,
            ..default.clone()
        }
    };
    let fuel = |max_fuel| RuntimeConfig {
        max_fuel,
        ..default.clone()
    };
    for config in [
        fuel(Some(1_000_000)),
        fuel(Some(1_000_001)),
        RuntimeConfig {
            memory_bytes: 1 << 20,
            ..default.clone()
        },
        module(|m| m.functions = 3),
        module(|m| m.module_bytes = 10_000),
    ] {
        for compilations in [1, 0] {
            let runtime = cache.runtime(config.clone());
            runtime.load("plugin", &wasm).unwrap();
            assert_eq!(runtime.compilations(), compilations, "{config:?}");
        }
    }
    // A cap that would refuse the module is not bypassed by what is there.
    let runtime = cache.runtime(module(|m| m.functions = 1));
    let refused = runtime.load("plugin", &wasm);
    assert_fails!(
        refused,
        SandboxError::ModuleLimit {
            limit: "functions",
            ..
        }
    );
    // Code does not depend on these.
    let runtime = cache.runtime(RuntimeConfig {
        stack_bytes: 64 << 10,
        output_bytes: 1,
        keep_bytes: 0,
        max_instances: 1,
        ..cpu(1_000)
    });
    runtime.load("plugin", &wasm).unwrap();
    assert_eq!(runtime.compilations(), 0);
}

#[test]
fn what_is_no_file_of_ours_is_never_run() {
    let wasm = answer(0);
    let (cache, entry) = Cache::with_entry(&wasm);
    let good = fs::read(&entry).unwrap();
    let elsewhere = cache.path.join("elsewhere");
    for mode in [0o644, 0o640, 0o660, 0o604, 0o700, 0o400, 0o4600] {
        fs::set_permissions(&entry, Permissions::from_mode(mode)).unwrap();
        cache.assert_rejected(&entry, &wasm, &format!("mode {mode:o}"));
    }
    // The very bytes that it would run, if it followed the link.
    put(&elsewhere, &good);
    fs::remove_file(&entry).unwrap();
    symlink(&elsewhere, &entry).unwrap();
    cache.assert_rejected(&entry, &wasm, "a symlink to a good entry");
    assert_eq!(
        fs::read(&elsewhere).unwrap(),
        good,
        "written through the link"
    );

    fs::remove_file(&entry).unwrap();
    symlink("/dev/zero", &entry).unwrap();
    cache.assert_rejected(&entry, &wasm, "a symlink to a device");

    fs::remove_file(&entry).unwrap();
    let made = Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(&entry)
        .status()
        .unwrap();
    assert!(made.success());
    cache.assert_rejected(&entry, &wasm, "a fifo");

    if fs::metadata(&entry).unwrap().uid() == 0 {
        std::os::unix::fs::chown(&entry, Some(65_534), None).unwrap();
        cache.assert_rejected(&entry, &wasm, "another user's file");
    }
}

/// What the cache cannot replace it goes without.
#[test]
fn nothing_about_the_directory_makes_a_load_fail() {
    let wasm = answer(0);
    let (cache, entry) = Cache::with_entry(&wasm);
    let opened = cache.open();
    let load = |what: &str, rejected| {
        let before = opened.stats();
        let runtime = with(&opened, cpu(2_000));
        runtime.load("plugin", &wasm).unwrap();
        assert_eq!(runtime.compilations(), 1, "{what}");
        let stats = opened.stats();
        assert_eq!(stats.hits, before.hits, "{what}");
        assert_eq!(stats.stored, before.stored, "{what}");
        assert_eq!(stats.rejected, before.rejected + rejected, "{what}");
    };
    let mode = |mode| fs::set_permissions(&cache.path, Permissions::from_mode(mode)).unwrap();
    for open_to_others in [0o755, 0o770, 0o702, 0o701] {
        mode(open_to_others);
        load("a directory that others may look into", 1);
    }
    mode(0o700);
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    load("a directory in the place of an entry", 1);
    fs::remove_dir_all(&cache.path).unwrap();
    load("no directory at all", 0);
}
