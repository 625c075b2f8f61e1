//! A native hook with state and I/O, and one that is a closure, in one chain.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::ensure;
use async_trait::async_trait;
use http::StatusCode;
use tokio::sync::Mutex;
use vortex_plugins::hook_core::{HookError, hook_fn};
use vortex_plugins::{
    ChainOrder, FailPolicy, Hook, HookChain, HookContext, HookInput, HookOutput, HookType,
    Registration,
};

/// Lets each client through a few times.
struct RateLimit {
    limit: u32,
    seen: Mutex<HashMap<String, u32>>,
}

#[async_trait]
impl Hook for RateLimit {
    async fn call(&self, _: &HookContext, input: &HookInput<'_>) -> Result<HookOutput, HookError> {
        let ip = input.remote().rsplit_once(':').map_or("", |(ip, _)| ip);
        let mut seen = self.seen.lock().await;
        let count = seen.entry(ip.to_owned()).or_default();
        *count += 1;
        if *count <= self.limit {
            return Ok(HookOutput::allow());
        }
        HookOutput::deny(StatusCode::TOO_MANY_REQUESTS)
            .with_header("retry-after", "60")
            .map_err(HookError::new)
    }
}

/// Asks a service that may be down; the chain goes on without it.
struct Reputation;

#[async_trait]
impl Hook for Reputation {
    async fn call(&self, _: &HookContext, _: &HookInput<'_>) -> Result<HookOutput, HookError> {
        let connect = tokio::net::TcpStream::connect("127.0.0.1:1");
        match tokio::time::timeout(Duration::from_millis(100), connect).await {
            Ok(Ok(_)) => Ok(HookOutput::allow()),
            Ok(Err(error)) => Err(HookError::new(error)),
            Err(elapsed) => Err(HookError::new(elapsed)),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let chain = HookChain::new(ChainOrder::Priority);
    chain.register(
        Registration::new("reputation", [HookType::PreRequest], Reputation)
            .with_priority(20)
            .on_error(FailPolicy::Skip),
    );
    let limit = RateLimit {
        limit: 2,
        seen: Mutex::default(),
    };
    chain
        .register(Registration::new("rate-limit", [HookType::PreRequest], limit).with_priority(10));
    chain.register(Registration::new(
        "only-http",
        [HookType::PreRequest],
        hook_fn(|_, input| {
            Ok(match input.method() {
                Some(&http::Method::CONNECT) => HookOutput::deny(StatusCode::METHOD_NOT_ALLOWED),
                _ => HookOutput::allow(),
            })
        }),
    ));

    let request = http::Request::get("/").body(())?;
    for expected in [true, true, false] {
        let input = HookInput::from_request(HookType::PreRequest, &request)
            .with_remote("203.0.113.7:51514");
        let output = chain.execute(&HookContext::new(), &input).await?;
        println!("allow: {:5}  status: {:?}", output.allow, output.status);
        ensure!(
            output.allow == expected,
            "the third request is one too many"
        );
    }
    Ok(())
}
