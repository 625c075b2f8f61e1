//! What a plugin may use.

use std::time::Duration;

use crate::{ModuleLimits, SandboxError};

/// One page of WebAssembly memory, in bytes.
pub(crate) const PAGE: usize = 64 * 1024;

/// The limits of a runtime, or of one plugin.
///
/// The defaults are the Go system's where it has one.
///
/// ```
/// use std::time::Duration;
/// use vortex_sandbox::RuntimeConfig;
///
/// let config = RuntimeConfig {
///     cpu_time: Duration::from_millis(10),
///     ..RuntimeConfig::default()
/// };
/// assert_eq!(config.memory_bytes, 64 << 20);
/// assert_eq!(config.wall_limit(), Duration::from_millis(100));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Linear memory of one instance, in bytes, rounded down to whole pages: 64 MiB.
    /// At least one page (64 KiB), at most 1 GiB. Growth beyond it fails in the guest.
    pub memory_bytes: usize,
    /// CPU time of one call, as the calling thread's clock counts it: 100 ms.
    /// Host load does not count. Whatever the thread has used before the call is not
    /// charged, and up to a millisecond of the call may not be either. A start function
    /// has a budget of the same size.
    pub cpu_time: Duration,
    /// Wall-clock time of one call; `None` means ten times `cpu_time`.
    pub wall_time: Option<Duration>,
    /// Operators of the instrumented code that one call may execute; `None` (the
    /// default) counts nothing. With it, the same call ends at the same operator on
    /// every machine, at the price of slower code.
    pub max_fuel: Option<u64>,
    /// Stack of a running guest, in bytes: 1 MiB. At least 64 KiB, at most 8 MiB. A
    /// thread that has run a guest with a larger stack may lend that to this one.
    pub stack_bytes: usize,
    /// Answer of one call, in bytes: 1 MiB.
    pub output_bytes: usize,
    /// Instances of a plugin that run at the same time: 64. Each reserves 8 GiB of
    /// address space, and may keep up to `keep_bytes` of memory while it waits.
    pub max_instances: usize,
    /// How long a call waits for an instance when all are taken: 1 s.
    pub instance_wait: Duration,
    /// What a call finds of those before it: what they left, unless told otherwise.
    pub isolation: Isolation,
    /// Average duration of a plugin's calls from which on they run on the blocking
    /// threads of the Tokio runtime, if there is one, instead of where they are
    /// awaited: 1 ms. Only calls that last as long as the watchdog's tick (0.5 ms at
    /// most) count as taking any time.
    pub blocking_above: Duration,
    /// Memory, in bytes, above which an instance is not kept for the next call: 16 MiB.
    pub keep_bytes: usize,
    /// How long an instance waits without a call, at the least, before it is dropped:
    /// 60 s. It is looked for so rarely that it may wait a little more than twice as
    /// long. `None` keeps it for as long as its plugin is loaded. A call that finds no
    /// instance makes one, which runs the start function.
    pub idle_timeout: Option<Duration>,
    /// The structural caps of a module.
    pub module: ModuleLimits,
}

/// What a call finds of the calls before it on the same instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// What they left in memory and globals, as in the Go system, if the instance is
    /// still there: see [`RuntimeConfig::idle_timeout`].
    #[default]
    Reuse,
    /// Nothing: every call begins with the state that the start function left.
    PerCall,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            cpu_time: Duration::from_millis(100),
            wall_time: None,
            max_fuel: None,
            stack_bytes: 1 << 20,
            output_bytes: 1 << 20,
            max_instances: 64,
            instance_wait: Duration::from_secs(1),
            isolation: Isolation::default(),
            blocking_above: Duration::from_millis(1),
            keep_bytes: 16 << 20,
            idle_timeout: Some(Duration::from_secs(60)),
            module: ModuleLimits::default(),
        }
    }
}

impl RuntimeConfig {
    /// The largest `memory_bytes`: guests find the safepoint above it.
    pub const MAX_MEMORY: usize = 1 << 30;

    /// The wall-clock limit in force.
    #[must_use]
    pub fn wall_limit(&self) -> Duration {
        self.wall_time
            .unwrap_or_else(|| self.cpu_time.saturating_mul(10))
    }

    /// Memory in whole pages.
    pub(crate) fn memory_pages(&self) -> usize {
        self.memory_bytes / PAGE
    }

    pub(crate) fn check(&self) -> Result<(), SandboxError> {
        let range = |setting, value: usize, min: usize, max: usize| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(SandboxError::Config {
                    setting,
                    value: value.to_string(),
                    rule: format!("{min} to {max}"),
                })
            }
        };
        range("memory_bytes", self.memory_bytes, PAGE, Self::MAX_MEMORY)?;
        range("stack_bytes", self.stack_bytes, 64 << 10, 8 << 20)?;
        range("output_bytes", self.output_bytes, 1, Self::MAX_MEMORY)?;
        range("max_instances", self.max_instances, 1, 10_000)?;
        let blocks = usize::try_from(self.module.blocks).unwrap_or(usize::MAX);
        range(
            "module.blocks",
            blocks,
            0,
            ModuleLimits::MAX_BLOCKS as usize,
        )?;
        for (setting, value) in [
            ("cpu_time", Some(self.cpu_time)),
            ("wall_time", Some(self.wall_limit())),
            ("idle_timeout", self.idle_timeout),
        ] {
            if let Some(value) = value
                && value < Duration::from_millis(1)
            {
                return Err(SandboxError::Config {
                    setting,
                    value: format!("{value:?}"),
                    rule: "1 ms or more".to_owned(),
                });
            }
        }
        Ok(())
    }
}
