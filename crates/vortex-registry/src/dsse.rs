//! The envelope around what is signed.
//!
//! DSSE v1 of secure-systems-lab (`protocol.md`, `envelope.md`), held tighter
//! than it asks for, since signer and verifier are both ours: unknown fields are
//! denied, base64 is the standard alphabet with padding, every signature names
//! its key, and all that name a trusted key must be right.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::error::{Defect, RegistryError};
use crate::json;
use crate::key::{KeyId, PrivateKey};
use crate::keyring::Keyring;

/// The most signatures of one envelope: each may cost a verification.
pub(crate) const MAX_SIGNATURES: usize = 16;

/// The bytes that a signature covers.
///
/// The pre-authentication encoding says where each part ends, so that no other
/// pair of type and payload has the same one.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut encoding = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    )
    .into_bytes();
    encoding.extend_from_slice(payload);
    encoding
}

/// A payload with its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    payload_type: &'static str,
    payload: Vec<u8>,
    signatures: Vec<(KeyId, [u8; 64])>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    keyid: KeyId,
    sig: String,
}

impl Envelope {
    /// Signs a payload with every one of the keys.
    pub(crate) fn sign(
        payload_type: &'static str,
        payload: Vec<u8>,
        keys: &[&PrivateKey],
    ) -> Result<Self, RegistryError> {
        if keys.is_empty() || keys.len() > MAX_SIGNATURES {
            return Err(RegistryError::SignerCount {
                count: keys.len(),
                limit: MAX_SIGNATURES,
            });
        }
        let message = pre_authentication_encoding(payload_type, &payload);
        let signatures = keys
            .iter()
            .map(|key| (key.public_key().key_id(), key.sign(&message)))
            .collect();
        Ok(Self {
            payload_type,
            payload,
            signatures,
        })
    }

    /// The envelope as JSON in base64, for a manifest's `signature` field.
    pub(crate) fn encode(&self) -> Result<String, RegistryError> {
        Ok(STANDARD.encode(self.to_json()?))
    }

    /// The envelope as JSON.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, RegistryError> {
        let wire = WireEnvelope {
            payload: STANDARD.encode(&self.payload),
            payload_type: self.payload_type.to_owned(),
            signatures: self
                .signatures
                .iter()
                .map(|(keyid, signature)| WireSignature {
                    keyid: *keyid,
                    sig: STANDARD.encode(signature),
                })
                .collect(),
        };
        serde_json::to_vec(&wire).map_err(|source| RegistryError::Json { source })
    }

    /// Reads an envelope of the expected type in base64. Nothing of it is verified yet.
    pub(crate) fn decode(payload_type: &'static str, text: &str) -> Result<Self, Defect> {
        Self::from_json(payload_type, &base64("the envelope", text)?)
    }

    /// Reads an envelope of the expected type. Nothing of it is verified yet.
    pub(crate) fn from_json(payload_type: &'static str, json: &[u8]) -> Result<Self, Defect> {
        let wire: WireEnvelope = json::object(json).map_err(malformed)?;
        if wire.payload_type != payload_type {
            return Err(malformed(format!("payloadType is not {payload_type}")));
        }
        if wire.signatures.is_empty() || wire.signatures.len() > MAX_SIGNATURES {
            return Err(malformed(format!(
                "{} signatures where 1 to {MAX_SIGNATURES} are allowed",
                wire.signatures.len()
            )));
        }
        let signatures = wire.signatures.iter().map(|signature| {
            let bytes = base64("a sig", &signature.sig)?;
            let bytes = bytes
                .try_into()
                .map_err(|_| malformed("a sig is not 64 bytes long".to_owned()))?;
            Ok((signature.keyid, bytes))
        });
        Ok(Self {
            payload_type,
            payload: base64("the payload", &wire.payload)?,
            signatures: signatures.collect::<Result<_, Defect>>()?,
        })
    }

    /// The trusted keys that have signed, and the payload if there is one such key.
    ///
    /// A key counts once, however many signatures are by it. It is the key that
    /// counts, found in the keyring by an id computed from the key itself: the
    /// `keyid` of the envelope only says which key to try.
    pub(crate) fn verify(&self, trusted: &Keyring) -> Result<Signed<'_>, Defect> {
        let message = pre_authentication_encoding(self.payload_type, &self.payload);
        let mut signers = BTreeSet::new();
        for (key_id, signature) in &self.signatures {
            let Some(key) = trusted.get(key_id) else {
                continue;
            };
            if !key.verifies(&message, signature) {
                return Err(Defect::Signature { key_id: *key_id });
            }
            signers.insert(key.key_id());
        }
        if signers.is_empty() {
            return Ok(Signed::ByNobodyTrusted {
                key_ids: self.signatures.iter().map(|(key_id, _)| *key_id).collect(),
            });
        }
        Ok(Signed::By {
            signers,
            payload: &self.payload,
        })
    }
}

