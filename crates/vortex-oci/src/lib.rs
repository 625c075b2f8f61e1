//! Pushes plugin versions to OCI registries and pulls them into a plugin store.
//!
//! A [`Client`] speaks the OCI distribution protocol. What it pulls goes through
//! [`Registry::install`](vortex_registry::Registry::install), which alone decides
//! whether it may run: a registry and its mirrors are trusted with nothing but
//! being there.
//!
//! ```no_run
//! use vortex_oci::{Client, Reference};
//! use vortex_registry::{Policy, PublicKey, Registry};
//!
//! # async fn pull(author: PublicKey) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder()
//!     .mirror("registry.example.com", "mirror.example.net")?
//!     .build()?;
//! let reference = Reference::parse("registry.example.com/team/redirect:1.2.3")?;
//!
//! // The author's machine: out of the author's store.
//! let registry = Registry::open("plugins", Policy::strict([author]))?;
//! let plugin = registry.get(reference.plugin(), &"1.2.3".parse()?)?;
//! let digest = client.push(&reference, plugin.manifest(), plugin.wasm()).await?;
//!
//! // Each gateway: into the store that its plugins are loaded from.
//! let pulled = client.pull_into(&registry, &reference.pinned(digest)).await?;
//! println!("{} {}: {:?}", pulled.name, pulled.version, pulled.outcome);
//! # Ok(())
//! # }
//! ```
//!
//! # What a hostile registry, mirror or network can do
//!
//! Withhold a version, and nothing else. A tag that was moved to another version
//! is refused, because the version signed must be the one asked for; so is
//! another plugin, because its name must be the repository's last component.
//! Every body is read up to a bound, every wait ends, and the bytes of a module
//! are those of the digest. Credentials go to the host that they are for and to
//! the token service that it names, over HTTPS or within this machine, and to no
//! target of a redirect.
//!
//! # What is not here
//!
//! Deleting, listing tags, image indexes and the referrers interface: a plugin's
//! signature travels in its manifest. A push sends the module in one request; one
//! that breaks off starts again, but for what is there already.

mod artifact;
mod blob;
mod challenge;
mod client;
mod credentials;
mod downloads;
mod endpoint;
mod error;
mod http;
mod partial;
mod pull;
mod push;
mod reference;
mod retry;
mod session;

pub use client::{Client, ClientBuilder};
pub use credentials::DockerConfig;
pub use error::OciError;
pub use pull::{Installed, Pulled};
pub use reference::Reference;
