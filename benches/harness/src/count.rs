//! Instructions of paths of the host, as callgrind counts them: they do not depend
//! on what else the machine does.
//!
//! Without arguments it counts every path and adds the counts to the summary;
//! `count <path> <times>` walks one path so often, which is what it has counted.

use std::hint::black_box;
use std::pin::pin;
use std::process::{Command, ExitCode};
use std::task::{Context, Poll, Waker};

use anyhow::{Context as _, Result, bail, ensure};
use vortex_hook_core::{
    FrameOutput, Hook, HookChain, HookContext, HookInput, HookOutput, HookType, Registration,
    hook_fn,
};
use vortex_sandbox::{Runtime, RuntimeConfig, WasmHook};

use vortex_benches::json_call::input;
use vortex_benches::report::Report;
use vortex_benches::request::{check_answer, sample};

const PATHS: [&str; 7] = [
    "input",
    "encode_json",
    "encode_frame",
    "decode_json",
    "decode_frame",
    "chain",
    "pool",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Counts every path, as the difference between twice as many turns and as many.
fn count_all() -> Result<()> {
    const TURNS: u32 = 1_000;
    let mut report = Report::default();
    for path in PATHS {
        eprintln!("bench: instructions of {path}");
        let more = instructions(path, 2 * TURNS)?.saturating_sub(instructions(path, TURNS)?);
        report.add(
            &format!("{path}_instructions"),
            more as f64 / f64::from(TURNS),
            "callgrind, a turn",
        );
    }
    print!("{}", report.table());
    let path = report.merge("summary.json")?;
    println!("added to {}", path.display());
    Ok(())
}

/// Instructions of this program when it walks a path so often.
fn instructions(path: &str, times: u32) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args([path, &times.to_string()])
        .output()
        .context("cannot run valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {text}");
    let counted = text
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, count)| count.trim().parse().ok());
    counted.with_context(|| format!("valgrind told no count: {text}"))
}

fn run(arguments: &[String]) -> Result<()> {
    let [path, times] = arguments else {
        return count_all();
    };
    let times: u32 = times.parse().context("the second argument is a number")?;
    let request = sample()?;
    match path.as_str() {
        "input" => repeat(times, || {
            black_box(input(&request));
            Ok(())
        }),
        "encode_json" => repeat(times, || {
            black_box(input(&request).to_json());
            Ok(())
        }),
        "encode_frame" => {
            let mut frame = [0; 4096];
            repeat(times, || {
                black_box(input(&request).write_frame(black_box(&mut frame), b"", b"")?);
                Ok(())
            })
        }
        "decode_json" => {
            let answer = br#"{"allow":true,"modified":true,"headers":{"x-consumer":["demo"]}}"#;
            check_answer(&HookOutput::from_json(answer)?)?;
            repeat(times, || {
                black_box(HookOutput::from_json(black_box(answer))?);
                Ok(())
            })
        }
        "decode_frame" => {
            let answer = one_header();
            check_answer(&FrameOutput::read(&answer)?.output)?;
            repeat(times, || {
                black_box(FrameOutput::read(black_box(&answer))?);
                Ok(())
            })
        }
        "chain" => {
            let chain = HookChain::default();
            for _ in 0..10 {
                let hook = hook_fn(|_, _| Ok(HookOutput::allow()));
                chain.register(Registration::new("native", [HookType::PreRequest], hook));
            }
            let input = input(&request);
            repeat(times, || {
                let cx = HookContext::new();
                let run = pin!(chain.execute(&cx, &input));
                match run.poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(output) => drop(black_box(output?)),
                    Poll::Pending => bail!("a native hook waits"),
                }
                Ok(())
            })
        }
        "pool" => {
            let runtime = Runtime::new(RuntimeConfig::default())?;
            let hook = WasmHook::new(runtime.load("allow", &wat::parse_str(ALLOW)?)?)?;
            let input = HookInput::new(HookType::OnConnect);
            repeat(times, || {
                let answer = hook.call_now(&HookContext::new(), &input);
                let answer = answer.context("no instance is free")??;
                ensure!(black_box(answer).allow, "the guest denied");
                Ok(())
            })
        }
        unknown => bail!("there is no path `{unknown}`, only {}", PATHS.join(", ")),
    }
}

/// Allows without looking: what is left is lending an instance and crossing over.
const ALLOW: &str = r#"(module (memory (export "memory") 1)
  (data (i32.const 16) "\00\10\00\00\00\10\00\00\00\20\00\00\00\10\00\00")
  (data (i32.const 8192) "\28\00\00\00\02\00")
  (func (export "vortex_abi_v2") (result i32) (i32.const 16))
  (func (export "vortex_handle") (param i32) (result i32) (i32.const 40)))"#;

/// The output frame that sets `x-consumer` to `demo`.
fn one_header() -> Vec<u8> {
    let mut frame = vec![0; 60];
    for (at, n) in [
        (0, 74_u32),
        (4, 2),
        (12, 1),
        (44, 60),
        (48, 10),
        (52, 70),
        (56, 4),
    ] {
        if let Some(field) = frame.get_mut(at..at + 4) {
            field.copy_from_slice(&n.to_le_bytes());
        }
    }
    frame.extend_from_slice(b"x-consumerdemo");
    frame
}

fn repeat(times: u32, mut work: impl FnMut() -> Result<()>) -> Result<()> {
    (0..times).try_for_each(|_| work())
}
