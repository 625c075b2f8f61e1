//! Slow plugins run on blocking threads and leave the others alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vortex_hook_core::{
    CancellationToken, Hook, HookChain, HookContext, HookInput, HookType, Registration,
};
use vortex_sandbox::{Runtime, RuntimeConfig, SandboxError, WasmHook};

use crate::util::{assert_fails, wat};

/// A guest that counts down so many turns and then allows; from zero it takes for ever.
fn burning(turns: u64) -> Vec<u8> {
    wat(&format!(
        r#"(module (memory (export "memory") 1)
          (data (i32.const 16) "{{\"allow\":true}}")
          (func (export "alloc") (param i32) (result i32) (i32.const 8192))
          (func (export "handle") (param i32 i32) (result i64)
            (local $left i64)
            (local.set $left (i64.const {turns}))
            (loop $next
              (local.set $left (i64.sub (local.get $left) (i64.const 1)))
              (br_if $next (i64.ne (local.get $left) (i64.const 0))))
            (i64.const 0x10_0000000e)))"#
    ))
}

fn config() -> RuntimeConfig {
    RuntimeConfig {
        cpu_time: Duration::from_secs(20),
        wall_time: Some(Duration::from_secs(100)),
        ..RuntimeConfig::default()
    }
}

fn load(runtime: &Runtime, name: &str, turns: u64) -> WasmHook {
    WasmHook::new(runtime.load(name, &burning(turns)).unwrap()).unwrap()
}

/// Turns that last about 50 ms here.
fn turns_of_50_ms(runtime: &Runtime) -> u64 {
    let turns = 4_000_000;
    let probe = load(runtime, "probe", turns);
    let input = HookInput::new(HookType::OnConnect);
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            futures_executor::block_on(probe.call(&HookContext::new(), &input)).unwrap();
            start.elapsed()
        })
        .min()
        .unwrap();
    (turns as f64 * 0.05 / best.as_secs_f64()) as u64
}

/// Ten plugins that each burn 50 ms, on a runtime with one thread, beside a task
/// that a timer wakes every millisecond. As long as the plugins ran on that
/// thread, the task would not be woken at all: what is asserted is in how many
/// turns of the task the calls end, not in which time.
#[tokio::test(flavor = "current_thread")]
async fn ten_slow_plugins_do_not_stop_a_timer() {
    let runtime = Runtime::new(config()).unwrap();
    let turns = turns_of_50_ms(&runtime);
    let chain = Arc::new(HookChain::default());
    let hooks: Vec<_> = (0..10)
        .map(|i| load(&runtime, &format!("burn-{i}"), turns))
        .collect();
    for (i, hook) in hooks.iter().enumerate() {
        let name = format!("burn-{i}");
        chain.register(Registration::new(name, [HookType::OnConnect], hook.clone()));
    }
    let run = || async {
        let input = HookInput::new(HookType::OnConnect);
        chain.execute(&HookContext::new(), &input).await.unwrap()
    };
    // Once where they are awaited: now they are known.
    assert!(run().await.allow);
    assert!(
        hooks
            .iter()
            .all(|hook| hook.plugin().stats().offloaded == 0)
    );

    let burn = tokio::spawn({
        let chain = Arc::clone(&chain);
        async move {
            let input = HookInput::new(HookType::OnConnect);
            let output = chain.execute(&HookContext::new(), &input).await;
            output.unwrap().allow
        }
    });
    let (mut ticks, mut delays) = (0_u32, Vec::new());
    while !burn.is_finished() {
        let start = Instant::now();
        tokio::time::sleep(Duration::from_millis(1)).await;
        delays.push(start.elapsed().saturating_sub(Duration::from_millis(1)));
        ticks += 1;
    }
    assert!(burn.await.unwrap());
    assert!(
        hooks
            .iter()
            .all(|hook| hook.plugin().stats().offloaded == 1)
    );
    // Half a second of calls: without threads of their own, one turn for each at most.
    assert!(ticks > 25, "the task had {ticks} turns");
    delays.sort();
    let (median, worst) = (delays[delays.len() / 2], delays[delays.len() - 1]);
    println!(
        "a timer beside ten plugins of 50 ms: {ticks} turns, late by {median:?} (median), {worst:?} (worst)"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_fast_plugin_stays_where_it_is() {
    let runtime = Runtime::new(config()).unwrap();
    let hook = load(&runtime, "fast", 1);
    for _ in 0..2_000 {
        let input = HookInput::new(HookType::OnConnect);
        assert!(hook.call(&HookContext::new(), &input).await.unwrap().allow);
    }
    let stats = hook.plugin().stats();
    assert!(
        stats.offloaded < 200,
        "a busy machine may make some look slow: {stats:?}"
    );
}

/// A future that is dropped stops its guest: the instance is given back long
/// before the guest would have ended.
#[tokio::test]
async fn a_dropped_call_is_stopped() {
    let runtime = Runtime::new(config()).unwrap();
    // The budget ends the first call and makes the plugin known as slow.
    let short = RuntimeConfig {
        cpu_time: Duration::from_millis(20),
        ..config()
    };
    let plugin = runtime.load_with("spin", &burning(0), &short).unwrap();
    let hook = WasmHook::new(plugin).unwrap();
    let input = HookInput::new(HookType::OnConnect);
    assert_fails!(
        hook.call(&HookContext::new(), &input).await,
        SandboxError::CpuBudget { .. }
    );

    let slow = RuntimeConfig {
        blocking_above: Duration::ZERO,
        cpu_time: Duration::from_secs(3600),
        wall_time: Some(Duration::from_secs(3600)),
        max_instances: 1,
        ..config()
    };
    let plugin = runtime.load_with("endless", &burning(0), &slow).unwrap();
    let hook = WasmHook::new(Arc::clone(&plugin)).unwrap();
    let token = CancellationToken::new();
    let first = {
        let (hook, token) = (hook.clone(), token.clone());
        let cx = HookContext::new().with_cancellation(token);
        std::thread::spawn(move || {
            futures_executor::block_on(hook.call(&cx, &HookInput::new(HookType::OnConnect)))
        })
    };
    while plugin.stats().calls == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    token.cancel();
    assert_fails!(first.join().unwrap(), SandboxError::Cancelled);

    // It is known now: the call goes to a thread, and its future may be dropped.
    let cx = HookContext::new();
    let call = tokio::time::timeout(Duration::from_millis(50), hook.call(&cx, &input));
    assert!(call.await.is_err(), "an endless call ended");
    assert_eq!(plugin.stats().offloaded, 1);
    // The only instance comes back: the guest was stopped. A plugin that went on
    // would hold it for an hour.
    while plugin.stats().instances_discarded < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    // A token that is cancelled stops it as well.
    let token = CancellationToken::new();
    let cx = HookContext::new().with_cancellation(token.clone());
    let stop = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        token.cancel();
    });
    assert_fails!(hook.call(&cx, &input).await, SandboxError::Cancelled);
    stop.await.unwrap();
}
