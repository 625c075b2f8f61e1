//! Where compiled modules come from: the cache, a compiler process, this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::artifact::Artifact;
use super::artifact_cache::ArtifactCache;
use super::compile::{Compiled, compile};
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
        config: &Arc<RuntimeConfig>,
    ) -> Result<Compiled, SandboxError> {
        let Some(cache) = &self.cache else {
            return Compiled::load(self.compile(wasm, config)?, config);
        };
        let name = cache.name(digest, config);
        if let Some(artifact) = cache.get(&name) {
            // It was validated before it was compiled, under these same caps.
            if let Ok(compiled) = Compiled::load(artifact, config) {
                return Ok(compiled);
            }
        }
        let artifact = self.compile(wasm, config)?;
        cache.put(&name, artifact.bytes());
        Compiled::load(artifact, config)
    }

    /// Compiles a module. There is no falling back to this process from one that
    /// can be killed: what would kill that one would hold this one up.
    fn compile(&self, wasm: &[u8], config: &RuntimeConfig) -> Result<Artifact, SandboxError> {
        if let Some(process) = &self.compiler {
            // It is cheap, most bad modules fail it, and its errors are exact.
            validate(wasm, config)?;
            self.compilations.fetch_add(1, Ordering::Relaxed);
            process.compile(wasm, config)
        } else {
            self.compilations.fetch_add(1, Ordering::Relaxed);
            compile(wasm, config)
        }
    }
}
