//! The JSON ABI, spoken by a plugin of frames.
//!
//! The host's JSON becomes an input frame, the hook answers with an output
//! frame, and that becomes JSON again. There is no allocation and no recursion;
//! every step is bounded by a buffer.

mod input;
mod output;

use crate::{Answer, Error, Input, Output};

/// Calls a hook with the JSON input in the first `length` bytes of `json`, and
/// replaces it by the JSON answer, whose length in bytes is returned.
///
/// `input` and `output` hold the frames in between. The exports of
/// [`plugin!`](crate::plugin) do this; a test may.
///
/// JSON has neither query, scheme, authority, status, configuration nor
/// context: the hook finds them empty. It cannot say body, context or log
/// lines: they are dropped. An appended value is answered as all values that
/// the header then has. Of a value that is not UTF-8, every byte that fits
/// nowhere becomes U+FFFD.
///
/// ```
/// use vortex_plugin_sdk::call_json;
///
/// let text = br#"{"type":"pre_request","method":"GET","path":"/","headers":{"Via":["a"]}}"#;
/// let (mut json, mut input, mut output) = ([0; 512], [0; 512], [0; 512]);
/// json[..text.len()].copy_from_slice(text);
/// let length = call_json(&mut json, text.len(), &mut input, &mut output, |_, output| {
///     output.append_header("via", "b")
/// })?;
/// let answer = r#"{"allow":true,"modified":true,"headers":{"via":["a","b"]},"status":0}"#;
/// assert_eq!(core::str::from_utf8(&json[..length]), Ok(answer));
/// # Ok::<(), vortex_plugin_sdk::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Malformed`] when the input is not what the JSON ABI says,
/// [`Error::Full`] when something exceeds its buffer, and what the hook returns.
pub fn call_json(
    json: &mut [u8],
    length: usize,
    input: &mut [u8],
    output: &mut [u8],
    hook: impl FnOnce(&Input<'_>, &mut Output<'_>) -> Result<(), Error>,
) -> Result<usize, Error> {
    let text = json.get(..length).ok_or(Error::Malformed)?;
    let length = input::transcode(text, input)?;
    let input = input.get(..length).unwrap_or_default();
    let length = crate::call(input, output, hook)?;
    let answer = Answer::parse(output.get(..length).unwrap_or_default())?;
    output::write(&Input::parse(input)?, &answer, json).ok_or(Error::Full)
}
