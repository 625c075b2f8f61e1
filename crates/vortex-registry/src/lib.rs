//! Stores signed plugin versions on disk and says which may run.
//!
//! A plugin version is a WebAssembly module and a manifest, kept in
//! `<store>/<name>/<version>/{plugin.wasm,manifest.json}`. Its author signs a
//! [`Statement`] about both with an [Ed25519](PrivateKey) key; the operator's
//! [`Policy`] says whose statements count for what, and a signed [`FleetIndex`]
//! what has been revoked since. The [`Registry`] checks checksum and
//! signature when a version is installed and again at every read: what lies on
//! the disk is not trusted because it was trusted once.
//!
//! ```
//! use vortex_registry::{HookType, Policy, PluginManifest, PrivateKey, Registry, Release, Version};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = tempfile::tempdir()?;
//! let key = PrivateKey::generate()?;
//!
//! // The author describes a module and signs the description.
//! let wasm = b"\0asm\x01\0\0\0";
//! let manifest = PluginManifest::new("redirect".parse()?, Version::new(1, 2, 0), [HookType::PreRequest], wasm)
//!     .sign(wasm, Release { abi: 1, seq: 1, released_at: 1_750_000_000 }, &[&key])?;
//!
//! // The operator trusts the author's key, and nobody else's.
//! let registry = Registry::open(store.path(), Policy::strict([key.public_key()]))?;
//! registry.install(&manifest, wasm)?;
//!
//! let plugin = registry.get(&"redirect".parse()?, &"^1.2".parse()?)?;
//! assert_eq!(plugin.wasm(), wasm);
//! assert!(plugin.signers().contains(&key.public_key().key_id()));
//! # Ok(())
//! # }
//! ```
//!
//! # What is not here
//!
//! Nothing here runs or even parses WebAssembly: that the bytes are those the
//! author signed says nothing about what they do. Reading takes no lock and
//! writes nothing, so a store may be mounted read-only. Linux only, since the
//! store relies on directory handles and on a rename that never replaces.

mod bounded;
mod clock;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod devices;
mod digest;
mod dir;
mod dsse;
mod error;
mod index;
mod install;
mod io;
mod json;
mod key;
mod keyring;
mod layout;
mod limits;
mod list;
mod lock;
mod manifest;
mod name;
mod policy;
mod refusal;
mod registry;
mod remove;
mod revocations;
mod sbom;
mod staging;
mod statement;
mod verify;
mod version;

pub use digest::Digest;
pub use error::{Defect, RegistryError};
pub use index::{FleetIndex, IndexDefect};
pub use install::InstallOutcome;
pub use key::{KeyId, PrivateKey, PublicKey};
pub use keyring::Keyring;
pub use limits::Limits;
pub use list::{ListEntry, Status};
pub use manifest::PluginManifest;
pub use name::PluginName;
pub use policy::{Mode, NamePattern, Policy, Rule, Validity};
pub use refusal::Refusal;
pub use registry::Registry;
pub use revocations::{PluginVersion, Revocations};
pub use sbom::{Sbom, SbomFormat};
pub use semver::{Version, VersionReq};
pub use statement::{Release, Statement};
pub use verify::{Loaded, MustStop, Trust, Unverified, Verified};
pub use version::VersionSelector;
pub use vortex_hook_core::HookType;
