//! `HookChain` while it runs: edits, deadlines, cancellation.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use vortex_hook_core::{
    CancellationToken, ChainError, ChainOrder, FailPolicy, Hook, HookChain, HookContext, HookError,
    HookInput, HookOutput, HookType, Registration, RegistrationId, async_hook_fn, async_trait,
    hook_fn,
};

use crate::chain::{Log, chain_of, fails, gives, header, input, pre, run};
use crate::util::{changes, name, poll_once, values, within_10_s};

#[test]
fn a_run_in_flight_finishes_with_the_hooks_it_began_with() {
    let (log, gate) = (Log::default(), CancellationToken::new());
    let chain = Arc::new(HookChain::default());
    let waiting = chain.register(log.waiting("waiting", &gate));
    let removed = chain.register(log.allow("removed"));
    let replaced = chain.register(log.allow("replaced"));

    let (cx, input) = (HookContext::new(), input());
    let mut running = pin!(chain.execute(&cx, &input));
    assert!(poll_once(running.as_mut()).is_pending());
    assert_eq!(log.take(), ["waiting"]);

    // Every edit is made while the run is suspended, without waiting for it.
    let (editor, edits) = (Arc::clone(&chain), log.clone());
    within_10_s(move || {
        assert!(editor.unregister(waiting));
        assert!(editor.unregister(removed));
        assert!(editor.replace(replaced, edits.allow("replacement")));
        editor.register(edits.allow("added"));
    });
    assert_eq!(chain.len(), 2);
    assert!(poll_once(running.as_mut()).is_pending());
    // A run that begins now sees them all.
    assert!(run(&chain).unwrap().allow);
    assert_eq!(log.take(), ["replacement", "added"]);

    gate.cancel();
    assert!(matches!(poll_once(running.as_mut()), Poll::Ready(Ok(o)) if o.allow));
    assert_eq!(log.take(), ["removed", "replaced"]);
}

#[test]
fn an_id_names_one_registration_until_it_is_gone() {
    let log = Log::default();
    let chain = HookChain::default();
    assert!(chain.is_empty());
    let a = chain.register(log.allow("a"));
    let b = chain.register(log.allow("b"));
    assert_ne!(a, b);
    assert_eq!((chain.len(), chain.is_empty()), (2, false));
    assert!(chain.unregister(a));
    assert!(!chain.unregister(a));
    assert!(!chain.replace(a, log.allow("c")));
    let c = chain.register(log.allow("c"));
    assert!(c != a && c != b);
    assert!(run(&chain).unwrap().allow);
    assert_eq!(log.take(), ["b", "c"]);
}

#[test]
fn replace_keeps_the_id_and_the_place() {
    let log = Log::default();
    for order in [ChainOrder::Registration, ChainOrder::Priority] {
        let chain = HookChain::new(order);
        let a = chain.register(log.allow("a"));
        chain.register(log.allow("b"));
        for new in ["a2", "a3"] {
            assert!(chain.replace(a, log.allow(new)));
            assert!(run(&chain).unwrap().allow);
            assert_eq!(log.take(), [new, "b"], "{order:?}");
        }
        assert!(chain.unregister(a));
        assert_eq!(chain.len(), 1);
    }
}

#[test]
fn replace_takes_over_types_priority_and_policy() {
    let log = Log::default();
    let chain = HookChain::new(ChainOrder::Priority);
    let a = chain.register(log.allow("a"));
    chain.register(log.allow("b"));
    assert!(chain.replace(a, log.allow("late").with_priority(1)));
    assert!(run(&chain).unwrap().allow);
    assert_eq!(log.take(), ["b", "late"]);
    assert!(
        chain.replace(
            a,
            fails("broken")
                .with_priority(i32::MIN)
                .on_error(FailPolicy::Skip)
        )
    );
    assert!(run(&chain).unwrap().allow);
    assert_eq!(log.take(), ["b"]);
    let close = Registration::new("close", [HookType::OnClose], hook_fn(|_, _| unreachable!()));
    assert!(chain.replace(a, close));
    assert!(chain.has_hooks(HookType::OnClose));
    assert!(run(&chain).unwrap().allow);
    assert_eq!(log.take(), ["b"]);
}

#[test]
fn one_hook_can_be_shared() {
    let log = Log::default();
    let shared: Arc<dyn Hook> = Arc::new(hook_fn({
        let log = log.clone();
        move |_, _| {
            log.push("shared");
            Ok(HookOutput::allow())
        }
    }));
    let registration = Registration::shared("shared", HookType::ALL, shared);
    let chain = chain_of([registration.clone(), registration]);
    assert!(run(&chain).unwrap().allow);
    assert_eq!(log.take(), ["shared", "shared"]);
}

