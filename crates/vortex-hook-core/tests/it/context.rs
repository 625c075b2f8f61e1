//! `HookContext`: deadline and cancellation.

use std::time::{Duration, Instant};

use vortex_hook_core::{CancellationToken, HookContext};

#[test]
fn a_new_context_neither_expires_nor_is_cancelled() {
    let cx = HookContext::new();
    assert_eq!(cx.deadline(), None);
    assert!(cx.cancellation().is_none());
    assert!(!cx.is_expired() && !cx.is_cancelled());
}

#[test]
fn a_deadline_passes() {
    let now = Instant::now();
    let cx = HookContext::new().with_deadline(now);
    assert_eq!(cx.deadline(), Some(now));
    assert!(cx.is_expired());
    assert!(HookContext::new().with_timeout(Duration::ZERO).is_expired());

    let hour = Duration::from_secs(3600);
    let cx = HookContext::new().with_timeout(hour);
    assert!(!cx.is_expired());
    assert!(cx.deadline().unwrap() >= now + hour);
    assert_eq!(
        HookContext::new().with_timeout(Duration::MAX).deadline(),
        None
    );
}

#[test]
fn a_clone_and_a_child_token_are_cancelled_too() {
    let token = CancellationToken::new();
    let cx = HookContext::new().with_cancellation(token.child_token());
    let clone = cx.clone();
    assert!(!clone.is_cancelled());
    token.cancel();
    assert!(cx.is_cancelled() && clone.is_cancelled());
    assert!(cx.cancellation().unwrap().is_cancelled());
}
