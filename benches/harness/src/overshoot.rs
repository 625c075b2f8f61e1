//! How far past its CPU budget a hostile guest gets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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
    let mut late = f64::NEG_INFINITY;
    for _ in 0..CALLS / KINDS.len() {
        for (hook, worst) in hooks.iter().zip(&mut worst) {
            *worst = worst.max(overshoot_us(hook)?);
            late = late.max(sleep_late_us()?);
        }
    }
    let all = worst.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    report.add_with_target(
        "budget_overshoot_us_max",
        all,
        Target::of(2000.0),
        "CPU past a budget of 10 ms, worst of 200 calls",
    );
    report.add(
        "sleep_late_us_max",
        late,
        "how late a sleep of 0.5 ms is here, beside 200 native loops",
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

/// By how much, in microseconds, the sleeps of another thread last longer than the
/// watchdog's tick while this one spins for the budget: no watchdog is earlier.
fn sleep_late_us() -> Result<f64> {
    const TICK: Duration = Duration::from_micros(500);
    let over = AtomicBool::new(false);
    let start = thread_cpu()?;
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            let mut late = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let start = Instant::now();
                thread::sleep(TICK);
                late = late.max(start.elapsed().saturating_sub(TICK));
            }
            late
        });
        let spun = (|| -> Result<()> {
            while thread_cpu()?.saturating_sub(start) < BUDGET {}
            Ok(())
        })();
        over.store(true, Ordering::Relaxed);
        let late = sleeper
            .join()
            .map_err(|_| anyhow!("the sleeper panicked"))?;
        spun.map(|()| late.as_secs_f64() * 1e6)
    })
}

/// CPU time of this thread.
fn thread_cpu() -> Result<Duration> {
    Ok(Duration::try_from(clock_gettime(ClockId::ThreadCPUTime))?)
}