/// Takes itself for important: it edits its chain as it is dropped.
struct EditsWhenDropped {
    chain: std::sync::Weak<HookChain>,
    other: RegistrationId,
    dropped: Arc<AtomicUsize>,
}

#[async_trait]
impl Hook for EditsWhenDropped {
    async fn call(&self, _: &HookContext, _: &HookInput<'_>) -> Result<HookOutput, HookError> {
        Ok(HookOutput::allow())
    }
}

impl Drop for EditsWhenDropped {
    fn drop(&mut self) {
        if let Some(chain) = self.chain.upgrade() {
            chain.unregister(self.other);
        }
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_hook_is_dropped_at_once_and_outside_of_the_lock() {
    within_10_s(|| {
        let chain = Arc::new(HookChain::default());
        let dropped = Arc::new(AtomicUsize::new(0));
        let log = Log::default();
        let hook = || {
            let other = chain.register(log.allow("other"));
            let (chain, dropped) = (Arc::downgrade(&chain), Arc::clone(&dropped));
            pre(
                "drops",
                EditsWhenDropped {
                    chain,
                    other,
                    dropped,
                },
            )
        };
        let id = chain.register(hook());
        assert!(chain.replace(id, log.allow("new")));
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
        assert!(chain.replace(id, hook()));
        assert!(chain.unregister(id));
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
        assert!(!chain.replace(id, hook()));
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
        assert!(chain.is_empty());
    });
}

#[test]
fn edits_and_runs_from_many_threads_lose_nothing() {
    within_10_s(edit_and_run_from_many_threads);
}

fn edit_and_run_from_many_threads() {
    let chain = Arc::new(HookChain::default());
    // The first hook is always there, in one version or another; the others come and go.
    let first = chain.register(gives("first", header("x-version", "0")));
    let stop = Arc::new(AtomicBool::new(false));
    let runs = Arc::new(AtomicUsize::new(0));
    let runners: Vec<_> = (0..2)
        .map(|_| {
            let (chain, stop, runs) = (Arc::clone(&chain), Arc::clone(&stop), Arc::clone(&runs));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let output = run(&chain).unwrap();
                    // `replace` is atomic: there is no moment without the first hook.
                    assert!(output.headers.get(&name("x-version")).is_some());
                    runs.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    const EDITS: usize = 500;
    let editors: Vec<_> = (0..3)
        .map(|editor| {
            let (chain, runs) = (Arc::clone(&chain), Arc::clone(&runs));
            thread::spawn(move || {
                let mut kept = Vec::new();
                for i in 0..EDITS {
                    let id = chain.register(gives("extra", header("x-extra", "1")));
                    if i % 50 == 0 {
                        kept.push(id);
                    } else {
                        assert!(chain.unregister(id));
                    }
                    if editor == 0 {
                        let version = header("x-version", &i.to_string());
                        assert!(chain.replace(first, gives("first", version)));
                    }
                }
                while runs.load(Ordering::Relaxed) == 0 {
                    thread::yield_now();
                }
                kept
            })
        })
        .collect();
    let mut kept: Vec<_> = editors
        .into_iter()
        .flat_map(|t| t.join().unwrap())
        .collect();
    stop.store(true, Ordering::Relaxed);
    for runner in runners {
        runner.join().unwrap();
    }
    assert_eq!(chain.len(), 1 + 3 * EDITS / 50);
    let version = run(&chain).unwrap();
    let last = (EDITS - 1).to_string();
    assert_eq!(
        version.headers.get(&name("x-version")),
        Some(&values(&[&last])[..])
    );
    kept.sort();
    kept.dedup();
    assert_eq!(kept.len(), 3 * EDITS / 50);
    assert!(kept.into_iter().all(|id| chain.unregister(id)));
    assert!(chain.unregister(first) && chain.is_empty());
}

#[test]
fn a_deadline_that_has_passed_stops_before_the_hook() {
    let log = Log::default();
    let chain = chain_of([log.allow("a")]);
    let cx = HookContext::new().with_deadline(Instant::now());
    let result = block_on(chain.execute(&cx, &input()));
    assert!(
        matches!(&result, Err(ChainError::DeadlineExceeded { hook }) if hook == "a"),
        "{result:?}"
    );
    assert!(log.take().is_empty());
}

#[test]
fn a_deadline_that_passes_in_a_hook_stops_before_the_next() {
    let log = Log::default();
    let slow = pre(
        "slow",
        hook_fn(|cx, _| {
            while !cx.is_expired() {
                thread::sleep(Duration::from_millis(1));
            }
            Ok(header("x", "1"))
        }),
    );
    // That a failure is skipped does not let a run go on past its deadline.
    let chain = chain_of([slow, log.allow("next").on_error(FailPolicy::Skip)]);
    let cx = HookContext::new().with_timeout(Duration::from_millis(20));
    let result = block_on(chain.execute(&cx, &input()));
    assert!(
        matches!(&result, Err(ChainError::DeadlineExceeded { hook }) if hook == "next"),
        "{result:?}"
    );
    assert!(log.take().is_empty());

    let cx = HookContext::new().with_timeout(Duration::from_secs(3600));
    let chain = chain_of([log.allow("in time")]);
    assert!(block_on(chain.execute(&cx, &input())).unwrap().allow);
}

#[test]
fn cancellation_before_a_hook_keeps_it_from_running() {
    let log = Log::default();
    let token = CancellationToken::new();
    let cx = HookContext::new().with_cancellation(token.clone());
    let cancels = pre(
        "cancels",
        hook_fn(move |_, _| {
            token.cancel();
            Ok(HookOutput::allow())
        }),
    );
    let chain = chain_of([cancels, log.allow("next").on_error(FailPolicy::Skip)]);
    let result = block_on(chain.execute(&cx, &input()));
    assert!(
        matches!(&result, Err(ChainError::Cancelled { hook }) if hook == "next"),
        "{result:?}"
    );
    assert!(log.take().is_empty());
}

/// Says that the future that held it is gone.
struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn cancellation_drops_the_future_of_a_waiting_hook() {
    let log = Log::default();
    let dropped = Arc::new(AtomicBool::new(false));
    let waits = {
        let dropped = Arc::clone(&dropped);
        pre(
            "waits",
            async_hook_fn(move |_, _| {
                let guard = OnDrop(Arc::clone(&dropped));
                Box::pin(async move {
                    let _guard = guard;
                    std::future::pending().await
                })
            }),
        )
    };
    let chain = chain_of([waits.on_error(FailPolicy::Skip), log.allow("next")]);
    let token = CancellationToken::new();
    let cx = HookContext::new().with_cancellation(token.clone());
    let input = input();
    let mut running = pin!(chain.execute(&cx, &input));
    assert!(poll_once(running.as_mut()).is_pending());
    assert!(!dropped.load(Ordering::SeqCst));
    token.cancel();
    let result = poll_once(running.as_mut());
    assert!(
        matches!(&result, Poll::Ready(Err(ChainError::Cancelled { hook })) if hook == "waits"),
        "{result:?}"
    );
    // `running` itself is still there: the chain has dropped the hook's future.
    assert!(dropped.load(Ordering::SeqCst));
    assert!(log.take().is_empty());
}

#[test]
fn cancellation_wakes_a_waiting_run() {
    let token = CancellationToken::new();
    let result = within_10_s({
        let token = token.clone();
        move || {
            let (log, gate) = (Log::default(), CancellationToken::new());
            let chain = chain_of([log.waiting("waits", &gate)]);
            let cx = HookContext::new().with_cancellation(token.clone());
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(20));
                token.cancel();
            });
            block_on(chain.execute(&cx, &input()))
        }
    });
    assert!(
        matches!(result, Err(ChainError::Cancelled { .. })),
        "{result:?}"
    );
    assert!(token.is_cancelled());
}

#[test]
fn hooks_see_the_context_and_the_input_of_the_run() {
    let deadline = Instant::now() + Duration::from_secs(3600);
    let chain = chain_of([pre(
        "sees",
        async_hook_fn(move |cx, input| {
            Box::pin(async move {
                assert_eq!(cx.deadline(), Some(deadline));
                assert_eq!(input.route(), "api");
                // What this hook writes, the next need not write again.
                Ok(header(
                    "x-json",
                    &input.to_json().as_ptr().addr().to_string(),
                ))
            })
        }),
    )]);
    let input = input().with_route("api");
    let cx = HookContext::new().with_deadline(deadline);
    let output = block_on(chain.execute(&cx, &input)).unwrap();
    let address = input.to_json().as_ptr().addr().to_string();
    assert_eq!(output.headers, changes(&[("x-json", &[&address])]));
}

#[test]
fn debug_tells_what_is_registered() {
    let registration = Registration::new(
        "guard",
        [HookType::OnClose, HookType::PreRequest],
        hook_fn(|_, _| unreachable!()),
    )
    .with_priority(-3)
    .on_error(FailPolicy::Skip);
    let shown = format!("{:?}", chain_of([registration]));
    for part in [
        "guard",
        "[PreRequest, OnClose]",
        "priority: -3",
        "on_error: Skip",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}
