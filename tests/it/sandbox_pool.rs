//! Break 8: instances are bounded, those who wait are served in order, and what
//! cannot be had is told.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use vortex_hook_core::{
    CancellationToken, Hook, HookContext, HookError, HookInput, HookOutput, HookType,
};
use vortex_sandbox::{Runtime, RuntimeConfig, SandboxError, WasmHook};

use crate::util::{
    assert_fails, call, call_in, cpu, eventually, fixture, hook, hook_with, isolated, isolated_in,
    lines_in_proc, reservations, wat,
};

const LIMIT: Duration = Duration::from_secs(120);

fn pool(max_instances: usize, wait_millis: u64) -> RuntimeConfig {
    RuntimeConfig {
        max_instances,
        instance_wait: Duration::from_millis(wait_millis),
        ..cpu(10_000)
    }
}

/// Twelve callers on three instances: all three are in use, and no fourth ever
/// comes to be. Each is 8 GiB of reserved address space, which the process's maps
/// show.
#[test]
fn no_more_instances_than_allowed() {
    isolated(LIMIT, || {
        let hook = hook_with("spin-on-bang", pool(3, 60_000));
        let token = CancellationToken::new();
        let cx = HookContext::new().with_cancellation(token.clone());
        thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| assert_fails!(call_in(&hook, &cx, "/!"), SandboxError::Cancelled));
            }
            eventually("all call", || hook.plugin().stats().calls == 12);
            eventually("all instances in use", || reservations() == 3);
            // The others have been waiting, and go on doing so.
            for _ in 0..20 {
                assert_eq!(reservations(), 3);
            }
            token.cancel();
        });
        assert_eq!(reservations(), 0);
    });
}

/// Everybody is served, also while instances come and go.
#[test]
fn everybody_is_served() {
    isolated(LIMIT, || {
        let hook = hook_with("trap-on-bang", pool(3, 60_000));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let now = reservations();
                    assert!(now <= 3, "{now} instances");
                }
            });
            let callers: Vec<_> = (0..12)
                .map(|caller| {
                    let hook = &hook;
                    scope.spawn(move || {
                        for n in 0..300 {
                            if (n + caller) % 9 == 0 {
                                assert_fails!(call(hook, "/!"), SandboxError::Aborted);
                            } else {
                                assert!(call(hook, "/").unwrap().allow);
                            }
                        }
                    })
                })
                .collect();
            // Also when one has failed, or the watching thread would never end.
            let failed = callers.into_iter().map(|caller| caller.join().is_err());
            let failed = failed.filter(|failed| *failed).count();
            done.store(true, Ordering::Relaxed);
            assert_eq!(failed, 0);
        });
        let stats = hook.plugin().stats();
        assert_eq!((stats.calls, stats.failures), (3_600, 400));
        assert_eq!(stats.instances_discarded, 400);
        assert!(stats.instances_created <= 403);
    });
}

/// Who waits too long is told the limit and how long it was.
#[test]
fn waiting_has_a_limit() {
    let hook = hook_with("allow", pool(2, 50));
    let held = [
        hook.plugin().instance().unwrap(),
        hook.plugin().instance().unwrap(),
    ];
    assert_fails!(
        hook.plugin().instance(),
        SandboxError::Saturated {
            max_instances: 2,
            waited: Duration::ZERO
        }
    );
    assert_fails!(
        call(&hook, "/"),
        SandboxError::Saturated { max_instances: 2, waited } if *waited >= Duration::from_millis(50)
    );
    let cx = HookContext::new().with_timeout(Duration::from_millis(5));
    assert_fails!(call_in(&hook, &cx, "/"), SandboxError::DeadlineExceeded);
    drop(held);
    assert!(call(&hook, "/").unwrap().allow);
}

type Call<'a> = Pin<Box<dyn Future<Output = Result<HookOutput, HookError>> + Send + 'a>>;

