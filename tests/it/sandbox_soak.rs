//! Many threads, many calls: every answer is the answer to its own question.

use std::thread;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use vortex_hook_core::{Hook, HookContext, HookInput, HookType};
use vortex_sandbox::SandboxError;

use crate::util::{Random, assert_fails, call, header, hook, isolated, runtime};

/// Far more than it takes; a test that hangs fails then.
const LIMIT: Duration = Duration::from_secs(120);

const THREADS: u64 = 8;
const CALLS: u64 = 10_000;

/// FNV-1a, 64 bits, as the guest computes it.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The guest sends each byte of its input through its heap, in pieces, and back.
/// Every fifth caller also calls a plugin that traps.
#[test]
fn answers_are_never_mixed_up() {
    isolated(LIMIT, || {
        let runtime = runtime();
        let (checksum, traps) = (hook(&runtime, "checksum"), hook(&runtime, "trap-on-bang"));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (checksum, traps) = (&checksum, &traps);
                scope.spawn(move || {
                    let mut random = Random::new(1_000 + thread);
                    let methods = [Method::GET, Method::POST, Method::DELETE];
                    for n in 0..CALLS {
                        if n % 5 == thread % 5 && n % 3 == 0 {
                            assert_fails!(call(traps, "/!"), SandboxError::Aborted);
                            assert!(call(traps, "/").unwrap().allow);
                        }
                        let body: Vec<u8> = (0..random.below(300))
                            .map(|_| random.below(256) as u8)
                            .collect();
                        let mut headers = HeaderMap::new();
                        for k in 0..random.below(5) {
                            let name = HeaderName::try_from(format!("x-{k}-{}", random.below(99)));
                            headers.append(name.unwrap(), HeaderValue::from(random.below(1 << 40)));
                        }
                        let path =
                            format!("/{thread}/{n}/{}", "p".repeat(random.below(50) as usize));
                        let input = HookInput::new(HookType::PreRequest)
                            .with_method(&methods[random.below(3) as usize])
                            .with_path(path.as_str())
                            .with_headers(&headers)
                            .with_body(&body);
                        let output =
                            futures_executor::block_on(checksum.call(&HookContext::new(), &input));
                        let json = input.to_json();
                        let expected = format!("{path} {:016x} {}", fnv1a(json), json.len());
                        assert_eq!(header(&output.unwrap(), "x-echo"), expected);
                    }
                });
            }
        });
        let stats = checksum.plugin().stats();
        assert_eq!((stats.calls, stats.failures), (THREADS * CALLS, 0));
        assert!(stats.instances_created <= THREADS);
        assert!(traps.plugin().stats().failures > 4_000);
    });
}
