//! `HookChain`: order, merging and failures.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use futures_executor::block_on;
use http::StatusCode;
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata, span};
use vortex_hook_core::{
    CancellationToken, ChainError, FailPolicy, HeaderChanges, Hook, HookChain, HookContext,
    HookError, HookInput, HookOutput, HookType, InvalidHeader, Registration, async_hook_fn,
    hook_fn,
};

use crate::util::{changes, many_headers, name, values};

/// Which hooks were called, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    pub(crate) fn push(&self, name: &'static str) {
        self.0.lock().unwrap().push(name);
    }

    pub(crate) fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// A hook that logs its name and gives `output`.
    pub(crate) fn hook(&self, name: &'static str, output: HookOutput) -> Registration {
        let log = self.clone();
        pre(
            name,
            hook_fn(move |_, _| {
                log.push(name);
                Ok(output.clone())
            }),
        )
    }

    pub(crate) fn allow(&self, name: &'static str) -> Registration {
        self.hook(name, HookOutput::allow())
    }

    /// A hook that logs its name, waits for `gate` and allows.
    pub(crate) fn waiting(&self, name: &'static str, gate: &CancellationToken) -> Registration {
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

pub(crate) fn pre(name: &'static str, hook: impl Hook + 'static) -> Registration {
    Registration::new(name, [HookType::PreRequest], hook)
}

pub(crate) fn gives(name: &'static str, output: HookOutput) -> Registration {
    pre(name, hook_fn(move |_, _| Ok(output.clone())))
}

pub(crate) fn fails(name: &'static str) -> Registration {
    pre(name, hook_fn(|_, _| Err(HookError::new("boom"))))
}

pub(crate) fn header(name: &str, value: &str) -> HookOutput {
    HookOutput::allow().with_header(name, value).unwrap()
}

pub(crate) fn input() -> HookInput<'static> {
    HookInput::new(HookType::PreRequest)
}

pub(crate) fn run(chain: &HookChain) -> Result<HookOutput, ChainError> {
    block_on(chain.execute(&HookContext::new(), &input()))
}

pub(crate) fn chain_of(registrations: impl IntoIterator<Item = Registration>) -> HookChain {
    let chain = HookChain::default();
    for registration in registrations {
        chain.register(registration);
    }
    chain
}

/// The hook and the message of a `ChainError::Hook`.
pub(crate) fn failed(result: Result<HookOutput, ChainError>) -> (String, HookError) {
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
