//! What the tests of the facade share.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tempfile::TempDir;
use vortex_hook_core::async_hook_fn;
use vortex_plugins::registry::{PluginManifest, PrivateKey, Registry, Release};
use vortex_plugins::{
    ChainError, HeaderChange, HookChain, HookContext, HookInput, HookOutput, HookType, PluginHost,
    PluginRef, PluginSpec, Policy, Registration, RuntimeConfig, SandboxError,
};

use crate::util::{cpu, fixture};

/// No test of the facade takes this long.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Only before requests.
pub(crate) const REQUEST: [HookType; 1] = [HookType::PreRequest];

/// A store with one author, whose key was made for it.
pub(crate) struct Store {
    dir: TempDir,
    pub(crate) key: PrivateKey,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            key: PrivateKey::generate().unwrap(),
        }
    }

    /// A store with version 1.0.0 of fixtures, under their own names.
    pub(crate) fn with(fixtures: &[&str]) -> Self {
        let store = Self::new();
        for name in fixtures {
            store.put(name, "1.0.0", name);
        }
        store
    }

    /// Trusts the author, and nobody else.
    pub(crate) fn policy(&self) -> Policy {
        Policy::strict([self.key.public_key()])
    }

    pub(crate) fn registry(&self, policy: Policy) -> Registry {
        Registry::open(self.dir.path().join("store"), policy).unwrap()
    }

    /// A gateway that trusts the author, with limits that nobody reaches by accident.
    pub(crate) fn host(&self) -> PluginHost {
        self.host_with(cpu(10_000))
    }

    pub(crate) fn host_with(&self, config: RuntimeConfig) -> PluginHost {
        PluginHost::new(self.registry(self.policy()), config).unwrap()
    }

    pub(crate) fn permissive_host(&self) -> PluginHost {
        let policy = Policy::permissive([self.key.public_key()]);
        PluginHost::new(self.registry(policy), cpu(10_000)).unwrap()
    }

    /// Signs and installs a fixture that runs before requests.
    pub(crate) fn put(&self, name: &str, version: &str, fixture_name: &str) {
        self.put_wasm(name, version, &REQUEST, &fixture(fixture_name));
    }

    /// Signs and installs a module.
    pub(crate) fn put_wasm(&self, name: &str, version: &str, hooks: &[HookType], wasm: &[u8]) {
        let manifest = sign(manifest(name, version, hooks, wasm), wasm, 1, &self.key);
        let registry = self.registry(self.policy());
        registry.install(&manifest, wasm).unwrap();
    }

    /// A file of an installed version.
    pub(crate) fn file(&self, name: &str, version: &str, file: &str) -> PathBuf {
        self.dir
            .path()
            .join("store")
            .join(name)
            .join(version)
            .join(file)
    }

    /// Flips the last bit of an installed module.
    pub(crate) fn flip(&self, name: &str, version: &str) {
        self.edit((name, version), "plugin.wasm", |wasm| {
            *wasm.last_mut().unwrap() ^= 1;
        });
    }

    /// Changes a file of an installed version under the registry's eyes.
    pub(crate) fn edit(&self, (name, version): (&str, &str), file: &str, edit: fn(&mut Vec<u8>)) {
        let path = self.file(name, version, file);
        let mut bytes = std::fs::read(&path).unwrap();
        let before = bytes.clone();
        edit(&mut bytes);
        assert_ne!(bytes, before, "the edit changes nothing");
        std::fs::write(&path, bytes).unwrap();
    }
}

pub(crate) fn manifest(
    name: &str,
    version: &str,
    hooks: &[HookType],
    wasm: &[u8],
) -> PluginManifest {
    let (name, version) = (name.parse().unwrap(), version.parse().unwrap());
    PluginManifest::new(name, version, hooks.iter().copied(), wasm)
}

pub(crate) fn sign(
    manifest: PluginManifest,
    wasm: &[u8],
    abi: u32,
    key: &PrivateKey,
) -> PluginManifest {
    let release = Release {
        abi,
        seq: 1,
        released_at: 1_750_000_000,
    };
    manifest.sign(wasm, release, &[key]).unwrap()
}

