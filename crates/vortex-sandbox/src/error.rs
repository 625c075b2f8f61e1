//! What can go wrong with untrusted code.

use std::path::PathBuf;
use std::time::Duration;

use vortex_hook_core::{DecodeError, FrameError};

/// Why a plugin was not loaded, or why a call gave no answer.
///
/// A failed call never touches another one: the instance it ran on is thrown
/// away and the next call has a fresh one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// A setting is out of its range.
    #[error("{setting} is {value}: allowed is {rule}")]
    Config {
        /// The field of [`RuntimeConfig`](crate::RuntimeConfig).
        setting: &'static str,
        /// What it was set to.
        value: String,
        /// What is allowed.
        rule: String,
    },
    /// The bytes are no WebAssembly module, or use what is not enabled.
    #[error("not an acceptable WebAssembly module: {reason}")]
    InvalidModule {
        /// What the validator says, with the offset in the module.
        reason: String,
    },
    /// The module is larger in some way than a structural cap allows.
    #[error("the module's {limit} is {value}, the limit is {max}")]
    ModuleLimit {
        /// The field of [`ModuleLimits`](crate::ModuleLimits).
        limit: &'static str,
        /// The value in the module, or the first one past the limit.
        value: u64,
        /// The limit.
        max: u64,
    },
    /// The module uses an operator that cannot be run safely.
    #[error("the module uses `{operator}` at offset {offset}, which is refused: {why}")]
    RefusedOperator {
        /// The operator.
        operator: &'static str,
        /// Where it stands, in bytes from the start of the module.
        offset: u64,
        /// Why, and what to do.
        why: &'static str,
    },
    /// The module imports something; no capability is granted to plugins.
    #[error("the module imports {}: plugins get no imports", wanted.join(", "))]
    Imports {
        /// What it wants, as `module.name (kind)`.
        wanted: Vec<String>,
    },
    /// The module exports a name that the sandbox uses itself.
    #[error("the module exports `{name}`, a name that is reserved: rename the export")]
    ReservedExport {
        /// The name.
        name: String,
    },
    /// The module lacks an export.
    #[error("the module does not export `{export}`, expected {expected}")]
    MissingExport {
        /// Its name.
        export: String,
        /// Its type.
        expected: String,
    },
    /// An export is not what it should be.
    #[error("the module's export `{export}` is {found}, expected {expected}")]
    MistypedExport {
        /// Its name.
        export: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// The compiler gave up.
    #[error("cannot compile the module: {reason}")]
    Compile {
        /// What it says.
        reason: String,
    },
    /// A compiler process was killed at its wall limit.
    #[error("compiling the module took longer than {limit:?}: the compiler process was killed")]
    CompileWallLimit {
        /// The limit.
        limit: Duration,
    },
    /// A compiler process was killed at its CPU limit.
    #[error(
        "compiling the module took more CPU time than {limit:?}: the compiler process was killed"
    )]
    CompileCpuLimit {
        /// The limit.
        limit: Duration,
    },
    /// A compiler process reached its memory limit and ended.
    #[error(
        "compiling the module takes more memory than {limit} bytes: the compiler process ended"
    )]
    CompileMemoryLimit {
        /// The limit on its address space, in bytes.
        limit: u64,
    },
    /// A compiler process ended in a way of its own.
    #[error("the compiler process {} crashed ({status}): {said}", path.display())]
    CompilerCrashed {
        /// The program.
        path: PathBuf,
        /// Its exit status or the signal that killed it.
        status: String,
        /// What it said, shortened.
        said: String,
    },
    /// What a compiler process wrote is no machine code that may be run.
    #[error("the answer of the compiler process {} is {reason}", path.display())]
    CompilerAnswer {
        /// The program.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A compiler process comes from another version than this program, or is none at all.
    #[error(
        "the compiler process {} is of another version: install both from one build",
        path.display()
    )]
    CompilerVersion {
        /// The program.
        path: PathBuf,
    },
    /// A compiler process could not be started or talked to.
    #[error("cannot run the compiler process {}", path.display())]
    CompilerStart {
        /// The program.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The directory of an artifact cache cannot be used.
    #[error("cannot use the artifact cache {}: it {reason}", path.display())]
    ArtifactCache {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// No instance could be made, for a reason of the module.
    #[error("cannot instantiate the module: {reason}")]
    Instantiate {
        /// What is wrong with it.
        reason: String,
    },
    /// The process has no address space left for a further instance.
    #[error("no address space for a further instance: lower max_instances or unload plugins")]
    AddressSpace {
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The guest trapped.
    #[error("the plugin trapped: {reason}")]
    Trap {
        /// The kind of trap, in the words of the WebAssembly specification.
        reason: String,
    },
    /// The guest called `unreachable`: a panic, a failed assertion, an abort.
    #[error("the plugin aborted")]
    Aborted,
    /// The guest's stack is used up.
    #[error("the plugin overflowed its stack of {limit} bytes")]
    StackOverflow {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The guest gave up after its memory could not grow.
    #[error("the plugin needs more than its memory limit of {limit} bytes (it has {used})")]
    MemoryLimit {
        /// The limit, in bytes.
        limit: usize,
        /// What it had, in bytes.
        used: usize,
    },
    /// The CPU time of the call is used up.
    #[error("the plugin was stopped at its CPU budget of {limit:?} (it used {used:?})")]
    CpuBudget {
        /// The limit.
        limit: Duration,
        /// What the calling thread had used when it was stopped.
        used: Duration,
    },
    /// The wall-clock time of the call is used up.
    #[error("the plugin was stopped at its wall limit of {limit:?} (after {used:?})")]
    WallLimit {
        /// The limit.
        limit: Duration,
        /// The time that had passed when it was stopped.
        used: Duration,
    },
    /// The context's deadline passed.
    #[error("the plugin was stopped at the deadline of its request")]
    DeadlineExceeded,
    /// The context was cancelled.
    #[error("the plugin was stopped because its request was cancelled")]
    Cancelled,
    /// The fuel of the call is used up.
    #[error("the plugin used up its fuel of {limit} operators")]
    FuelExhausted {
        /// The limit, in operators.
        limit: u64,
    },
    /// A pointer or length from the guest points outside its memory, or nowhere.
    #[error("`{export}` returned {len} bytes at {ptr:#x}, which is {why} (memory: {memory} bytes)")]
    BadPointer {
        /// The export that returned it.
        export: &'static str,
        /// The pointer.
        ptr: u32,
        /// The length, in bytes.
        len: u32,
        /// The guest's memory, in bytes.
        memory: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// The answer is longer than the limit.
    #[error("the plugin's answer is {len} bytes, the limit is {max}")]
    OutputTooLarge {
        /// Its length, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The plugin says that it has failed.
    #[error("the plugin failed with code {code}")]
    PluginFailed {
        /// What it returned: a negative number.
        code: i32,
    },
    /// There is no input frame for the plugin.
    #[error("the input cannot be handed to the plugin")]
    Input(#[from] FrameError),
    /// The answer is no hook output.
    #[error("the plugin's answer is no hook output")]
    BadAnswer(#[from] DecodeError),
    /// Every instance was in use for as long as a call may wait.
    #[error("all {max_instances} instances are busy (waited {waited:?})")]
    Saturated {
        /// How many instances the plugin may have.
        max_instances: usize,
        /// How long the call waited.
        waited: Duration,
    },
    /// The plugin was unloaded, or its runtime closed.
    #[error("plugin `{name}` is unloaded")]
    Unloaded {
        /// Its name.
        name: String,
    },
    /// The instance failed in an earlier call.
    #[error("the instance failed in an earlier call: take a new one")]
    Spoiled,
    /// wasmer panicked; the instance or module is thrown away.
    #[error("the WebAssembly runtime panicked: {message}")]
    Panic {
        /// The panic's message, shortened.
        message: String,
    },
    /// The watchdog's thread could not be started.
    #[error("cannot start the watchdog thread")]
    Watchdog {
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}
