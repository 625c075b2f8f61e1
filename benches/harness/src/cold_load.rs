//! From a plugin in a signed store to the answer of its first call, with the
//! module compiled and with its code from the artifact cache.

use std::time::Instant;

use anyhow::{Result, ensure};
use http::Request;
use tempfile::TempDir;
use vortex_plugins::registry::{PluginManifest, PrivateKey, Registry, Release, Version};
use vortex_plugins::sandbox::{ArtifactCache, Runtime};
use vortex_plugins::{HookType, PluginHost, PluginRef, Policy, RuntimeConfig};

use crate::json_call::call;
use crate::place;
use crate::report::{Report, Target};
use crate::request::{check_answer, sample};

const ROUNDS: u32 = 15;
/// Warm loads for each cold one: a short piece needs more tries to be undisturbed.
const WARM_LOADS: usize = 20;

/// Measures loading and the first call.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let store = Store::new()?;
    let request = sample()?;
    let cache = ArtifactCache::open(store.dir.path().join("artifacts"))?;
    let cold = store.host(None)?;
    let warm = store.host(Some(&cache))?;
    // Fills the cache.
    load(&warm, &request)?;
    let (mut cold_ms, mut warm_ms) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        cold_ms = cold_ms.min(load(&cold, &request)?);
        for _ in 0..WARM_LOADS {
            warm_ms = warm_ms.min(load(&warm, &request)?);
        }
    }
    ensure!(
        warm.runtime().compilations() == 1 && cache.stats().rejected == 0,
        "a warm load has compiled: {cache:?}"
    );
    report.add("cold_load_ms", cold_ms, "verify, compile and first call");
    report.add(
        "warm_load_ms",
        warm_ms,
        "verify, code from the cache, first call",
    );
    report.add_with_target(
        "warm_load_vs_cold_load",
        warm_ms / cold_ms,
        Target::of(0.01),
        "the two as a ratio",
    );
    Ok(())
}

/// Milliseconds from a plugin in the store, which is verified under a strict
/// policy, to the answer of its first call.
fn load(host: &PluginHost, request: &Request<()>) -> Result<f64> {
    let reference: PluginRef = "api-key@^1".parse()?;
    let start = Instant::now();
    let plugin = host.load(&reference)?;
    let output = call(plugin.hook(), request)?;
    let millis = start.elapsed().as_secs_f64() * 1e3;
    check_answer(&output)?;
    ensure!(host.runtime().unload(plugin.name().as_str()), "not loaded");
    Ok(millis)
}

/// A store with one signed plugin.
struct Store {
    dir: TempDir,
    policy: Policy,
}

impl Store {
    fn new() -> Result<Self> {
        let wasm = place::fixture("api-key")?;
        let key = PrivateKey::generate()?;
        let store = Self {
            dir: tempfile::tempdir()?,
            policy: Policy::strict([key.public_key()]),
        };
        let release = Release {
            abi: 1,
            seq: 1,
            released_at: 1_750_000_000,
        };
        let manifest = PluginManifest::new(
            "api-key".parse()?,
            Version::new(1, 0, 0),
            [HookType::PreRequest],
            &wasm,
        )
        .sign(&wasm, release, &[&key])?;
        store.registry()?.install(&manifest, &wasm)?;
        Ok(store)
    }

    fn registry(&self) -> Result<Registry> {
        let path = self.dir.path().join("plugins");
        Ok(Registry::open(path, self.policy.clone())?)
    }

    /// A host that compiles in this process, and keeps what it compiles in `cache`.
    fn host(&self, cache: Option<&ArtifactCache>) -> Result<PluginHost> {
        let runtime = Runtime::builder(RuntimeConfig::default())
            .artifact_cache(cache.cloned())
            .build()?;
        Ok(PluginHost::with_runtime(self.registry()?, runtime))
    }
}
