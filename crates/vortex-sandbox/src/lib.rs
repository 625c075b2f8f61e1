//! Runs untrusted WebAssembly hooks, each call on a budget.
//!
//! A module is validated under structural caps, instrumented, compiled, and run
//! in a pool of instances. It has no imports: no file, no network, no clock. It
//! may use a bounded amount of memory, stack, CPU time, wall-clock time and, on
//! demand, fuel; a guest that exceeds one is stopped and thrown away, and nothing
//! else notices.
//!
//! Traps are caught by signal handlers for SIGSEGV, SIGILL and SIGFPE that wasmer
//! installs for the process. A handler that is installed later must pass on what
//! is not its own. Budgets are enforced by a thread, which a forked child has not.
//!
//! To stop a guest in time, that thread sends a signal to the one that the guest keeps
//! busy: the first from `SIGRTMIN + 8` that nobody handles or ignores when the first
//! [`Runtime`] is made. It comes only while a thread runs a guest, never in a system call
//! of the embedder. Whoever wants that very signal installs a handler before then.
//! Where the signal is blocked, or handled by somebody else later, guests are stopped
//! as surely, some milliseconds later at worst.
//!
//! What is *not* here: where modules come from and whether to trust them, see
//! `vortex-registry`.
//!
//! ```
//! use vortex_sandbox::{Runtime, RuntimeConfig, SandboxError};
//!
//! let runtime = Runtime::new(RuntimeConfig::default())?;
//! let spin = wat::parse_str(r#"(module (memory 1) (func (export "run") (loop (br 0))))"#)?;
//! let plugin = runtime.load("spin", &spin)?;
//! let stopped = plugin.instance()?.call::<(), ()>("run", ());
//! assert!(matches!(stopped, Err(SandboxError::CpuBudget { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!(
    "vortex-sandbox runs on Linux: its budgets need the CPU clocks of other threads, \
     which other systems do not offer in this form"
);

mod abi;
mod config;
mod error;
mod guarded;
mod instance;
mod instrument;
mod module;
mod plugin;
mod runtime;
mod value;
mod wasm_hook;

pub use config::{Isolation, RuntimeConfig};
pub use error::SandboxError;
pub use module::artifact_cache::{ArtifactCache, CacheStats};
#[doc(hidden)]
pub use module::compiler_process::serve::{COMPILER_OUT_OF_MEMORY, compiler_main};
pub use module::compiler_process::{CompileLimits, CompilerProcess};
pub use module::inspect::{InspectedExport, InspectedImport, Inspection, MemorySize, Producer};
pub use module::limits::ModuleLimits;
pub use module::report::ModuleReport;
pub use module::validate::ExportType;
pub use plugin::{Plugin, PluginInstance, PluginStats, Usage};
pub use runtime::{Runtime, RuntimeBuilder};
pub use value::{Value, ValueType, Values};
pub use wasm_hook::WasmHook;
