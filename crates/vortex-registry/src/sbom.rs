//! What a module is made of: the bill of materials that its author vouches for.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use crate::bounded::read_regular;
use crate::digest::Digest;
use crate::error::{RegistryError, excerpt};
use crate::json;

/// The largest bill of materials read, in bytes.
const MAX_SBOM_BYTES: usize = 16 * 1024 * 1024;

/// In which format a software bill of materials is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SbomFormat {
    /// CycloneDX in JSON (ECMA-424).
    CycloneDx,
    /// SPDX 2 in JSON (ISO/IEC 5962).
    Spdx,
}

impl fmt::Display for SbomFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CycloneDx => "CycloneDX",
            Self::Spdx => "SPDX",
        })
    }
}

/// Which software bill of materials belongs to a release: its format and digest.
///
/// The bill itself is not stored. Whoever has a copy can tell by the digest in
/// the signed [`Statement`](crate::Statement) whether it is the author's, and a
/// [`Rule`](crate::Rule) can refuse releases that have none.
///
/// ```
/// use vortex_registry::{Digest, Sbom, SbomFormat};
///
/// let json = br#"{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []}"#;
/// let sbom = Sbom::of_json(json)?;
/// assert_eq!(sbom.format(), SbomFormat::CycloneDx);
/// assert_eq!(sbom.digest(), Digest::of(json));
/// assert!(Sbom::of_json(b"{}").is_err());
/// # Ok::<(), vortex_registry::RegistryError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sbom {
    format: SbomFormat,
    digest: Digest,
}

/// The members by which the formats are told apart.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "bomFormat")]
    bom_format: Option<String>,
    #[serde(rename = "spdxVersion")]
    spdx_version: Option<String>,
}

impl Sbom {
    /// Recognises the format of a bill in JSON of at most 16 MiB: CycloneDX by its `bomFormat`,
    /// SPDX by its `spdxVersion`. The rest of it is the author's own affair.
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidSbom`] when it is too large, no JSON, neither of them or both.
    pub fn of_json(json: &[u8]) -> Result<Self, RegistryError> {
        read(json).map_err(|reason| RegistryError::InvalidSbom {
            origin: "the SBOM".to_owned(),
            reason,
        })
    }

    /// Reads a bill from a file, as [`of_json`](Self::of_json) does.
    ///
    /// # Errors
    ///
    /// As [`of_json`](Self::of_json); [`RegistryError::Io`] when the file cannot be read.
    pub fn read_file(path: impl AsRef<Path>) -> Result<Self, RegistryError> {
        let path = path.as_ref();
        let json = read_regular(path, MAX_SBOM_BYTES)
            .map_err(|error| RegistryError::read("read", path, error))?;
        read(&json).map_err(|reason| RegistryError::InvalidSbom {
            origin: path.display().to_string(),
            reason,
        })
    }

    /// In which format the bill is written.
    #[must_use]
    pub const fn format(&self) -> SbomFormat {
        self.format
    }

    /// The digest of the bill, byte by byte as it was signed.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

fn read(json: &[u8]) -> Result<Sbom, String> {
    if json.len() > MAX_SBOM_BYTES {
        return Err(format!(
            "it is larger than the limit of {MAX_SBOM_BYTES} bytes"
        ));
    }
    let head: Head = json::object(json)?;
    let format = match (head.bom_format.as_deref(), head.spdx_version.as_deref()) {
        (Some("CycloneDX"), None) => SbomFormat::CycloneDx,
        (None, Some(version)) if version.starts_with("SPDX-") => SbomFormat::Spdx,
        (None, None) => {
            return Err(
                "it has neither `bomFormat` nor `spdxVersion`: give CycloneDX or SPDX 2 in JSON"
                    .to_owned(),
            );
        }
        (Some(_), Some(_)) => return Err("it has both `bomFormat` and `spdxVersion`".to_owned()),
        (Some(other), None) => {
            let other = excerpt(other);
            return Err(format!("its bomFormat is {other:?}, not \"CycloneDX\""));
        }
        (None, Some(other)) => {
            let other = excerpt(other);
            return Err(format!(
                "its spdxVersion is {other:?}, which does not begin with \"SPDX-\""
            ));
        }
    };
    let digest = Digest::of(json);
    Ok(Sbom { format, digest })
}

/// Deserialises a bill that is there: left out it is none, `null` is an error.
pub(crate) fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Sbom>, D::Error> {
    Sbom::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_recognised_by_the_json() {
        for (json, expected) in [
            (r#"{"bomFormat":"CycloneDX"}"#, Ok(SbomFormat::CycloneDx)),
            (
                r#"{"components":[{"bomFormat":"x"}],"bomFormat":"CycloneDX","spdxVersion":null}"#,
                Ok(SbomFormat::CycloneDx),
            ),
            (r#"{"spdxVersion":"SPDX-2.3"}"#, Ok(SbomFormat::Spdx)),
            (r#"{"spdxVersion":"2.3"}"#, Err("does not begin")),
            (r#"{"bomFormat":"cyclonedx"}"#, Err("not \"CycloneDX\"")),
            (r#"{"bomFormat":1}"#, Err("invalid type")),
            ("{}", Err("neither")),
            ("", Err("no JSON object")),
            (r#"["CycloneDX", null]"#, Err("no JSON object")),
            (" {", Err("EOF")),
            (r#"{"bomFormat":"CycloneDX"} x"#, Err("trailing")),
            (
                r#"{"bomFormat":"CycloneDX","spdxVersion":"SPDX-2.3"}"#,
                Err("both"),
            ),
            (
                r#"{"bomFormat":"x","bomFormat":"CycloneDX"}"#,
                Err("duplicate"),
            ),
        ] {
            match (Sbom::of_json(json.as_bytes()), expected) {
                (Ok(sbom), Ok(format)) => {
                    assert_eq!(sbom.format(), format, "{json}");
                    assert_eq!(sbom.digest(), Digest::of(json.as_bytes()));
                }
                (Err(error), Err(reason)) => {
                    assert!(error.to_string().contains(reason), "{json}: {error}");
                }
                (said, _) => panic!("{json}: {said:?}"),
            }
        }
    }

    #[test]
    fn a_bill_is_bounded_in_memory_and_on_disk() {
        let mut json = br#"{"bomFormat":"CycloneDX"}"#.to_vec();
        json.resize(MAX_SBOM_BYTES, b' ');
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("sbom.json");
        std::fs::write(&path, &json).unwrap();
        assert_eq!(
            Sbom::read_file(&path).unwrap(),
            Sbom::of_json(&json).unwrap()
        );
        json.push(b' ');
        std::fs::write(&path, &json).unwrap();
        for said in [Sbom::of_json(&json), Sbom::read_file(&path)] {
            let error = said.unwrap_err().to_string();
            assert!(error.contains("16777216 bytes"), "{error}");
        }
        let error = Sbom::read_file("/dev/zero").unwrap_err();
        assert!(matches!(error, RegistryError::Io { .. }), "{error}");
    }
}
