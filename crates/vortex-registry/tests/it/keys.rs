//! Key files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use vortex_registry::{PrivateKey, PublicKey, RegistryError};

use crate::support::assert_error;

/// RFC 8410 §10.1 and §10.3.
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";
/// The same key in version 2, with its public key.
const PRIVATE_V2: &str = "-----BEGIN PRIVATE KEY-----
MFECAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
gSEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PRIVATE KEY-----
";

#[test]
fn the_keys_of_the_rfc_are_read() {
    let public = PublicKey::from_pem(PUBLIC).unwrap();
    assert_eq!(PrivateKey::from_pem(PRIVATE).unwrap().public_key(), public);
    assert_eq!(
        PrivateKey::from_pem(PRIVATE_V2).unwrap().public_key(),
        public
    );
    assert_eq!(public.to_pem().unwrap(), PUBLIC);
    // openssl pkey -pubin -in public.pem -outform der | sha256sum
    assert_eq!(
        public.key_id().to_string(),
        "a1e9156054e04fac899ae9f275132cdc07a5dbc4ea2c2ad3a1ffc6e0d253681f"
    );
}

#[test]
fn a_private_key_is_for_its_owner_alone() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("key.pem");
    let key = PrivateKey::from_pem(PRIVATE).unwrap();
    key.write_pem_file(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), PRIVATE);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    for mode in [0o604, 0o640, 0o602, 0o620, 0o610, 0o644, 0o777] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = PrivateKey::read_pem_file(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        assert_error!(Err::<(), _>(error), RegistryError::KeyFilePermissions { mode: m, .. } if m == mode);
    }
    for mode in [0o600, 0o400] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let read = PrivateKey::read_pem_file(&path).unwrap();
        assert_eq!(read.public_key(), key.public_key());
    }
    let other = PrivateKey::generate().unwrap();
    assert!(
        other.write_pem_file(&path).is_err(),
        "a key was overwritten"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), PRIVATE);
}

#[test]
fn public_keys_go_through_files() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("key.pub");
    let key = PublicKey::from_pem(PUBLIC).unwrap();
    key.write_pem_file(&path).unwrap();
    assert_eq!(PublicKey::read_pem_file(&path).unwrap(), key);
}

#[test]
fn what_is_no_key_is_refused_with_its_path() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("key.pem");
    let long = format!("{PUBLIC}{}", "\n".repeat(20_000));
    let swapped = PRIVATE.replace("PRIVATE", "PUBLIC");
    let rsa = PUBLIC.replace("MCowBQYDK2VwAyEA", "MCowBQYDK2VuAyEA");
    for bad in ["", "x", PRIVATE, &long, &swapped, &rsa] {
        fs::write(&path, bad).unwrap();
        let error = PublicKey::read_pem_file(&path).unwrap_err();
        assert!(error.to_string().contains("key.pem"), "{error}");
        assert_error!(Err::<(), _>(error), RegistryError::InvalidKey { .. });
    }
    fs::write(&path, [0xff; 10]).unwrap();
    assert_error!(
        PublicKey::read_pem_file(&path),
        RegistryError::InvalidKey { .. }
    );
    assert_error!(
        PublicKey::read_pem_file(temp.path()),
        RegistryError::InvalidKey { .. }
    );
    assert_error!(
        PublicKey::read_pem_file(temp.path().join("missing")),
        RegistryError::Io { .. }
    );
    // A private key whose public half is another's.
    let mismatched = PRIVATE_V2.replace("ZuE=", "ZuI=");
    assert!(PrivateKey::from_pem(&mismatched).is_err());
}

#[test]
fn debug_shows_no_secret() {
    let key = PrivateKey::from_pem(PRIVATE).unwrap();
    let shown = format!("{key:?}");
    assert_eq!(shown, format!("PrivateKey({})", key.public_key().key_id()));
    assert!(!shown.to_lowercase().contains("d4ee72db"));
}
