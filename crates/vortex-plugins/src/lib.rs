//! Signed, sandboxed WebAssembly plugins for Rust gateways.
//!
//! [`PluginHost`] wires three crates together, each of which stands alone too:
//! [`hook_core`] (what a hook is, and the chain), [`sandbox`] (runs a module on a
//! budget) and [`registry`] (stores signed versions and says which may run).
//!
//! ```
//! use vortex_plugins::registry::{PluginManifest, Policy, PrivateKey, Registry, Release, Version};
//! use vortex_plugins::{ChainOrder, HookContext, HookInput, HookType, PluginHost};
//!
//! # let store = tempfile::tempdir()?;
//! # let wasm = wat::parse_str(r#"(module (memory (export "memory") 1)
//! #   (data (i32.const 16) "{\"allow\":true}")
//! #   (func (export "alloc") (param i32) (result i32) (i32.const 1024))
//! #   (func (export "handle") (param i32 i32) (result i64) (i64.const 0x10_0000000e)))"#)?;
//! // Somebody signs and installs a plugin …
//! let key = PrivateKey::generate()?;
//! let policy = Policy::strict([key.public_key()]);
//! let release = Release { abi: 1, seq: 1, released_at: 1_750_000_000 };
//! let manifest = PluginManifest::new("gate".parse()?, Version::new(1, 0, 0), [HookType::PreRequest], &wasm)
//!     .sign(&wasm, release, &[&key])?;
//! Registry::open(store.path(), policy.clone())?.install(&manifest, &wasm)?;
//!
//! // … and a gateway runs it.
//! let host = PluginHost::open(store.path(), policy)?;
//! let chain = host.chain(ChainOrder::Registration, ["gate@^1".parse()?])?;
//! let request = http::Request::get("/").body(())?;
//! let input = HookInput::from_request(HookType::PreRequest, &request);
//! let output = futures_executor::block_on(chain.execute(&HookContext::new(), &input))?;
//! assert!(output.allow);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod host;
mod reference;
mod spec;

pub use vortex_hook_core as hook_core;
#[cfg(feature = "oci")]
pub use vortex_oci as oci;
pub use vortex_registry as registry;
pub use vortex_sandbox as sandbox;

pub use error::HostError;
pub use host::{LoadedPlugin, PluginHost};
pub use reference::PluginRef;
pub use spec::PluginSpec;
pub use vortex_hook_core::{
    ChainError, ChainOrder, FailPolicy, Hook, HookChain, HookContext, HookInput, HookOutput,
    HookType, Registration, RegistrationId,
};
pub use vortex_registry::Policy;
pub use vortex_sandbox::{RuntimeConfig, SandboxError};

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