/// Who has signed an envelope. The payload is reachable only behind a signature.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Signed<'a> {
    By {
        signers: BTreeSet<KeyId>,
        payload: &'a [u8],
    },
    ByNobodyTrusted {
        key_ids: BTreeSet<KeyId>,
    },
}

fn malformed(reason: String) -> Defect {
    Defect::Envelope { reason }
}

fn base64(what: &str, text: &str) -> Result<Vec<u8>, Defect> {
    STANDARD
        .decode(text)
        .map_err(|error| malformed(format!("{what} is no base64: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "application/x-test";

    /// The test vector of DSSE's `protocol.md`.
    #[test]
    fn the_encoding_is_that_of_the_specification() {
        assert_eq!(
            pre_authentication_encoding("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn lengths_are_those_of_bytes() {
        assert_eq!(
            pre_authentication_encoding("é", b""),
            "DSSEv1 2 é 0 ".as_bytes()
        );
    }

    #[test]
    fn a_key_counts_once_and_unknown_keys_not_at_all() {
        let [known, other, unknown] = [(); 3].map(|()| PrivateKey::generate().unwrap());
        let trusted: Keyring = [known.public_key(), other.public_key()]
            .into_iter()
            .collect();
        let keys = [&known, &known, &unknown, &other];
        let envelope = Envelope::sign(TYPE, b"x".to_vec(), &keys).unwrap();
        let Signed::By { signers, payload } = envelope.verify(&trusted).unwrap() else {
            panic!("signed by two trusted keys");
        };
        assert_eq!(
            signers,
            [&known, &other].map(|k| k.public_key().key_id()).into()
        );
        assert_eq!(payload, b"x");

        let envelope = Envelope::sign(TYPE, b"x".to_vec(), &[&unknown]).unwrap();
        let signed = envelope.verify(&trusted).unwrap();
        let key_ids = [unknown.public_key().key_id()].into();
        assert_eq!(signed, Signed::ByNobodyTrusted { key_ids });
    }

    #[test]
    fn a_foreign_signature_under_a_trusted_id_is_wrong() {
        let [known, forger] = [(); 2].map(|()| PrivateKey::generate().unwrap());
        let trusted: Keyring = [known.public_key()].into_iter().collect();
        let mut envelope = Envelope::sign(TYPE, b"x".to_vec(), &[&known, &forger]).unwrap();
        envelope.signatures[1].0 = known.public_key().key_id();
        assert!(matches!(
            envelope.verify(&trusted),
            Err(Defect::Signature { .. })
        ));
    }

    #[test]
    fn a_signature_holds_for_its_payload_type_alone() {
        let key = PrivateKey::generate().unwrap();
        let trusted: Keyring = [key.public_key()].into_iter().collect();
        let mut envelope = Envelope::sign("application/x-other", b"x".to_vec(), &[&key]).unwrap();
        assert!(Envelope::decode(TYPE, &envelope.encode().unwrap()).is_err());
        envelope.payload_type = TYPE;
        assert!(envelope.verify(&trusted).is_err());
    }

    #[test]
    fn envelopes_are_bounded_and_strict() {
        let key = PrivateKey::generate().unwrap();
        assert!(Envelope::sign(TYPE, vec![], &[]).is_err());
        assert!(Envelope::sign(TYPE, vec![], &[&key; 17]).is_err());
        let mut envelope = Envelope::sign(TYPE, vec![], &[&key; 16]).unwrap();
        assert_eq!(
            Envelope::decode(TYPE, &envelope.encode().unwrap()).unwrap(),
            envelope
        );
        envelope.signatures.push(envelope.signatures[0]);
        assert!(Envelope::decode(TYPE, &envelope.encode().unwrap()).is_err());
        envelope.signatures.clear();
        assert!(Envelope::decode(TYPE, &envelope.encode().unwrap()).is_err());

        let keyid = key.public_key().key_id();
        let sig = STANDARD.encode([0; 64]);
        let good = format!(
            r#"{{"payload":"","payloadType":"{TYPE}","signatures":[{{"keyid":"{keyid}","sig":"{sig}"}}]}}"#
        );
        let decode = |json: &str| Envelope::decode(TYPE, &STANDARD.encode(json));
        assert!(decode(&good).is_ok());
        for (from, to) in [
            (r#""payload":"""#, r#""payload":"","x":1"#),
            (r#""payload":"""#, r#""payload":"eA""#),
            (r#""payload":"""#, r#""payload":"","payload":"""#),
            (r#""sig":""#, r#""x":1,"sig":""#),
            (sig.as_str(), "AAAA"),
            (keyid.to_string().as_str(), "key"),
            ("]}", "]} x"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert!(decode(&bad).is_err(), "{bad}");
        }
    }
}
