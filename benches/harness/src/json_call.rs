//! One call through the JSON ABI, against the same guest without a sandbox.

use std::hint::black_box;

use anyhow::{Result, ensure};
use http::Request;
use vortex_hook_core::{HookContext, HookInput, HookOutput, HookType};
use vortex_sandbox::{Runtime, RuntimeConfig, WasmHook};

use crate::bare::BareGuest;
use crate::compare::minima;
use crate::report::{Report, Target};
use crate::request::{REMOTE, ROUTE, check_answer, sample};
use crate::{place, poll};

/// Rounds of a comparison, and calls of each side in one of them: a batch takes
/// a fraction of a millisecond.
const ROUNDS: u32 = 3_000;
const BATCH: u32 = 40;

/// More than any call needs, so that metering never ends one.
const FUEL: u64 = 1 << 40;

/// Measures the JSON call with limits, with fuel besides, and bare.
///
/// # Errors
///
/// If the fixtures are not built, or a guest does not answer as it should.
pub fn run(report: &mut Report) -> Result<()> {
    let wasm = place::fixture("api-key")?;
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let default = WasmHook::new(runtime.load("api-key", &wasm)?)?;
    let with_fuel = RuntimeConfig {
        max_fuel: Some(FUEL),
        ..RuntimeConfig::default()
    };
    let fuel = WasmHook::new(runtime.load_with("api-key-fuel", &wasm, &with_fuel)?)?;
    let mut bare = BareGuest::new(&wasm)?;
    let mut codec = BareGuest::new(&wasm)?;
    let mut exchange = BareGuest::new(&wasm)?;

    let request = sample()?;
    let json = input(&request).to_json().to_vec();
    check_answer(&call(&default, &request)?)?;
    check_answer(&call(&fuel, &request)?)?;
    check_answer(&codec.call_with_codec(&input(&request))?)?;
    let answer = bare.call(&request)?;
    ensure!(
        answer.allow && answer.modified && answer.status == 0 && answer.headers.len() == 1,
        "the bare guest answered {answer:?}"
    );

    let [ours_ns, fuel_ns, bare_ns, codec_ns, exchange_ns] = minima(
        ROUNDS,
        BATCH,
        [
            &mut || call(&default, &request).map(|output| drop(black_box(output))),
            &mut || call(&fuel, &request).map(|output| drop(black_box(output))),
            &mut || {
                bare.call(black_box(&request))
                    .map(|output| drop(black_box(output)))
            },
            &mut || {
                codec
                    .call_with_codec(&input(&request))
                    .map(|output| drop(black_box(output)))
            },
            &mut || {
                exchange
                    .exchange(black_box(&json))
                    .map(|answer| drop(black_box(answer)))
            },
        ],
    )?;
    report.add("json_call_ns", ours_ns, "request to output, all limits on");
    report.add(
        "json_bare_ns",
        bare_ns,
        "wasmer alone with serde_json, no limits",
    );
    report.add(
        "json_bare_same_codec_ns",
        codec_ns,
        "wasmer alone with the sandbox's JSON, no limits",
    );
    report.add(
        "json_bare_exchange_ns",
        exchange_ns,
        "of both: the guest and its bytes, no JSON on the host",
    );
    report.add_with_target(
        "json_call_vs_bare",
        ours_ns / bare_ns,
        Target::of(1.08),
        "interleaved minima",
    );
    report.add(
        "json_call_vs_bare_same_codec",
        ours_ns / codec_ns,
        "interleaved minima: what the sandbox alone costs",
    );
    report.add(
        "exact_fuel_vs_default",
        fuel_ns / ours_ns,
        "the same call with max_fuel",
    );
    Ok(())
}

/// One call from a borrowed request to the output, its input encoded anew.
///
/// # Errors
///
/// If the hook fails, or has to wait.
pub fn call(hook: &WasmHook, request: &Request<()>) -> Result<HookOutput> {
    Ok(poll::call(hook, &HookContext::new(), &input(request))??)
}

/// A new input, of which nothing is encoded yet.
#[must_use]
pub fn input(request: &Request<()>) -> HookInput<'_> {
    HookInput::from_request(HookType::PreRequest, black_box(request))
        .with_remote(REMOTE)
        .with_route(ROUTE)
}
