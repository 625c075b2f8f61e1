//! `HookChain`: order, merging, failures, and edits while it runs.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use http::StatusCode;
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata, span};
use vortex_hook_core::{
    CancellationToken, ChainError, ChainOrder, FailPolicy, HeaderChanges, Hook, HookChain,
    HookContext, HookError, HookInput, HookOutput, HookType, InvalidHeader, Registration,
    RegistrationId, async_hook_fn, async_trait, hook_fn,
};

use crate::util::{changes, many_headers, name, poll_once, values, within_10_s};

/// Which hooks were called, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn push(&self, name: &'static str) {
        self.0.lock().unwrap().push(name);
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// A hook that logs its name and gives `output`.
    fn hook(&self, name: &'static str, output: HookOutput) -> Registration {
        let log = self.clone();
        pre(
            name,
            hook_fn(move |_, _| {
                log.push(name);
                Ok(output.clone())
            }),
        )
    }

    fn allow(&self, name: &'static str) -> Registration {
        self.hook(name, HookOutput::allow())
    }

    /// A hook that logs its name, waits for `gate` and allows.
    fn waiting(&self, name: &'static str, gate: &CancellationToken) -> Registration {
        let (log, gate) = (self.clone(), gate.clone());
        pre(
            name,
            async_hook_fn(move |_, _| {
                log.push(name);
                let gate = gate.clone();
                Box::pin(async move {
                    gate.cancelled().await;
                    Ok(HookOutput::allow())
                })
            }),
        )
    }
}

fn pre(name: &'static str, hook: impl Hook + 'static) -> Registration {
    Registration::new(name, [HookType::PreRequest], hook)
}

fn gives(name: &'static str, output: HookOutput) -> Registration {
    pre(name, hook_fn(move |_, _| Ok(output.clone())))
}

fn fails(name: &'static str) -> Registration {
    pre(name, hook_fn(|_, _| Err(HookError::new("boom"))))
}

fn header(name: &str, value: &str) -> HookOutput {
    HookOutput::allow().with_header(name, value).unwrap()
}

fn input() -> HookInput<'static> {
    HookInput::new(HookType::PreRequest)
}

fn run(chain: &HookChain) -> Result<HookOutput, ChainError> {
    block_on(chain.execute(&HookContext::new(), &input()))
}

fn chain_of(registrations: impl IntoIterator<Item = Registration>) -> HookChain {
    let chain = HookChain::default();
    for registration in registrations {
        chain.register(registration);
    }
    chain
}

