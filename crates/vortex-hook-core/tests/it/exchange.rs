//! `Exchange`: what is kept, and how much.

use std::sync::Arc;

use vortex_hook_core::{Exchange, HookContext};

#[test]
fn a_context_hands_the_exchange_on() {
    assert!(HookContext::new().exchange().is_none());
    let exchange = Arc::new(Exchange::new());
    assert!(exchange.keep("a", b"1"));
    let cx = HookContext::new().with_exchange(exchange);
    assert_eq!(cx.exchange().unwrap().kept("a"), Some(b"1".to_vec()));
    assert_eq!(cx.exchange().unwrap().kept("b"), None);
}

#[test]
fn what_is_kept_is_replaced_and_bounded() {
    let exchange = Exchange::new();
    assert!(exchange.keep("a", &[1; Exchange::MAX_BYTES]));
    assert!(!exchange.keep("a", &[2; Exchange::MAX_BYTES + 1]));
    assert_eq!(exchange.kept("a"), Some(vec![1; Exchange::MAX_BYTES]));
    assert!(exchange.keep("a", b""));
    assert_eq!(exchange.kept("a"), Some(vec![]));

    for i in 1..Exchange::MAX_KEEPERS {
        assert!(exchange.keep(&format!("p{i}"), b"x"));
    }
    assert!(!exchange.keep("one-too-many", b"x"));
    assert!(exchange.keep("a", b"y"), "a keeper may keep something else");
}
