//! Whose fleet index counts, and what is none.

use std::fs;
use std::os::unix::fs::symlink;

use vortex_registry::{FleetIndex, IndexDefect, Policy, PrivateKey, RegistryError, Revocations};

use crate::fleet_index::{EXPIRES, Fleet, ISSUED, assert_index, get};
use crate::support::{WASM, assert_error, name, select};

#[test]
fn as_many_distinct_index_keys_as_the_policy_asks_for() {
    let fleet = Fleet::new();
    let [second, stranger] = [(); 2].map(|()| PrivateKey::generate().unwrap());
    let operator = &fleet.operator;
    let both = [operator.public_key(), second.public_key()];
    let registry = fleet.open(fleet.policy().with_index_keys(both, 2));
    let author = &fleet.store.key;
    let index = FleetIndex::new(1, ISSUED, EXPIRES);
    let update = |keys: &[&PrivateKey]| registry.update_index(&index.sign(keys).unwrap());
    assert_index!(
        update(&[author]),
        IndexDefect::Threshold { have: 0, need: 2 }
    );
    assert_index!(
        update(&[operator]),
        IndexDefect::Threshold { have: 1, need: 2 }
    );
    assert_index!(
        update(&[operator; 9]),
        IndexDefect::Threshold { have: 1, need: 2 }
    );
    assert_index!(
        update(&[operator, &stranger, author]),
        IndexDefect::Threshold { have: 1, .. }
    );
    assert!(!fleet.store.path(".index.json").exists());
    update(&[operator, &second, &stranger]).unwrap();
    let without = fleet.open(Policy::strict([author.public_key()]));
    assert_index!(without.update_index(b""), IndexDefect::NoKeys);
    assert!(
        get(&without).is_ok(),
        "a policy without index keys applies none"
    );
}

#[test]
fn a_revoked_or_expired_index_key_does_not_count() {
    let fleet = Fleet::new();
    let second = PrivateKey::generate().unwrap();
    let both = [fleet.operator.public_key(), second.public_key()];
    let policy = fleet.policy().with_index_keys(both, 1);
    let bytes = fleet.index(1, |_| {});
    let operator_id = fleet.operator.public_key().key_id();
    let mut revocations = Revocations::default();
    revocations.keys.insert(operator_id);
    let revoked = fleet.open(policy.clone().with_revocations(revocations.clone()));
    assert_index!(
        revoked.update_index(&bytes),
        IndexDefect::Threshold { have: 0, need: 1 }
    );
    let validity = vortex_registry::Validity {
        not_before: Some(ISSUED + 1),
        not_after: None,
    };
    let early = fleet.open(policy.clone().with_validity(operator_id, validity));
    assert_index!(
        early.update_index(&bytes),
        IndexDefect::Threshold { have: 0, need: 1 }
    );

    // A key that the index in force revokes cannot bring itself back.
    let registry = fleet.open(policy);
    let mut index = FleetIndex::new(1, ISSUED, EXPIRES);
    index.revocations = revocations;
    registry
        .update_index(&index.sign(&[&second]).unwrap())
        .unwrap();
    let forged = fleet.index(2, |_| {});
    assert_index!(
        registry.update_index(&forged),
        IndexDefect::Threshold { have: 0, need: 1 }
    );
    index.seq = 2;
    registry
        .update_index(&index.sign(&[&second]).unwrap())
        .unwrap();
}

/// Every bit of an index flipped, in an update and in the store.
#[test]
fn no_bit_of_an_index_may_change() {
    let fleet = Fleet::new();
    let registry = fleet.open(fleet.policy());
    let good = fleet.revoking(5);
    let path = fleet.store.path(".index.json");
    registry.update_index(&good).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bad).unwrap();
        let fresh = fleet.open(fleet.policy());
        assert_error!(get(&fresh), RegistryError::Index { .. });
        assert_error!(fresh.update_index(&bad), RegistryError::Index { .. });
    }
    fs::write(&path, &good).unwrap();
    assert_error!(get(&registry), RegistryError::Refused { .. });
    assert!(good.len() > 400);
}

#[test]
fn neither_a_statement_nor_another_file_is_an_index() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    let fleet = Fleet::new();
    // One key for both, so that nothing but the payload type stands between them.
    let key = &fleet.store.key;
    let policy = Policy::strict([key.public_key()]).with_index_keys([key.public_key()], 1);
    let registry = fleet.open(policy);
    let mut manifest = fleet.store.manifest("redirect", "2.0.0");
    let statement = STANDARD.decode(&manifest.signature).unwrap();
    assert_index!(
        registry.update_index(&statement),
        IndexDefect::Unreadable { .. }
    );
    let index = FleetIndex::new(1, ISSUED, EXPIRES).sign(&[key]).unwrap();
    manifest.signature = STANDARD.encode(&index);
    crate::support::assert_corrupt!(
        registry.install(&manifest, WASM),
        vortex_registry::Defect::Envelope { .. }
    );
    // Relabelled, the signature no longer fits.
    let relabel = |json: &[u8], from: &str, to: &str| {
        let text = String::from_utf8(json.to_vec()).unwrap();
        let other = text.replace(from, to);
        assert_ne!(other, text);
        other.into_bytes()
    };
    let relabelled = relabel(&statement, "vortex.plugin.v1", "vortex.index.v1");
    assert_index!(
        registry.update_index(&relabelled),
        IndexDefect::Signature { .. }
    );
    manifest.signature = STANDARD.encode(relabel(&index, "vortex.index.v1", "vortex.plugin.v1"));
    crate::support::assert_corrupt!(
        registry.install(&manifest, WASM),
        vortex_registry::Defect::Signature { .. }
    );
    assert_index!(registry.update_index(b""), IndexDefect::Unreadable { .. });
    let huge = vec![b' '; 4 * 1024 * 1024 + 1];
    assert_index!(registry.update_index(&huge), IndexDefect::Unreadable { .. });
    assert!(!fleet.store.path(".index.json").exists());

    registry.update_index(&index).unwrap();
    for file in [".index.json", ".index.seen"] {
        let path = fleet.store.path(file);
        let aside = fleet.store.temp.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        symlink(&aside, &path).unwrap();
        assert_index!(get(&registry), IndexDefect::Unreadable { .. });
        fs::remove_file(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
    }
    assert!(registry.get(&name("redirect"), &select("1.0.0")).is_ok());
}