pub(crate) fn reference(text: &str) -> PluginRef {
    text.parse().unwrap()
}

pub(crate) fn spec(text: &str) -> PluginSpec {
    text.parse().unwrap()
}

/// One run for a request of this path.
pub(crate) fn run(chain: &HookChain, path: &str) -> Result<HookOutput, ChainError> {
    run_in(chain, &HookContext::new(), path)
}

/// One run in a context.
pub(crate) fn run_in(
    chain: &HookChain,
    cx: &HookContext,
    path: &str,
) -> Result<HookOutput, ChainError> {
    let input = HookInput::new(HookType::PreRequest).with_path(path);
    futures_executor::block_on(chain.execute(cx, &input))
}

/// One run for a hook type, with headers.
pub(crate) fn run_as(
    chain: &HookChain,
    hook_type: HookType,
    path: &str,
    headers: &HeaderMap,
) -> Result<HookOutput, ChainError> {
    let input = HookInput::new(hook_type)
        .with_path(path)
        .with_headers(headers);
    futures_executor::block_on(chain.execute(&HookContext::new(), &input))
}

/// The decision, the status and every changed header as text.
pub(crate) fn summary(output: &HookOutput) -> String {
    let mut words: Vec<String> = output
        .headers
        .iter()
        .map(|(name, change)| {
            let (HeaderChange::Replace(values) | HeaderChange::Append(values)) = change;
            let values: Vec<_> = values.iter().map(|v| v.to_str().unwrap()).collect();
            format!("{name}={}", values.join(","))
        })
        .collect();
    words.sort();
    let status = output
        .status
        .map_or(0, |status: StatusCode| status.as_u16());
    words.insert(0, format!("allow={} status={status}", output.allow));
    words.join(" ")
}

/// The error of the sandbox with which a hook of this name stopped a run.
pub(crate) fn stopped_by<'e>(
    result: &'e Result<HookOutput, ChainError>,
    name: &str,
) -> &'e SandboxError {
    match result {
        Err(ChainError::Hook { hook, source }) => {
            assert_eq!(hook, name);
            crate::util::Failure::sandbox(source)
        }
        other => panic!("expected an error of hook {name}, got {other:?}"),
    }
}

/// A hook that stops a run of a chain in its middle until it is told to go on.
pub(crate) struct Gate {
    entered: tokio::sync::mpsc::UnboundedReceiver<()>,
    go_on: Arc<tokio::sync::Semaphore>,
}

impl Gate {
    /// Registers a gate before what is registered later.
    pub(crate) fn in_front_of(chain: &HookChain) -> Self {
        let go_on = Arc::new(tokio::sync::Semaphore::new(0));
        let (enter, entered) = tokio::sync::mpsc::unbounded_channel();
        let permits = Arc::clone(&go_on);
        let gate = async_hook_fn(move |_, _| {
            let (enter, permits) = (enter.clone(), Arc::clone(&permits));
            Box::pin(async move {
                enter.send(()).unwrap();
                permits.acquire().await.unwrap().forget();
                Ok(HookOutput::allow())
            })
        });
        chain.register(Registration::new("gate", REQUEST, gate).with_priority(i32::MIN));
        Self { entered, go_on }
    }

    /// Runs the chain on another thread, does `work` once that run is under
    /// way and has not reached what comes after the gate, and returns how it ended.
    pub(crate) fn while_running(
        &mut self,
        chain: &Arc<HookChain>,
        work: impl FnOnce(),
    ) -> Result<HookOutput, ChainError> {
        thread::scope(|scope| {
            let running = scope.spawn(|| run(chain, "/"));
            self.entered.blocking_recv().unwrap();
            // The run must end even when the work panics, or else the scope never does.
            let _go_on = GoOn(&self.go_on);
            work();
            drop(_go_on);
            running.join().unwrap()
        })
    }
}

struct GoOn<'g>(&'g tokio::sync::Semaphore);

impl Drop for GoOn<'_> {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}
