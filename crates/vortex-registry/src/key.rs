//! Keys that sign and keys that verify.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rustix::fs::{FileType, Mode, OFlags};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::digest::Digest;
use crate::error::RegistryError;

/// The largest key file read, in bytes. A key takes some 120.
const MAX_KEY_FILE_BYTES: u64 = 16 * 1024;

/// Which key: the SHA-256 of its SubjectPublicKeyInfo in DER (RFC 8410 §4).
///
/// ```
/// use vortex_registry::{KeyId, PrivateKey};
///
/// let key_id = PrivateKey::generate()?.public_key().key_id();
/// assert_eq!(key_id.to_string().parse::<KeyId>()?, key_id);
/// # Ok::<(), vortex_registry::RegistryError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(Digest);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// An Ed25519 key that verifies (RFC 8032).
///
/// A key of small order, under which one signature fits many messages, and a
/// key in an encoding that is not canonical cannot be made into this type.
///
/// ```
/// use vortex_registry::{PrivateKey, PublicKey};
///
/// let public_key = PrivateKey::generate()?.public_key();
/// let pem = public_key.to_pem()?;
/// assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----"));
/// assert_eq!(PublicKey::from_pem(&pem)?, public_key);
/// # Ok::<(), vortex_registry::RegistryError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    key_id: KeyId,
}

impl PublicKey {
    /// Reads a key from SubjectPublicKeyInfo in PEM (RFC 8410 §4, RFC 7468 §13).
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidKey`] when it is no Ed25519 key, weak, or not canonical.
    pub fn from_pem(pem: &str) -> Result<Self, RegistryError> {
        let key = VerifyingKey::from_public_key_pem(pem)
            .map_err(|error| invalid("the PEM text", error.to_string()))?;
        Self::new(key)
    }

    /// Reads a key from a PEM file of at most 16 KiB.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem); [`RegistryError::Io`] when the file cannot be read.
    pub fn read_pem_file(path: impl AsRef<Path>) -> Result<Self, RegistryError> {
        let path = path.as_ref();
        let (pem, _) = read_key_file(path)?;
        let text = utf8(&pem, path)?;
        Self::from_pem(text).map_err(|error| at(path, error))
    }

    /// Writes the key as PEM.
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidKey`], which no key of this type leads to.
    pub fn to_pem(&self) -> Result<String, RegistryError> {
        self.key
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| invalid("the public key", error.to_string()))
    }

    /// Writes the key into a new PEM file that everybody may read.
    ///
    /// # Errors
    ///
    /// [`RegistryError::ReadOnly`] or [`RegistryError::Io`] when that fails, as it does when the
    /// file exists.
    pub fn write_pem_file(&self, path: impl AsRef<Path>) -> Result<(), RegistryError> {
        write_key_file(path.as_ref(), 0o644, self.to_pem()?.as_bytes())
    }

    /// The id of the key.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Whether this key made the signature: RFC 8032 §5.1.7 without cofactor,
    /// with points of small order and encodings that are not canonical refused.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = Signature::from_bytes(signature);
        self.key.verify_strict(message, &signature).is_ok()
    }

    fn new(key: VerifyingKey) -> Result<Self, RegistryError> {
        let refused = |reason: &str| Err(invalid("the public key", reason.to_owned()));
        if key.is_weak() {
            return refused("the key is weak, its order is small");
        }
        // Another spelling of the same point would be a second key id for one key.
        if key.to_edwards().compress().as_bytes() != key.as_bytes() {
            return refused("the key is not in canonical encoding");
        }
        let der = key
            .to_public_key_der()
            .map_err(|error| invalid("the public key", error.to_string()))?;
        Ok(Self {
            key,
            key_id: KeyId(Digest::of(der.as_bytes())),
        })
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.key_id)
    }
}

/// An Ed25519 key that signs (RFC 8032).
///
/// Its memory is wiped when it goes out of scope, and `Debug` shows its id alone.
///
/// ```
/// use vortex_registry::PrivateKey;
///
/// # let directory = tempfile::tempdir()?;
/// let path = directory.path().join("author.pem");
/// let key = PrivateKey::generate()?;
/// key.write_pem_file(&path)?;
/// assert_eq!(PrivateKey::read_pem_file(&path)?.public_key(), key.public_key());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PrivateKey {
    key: SigningKey,
    public_key: PublicKey,
}

