//! What several modules need.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use vortex_hook_core::{HeaderChanges, HookOutput};

/// Polls once and lets nothing wake it: the test decides when to poll again.
pub(crate) fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs `f` on another thread and fails, instead of hanging, when it does not end.
pub(crate) fn within_10_s<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || done.send(f()));
    wait.recv_timeout(Duration::from_secs(10))
        .expect("it panicked or did not end within 10 s")
}

pub(crate) fn name(name: &str) -> HeaderName {
    HeaderName::try_from(name).unwrap()
}

pub(crate) fn values(values: &[&str]) -> Vec<HeaderValue> {
    values
        .iter()
        .map(|v| HeaderValue::try_from(*v).unwrap())
        .collect()
}

pub(crate) fn changes(list: &[(&str, &[&str])]) -> HeaderChanges {
    let mut changes = HeaderChanges::new();
    for (header, list) in list {
        assert!(changes.set(name(header), values(list)));
    }
    changes
}

/// An output that allows and changes `count` headers, `{prefix}-0` and on.
pub(crate) fn many_headers(prefix: &str, count: usize) -> HookOutput {
    let mut output = HookOutput::allow();
    output.modified = true;
    for i in 0..count {
        assert!(
            output
                .headers
                .set(name(&format!("{prefix}-{i}")), values(&["v"]))
        );
    }
    output
}

/// All headers in order, by name in the order of first appearance.
pub(crate) fn listed(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_bytes()))
        .collect()
}
