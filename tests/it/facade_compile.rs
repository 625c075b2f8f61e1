//! How the facade gets code: from the artifact cache, from a process that can be killed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use vortex_plugins::sandbox::{ArtifactCache, CompilerProcess, Runtime};
use vortex_plugins::{HostError, PluginHost, PluginRef, SandboxError};

use crate::facade::Store;
use crate::sandbox_artifact_cache::Cache;
use crate::util::{call, cpu};

fn host(
    store: &Store,
    cache: Option<&ArtifactCache>,
    process: Option<CompilerProcess>,
) -> PluginHost {
    let runtime = Runtime::builder(cpu(10_000))
        .artifact_cache(cache.cloned())
        .compiler_process(process)
        .build()
        .unwrap();
    PluginHost::with_runtime(store.registry(store.policy()), runtime)
}

fn load(host: &PluginHost) -> Result<(), HostError> {
    let plugin: PluginRef = "allow".parse().unwrap();
    let plugin = host.load(&plugin)?;
    assert!(call(plugin.hook(), "/").unwrap().allow);
    Ok(())
}

/// `cargo test --workspace` builds the program, where the facade looks for it.
#[test]
fn a_process_is_used_where_its_program_is_found() {
    let store = Store::with(&["allow"]);
    let host = store.host();
    let process = host.runtime().compiler_process();
    let process = process.expect("no vortex-compile beside the tests: cargo build --workspace");
    assert!(process.path().ends_with("vortex-compile"));
    load(&host).unwrap();
    assert_eq!(host.runtime().compilations(), 1);
}

#[test]
fn a_plugin_that_cannot_be_compiled_there_is_not_loaded() {
    let store = Store::with(&["allow"]);
    let process = CompilerProcess::at("/nowhere/vortex-compile");
    let error = load(&host(&store, None, Some(process))).unwrap_err();
    assert!(
        matches!(
            error,
            HostError::Sandbox {
                source: SandboxError::CompilerStart { .. },
                ..
            }
        ),
        "{error:?}"
    );
}

/// Gateways that come and go on one machine compile a plugin once, and each of them
/// verifies it.
#[test]
fn a_plugin_is_compiled_once_and_verified_each_time() {
    let store = Store::with(&["allow"]);
    let dir = Cache::new();
    for compilations in [1, 0, 0] {
        let host = host(&store, Some(&dir.open()), CompilerProcess::find());
        load(&host).unwrap();
        assert_eq!(host.runtime().compilations(), compilations);
    }
    // Code in the cache makes nobody trusted.
    let cache = dir.open();
    let stranger = Store::with(&["allow"]);
    let runtime = Runtime::builder(cpu(10_000)).artifact_cache(cache.clone());
    let host =
        PluginHost::with_runtime(store.registry(stranger.policy()), runtime.build().unwrap());
    let error = load(&host).unwrap_err();
    assert!(matches!(error, HostError::Registry { .. }), "{error:?}");
    assert_eq!(cache.stats(), Default::default(), "it was not even asked");
}

#[test]
fn a_damaged_cache_costs_a_compilation() {
    let store = Store::with(&["allow"]);
    let dir = Cache::new();
    load(&host(&store, Some(&dir.open()), None)).unwrap();
    for entry in dir.entries() {
        let len = fs::metadata(&entry).unwrap().len() as usize;
        fs::write(&entry, vec![0xcc; len]).unwrap();
        fs::set_permissions(&entry, Permissions::from_mode(0o600)).unwrap();
    }
    let cache = dir.open();
    let host = host(&store, Some(&cache), None);
    load(&host).unwrap();
    assert_eq!(host.runtime().compilations(), 1);
    assert_eq!(cache.stats().rejected, 1);
}