/// The hook and the message of a `ChainError::Hook`.
fn failed(result: Result<HookOutput, ChainError>) -> (String, HookError) {
    match result {
        Err(ChainError::Hook { hook, source }) => (hook, source),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_run_can_be_sent_to_another_thread() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    fn shared<T: Send + Sync + Debug>() {}
    shared::<HookChain>();
    shared::<HookInput<'_>>();
    let chain = HookChain::default();
    let (cx, input) = (HookContext::new(), input());
    assert_eq!(
        block_on(send(chain.execute(&cx, &input))).unwrap(),
        HookOutput::allow()
    );
}

#[test]
fn headers_are_merged_without_regard_to_case() {
    let chain = chain_of([
        gives("a", header("X-Tag", "1")),
        gives("b", header("x-tAG", "2")),
    ]);
    let output = run(&chain).unwrap();
    assert_eq!(output.headers, changes(&[("x-tag", &["2"])]));
    assert!(output.modified);
}

#[test]
fn a_later_hook_can_remove_what_an_earlier_one_set_and_the_reverse() {
    let mut remove = HookOutput {
        modified: true,
        ..HookOutput::allow()
    };
    assert!(remove.headers.set(name("x"), vec![]));
    let set = header("x", "1");
    let removed = run(&chain_of([
        gives("a", set.clone()),
        gives("b", remove.clone()),
    ]));
    assert_eq!(removed.unwrap().headers, changes(&[("x", &[])]));
    let kept = run(&chain_of([gives("a", remove), gives("b", set)]));
    assert_eq!(kept.unwrap().headers, changes(&[("x", &["1"])]));
}

#[test]
fn headers_of_an_output_that_is_not_modified_are_ignored() {
    let unmodified = HookOutput {
        modified: false,
        ..header("x-b", "2")
    };
    let output = run(&chain_of([gives("b", unmodified.clone())])).unwrap();
    assert_eq!(output, HookOutput::allow());
    let output = run(&chain_of([
        gives("a", header("x-a", "1")),
        gives("b", unmodified),
    ]));
    assert_eq!(output.unwrap(), header("x-a", "1"));
}

#[test]
fn only_hooks_of_the_type_of_the_input_run() {
    let log = Log::default();
    let chain = HookChain::default();
    for (name, types) in [
        ("request", &[HookType::PreRequest][..]),
        ("both", &[HookType::PostResponse, HookType::PreRequest]),
        ("connect", &[HookType::OnConnect, HookType::OnConnect]),
        ("none", &[]),
    ] {
        let log = log.clone();
        let hook = hook_fn(move |_, input| {
            assert!(types.contains(&input.hook_type().unwrap()));
            log.push(name);
            Ok(HookOutput::allow())
        });
        chain.register(Registration::new(name, types.iter().copied(), hook));
    }
    for (hook_type, expected) in [
        (HookType::PreRequest, &["request", "both"][..]),
        (HookType::PostResponse, &["both"]),
        (HookType::OnConnect, &["connect"]),
        (HookType::OnClose, &[]),
    ] {
        let input = HookInput::new(hook_type);
        let output = block_on(chain.execute(&HookContext::new(), &input)).unwrap();
        assert_eq!(output, HookOutput::allow());
        assert_eq!(log.take(), expected, "{hook_type}");
        assert_eq!(
            chain.has_hooks(hook_type),
            !expected.is_empty(),
            "{hook_type}"
        );
    }
    assert_eq!(chain.len(), 4);
}

#[test]
fn an_input_without_a_type_is_refused_even_by_an_empty_chain() {
    let log = Log::default();
    for chain in [HookChain::default(), chain_of([log.allow("a")])] {
        let result = block_on(chain.execute(&HookContext::new(), &HookInput::default()));
        assert!(matches!(result, Err(ChainError::NoHookType)), "{result:?}");
    }
    assert!(log.take().is_empty());
}

#[test]
fn a_failure_denies_unless_the_policy_is_to_skip() {
    let log = Log::default();
    let chain = chain_of([gives("a", header("x-a", "1")), fails("b"), log.allow("c")]);
    let (hook, error) = failed(run(&chain));
    assert_eq!((hook.as_str(), error.to_string().as_str()), ("b", "boom"));
    assert!(log.take().is_empty());

    let chain = chain_of([
        gives("a", header("x-a", "1")),
        fails("b").on_error(FailPolicy::Skip),
        log.allow("c"),
    ]);
    assert_eq!(run(&chain).unwrap(), header("x-a", "1"));
    assert_eq!(log.take(), ["c"]);
}

#[test]
fn skip_does_not_soften_a_denial() {
    let log = Log::default();
    let deny = HookOutput::deny(StatusCode::IM_A_TEAPOT);
    let chain = chain_of([
        gives("a", deny.clone()).on_error(FailPolicy::Skip),
        log.allow("b"),
    ]);
    assert_eq!(run(&chain).unwrap(), deny);
    assert!(log.take().is_empty());
}

#[test]
fn changes_that_do_not_fit_fail_their_hook() {
    let full = || gives("full", many_headers("x", HeaderChanges::MAX_NAMES));
    let mut over = header("x-0", "of the second");
    over = over.with_header("one-too-many", "1").unwrap();
    over.status = Some(StatusCode::ACCEPTED);

    let (hook, error) = failed(run(&chain_of([full(), gives("over", over.clone())])));
    assert_eq!(hook, "over");
    assert_eq!(error.downcast_ref(), Some(&InvalidHeader::TooMany));

    // Skipped, none of it counts.
    let over = gives("over", over).on_error(FailPolicy::Skip);
    let output = run(&chain_of([full(), over])).unwrap();
    assert_eq!(output, many_headers("x", HeaderChanges::MAX_NAMES));

    // A name that is there already needs no room.
    let output = run(&chain_of([full(), gives("same", header("X-0", "new"))])).unwrap();
    assert_eq!(
        output.headers.get(&name("x-0")),
        Some(&values(&["new"])[..])
    );
}

#[test]
fn a_denial_stands_when_its_headers_do_not_fit() {
    for policy in [FailPolicy::Deny, FailPolicy::Skip] {
        let deny = HookOutput::deny(StatusCode::TOO_MANY_REQUESTS);
        let deny = deny.with_header("retry-after", "3").unwrap();
        let chain = chain_of([
            gives("full", many_headers("x", HeaderChanges::MAX_NAMES)),
            gives("deny", deny).on_error(policy),
        ]);
        let output = run(&chain).unwrap();
        assert!(!output.allow, "{policy:?}");
        assert_eq!(output.status, Some(StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(
            output.headers,
            many_headers("x", HeaderChanges::MAX_NAMES).headers
        );
    }
}

#[test]
fn a_skipped_failure_is_logged_with_its_hook_and_its_sources() {
    struct Lines(Arc<Mutex<String>>);
    struct Line(String);
    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0 += &format!("{field}={value:?} ");
        }
        fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
            let source = value.source().map(ToString::to_string);
            self.0 += &format!("{field}={value} source={source:?} ");
        }
    }
    impl tracing::Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            assert_eq!(*event.metadata().level(), Level::WARN);
            let mut line = Line(String::new());
            event.record(&mut line);
            *self.0.lock().unwrap() += &line.0;
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[derive(Debug, thiserror::Error)]
    #[error("no answer")]
    struct Outer(#[source] std::num::ParseIntError);
    let hook = hook_fn(|_, _| Err(HookError::new(Outer("x".parse::<u8>().unwrap_err()))));
    let chain = chain_of([pre("flaky", hook).on_error(FailPolicy::Skip)]);
    let lines = Arc::new(Mutex::new(String::new()));
    let output = tracing::subscriber::with_default(Lines(Arc::clone(&lines)), || run(&chain));
    assert_eq!(output.unwrap(), HookOutput::allow());
    let lines = lines.lock().unwrap();
    for part in [
        "hook=flaky ",
        "hook_type=pre_request ",
        r#"error=no answer source=Some("invalid digit found in string")"#,
    ] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
}

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
