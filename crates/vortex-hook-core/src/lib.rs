//! The vocabulary of Vortex plugins: what a hook is asked ([`HookInput`]), what
//! it answers ([`HookOutput`]), what it is ([`Hook`]) and how several of them
//! decide together ([`HookChain`]).
//!
//! What is *not* here: WebAssembly, files, signatures, an async runtime. A
//! gateway that only has native hooks needs nothing but this crate.
//!
//! ```
//! use http::StatusCode;
//! use vortex_hook_core::{
//!     HookChain, HookContext, HookInput, HookOutput, HookType, Registration, hook_fn,
//! };
//!
//! let chain = HookChain::default();
//! chain.register(Registration::new(
//!     "needs-a-key",
//!     [HookType::PreRequest],
//!     hook_fn(|_, input| {
//!         let keyed = input.headers().is_some_and(|h| h.contains_key("x-api-key"));
//!         Ok(if keyed { HookOutput::allow() } else { HookOutput::deny(StatusCode::UNAUTHORIZED) })
//!     }),
//! ));
//!
//! let request = http::Request::get("/").body(())?;
//! let input = HookInput::from_request(HookType::PreRequest, &request);
//! let output = futures_executor::block_on(chain.execute(&HookContext::new(), &input))?;
//! assert_eq!((output.allow, output.deny_status()), (false, StatusCode::UNAUTHORIZED));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chain;
mod context;
mod error;
mod exchange;
mod fail_policy;
mod header_changes;
mod hook;
mod hook_type;
mod input;
mod output;
mod wire;

pub use async_trait::async_trait;
pub use chain::{ChainOrder, HookChain, Registration, RegistrationId};
pub use context::{CancellationToken, HookContext};
pub use error::{ChainError, DecodeError, FrameError, HookError};
pub use exchange::Exchange;
pub use fail_policy::FailPolicy;
pub use header_changes::{HeaderChange, HeaderChanges};
pub use hook::{Hook, HookFuture, async_hook_fn, hook_fn};
pub use hook_type::{HookType, ParseHookTypeError};
pub use input::HookInput;
pub use output::{HookOutput, InvalidHeader};
pub use wire::{FrameOutput, LogLevel, LogLine};
