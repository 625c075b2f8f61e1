//! Write a Vortex plugin as one function.
//!
//! A hook reads an [`Input`] where the host has put it and writes its answer to
//! an [`Output`]; [`plugin!`] exports it. The module then speaks the frame ABI
//! (`docs/abi-frame.md`) and the JSON ABI, from the same source. Nothing is
//! allocated, and there is neither `std` nor another dependency.
//!
//! ```
//! use vortex_plugin_sdk::{Error, Input, Output, same};
//!
//! vortex_plugin_sdk::plugin!(check);
//!
//! /// Lets a request pass when its key is known.
//! fn check(input: &Input<'_>, output: &mut Output<'_>) -> Result<(), Error> {
//!     match input.header("x-api-key") {
//!         Some(key) if same(key, b"k-demo-123") => output.set_header("x-consumer", "demo"),
//!         _ => {
//!             output.deny(401);
//!             Ok(())
//!         }
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! A hook is an ordinary function, and so are its tests: [`InputFrame`] writes
//! what the host would, [`call`] and [`call_json`] call, [`Answer`] reads.
//!
//! What is *not* here: the host, see `vortex-sandbox`. Plugins in C have
//! `include/vortex_plugin.h`.

#![no_std]

mod answer;
mod bytes;
mod error;
mod exports;
mod frame;
mod input;
mod json;
mod output;

pub use answer::Answer;
pub use bytes::same;
pub use error::Error;
#[doc(hidden)]
pub use exports::Plugin;
pub use exports::Sizes;
pub use frame::InputFrame;
pub use input::{Field, Headers, Input, Phase};
pub use json::call_json;
pub use output::{Change, Level, Output};

/// Calls a hook with an input frame, and returns the length in bytes of the
/// output frame that it has written to `output`.
///
/// ```
/// use vortex_plugin_sdk::{Answer, InputFrame, call};
///
/// let (mut input, mut output) = ([0; 256], [0; 256]);
/// let length = InputFrame::default().write(&mut input)?;
/// let length = call(&input[..length], &mut output, |_, output| output.remove_header("via"))?;
/// assert_eq!(Answer::parse(&output[..length])?.operations().len(), 1);
/// # Ok::<(), vortex_plugin_sdk::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Malformed`] when the input is no frame, [`Error::Full`] when the
/// answer exceeds its buffer or a limit, and what the hook returns.
#[inline]
pub fn call(
    input: &[u8],
    output: &mut [u8],
    hook: impl FnOnce(&Input<'_>, &mut Output<'_>) -> Result<(), Error>,
) -> Result<usize, Error> {
    let input = Input::parse(input)?;
    let mut output = Output::new(output);
    hook(&input, &mut output)?;
    output.finish()
}
