//! What the scenarios share.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use vortex_registry::{
    HookType, PluginManifest, PluginName, Policy, PrivateKey, Registry, Release, VersionSelector,
};

/// The smallest module there is.
pub(crate) const WASM: &[u8] = b"\0asm\x01\0\0\0";

/// A store with one trusted author.
pub(crate) struct Fixture {
    pub(crate) temp: TempDir,
    pub(crate) key: PrivateKey,
    pub(crate) registry: Registry,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let key = PrivateKey::generate().unwrap();
        let policy = Policy::strict([key.public_key()]);
        let registry = Registry::open(temp.path().join("store"), policy).unwrap();
        Self {
            temp,
            key,
            registry,
        }
    }

    /// A fixture in which these versions of `redirect` are installed.
    pub(crate) fn with(versions: &[&str]) -> Self {
        let fixture = Self::new();
        for version in versions {
            fixture.install("redirect", version);
        }
        fixture
    }

    pub(crate) fn manifest(&self, name: &str, version: &str) -> PluginManifest {
        signed(unsigned(name, version), &self.key)
    }

    pub(crate) fn install(&self, name: &str, version: &str) {
        let manifest = self.manifest(name, version);
        self.registry.install(&manifest, WASM).unwrap();
    }

    /// A registry on the same store under another policy.
    pub(crate) fn under(&self, policy: Policy) -> Registry {
        Registry::open(self.registry.path(), policy).unwrap()
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.registry.path().join(inside)
    }

    /// Every path in the store but its own lock and the empty staging area.
    pub(crate) fn tree(&self) -> Vec<PathBuf> {
        tree(self.registry.path())
    }
}

pub(crate) fn unsigned(name: &str, version: &str) -> PluginManifest {
    let hooks = [HookType::PreRequest];
    PluginManifest::new(name.parse().unwrap(), version.parse().unwrap(), hooks, WASM)
}

pub(crate) fn signed(manifest: PluginManifest, key: &PrivateKey) -> PluginManifest {
    let release = Release {
        abi: 1,
        seq: 1,
        released_at: 1_750_000_000,
    };
    manifest.sign(WASM, release, &[key]).unwrap()
}

/// One of many modules that differ in all their bytes and in their size.
pub(crate) fn variant(number: u8) -> Vec<u8> {
    let rest = vec![number; 4096 + 1024 * usize::from(number)];
    [WASM, &rest].concat()
}

/// A manifest for that module, which says which one it is.
pub(crate) fn variant_manifest(
    name: &str,
    version: &str,
    number: u8,
    key: &PrivateKey,
) -> PluginManifest {
    let wasm = variant(number);
    let mut manifest =
        PluginManifest::new(name.parse().unwrap(), version.parse().unwrap(), [], &wasm);
    manifest.description = number.to_string();
    let release = Release {
        abi: 1,
        seq: 1,
        released_at: 1_750_000_000,
    };
    manifest.sign(&wasm, release, &[key]).unwrap()
}

/// A directory in memory, where there is such a thing: a process that is killed
/// leaves behind what it has written, synced or not, so that nothing is lost by it.
pub(crate) fn memory_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// How many rounds a test makes: the number that the environment gives, or this one.
pub(crate) fn rounds(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |rounds| rounds.parse().unwrap())
}

/// Numbers that can be had again (xorshift); the first must not be 0.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }
}

pub(crate) fn name(name: &str) -> PluginName {
    name.parse().unwrap()
}

pub(crate) fn select(selector: &str) -> VersionSelector {
    selector.parse().unwrap()
}

pub(crate) fn tree(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            }
            found.push(entry.path().strip_prefix(root).unwrap().to_owned());
        }
    }
    found.retain(|path| {
        ![".lock", ".staging"]
            .map(Path::new)
            .contains(&path.as_path())
    });
    found.sort();
    found
}

/// Fails unless the value is an error of this shape.
macro_rules! assert_error {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err($pattern) $(if $guard)? => {}
            other => panic!("expected {}, got {other:?}", stringify!($pattern)),
        }
    };
}
pub(crate) use assert_error;

/// Fails unless the value is `Corrupt` with a defect of this shape.
macro_rules! assert_corrupt {
    ($result:expr, $pattern:pat) => {
        match $result {
            Err(vortex_registry::RegistryError::Corrupt { defect, .. })
                if matches!(*defect, $pattern) => {}
            other => panic!("expected Corrupt {}, got {other:?}", stringify!($pattern)),
        }
    };
}
pub(crate) use assert_corrupt;

/// Names the test that a child process runs, where it plays another role than in its parent.
const CHILD: &str = "REGISTRY_TEST_CHILD";

/// Names the directory that the parent has prepared for the child.
const CHILD_DIR: &str = "REGISTRY_TEST_DIR";

/// Lets a command that runs this binary, or passes its arguments on to it, run
/// this test alone, in the child's role.
pub(crate) fn as_child<'c>(command: &'c mut Command, test: &str, dir: &Path) -> &'c mut Command {
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, test)
        .env(CHILD_DIR, dir)
}

/// What the parent has prepared, when this process is a child in this test.
pub(crate) fn child_dir(test: &str) -> Option<PathBuf> {
    let child = std::env::var_os(CHILD)?;
    assert_eq!(child, *test, "a child runs no test but its own");
    Some(std::env::var_os(CHILD_DIR).unwrap().into())
}

/// What a child has printed, if it has run its test and that has passed.
pub(crate) fn passed(output: Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}
