//! JSON of one form.

use serde::Deserialize;

/// Reads a JSON object.
///
/// What is derived for a struct takes an array of its members as well, which
/// no other reader of such a document would.
pub(crate) fn object<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, String> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err("it is no JSON object".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}
