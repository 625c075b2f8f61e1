//! The request that calls are measured with.

use anyhow::{Result, ensure};
use http::{Request, StatusCode};
use vortex_hook_core::HookOutput;

/// The client's address.
pub const REMOTE: &str = "203.0.113.7:51514";
/// The name of the gateway's route.
pub const ROUTE: &str = "orders";

/// Twelve headers as a browser behind a load balancer sends them; the `api-key`
/// guest knows the key.
const HEADERS: [(&str, &str); 12] = [
    ("host", "api.example.com"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    ),
    ("accept", "application/json, text/plain, */*"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://shop.example.com/cart"),
    ("origin", "https://shop.example.com"),
    ("cookie", "session=4f9c2b7e51d84a0b; theme=dark; consent=1"),
    ("x-api-key", "k-demo-123"),
    ("x-request-id", "7b0e7c1e-5d0f-4c57-9d1c-0d6a9f1c2f11"),
    ("x-forwarded-for", "198.51.100.23, 203.0.113.7"),
    ("x-forwarded-proto", "https"),
];

/// The request, without a body.
///
/// # Errors
///
/// Never: its parts are valid.
pub fn sample() -> Result<Request<()>> {
    let mut request = Request::get("/v1/orders/1234");
    for (name, value) in HEADERS {
        request = request.header(name, value);
    }
    Ok(request.body(())?)
}

/// Checks that the `api-key` guest has recognised the key.
///
/// # Errors
///
/// If it has not.
pub fn check_answer(output: &HookOutput) -> Result<()> {
    let consumer = output
        .headers
        .get(&http::HeaderName::from_static("x-consumer"))
        .and_then(|values| values.first());
    ensure!(
        output.allow
            && output.status.unwrap_or(StatusCode::OK) == StatusCode::OK
            && consumer.is_some_and(|value| value == "demo"),
        "the guest answered {output:?}"
    );
    Ok(())
}
