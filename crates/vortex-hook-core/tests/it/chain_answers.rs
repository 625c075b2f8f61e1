//! Hooks that decide at once, and the bodies they answer with.

use futures_executor::block_on;
use vortex_hook_core::{
    CancellationToken, ChainError, Hook, HookChain, HookContext, HookError, HookInput, HookOutput,
    async_trait,
};

use crate::chain::{gives, input, pre, run};

/// Decides at once where it may, and panics where it should not be asked.
struct AtOnce(Option<fn() -> Result<HookOutput, HookError>>);

#[async_trait]
impl Hook for AtOnce {
    async fn call(&self, _: &HookContext, _: &HookInput<'_>) -> Result<HookOutput, HookError> {
        assert!(self.0.is_none(), "it has decided already");
        Ok(HookOutput::deny(http::StatusCode::IM_A_TEAPOT))
    }

    fn call_now(
        &self,
        _: &HookContext,
        _: &HookInput<'_>,
    ) -> Option<Result<HookOutput, HookError>> {
        self.0.map(|decide| decide())
    }
}

#[test]
fn a_hook_that_decides_at_once_is_asked_once() {
    let chain = HookChain::default();
    let at_once = AtOnce(Some(|| Ok(HookOutput::allow())));
    chain.register(pre("at once", at_once));
    assert_eq!(run(&chain).unwrap(), HookOutput::allow());

    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let cx = HookContext::new().with_cancellation(cancelled);
    let result = block_on(chain.execute(&cx, &input()));
    assert!(matches!(result, Err(ChainError::Cancelled { .. })));

    chain.register(pre("awaited", AtOnce(None)));
    assert_eq!(run(&chain).unwrap().deny_status(), 418);
    let failing = AtOnce(Some(|| Err(HookError::new("no"))));
    chain.register(pre("later", failing));
    assert_eq!(
        run(&chain).unwrap().deny_status(),
        418,
        "a denial ends the run"
    );
}

#[test]
fn a_denial_is_not_answered_with_the_body_of_what_was_allowed() {
    let chain = HookChain::default();
    chain.register(gives("first", HookOutput::allow().with_body("one")));
    assert_eq!(run(&chain).unwrap().body.unwrap(), "one");
    chain.register(gives("second", HookOutput::allow()));
    assert_eq!(run(&chain).unwrap().body.unwrap(), "one");
    chain.register(gives("third", HookOutput::allow().with_body("three")));
    assert_eq!(run(&chain).unwrap().body.unwrap(), "three");
    let denial = chain.register(gives("denial", HookOutput::default()));
    assert_eq!(run(&chain).unwrap().body, None);
    chain.replace(
        denial,
        gives("denial", HookOutput::default().with_body("no")),
    );
    assert_eq!(run(&chain).unwrap().body.unwrap(), "no");
}
