//! Machine code of a module as bytes, and the proof that they may be run.
//!
//! To load such bytes is to run them: wasmer believes whatever they say, flipped
//! bits included. So there is no way from bytes to code but over an [`Artifact`],
//! and no way to an [`Artifact`] but over a MAC that fits.
#![allow(unsafe_code, reason = "loads machine code that has passed its MAC")]

use bytes::Bytes;
use wasmer::{Engine, Module};
use wasmer_compiler::{ArtifactBuild, ArtifactCreate};

use super::stripped::stripped;
use crate::SandboxError;
use crate::guarded::guarded;

/// Names an artifact: what it was made from, by what, under which limits.
pub(crate) type ArtifactName = [u8; 32];

/// First bytes of a sealed artifact; the last of them counts the format up.
const MAGIC: [u8; 16] = *b"vortex-artifact1";
const MAC: std::ops::Range<usize> = 16..48;
const LENGTH: std::ops::Range<usize> = 48..56;

/// What machine code is read at; wasmer asks for no less.
const ALIGN: usize = 16;

/// A key under which artifacts are sealed and opened: a MAC over the name of the
/// artifact, its length and its bytes (BLAKE3 in its keyed mode).
///
/// ```text
/// 0       16     48          56      64
/// | magic | MAC  | length LE | zeros | artifact …
/// ```
pub(crate) struct Seal {
    key: [u8; 32],
}

impl Seal {
    /// What stands before an artifact: a multiple of its alignment.
    pub(crate) const HEADER: usize = 64;

    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The header that seals `artifact` under `name`.
    pub(crate) fn header(&self, name: &ArtifactName, artifact: &[u8]) -> [u8; Self::HEADER] {
        let mut header = [0; Self::HEADER];
        header[..MAGIC.len()].copy_from_slice(&MAGIC);
        header[LENGTH].copy_from_slice(&(artifact.len() as u64).to_le_bytes());
        let mac = self.mac(name, &header, artifact);
        header[MAC].copy_from_slice(mac.as_bytes());
        header
    }

    /// The artifact in `sealed`, if all of it was sealed under this key and name.
    pub(crate) fn open(&self, name: &ArtifactName, sealed: Bytes) -> Option<Artifact> {
        let (header, artifact) = sealed.split_at_checked(Self::HEADER)?;
        let mut header: [u8; Self::HEADER] = header.try_into().ok()?;
        let found: [u8; 32] = header.get(MAC)?.try_into().ok()?;
        header[MAC].fill(0);
        // What the MAC covers is said by this program, and not by the bytes.
        let mut expected = [0; Self::HEADER];
        expected[..MAGIC.len()].copy_from_slice(&MAGIC);
        expected[LENGTH].copy_from_slice(&(artifact.len() as u64).to_le_bytes());
        // Compared in constant time, as `blake3::Hash` does.
        if header != expected || self.mac(name, &header, artifact) != found {
            return None;
        }
        Some(Artifact {
            bytes: aligned(sealed.slice(Self::HEADER..)),
        })
    }

    fn mac(
        &self,
        name: &ArtifactName,
        header: &[u8; Self::HEADER],
        artifact: &[u8],
    ) -> blake3::Hash {
        let mut mac = blake3::Hasher::new_keyed(&self.key);
        mac.update(name).update(header).update(artifact);
        mac.finalize()
    }
}

/// Machine code that this process, or somebody who has the key of a [`Seal`], has made.
pub(crate) struct Artifact {
    bytes: Bytes,
}

impl Artifact {
    /// What this process has just compiled.
    pub(crate) fn of(build: &ArtifactBuild) -> Result<Self, SandboxError> {
        let failed = |reason| SandboxError::Compile { reason };
        let code = guarded(|| {
            let code = stripped(build).ok_or_else(|| "no code that can be kept".to_owned())?;
            let code = ArtifactBuild::from_serializable(code).serialize();
            code.map_err(|error| error.to_string())
        })?;
        let code = code.map_err(failed)?;
        Ok(Self {
            // To the byte, since it stays in memory.
            bytes: aligned(code.into_boxed_slice().into()),
        })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Loads the code into an engine.
    pub(crate) fn load(self, engine: &Engine) -> Result<Module, SandboxError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "an Artifact exists only once its MAC has been checked"
        )]
        // SAFETY: the bytes must be what wasmer has serialized, by the same version for
        // the same processor. Either `Artifact::of` has just done so, or `Seal::open` has
        // found a MAC over exactly these bytes that only a holder of the key can make, and
        // those seal nothing but what they have compiled: the key of the cache is read by
        // its owner alone, the key of a compiler process lives as long as that. The name
        // under the MAC covers the versions of wasmer and of the format, and the
        // processor's features.
        let module = guarded(|| unsafe { Module::deserialize(engine, self.bytes) })?;
        module.map_err(|error| SandboxError::Compile {
            reason: error.to_string(),
        })
    }
}

/// The bytes at an address that machine code may be read from. Allocators mostly
/// see to that by themselves.
fn aligned(bytes: Bytes) -> Bytes {
    let short_of = |address: *const u8| (address as usize).wrapping_neg() % ALIGN;
    if short_of(bytes.as_ptr()) == 0 {
        return bytes;
    }
    let mut copy = Vec::with_capacity(bytes.len() + ALIGN);
    let skip = short_of(copy.as_ptr());
    copy.resize(skip, 0);
    copy.extend_from_slice(&bytes);
    Bytes::from(copy).slice(skip..)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: ArtifactName = [7; 32];

    fn sealed(seal: &Seal, artifact: &[u8]) -> Vec<u8> {
        [&seal.header(&NAME, artifact), artifact].concat()
    }

    #[test]
    fn what_is_sealed_can_be_opened() {
        let seal = Seal::new([1; 32]);
        for artifact in [&b""[..], b"x", &[9; 100_000]] {
            let opened = seal.open(&NAME, sealed(&seal, artifact).into()).unwrap();
            assert_eq!(opened.bytes(), artifact);
            assert_eq!(opened.bytes().as_ptr() as usize % ALIGN, 0);
        }
    }

    #[test]
    fn no_bit_may_differ() {
        let seal = Seal::new([1; 32]);
        let good = sealed(&seal, b"machine code");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(seal.open(&NAME, bad.into()).is_none(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(seal.open(&NAME, good[..len].to_vec().into()).is_none());
        }
        assert!(
            seal.open(&NAME, [&good[..], b"x"].concat().into())
                .is_none()
        );
    }

    #[test]
    fn neither_the_key_nor_the_name_may_differ() {
        let seal = Seal::new([1; 32]);
        let good = Bytes::from(sealed(&seal, b"machine code"));
        assert!(Seal::new([2; 32]).open(&NAME, good.clone()).is_none());
        assert!(seal.open(&[8; 32], good).is_none());
    }

    #[test]
    fn bytes_are_moved_to_where_they_can_be_read() {
        let bytes = Bytes::from(vec![5; 100]);
        for start in 0..ALIGN {
            let moved = aligned(bytes.slice(start..));
            assert_eq!(moved.as_ptr() as usize % ALIGN, 0);
            assert_eq!(moved, bytes.slice(start..));
        }
    }
}
