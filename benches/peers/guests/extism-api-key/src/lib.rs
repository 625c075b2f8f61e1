//! Lets a request pass when its `X-Api-Key` is known: `tests/fixtures/guests/api-key`
//! as Extism's plugin kit has one write it.

use extism_pdk::{FnResult, Json, plugin_fn};
use guest_abi::{HookInput, HookOutput};

/// The known keys and whom they belong to.
const CONSUMERS: [(&str, &str); 4] = [
    ("k-demo-123", "demo"),
    ("k-mobile-456", "mobile"),
    ("k-partner-789", "partner"),
    ("k-internal-000", "internal"),
];

#[plugin_fn]
pub fn check(Json(input): Json<HookInput>) -> FnResult<Json<HookOutput>> {
    let consumer = input
        .header("X-Api-Key")
        .and_then(|key| CONSUMERS.iter().find(|(known, _)| *known == key));
    Ok(Json(match consumer {
        Some((_, name)) => HookOutput::allow().with_header("X-Consumer", *name),
        None => HookOutput::deny(401),
    }))
}
