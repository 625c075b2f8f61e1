//! The test vectors, read.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use vortex_plugin_sdk::Phase;

#[derive(Deserialize)]
pub(crate) struct Vectors {
    pub(crate) inputs: Vec<InputVector>,
    pub(crate) other_inputs: Vec<InputVector>,
    pub(crate) refused_inputs: Vec<Refused>,
    pub(crate) outputs: Vec<OutputVector>,
}

#[derive(Deserialize)]
pub(crate) struct InputVector {
    pub(crate) name: String,
    pub(crate) phase: String,
    pub(crate) status: u16,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) scheme: String,
    pub(crate) authority: String,
    pub(crate) remote: String,
    pub(crate) route: String,
    pub(crate) headers: Option<Vec<(String, Bytes)>>,
    pub(crate) body: Option<Bytes>,
    pub(crate) body_len: u64,
    pub(crate) config: Bytes,
    pub(crate) context: Bytes,
    pub(crate) frame: Frame,
}

impl InputVector {
    pub(crate) fn phase(&self) -> Phase {
        Phase::from_name(self.phase.as_bytes()).unwrap()
    }

    pub(crate) fn headers(&self) -> Option<Vec<(&str, &[u8])>> {
        let headers = self.headers.as_ref()?;
        let headers = headers.iter();
        Some(
            headers
                .map(|(name, value)| (name.as_str(), &value.0[..]))
                .collect(),
        )
    }
}

#[derive(Deserialize)]
pub(crate) struct Refused {
    pub(crate) name: String,
    pub(crate) frame: Frame,
    pub(crate) rule: String,
}

#[derive(Deserialize)]
pub(crate) struct OutputVector {
    pub(crate) name: String,
    pub(crate) frame: Frame,
    pub(crate) allow: bool,
    pub(crate) status: u16,
    pub(crate) ops: Vec<(String, String, Bytes)>,
    pub(crate) body: Option<Bytes>,
    pub(crate) context: Option<Bytes>,
    pub(crate) logs: Vec<(String, String)>,
}

/// Bytes, in base64.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD
            .decode(text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// A frame, in hexadecimal.
pub(crate) struct Frame(pub(crate) Vec<u8>);

impl<'de> Deserialize<'de> for Frame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        assert!(rest.is_empty());
        Ok(Self(
            pairs
                .iter()
                .map(|[high, low]| digit(*high) << 4 | digit(*low))
                .collect(),
        ))
    }
}

/// What `tests/vectors/frame.json` of this repository holds.
pub(crate) fn vectors() -> Vectors {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/frame.json");
    let vectors: Vectors = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let counts = [
        vectors.inputs.len(),
        vectors.other_inputs.len(),
        vectors.refused_inputs.len(),
        vectors.outputs.len(),
    ];
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    vectors
}
