//! Calls through the frame ABI, in a chain as gateways make them, against the
//! same job in JSON and as a native hook.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use anyhow::{Result, bail, ensure};
use http::{HeaderName, HeaderValue};
use vortex_hook_core::{
    HookChain, HookContext, HookInput, HookOutput, HookType, Registration, hook_fn,
};
use vortex_sandbox::{Isolation, Runtime, RuntimeConfig, WasmHook};

use crate::compare::minima;
use crate::json_call::input;
use crate::place;
use crate::report::{Report, Target};
use crate::request::{check_answer, sample};

const ROUNDS: u32 = 3_000;
const BATCH: u32 = 200;

const BODY: usize = 64 << 10;

/// Measures one frame call, ten of them, isolated ones, and ones with a body.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let per_call = RuntimeConfig {
        isolation: Isolation::PerCall,
        ..RuntimeConfig::default()
    };
    let api_key = place::fixture("frame-api-key")?;
    let frame = chain([WasmHook::new(runtime.load("frame", &api_key)?)?]);
    let json = place::fixture("api-key")?;
    let json = chain([WasmHook::new(runtime.load("json", &json)?)?]);
    let isolated = runtime.load_with("isolated", &api_key, &per_call)?;
    let isolated = chain([WasmHook::new(isolated)?]);
    let ten = |name: &str, module: &dyn Fn(u8) -> Vec<u8>| -> Result<HookChain> {
        let load = |i| runtime.load(&format!("{name}-{i}"), &module(i));
        let hooks = (0..10).map(|i| Ok(WasmHook::new(load(i)?)?));
        Ok(chain(hooks.collect::<Result<Vec<_>>>()?))
    };
    let others = ten("other", &|i| [&api_key[..], &custom_section(i)].concat())?;
    let ten = ten("frame", &|_| api_key.clone())?;
    let body_hook = runtime.load("body", &place::fixture("frame-body")?)?;
    let body_hook = chain([WasmHook::new(body_hook)?]);
    let native = native_chain();

    let request = sample()?;
    for chain in [&frame, &json, &isolated, &ten, &others, &native] {
        check_answer(&execute(chain, &input(&request))?)?;
    }
    let body = vec![0x5A; BODY];
    let mut copy = vec![0; BODY];
    let with_body = || input(&request).with_body(black_box(&body));
    ensure!(
        execute(&body_hook, &with_body())?.allow,
        "the guest denied a body"
    );

    let call = |chain: &HookChain| execute(chain, &input(&request)).map(|o| drop(black_box(o)));
    let [frame_ns, json_ns, isolated_ns, ten_ns, others_ns, native_ns] = minima(
        ROUNDS,
        BATCH,
        [
            &mut || call(&frame),
            &mut || call(&json),
            &mut || call(&isolated),
            &mut || call(&ten),
            &mut || call(&others),
            &mut || call(&native),
        ],
    )?;
    let [body_ns, no_body_ns, copy_ns] = minima(
        ROUNDS,
        BATCH / 10,
        [
            &mut || execute(&body_hook, &with_body()).map(|o| drop(black_box(o))),
            &mut || call(&body_hook),
            &mut || {
                black_box(&mut copy).copy_from_slice(black_box(&body));
                Ok(())
            },
        ],
    )?;
    report.add(
        "frame_call_ns",
        frame_ns,
        "request to output through a chain",
    );
    report.add("native_call_ns", native_ns, "the same as a native hook");
    report.add("chain_json_call_ns", json_ns, "the same in JSON");
    report.add_with_target(
        "frame_call_vs_json_call",
        frame_ns / json_ns,
        Target::of(0.10),
        "interleaved minima, as all below",
    );
    report.add_with_target(
        "frame_call_vs_native",
        frame_ns / native_ns,
        Target::of(6.0),
        "",
    );
    report.add(
        "isolated_call_extra_ns",
        isolated_ns - frame_ns,
        "what PerCall adds to a frame call",
    );
    report.add_with_target(
        "chain10_frame_vs_1",
        ten_ns / frame_ns,
        Target::of(8.0),
        "ten plugins of one module, one input",
    );
    report.add(
        "chain10_other_modules_vs_1",
        others_ns / frame_ns,
        "the same if no two of them share their code",
    );
    report.add(
        "frame_call_further_ns",
        (ten_ns - frame_ns) / 9.0,
        "what each further plugin of the ten costs",
    );
    report.add_with_target(
        "body64k_frame_vs_memcpy",
        body_ns / (no_body_ns + copy_ns),
        Target::of(1.5),
        "a body of 64 KiB / memcpy and a call without",
    );
    Ok(())
}

/// A section that changes nothing but the digest of the module that it is added to.
fn custom_section(number: u8) -> [u8; 5] {
    // Its kind, its length, its name in two bytes, and a byte of contents.
    [0, 3, 1, b'n', number]
}

fn chain(hooks: impl IntoIterator<Item = WasmHook>) -> HookChain {
    let chain = HookChain::default();
    for hook in hooks {
        let name = hook.plugin().name().to_owned();
        chain.register(Registration::new(name, [HookType::PreRequest], hook));
    }
    chain
}

/// What the guests do: finds a header, looks it up, adds one.
fn native_chain() -> HookChain {
    const CONSUMERS: [(&str, &str); 4] = [
        ("k-demo-123", "demo"),
        ("k-mobile-456", "mobile"),
        ("k-partner-789", "partner"),
        ("k-internal-000", "internal"),
    ];
    let hook = hook_fn(|_, input| {
        let key = input.headers().and_then(|h| h.get("x-api-key"));
        let consumer = key.and_then(|key| CONSUMERS.iter().find(|(known, _)| key == known));
        let Some((_, consumer)) = consumer else {
            return Ok(HookOutput::deny(http::StatusCode::UNAUTHORIZED));
        };
        let mut output = HookOutput::allow();
        let (name, value) = ("x-consumer", HeaderValue::from_str(consumer));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), value) {
            output.modified = output.headers.insert(name, value);
        }
        Ok(output)
    });
    let chain = HookChain::default();
    chain.register(Registration::new("native", [HookType::PreRequest], hook));
    chain
}

/// One run of a chain, which must not have to wait.
pub(crate) fn execute(chain: &HookChain, input: &HookInput<'_>) -> Result<HookOutput> {
    let cx = HookContext::new();
    let mut future = pin!(chain.execute(&cx, input));
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(result) => Ok(result?),
        Poll::Pending => bail!("the chain waits, though nothing else uses its instances"),
    }
}
