//! Instrumented machine code of one module.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use wasmer::sys::{CompilerConfig, Cranelift, EngineBuilder};
use wasmer::{Engine, ExternType, Module, Type};
use wasmer_types::Features;

use super::artifact::Artifact;
use super::validate::{ExportType, invalid, validate};
use crate::abi::Abi;
use crate::guarded::guarded;
use crate::instance::guest::Snapshot;
use crate::instance::memory::GuestTunables;
use crate::{RuntimeConfig, SandboxError, instrument};

/// A compiled module with the engine that owns its code.
pub(crate) struct Compiled {
    // Dropped in this order: a module does not keep its engine alive.
    pub(crate) module: Module,
    pub(crate) engine: Engine,
    pub(crate) config: RuntimeConfig,
    pub(crate) exports: Vec<(String, ExportType)>,
    /// Linear memory of a fresh instance, in bytes.
    pub(crate) initial_bytes: usize,
    /// What hooks of the module speak; `None` where it is no hook.
    pub(crate) abi: Option<Abi>,
    /// The state of a fresh instance, once there was one whose calls are isolated.
    pub(crate) snapshot: OnceLock<Arc<Snapshot>>,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").finish_non_exhaustive()
    }
}

impl Compiled {
    /// Validates, instruments and compiles a module.
    ///
    /// Every module gets an engine of its own: an engine compiles one module at a
    /// time, and frees no code before it is dropped.
    pub(crate) fn new(wasm: &[u8], config: &RuntimeConfig) -> Result<Self, SandboxError> {
        validate(wasm, config)?;
        let mut compiler = Cranelift::default();
        if config.max_fuel.is_some() {
            // Fuel promises the same answer everywhere; NaN bits would break that.
            compiler.canonicalize_nans(true);
        }
        let (code, helpers) = instrument::sections::prepare(wasm).map_err(invalid)?;
        for middleware in instrument::middlewares(config.max_fuel, helpers) {
            compiler.push_middleware(middleware);
        }
        let engine = engine(
            EngineBuilder::new(compiler).set_features(Some(features())),
            config,
        );
        let module =
            guarded(|| Module::new(&engine, code))?.map_err(|error| SandboxError::Compile {
                reason: error.to_string(),
            })?;
        Ok(Self::of(module, engine, config))
    }

    /// Loads what [`Compiled::serialize`] has made of a module under limits that
    /// are the same as far as code depends on them.
    pub(crate) fn load(artifact: Artifact, config: &RuntimeConfig) -> Result<Self, SandboxError> {
        let engine = engine(EngineBuilder::headless(), config);
        let module = artifact.load(&engine)?;
        Ok(Self::of(module, engine, config))
    }

    /// The machine code as bytes.
    pub(crate) fn serialize(&self) -> Result<Bytes, SandboxError> {
        guarded(|| self.module.serialize())?.map_err(|error| SandboxError::Compile {
            reason: error.to_string(),
        })
    }

    fn of(module: Module, engine: Engine, config: &RuntimeConfig) -> Self {
        let exports: Vec<_> = module
            .exports()
            .filter(|export| !instrument::is_reserved(export.name()))
            .map(|export| (export.name().to_owned(), export_type(export.ty())))
            .collect();
        let memory = module.info().memories.values().next();
        Self {
            initial_bytes: memory.map_or(0, |memory| memory.minimum.bytes().0),
            abi: Abi::of(&exports).ok(),
            snapshot: OnceLock::new(),
            exports,
            module,
            engine,
            config: config.clone(),
        }
    }
}

fn engine(builder: EngineBuilder, config: &RuntimeConfig) -> Engine {
    let mut engine = builder.engine();
    engine.set_tunables(GuestTunables::new(
        config.stack_bytes,
        config.module.table_elements,
    ));
    Engine::from(engine)
}

fn export_type(ty: &ExternType) -> ExportType {
    // wasmer writes types as WebAssembly does, but for the case.
    let name = |ty: &Type| ty.to_string().to_lowercase();
    match ty {
        ExternType::Function(function) => ExportType::Function {
            params: function.params().iter().map(name).collect(),
            results: function.results().iter().map(name).collect(),
        },
        ExternType::Memory(_) => ExportType::Memory,
        ExternType::Table(_) => ExportType::Table,
        // Validation refuses tags.
        ExternType::Global(_) | ExternType::Tag(_) => ExportType::Global,
    }
}

/// wasmer's own switches, for its second validation and its translator: what
/// `validate` lets through, and no more where wasmer has a switch for it.
fn features() -> Features {
    Features {
        threads: false,
        // `call_indirect` in its long encoding needs it; `validate` refuses the rest.
        reference_types: true,
        simd: true,
        bulk_memory: true,
        multi_value: true,
        tail_call: false,
        module_linking: false,
        multi_memory: false,
        memory64: false,
        exceptions: false,
        relaxed_simd: false,
        extended_const: false,
        wide_arithmetic: false,
    }
}
