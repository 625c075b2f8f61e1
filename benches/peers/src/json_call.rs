//! One call through the JSON ABI, in the sandbox and in its peers.

use std::hint::black_box;

use anyhow::{Result, ensure};
use http::Request;
use vortex_benches::bare::{self, BareGuest, Output};
use vortex_benches::compare::minima;
use vortex_benches::report::{Report, Target};
use vortex_benches::{json_call, place, request};
use vortex_hook_core::HookOutput;
use vortex_sandbox::{Runtime, RuntimeConfig, WasmHook};

use crate::codec;
use crate::extism_guest;
use crate::ticker::Ticker;
use crate::wasmtime_guest::{Allocation, Bound, JsonGuest, JsonTemplate};

/// Rounds, and calls of each side in one of them.
const ROUNDS: u32 = 3_000;
const BATCH: u32 = 40;

/// More than any call needs, so that it never ends one.
const FUEL: u64 = 1 << 40;

/// Measures the call in all of them.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let wasm = place::fixture("api-key")?;
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let ours = WasmHook::new(runtime.load("api-key", &wasm)?)?;
    let mut wasmer = BareGuest::new(&wasm)?;
    let template = |bound| JsonTemplate::new(&wasm, bound, Allocation::OnDemand);
    let mut bare = template(Bound::None)?.guest()?;
    let epochs = template(Bound::Epoch)?;
    let mut epoch = epochs.guest()?;
    let mut epoch_map = epochs.guest()?;
    let mut epoch_codec = epochs.guest()?;
    let mut fuel = template(Bound::Fuel(FUEL))?.guest()?;
    let mut extism = extism_guest::api_key()?;
    let _ticker = Ticker::start(vec![epochs.engine().clone()]);

    let request = request::sample()?;
    request::check_answer(&json_call::call(&ours, &request)?)?;
    request::check_answer(&with_codec(&mut epoch_codec, &request)?)?;
    for output in [
        in_wasmer(&mut wasmer, &request)?,
        in_wasmtime(&mut bare, &request)?,
        in_wasmtime(&mut epoch, &request)?,
        with_map(&mut epoch_map, &request)?,
        in_wasmtime(&mut fuel, &request)?,
        in_extism(&mut extism, &request)?,
    ] {
        check(&output)?;
    }

    let [
        ours_ns,
        wasmer_ns,
        bare_ns,
        epoch_ns,
        map_ns,
        codec_ns,
        fuel_ns,
        extism_ns,
    ] = minima(
        ROUNDS,
        BATCH,
        [
            &mut || json_call::call(&ours, &request).map(|output| drop(black_box(output))),
            &mut || in_wasmer(&mut wasmer, &request).map(|output| drop(black_box(output))),
            &mut || in_wasmtime(&mut bare, &request).map(|output| drop(black_box(output))),
            &mut || in_wasmtime(&mut epoch, &request).map(|output| drop(black_box(output))),
            &mut || with_map(&mut epoch_map, &request).map(|output| drop(black_box(output))),
            &mut || with_codec(&mut epoch_codec, &request).map(|output| drop(black_box(output))),
            &mut || in_wasmtime(&mut fuel, &request).map(|output| drop(black_box(output))),
            &mut || in_extism(&mut extism, &request).map(|output| drop(black_box(output))),
        ],
    )?;
    report.add(
        "peers_json_call_ns",
        ours_ns,
        "the sandbox: request to output, all limits on",
    );
    report.add("wasmer_bare_ns", wasmer_ns, "wasmer, no limits");
    report.add("wasmtime_bare_ns", bare_ns, "wasmtime, no limits");
    report.add(
        "wasmtime_epoch_ns",
        epoch_ns,
        "wasmtime with epochs and a memory limit",
    );
    report.add(
        "wasmtime_epoch_map_ns",
        map_ns,
        "the same, its input built as that of json_bare_ns",
    );
    report.add(
        "wasmtime_epoch_same_codec_ns",
        codec_ns,
        "the same with the sandbox's JSON",
    );
    report.add(
        "wasmtime_fuel_ns",
        fuel_ns,
        "wasmtime with fuel and a memory limit",
    );
    report.add(
        "extism_ns",
        extism_ns,
        "Extism with a timeout and a memory limit",
    );
    report.add(
        "json_call_vs_wasmtime_bare",
        ours_ns / bare_ns,
        "the sandbox / wasmtime",
    );
    report.add_with_target(
        "json_call_vs_wasmtime_epoch",
        ours_ns / epoch_ns,
        Target::of(0.85),
        "the sandbox / wasmtime with epochs",
    );
    report.add(
        "json_call_vs_wasmtime_epoch_map",
        ours_ns / map_ns,
        "the same when the peer copies the headers first",
    );
    report.add(
        "json_call_vs_wasmtime_epoch_same_codec",
        ours_ns / codec_ns,
        "what is left of that without the codecs",
    );
    report.add(
        "json_call_vs_wasmtime_fuel",
        ours_ns / fuel_ns,
        "the sandbox / wasmtime with fuel",
    );
    report.add_with_target(
        "json_call_vs_extism",
        ours_ns / extism_ns,
        Target::of(0.38),
        "the sandbox / Extism",
    );
    Ok(())
}

fn in_wasmer(guest: &mut BareGuest, request: &Request<()>) -> Result<Output> {
    let answer = guest.exchange(&codec::encode(black_box(request))?)?;
    Ok(codec::decode(&answer)?)
}

pub(crate) fn in_wasmtime(guest: &mut JsonGuest, request: &Request<()>) -> Result<Output> {
    let json = codec::encode(black_box(request))?;
    guest.call(&json, |answer| Ok(codec::decode(answer)?))
}

/// The call in wasmtime with the encoder of `json_bare_ns`, which copies the
/// headers into a map first.
fn with_map(guest: &mut JsonGuest, request: &Request<()>) -> Result<Output> {
    let json = bare::encode(black_box(request))?;
    guest.call(&json, |answer| Ok(codec::decode(answer)?))
}

fn in_extism(plugin: &mut extism::Plugin, request: &Request<()>) -> Result<Output> {
    let json = codec::encode(black_box(request))?;
    extism_guest::call(plugin, &json, |answer| Ok(codec::decode(answer)?))
}

/// The call in wasmtime with the sandbox's own reading and writing of JSON: what
/// is left to tell them apart is how the guest is run.
fn with_codec(guest: &mut JsonGuest, request: &Request<()>) -> Result<HookOutput> {
    guest.call(json_call::input(request).to_json(), |answer| {
        Ok(HookOutput::from_json(answer)?)
    })
}

/// Checks that a guest has recognised the key.
pub(crate) fn check(output: &Output) -> Result<()> {
    let consumer = output.headers.get("X-Consumer");
    ensure!(
        output.allow
            && output.modified
            && output.status == 0
            && consumer.is_some_and(|values| values == &["demo"]),
        "a guest answered {output:?}"
    );
    Ok(())
}
