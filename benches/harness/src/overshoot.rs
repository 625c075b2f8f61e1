//! How far past its CPU budget a hostile guest gets.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use rustix::time::{ClockId, clock_gettime};
use vortex_hook_core::{HookContext, HookInput, HookType};
use vortex_sandbox::{Runtime, RuntimeConfig, SandboxError, WasmHook};

use crate::report::{Report, Target};
use crate::{place, poll};

const BUDGET: Duration = Duration::from_millis(10);

/// Each a way not to come back, with the name of its metric.
const KINDS: [(&str, &str); 5] = [
    ("loop-empty", "budget_overshoot_us_max_loop_empty"),
    ("loop-nested", "budget_overshoot_us_max_loop_nested"),
    (
        "calls-exponential",
        "budget_overshoot_us_max_calls_exponential",
    ),
    ("fill-64mib", "budget_overshoot_us_max_fill_64mib"),
    ("loop-grow", "budget_overshoot_us_max_loop_grow"),
];

/// Calls in all over the kinds.
const CALLS: usize = 200;
const SPINNING_CALLS: usize = 100;

/// Measures the worst overshoot of each kind, and of spinning alone.
///
/// What counts is the CPU time of the calling thread from before the hook's call
/// to after it, so making the instance and throwing it away count as well.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let runtime = Runtime::new(RuntimeConfig {
        cpu_time: BUDGET,
        // A busy machine must not end a call by the wall clock.
        wall_time: Some(Duration::from_secs(60)),
        ..RuntimeConfig::default()
    })?;
    let hooks = KINDS
        .iter()
        .map(|(fixture, _)| {
            Ok(WasmHook::new(
                runtime.load(fixture, &place::fixture(fixture)?)?,
            )?)
        })
        .collect::<Result<Vec<_>>>()?;

    let mut worst = [f64::NEG_INFINITY; KINDS.len()];
    for _ in 0..CALLS / KINDS.len() {
        for (hook, worst) in hooks.iter().zip(&mut worst) {
            *worst = worst.max(overshoot_us(hook)?);
        }
    }
    let all = worst.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    report.add_with_target(
        "budget_overshoot_us_max",
        all,
        Target::of(2000.0),
        "CPU past a budget of 10 ms, worst of 200 calls",
    );
    for ((_, metric), worst) in KINDS.iter().zip(worst) {
        report.add(metric, worst, "of them the 40 of this kind");
    }

    let mut spinning = f64::NEG_INFINITY;
    for hook in hooks.iter().take(1).cycle().take(SPINNING_CALLS) {
        spinning = spinning.max(overshoot_us(hook)?);
    }
    report.add(
        "budget_overshoot_us_100_spinning",
        spinning,
        "worst of 100 calls of loop-empty",
    );
    Ok(())
}

/// Microseconds of CPU past the budget; negative when the call ended before it.
fn overshoot_us(hook: &WasmHook) -> Result<f64> {
    let input = HookInput::new(HookType::PreRequest);
    let start = thread_cpu()?;
    let result = poll::call(hook, &HookContext::new(), &input)?;
    let used = thread_cpu()?.saturating_sub(start);
    match result {
        Err(error) => match error.downcast_ref() {
            Some(SandboxError::CpuBudget { .. }) => {
                Ok((used.as_secs_f64() - BUDGET.as_secs_f64()) * 1e6)
            }
            _ => bail!("{} ended otherwise: {error}", hook.plugin().name()),
        },
        Ok(output) => Err(anyhow!("{} answered {output:?}", hook.plugin().name())),
    }
}

/// CPU time of this thread.
fn thread_cpu() -> Result<Duration> {
    Ok(Duration::try_from(clock_gettime(ClockId::ThreadCPUTime))?)
}
