//! The JSON of the hook ABI as a careful user of `serde_json` writes and reads it.

use http::{HeaderMap, HeaderValue, Request};
use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use vortex_benches::bare::Output;
use vortex_benches::request::{REMOTE, ROUTE};

/// The hook input, everything borrowed from the request.
#[derive(Serialize)]
struct Input<'a> {
    #[serde(rename = "type")]
    hook_type: &'a str,
    method: &'a str,
    path: &'a str,
    headers: Headers<'a>,
    body: Option<&'a str>,
    remote: &'a str,
    route: &'a str,
}

/// Header values by name, without a map in between.
struct Headers<'a>(&'a HeaderMap);

/// The values of one header.
struct Values<'a>(http::header::GetAll<'a, HeaderValue>);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.keys_len()))?;
        let mut name = String::new();
        for key in self.0.keys() {
            canonical(key.as_str(), &mut name);
            map.serialize_entry(&name, &Values(self.0.get_all(key)))?;
        }
        map.end()
    }
}

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut values = serializer.serialize_seq(None)?;
        for value in &self.0 {
            values.serialize_element(value.to_str().map_err(S::Error::custom)?)?;
        }
        values.end()
    }
}

/// A request as JSON.
pub(crate) fn encode(request: &Request<()>) -> serde_json::Result<Vec<u8>> {
    // Enough for most requests, so that the buffer does not grow six times.
    let mut json = Vec::with_capacity(1024);
    serde_json::to_writer(
        &mut json,
        &Input {
            hook_type: "pre_request",
            method: request.method().as_str(),
            path: request.uri().path(),
            headers: Headers(request.headers()),
            body: None,
            remote: REMOTE,
            route: ROUTE,
        },
    )?;
    Ok(json)
}

/// The answer of a guest.
pub(crate) fn decode(json: &[u8]) -> serde_json::Result<Output> {
    serde_json::from_slice(json)
}

/// Puts `x-api-key` as `X-Api-Key` into `out`.
fn canonical(name: &str, out: &mut String) {
    out.clear();
    let mut upper = true;
    for c in name.chars() {
        out.push(if upper { c.to_ascii_uppercase() } else { c });
        upper = c == '-';
    }
}

#[cfg(test)]
mod tests {
    use vortex_benches::request;
    use vortex_hook_core::{HookInput, HookType};

    use super::*;

    #[test]
    fn the_document_is_the_hosts() {
        let mut request = request::sample().unwrap();
        let again = HeaderValue::from_static("203.0.113.8");
        request.headers_mut().append("x-forwarded-for", again);
        let ours = HookInput::from_request(HookType::PreRequest, &request)
            .with_remote(REMOTE)
            .with_route(ROUTE);
        let ours: serde_json::Value = serde_json::from_slice(ours.to_json()).unwrap();
        let theirs: serde_json::Value = serde_json::from_slice(&encode(&request).unwrap()).unwrap();
        assert_eq!(ours, theirs);
    }
}