impl PrivateKey {
    /// Makes a new key from the randomness of the operating system.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Randomness`] when there is none.
    pub fn generate() -> Result<Self, RegistryError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|error| RegistryError::Randomness {
            source: error.into(),
        })?;
        Self::new(SigningKey::from_bytes(&seed))
    }

    /// Reads a key from unencrypted PKCS#8 in PEM, version 1 or 2 (RFC 8410 §7).
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidKey`] when it is no such key.
    pub fn from_pem(pem: &str) -> Result<Self, RegistryError> {
        let key = SigningKey::from_pkcs8_pem(pem)
            .map_err(|error| invalid("the PEM text", error.to_string()))?;
        Self::new(key)
    }

    /// Reads a key from a PEM file of at most 16 KiB that its owner alone can read.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem); [`RegistryError::KeyFilePermissions`] when group or others
    /// have any permission on the file; [`RegistryError::Io`] when it cannot be read.
    pub fn read_pem_file(path: impl AsRef<Path>) -> Result<Self, RegistryError> {
        let path = path.as_ref();
        let (pem, mode) = read_key_file(path)?;
        if mode & 0o077 != 0 {
            return Err(RegistryError::KeyFilePermissions {
                path: path.to_owned(),
                mode,
            });
        }
        let text = utf8(&pem, path)?;
        Self::from_pem(text).map_err(|error| at(path, error))
    }

    /// Writes the key into a new PKCS#8 PEM file that its owner alone can read (mode 0600).
    ///
    /// The file is of version 1, without the public key, which every tool reads.
    ///
    /// # Errors
    ///
    /// [`RegistryError::ReadOnly`] or [`RegistryError::Io`] when that fails, as it does when the
    /// file exists: a key is never overwritten.
    pub fn write_pem_file(&self, path: impl AsRef<Path>) -> Result<(), RegistryError> {
        let pair = KeypairBytes {
            secret_key: self.key.to_bytes(),
            public_key: None,
        };
        let pem = pair
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|error| invalid("the private key", error.to_string()))?;
        write_key_file(path.as_ref(), 0o600, pem.as_bytes())
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public_key.clone()
    }

    /// Signs a message (RFC 8032 §5.1.6, pure).
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    fn new(key: SigningKey) -> Result<Self, RegistryError> {
        let public_key = PublicKey::new(key.verifying_key())?;
        Ok(Self { key, public_key })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public_key.key_id)
    }
}

fn invalid(origin: &str, reason: String) -> RegistryError {
    RegistryError::InvalidKey {
        origin: origin.to_owned(),
        reason,
    }
}

/// Says in which file the unusable key was.
fn at(path: &Path, error: RegistryError) -> RegistryError {
    match error {
        RegistryError::InvalidKey { reason, .. } => invalid(&path.display().to_string(), reason),
        other => other,
    }
}

fn utf8<'a>(pem: &'a [u8], path: &Path) -> Result<&'a str, RegistryError> {
    str::from_utf8(pem).map_err(|error| at(path, invalid("", error.to_string())))
}

/// Reads a whole key file and its permission bits, from one handle.
///
/// Symlinks are followed: the path is the operator's own, and secrets are
/// commonly mounted through them.
fn read_key_file(path: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), RegistryError> {
    let failed = |error: io::Error| RegistryError::read("read", path, error);
    // Without blocking, since opening a fifo would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
    let stat = rustix::fs::fstat(&file).map_err(|e| failed(e.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(at(path, invalid("", "it is no regular file".to_owned())));
    }
    // The room is set aside at once: growing would leave copies of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * MAX_KEY_FILE_BYTES as usize));
    std::fs::File::from(file)
        .take(MAX_KEY_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_KEY_FILE_BYTES {
        let reason = format!("it is larger than the limit of {MAX_KEY_FILE_BYTES} bytes");
        return Err(at(path, invalid("", reason)));
    }
    Ok((bytes, stat.st_mode & 0o7777))
}

fn write_key_file(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), RegistryError> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|error| RegistryError::write("create", path, error))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| {
            // Half a key helps nobody and would stand in the way of the next attempt.
            let _ = std::fs::remove_file(path);
            RegistryError::write("write", path, error)
        })
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(bytes: [u8; 32]) -> Result<PublicKey, RegistryError> {
        PublicKey::new(VerifyingKey::from_bytes(&bytes).unwrap())
    }

    #[test]
    fn keys_of_small_order_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        for bytes in [identity, [0; 32]] {
            let error = raw(bytes).unwrap_err().to_string();
            assert!(error.contains("weak"), "{error}");
        }
    }

    #[test]
    fn keys_not_in_canonical_encoding_are_refused() {
        // y = p + 3, which decodes to the same point as y = 3.
        let mut canonical = [0; 32];
        canonical[0] = 3;
        let mut other = [0xff; 32];
        other[0] = 0xf0;
        other[31] = 0x7f;
        assert!(raw(canonical).is_ok());
        let error = raw(other).unwrap_err().to_string();
        assert!(error.contains("canonical"), "{error}");
    }

    /// RFC 8032 §7.1, test 2.
    #[test]
    fn signatures_are_those_of_the_rfc() {
        fn hex<const N: usize>(text: &str) -> [u8; N] {
            std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
        }
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let signature: [u8; 64] = hex(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        );
        let key = PrivateKey::new(SigningKey::from_bytes(&seed)).unwrap();
        assert_eq!(key.sign(&[0x72]), signature);
        assert!(key.public_key().verifies(&[0x72], &signature));
        assert!(!key.public_key().verifies(&[0x73], &signature));
    }
}
