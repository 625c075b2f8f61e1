//! Instrumented machine code of one module.

use std::fmt;

use wasmer::sys::{CompilerConfig, Cranelift, EngineBuilder};
use wasmer::{Engine, Module};
use wasmer_types::Features;

use super::validate::{ExportType, validate};
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
        let exports = validate(wasm, config)?;
        let mut compiler = Cranelift::default();
        if config.max_fuel.is_some() {
            // Fuel promises the same answer everywhere; NaN bits would break that.
            compiler.canonicalize_nans(true);
        }
        for middleware in instrument::middlewares(config.max_fuel) {
            compiler.push_middleware(middleware);
        }
        let mut engine = EngineBuilder::new(compiler)
            .set_features(Some(features()))
            .engine();
        engine.set_tunables(GuestTunables::new(
            config.stack_bytes,
            config.module.table_elements,
        ));
        let engine = Engine::from(engine);
        let module = Module::new(&engine, wasm).map_err(|error| SandboxError::Compile {
            reason: error.to_string(),
        })?;
        let initial_bytes = module
            .exports()
            .memories()
            .map(|memory| memory.ty().minimum.bytes().0)
            .max()
            .unwrap_or(0);
        Ok(Self {
            module,
            engine,
            config: config.clone(),
            exports,
            initial_bytes,
        })
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
