//! Where compiled modules come from: the cache, a compiler process, this process.

use std::sync::atomic::{AtomicU64, Ordering};

use super::artifact_cache::ArtifactCache;
use super::compile::Compiled;
use super::compiler_process::CompilerProcess;
use super::validate::validate;
use crate::{RuntimeConfig, SandboxError};

/// Loads modules.
#[derive(Debug)]
pub(crate) struct Loader {
    cache: Option<ArtifactCache>,
    compiler: Option<CompilerProcess>,
    compilations: AtomicU64,
}

impl Loader {
    pub(crate) fn new(cache: Option<ArtifactCache>, compiler: Option<CompilerProcess>) -> Self {
        Self {
            cache,
            compiler,
            compilations: AtomicU64::new(0),
        }
    }

    pub(crate) fn compiler(&self) -> Option<&CompilerProcess> {
        self.compiler.as_ref()
    }

    /// Modules given to a compiler so far, whatever came of it.
    pub(crate) fn compilations(&self) -> u64 {
        self.compilations.load(Ordering::Relaxed)
    }

    /// The code of the module with this SHA-256 digest.
    pub(crate) fn load(
        &self,
        wasm: &[u8],
        digest: &[u8; 32],
        config: &RuntimeConfig,
    ) -> Result<Compiled, SandboxError> {
        let Some(cache) = &self.cache else {
            return self.compile(wasm, config, None::<fn(&[u8])>);
        };
        let name = cache.name(digest, config);
        if let Some(artifact) = cache.get(&name) {
            // It was validated before it was compiled, under these same caps.
            if let Ok(compiled) = Compiled::load(artifact, config) {
                return Ok(compiled);
            }
        }
        self.compile(wasm, config, Some(|code: &[u8]| cache.put(&name, code)))
    }

    /// Compiles a module. There is no falling back to this process from one that
    /// can be killed: what would kill that one would hold this one up.
    fn compile(
        &self,
        wasm: &[u8],
        config: &RuntimeConfig,
        keep: Option<impl FnOnce(&[u8])>,
    ) -> Result<Compiled, SandboxError> {
        let Some(process) = &self.compiler else {
            self.compilations.fetch_add(1, Ordering::Relaxed);
            let compiled = Compiled::new(wasm, config)?;
            // What cannot be serialized runs all the same.
            if let Some(keep) = keep
                && let Ok(code) = compiled.serialize()
            {
                keep(&code);
            }
            return Ok(compiled);
        };
        // It is cheap, most bad modules fail it, and its errors are exact.
        validate(wasm, config)?;
        self.compilations.fetch_add(1, Ordering::Relaxed);
        let artifact = process.compile(wasm, config)?;
        if let Some(keep) = keep {
            keep(artifact.bytes());
        }
        Compiled::load(artifact, config)
    }
}