fn poll(call: &mut Call<'_>) -> Option<Result<HookOutput, HookError>> {
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

/// Whoever came first is served first, and who has gone holds nobody up.
#[test]
fn waiters_are_served_in_order() {
    let hook: &WasmHook = &hook_with("allow", pool(1, 60_000));
    let cx = HookContext::new();
    let input = HookInput::new(HookType::PreRequest);
    let held = hook.plugin().instance().unwrap();
    let mut waiting: Vec<Call<'_>> = (0..5).map(|_| hook.call(&cx, &input)).collect();
    assert!(waiting.iter_mut().all(|call| poll(call).is_none()));
    drop(held);
    // The instance is the first one's, though the others ask before it.
    for call in waiting.iter_mut().rev().take(4) {
        assert!(poll(call).is_none());
    }
    assert!(poll(&mut waiting[0]).unwrap().unwrap().allow);
    // The second one goes away, which passes its turn to the third.
    drop(waiting.remove(1));
    assert!(poll(&mut waiting[3]).is_none());
    assert!(poll(&mut waiting[2]).is_none());
    for call in &mut waiting[1..] {
        assert!(poll(call).unwrap().unwrap().allow);
    }
    assert_eq!(hook.plugin().stats().failures, 0);
}

/// Unloading sends those who wait away at once.
#[test]
fn waiters_are_told_of_an_unload() {
    let runtime = Runtime::new(pool(1, 60_000)).unwrap();
    let hook: &WasmHook = &hook(&runtime, "allow");
    let (cx, input) = (HookContext::new(), HookInput::new(HookType::PreRequest));
    let held = hook.plugin().instance().unwrap();
    let mut waiting = hook.call(&cx, &input);
    assert!(poll(&mut waiting).is_none());
    runtime.unload("allow");
    assert_fails!(poll(&mut waiting).unwrap(), SandboxError::Unloaded { .. });
    // The one that is held goes on.
    assert_eq!(held.memory_len(), 2 * 65_536);
}

/// 30 GiB of address space have room for three instances. The fourth is refused
/// with a reason, what exists works on, and room that is freed is used again.
#[test]
fn address_space_may_run_out() {
    isolated_in(30 << 20, LIMIT, || {
        let runtime = Runtime::new(cpu(5_000)).unwrap();
        let other = hook(&runtime, "div-zero");
        let plugin = runtime.load("allow", &fixture("allow")).unwrap();
        let mut held = Vec::new();
        let error = loop {
            match plugin.instance() {
                Ok(instance) => held.push(instance),
                Err(error) => break error,
            }
            assert!(
                held.len() < 4,
                "the limit of the address space is not in force"
            );
        };
        assert_fails!(
            Err::<(), _>(error),
            SandboxError::AddressSpace { source }
                if source.kind() == std::io::ErrorKind::OutOfMemory
        );
        assert!(!held.is_empty());
        // Its idle instance is there; after the trap there may be no room for a next.
        assert_fails!(call(&other, "/"), SandboxError::Trap { .. });
        held.pop();
        let hook = WasmHook::new(plugin.clone()).unwrap();
        assert!(call(&hook, "/").unwrap().allow);
        assert_fails!(call(&other, "/"), SandboxError::Trap { .. });
        runtime.unload("allow");
    });
}

/// Instances stop well before the process has no mappings left, with which it
/// could not even start a thread.
#[test]
fn mappings_do_not_run_out() {
    isolated(LIMIT, || {
        let runtime = Runtime::new(pool(10_000, 10)).unwrap();
        let plugin = runtime.load("empty", &wat("(module (memory 1))")).unwrap();
        let mut held = Vec::new();
        let refused = loop {
            match plugin.instance() {
                Ok(instance) => held.push(instance),
                Err(error) => break error,
            }
        };
        assert_fails!(Err::<(), _>(refused), SandboxError::AddressSpace { .. });
        let max: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert!(lines_in_proc("maps") < max * 3 / 4);
        // The process goes on: threads start, and guests run and trap.
        held.truncate(held.len() - 1);
        thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = Runtime::new(cpu(1_000)).unwrap();
                assert_fails!(
                    call(&hook(&runtime, "div-zero"), "/"),
                    SandboxError::Trap { .. }
                );
            });
        });
        drop(held);
        assert!(plugin.instance().is_ok());
    });
}
