//! What one hook call has used.

use std::time::{Duration, Instant};

use vortex_hook_core::{HookContext, HookInput, HookOutput};

use super::PluginInstance;
use crate::SandboxError;
use crate::instance::caller::ThreadClock;

/// What a hook call has used, whether or not it came to a good end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// CPU time of the calling thread, with what the host did to pass input and output.
    pub cpu_time: Duration,
    /// Wall-clock time.
    pub wall_time: Duration,
    /// Operators executed; `None` unless [`max_fuel`](crate::RuntimeConfig::max_fuel) is set.
    pub fuel: Option<u64>,
    /// Linear memory of the instance after the call, in bytes.
    pub memory_bytes: usize,
}

impl PluginInstance<'_> {
    /// Makes one hook call on this instance, as [`WasmHook`](crate::WasmHook) does, and
    /// measures it: for tools, since reading clocks takes longer than a short call.
    ///
    /// ```
    /// use vortex_hook_core::{HookContext, HookInput, HookType};
    /// use vortex_sandbox::{Runtime, RuntimeConfig};
    ///
    /// let runtime = Runtime::new(RuntimeConfig { max_fuel: Some(1_000), ..RuntimeConfig::default() })?;
    /// let wasm = wat::parse_str(r#"(module (memory (export "memory") 1)
    ///   (data (i32.const 16) "{\"allow\":true}")
    ///   (func (export "alloc") (param i32) (result i32) (i32.const 1024))
    ///   (func (export "handle") (param i32 i32) (result i64) (i64.const 0x10_0000000e)))"#)?;
    /// let plugin = runtime.load("open", &wasm)?;
    /// let input = HookInput::new(HookType::PreRequest);
    /// let (output, usage) = plugin.instance()?.measure(&HookContext::new(), &input);
    /// assert!(output?.allow);
    /// assert!(usage.fuel.is_some_and(|fuel| (1..100).contains(&fuel)));
    /// assert_eq!(usage.memory_bytes, 64 * 1024);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn measure(
        &mut self,
        cx: &HookContext,
        input: &HookInput<'_>,
    ) -> (Result<HookOutput, SandboxError>, Usage) {
        let clock = ThreadClock::OWN;
        let (cpu, wall) = (clock.read(), Instant::now());
        let result = self.plugin.call_on(&mut self.lease, cx, input, &[]);
        let usage = Usage {
            cpu_time: Duration::from_nanos(clock.read().saturating_sub(cpu)),
            wall_time: wall.elapsed(),
            fuel: self.lease.fuel_used(),
            memory_bytes: self.lease.memory_len(),
        };
        (result, usage)
    }
}
