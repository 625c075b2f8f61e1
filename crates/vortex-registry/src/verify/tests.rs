//! What no author who uses this crate would sign.

use super::*;
use crate::key::PrivateKey;
use crate::statement::Release;

const WASM: &[u8] = b"\0asm\x01\0\0\0";

/// Judges a manifest whose signed payload has been changed before signing:
/// what an author with other software, or a bad intention, could make.
fn judge_payload(edit: impl FnOnce(&mut serde_json::Value)) -> Result<Trust, Defect> {
    let key = PrivateKey::generate().unwrap();
    let name: PluginName = "a".parse().unwrap();
    let version = Version::new(1, 0, 0);
    let mut manifest = PluginManifest::new(name.clone(), version.clone(), [], WASM);
    let release = Release {
        abi: 1,
        seq: 1,
        released_at: 0,
    };
    let statement = Statement::new(&manifest, WASM, release, None);
    let mut payload = serde_json::to_value(statement).unwrap();
    edit(&mut payload);
    let payload = serde_json::to_vec(&payload).unwrap();
    let envelope = Envelope::sign(PAYLOAD_TYPE, payload, &[&key]).unwrap();
    manifest.signature = envelope.encode().unwrap();
    let authority = Authority {
        policy: &Policy::strict([key.public_key()]),
        index: None,
        now: Some(0),
    };
    judge(authority, (&name, &version), &manifest, WASM)
}

#[test]
fn the_payload_has_exactly_the_fields_of_the_specification() {
    let mut fields = Vec::new();
    let judged = judge_payload(|payload| {
        fields = payload.as_object().unwrap().keys().cloned().collect();
    });
    assert!(matches!(judged, Ok(Trust::Signed { .. })));
    fields.sort();
    assert_eq!(
        fields.join(" "),
        "abi checksum description hook_types name released_at schema seq size version"
    );
    for field in fields {
        let judged = judge_payload(|payload| {
            payload.as_object_mut().unwrap().remove(&field);
        });
        assert!(matches!(judged, Err(Defect::Statement { .. })), "{field}");
    }
}

#[test]
fn unknown_fields_and_schemas_are_refused_however_well_signed() {
    let judged = judge_payload(|payload| payload["extra"] = 1.into());
    assert!(matches!(judged, Err(Defect::Statement { .. })));
    let judged = judge_payload(|payload| payload["schema"] = 2.into());
    assert!(matches!(judged, Err(Defect::Statement { .. })));
}

/// What is derived for a struct would take the members in an array.
#[test]
fn a_document_is_an_object() {
    let judged = judge_payload(|payload| {
        let members = payload.as_object().unwrap().values().cloned();
        *payload = members.collect();
    });
    let Err(Defect::Statement { reason }) = judged else {
        panic!("{judged:?}");
    };
    assert!(reason.contains("no JSON object"), "{reason}");
}

#[test]
fn every_field_must_agree() {
    for (field, value) in [
        ("name", "b".into()),
        ("version", "1.0.1".into()),
        ("description", "x".into()),
        ("hook_types", vec!["pre_request"].into()),
        ("checksum", Digest::of(b"").to_string().into()),
        ("size", serde_json::Value::from(9)),
    ] {
        let judged = judge_payload(|payload| payload[field] = value);
        assert_eq!(judged, Err(Defect::StatementMismatch { field }));
    }
}

#[test]
fn a_bill_of_materials_is_there_or_left_out() {
    let bill = |value: serde_json::Value| judge_payload(|payload| payload["sbom"] = value);
    let digest = Digest::of(b"").to_string();
    let good = serde_json::json!({ "format": "spdx", "digest": digest });
    let Ok(Trust::Signed { statement, .. }) = bill(good.clone()) else {
        panic!("a bill in a known format");
    };
    assert_eq!(
        statement.sbom().map(|sbom| sbom.digest()),
        Some(Digest::of(b""))
    );
    for bad in [
        serde_json::Value::Null,
        serde_json::json!({}),
        serde_json::json!({ "format": "SPDX", "digest": digest }),
        serde_json::json!({ "format": "spdx", "digest": digest.to_uppercase() }),
        serde_json::json!({ "format": "spdx", "digest": digest, "url": "" }),
    ] {
        assert!(matches!(bill(bad), Err(Defect::Statement { .. })));
    }
}
