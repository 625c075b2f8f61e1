//! What a second thread brings.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use vortex_sandbox::{Runtime, RuntimeConfig, WasmHook};

use crate::json_call::call;
use crate::place;
use crate::report::Report;
use crate::request::sample;

/// Each of the four loads runs once in a round, for this long.
const ROUNDS: u32 = 100;
const WINDOW: Duration = Duration::from_millis(15);

/// Turns between two looks at whether the window is over.
const BATCH: u64 = 8;

/// Measures calls per second on one and two threads, and the same of a loop
/// that shares nothing: what the machine itself gives at that time.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let hook = WasmHook::new(runtime.load("api-key", &place::fixture("api-key")?)?)?;
    let request = sample()?;
    let hook_call = || call(&hook, &request).map(|output| drop(black_box(output)));
    let buffer = vec![0x5A_u8; 4 << 10];
    let native = || {
        black_box(fnv(black_box(&buffer)));
        Ok(())
    };
    let mut best = [0.0_f64; 4];
    for _ in 0..ROUNDS {
        let rates = [
            rate(1, &hook_call)?,
            rate(1, &native)?,
            rate(2, &hook_call)?,
            rate(2, &native)?,
        ];
        for (best, rate) in best.iter_mut().zip(rates) {
            *best = best.max(rate);
        }
    }
    let [one, native_one, two, native_two] = best;
    report.add("calls_per_s_1_thread", one, "best of 100 windows of 15 ms");
    report.add("calls_per_s_2_threads", two, "the same, one hook for both");
    report.add(
        "native_scaling_2_threads",
        native_two / native_one,
        "what the machine gives a loop that shares nothing",
    );
    report.add(
        "scaling_2_threads_vs_native",
        (two / one) / (native_two / native_one),
        "1 is as well as that",
    );
    Ok(())
}

/// Turns of `work` per second on so many threads together.
fn rate(threads: usize, work: &(impl Fn() -> Result<()> + Sync)) -> Result<f64> {
    let (ready, over) = (Barrier::new(threads + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    // A thread's first call allocates what later ones reuse.
                    let mut outcome = work();
                    ready.wait();
                    let start = Instant::now();
                    let mut turns = 0;
                    while outcome.is_ok() && !over.load(Ordering::Relaxed) {
                        for _ in 0..BATCH {
                            outcome = outcome.and_then(|()| work());
                        }
                        turns += BATCH;
                    }
                    let seconds = start.elapsed().as_secs_f64();
                    outcome.map(|()| turns as f64 / seconds)
                })
            })
            .collect();
        ready.wait();
        thread::sleep(WINDOW);
        over.store(true, Ordering::Relaxed);
        workers.into_iter().try_fold(0.0, |sum, worker| {
            let rate = worker.join().map_err(|_| anyhow!("a worker panicked"))??;
            Ok(sum + rate)
        })
    })
}

/// FNV-1a: a chain of multiplications that no compiler vectorises.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
