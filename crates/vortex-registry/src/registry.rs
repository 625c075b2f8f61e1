//! The store, and how plugins are read from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use semver::Version;

use crate::clock::Clock;
use crate::digest::Digest;
use crate::dir::{Dir, Fault};
use crate::error::{Defect, RegistryError};
use crate::index::Seen;
use crate::layout;
use crate::limits::Limits;
use crate::manifest::PluginManifest;
use crate::name::PluginName;
use crate::policy::Policy;
use crate::verify::{Authority, Candidate, Loaded, MustStop, Unverified, Verified};
use crate::verify::{judge_loaded, verify, verify_permissive};
use crate::version::VersionSelector;

/// How often a read starts again because a version was removed under its eyes.
const MAX_ATTEMPTS: usize = 64;

/// A store of plugin versions on disk, and the policy that guards it.
///
/// Reading takes no lock: a version never changes once it is published, and it
/// is published and removed in one step. Writing takes a lock that holds across
/// processes. A store may therefore be shared by many gateways.
///
/// ```
/// use vortex_registry::{Policy, Registry, RegistryError};
///
/// # let directory = tempfile::tempdir()?;
/// let registry = Registry::open(directory.path().join("plugins"), Policy::default())?;
/// assert!(registry.list()?.is_empty());
///
/// let missing = registry.get(&"redirect".parse()?, &"^1.2".parse()?);
/// assert!(matches!(missing, Err(RegistryError::NotFound { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) path: PathBuf,
    pub(crate) policy: Policy,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) seen: Arc<Seen>,
}

impl Registry {
    /// Opens a store with the default [`Limits`].
    ///
    /// Nothing is created. A store that does not exist is empty, and is made by
    /// the first [`install`](Self::install).
    ///
    /// # Errors
    ///
    /// [`RegistryError::Io`] when the path is no directory or cannot be opened.
    pub fn open(path: impl Into<PathBuf>, policy: Policy) -> Result<Self, RegistryError> {
        let path = path.into();
        Dir::open_store(&path)?;
        Ok(Self {
            path,
            policy,
            limits: Limits::default(),
            clock: Clock::default(),
            seen: Arc::default(),
        })
    }

    /// Reads and installs no more than these limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// How much it reads and installs.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes the time from elsewhere than the system: for tests.
    #[must_use]
    pub fn with_clock(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        let clock = Clock::new(now);
        Self { clock, ..self }
    }

    /// Where the store is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who is trusted.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The checksum that a manifest must state for this module.
    #[must_use]
    pub fn checksum(wasm: &[u8]) -> Digest {
        Digest::of(wasm)
    }

    /// Reads a version that may run: intact, signed as the policy asks and not revoked by it or
    /// by the fleet index, whatever the mode.
    ///
    /// When the version that the selector means is corrupt or not trusted, that
    /// is the answer. There is no falling back to an older one, or else
    /// corrupting the newest would force a downgrade.
    ///
    /// # Errors
    ///
    /// [`RegistryError::NotFound`] when no version fits, [`RegistryError::Corrupt`],
    /// [`RegistryError::Unsigned`], [`RegistryError::UntrustedKey`] or [`RegistryError::Refused`]
    /// when it may not run, [`RegistryError::Index`] when nothing may run, for want of a usable
    /// fleet index (see [`index`](Self::index)),
    /// [`RegistryError::TooManyEntries`] or [`RegistryError::Io`] when it cannot be read.
    pub fn get(
        &self,
        name: &PluginName,
        version: &VersionSelector,
    ) -> Result<Verified, RegistryError> {
        self.with_authority(|authority| verify(authority, self.find(name, version)?))
    }

    /// Reads the highest version that is no prerelease, as [`get`](Self::get) does.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_latest(&self, name: &PluginName) -> Result<Verified, RegistryError> {
        self.get(name, &VersionSelector::Latest)
    }

    /// Reads a version that is intact, whoever signed it, if the policy is permissive.
    ///
    /// # Errors
    ///
    /// [`RegistryError::PolicyForbids`] when the policy is strict; else as [`get`](Self::get),
    /// but for `Unsigned` and `UntrustedKey`.
    pub fn get_permissive(
        &self,
        name: &PluginName,
        version: &VersionSelector,
    ) -> Result<Unverified, RegistryError> {
        self.with_authority(|authority| verify_permissive(authority, self.find(name, version)?))
    }

    /// Which of the plugins that run must stop, because this policy or the fleet index in force
    /// would not let them run any more: revoked since they were loaded, in most cases.
    ///
    /// Call it after [`update_index`](Self::update_index), and now and then, since another process
    /// may have updated the index. What only the passing of time does, an index or a key that
    /// expires, bars plugins from being loaded and stops none that runs. In permissive mode
    /// nothing stops for want of signatures, as nothing is refused for that.
    ///
    /// ```
    /// use vortex_registry::{FleetIndex, PluginManifest, Policy, PrivateKey, Refusal, Registry};
    /// # use vortex_registry::{Release, Version};
    ///
    /// # let store = tempfile::tempdir()?;
    /// # let wasm = b"\0asm\x01\0\0\0";
    /// # let key = PrivateKey::generate()?;
    /// # let release = Release { abi: 1, seq: 1, released_at: 1_750_000_000 };
    /// # let manifest = PluginManifest::new("redirect".parse()?, Version::new(1, 2, 3), [], wasm)
    /// #     .sign(wasm, release, &[&key])?;
    /// let policy = Policy::strict([key.public_key()]).with_index_keys([key.public_key()], 1);
    /// let registry = Registry::open(store.path(), policy)?;
    /// # registry.install(&manifest, wasm)?;
    /// let loaded = registry.get_latest(&"redirect".parse()?)?.loaded();
    /// assert!(registry.must_stop([loaded.clone()])?.is_empty());
    ///
    /// let mut index = FleetIndex::new(1, 1_750_000_000, 4_000_000_000);
    /// index.revocations.versions.insert("redirect@1.2.3".parse()?);
    /// registry.update_index(&index.sign(&[&key])?)?;
    /// let stops = registry.must_stop([loaded])?;
    /// assert_eq!(stops[0].refusal, Refusal::RevokedVersion);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RegistryError::Index`] when the fleet index is unusable for another reason than its age,
    /// [`RegistryError::Io`] when it cannot be read. Nobody knows then what must stop.
    pub fn must_stop(
        &self,
        loaded: impl IntoIterator<Item = Loaded>,
    ) -> Result<Vec<MustStop>, RegistryError> {
        let index = self.index_in_force(self.clock.now())?;
        let authority = Authority {
            policy: &self.policy,
            index: index.as_ref(),
            now: None,
        };
        let stops = loaded.into_iter().filter_map(|plugin| {
            let refusal = judge_loaded(authority, &plugin).err()?;
            Some(MustStop { plugin, refusal })
        });
        Ok(stops.collect())
    }

    /// Does something under the policy and the fleet index of the moment.
    pub(crate) fn with_authority<T>(
        &self,
        act: impl FnOnce(Authority<'_>) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let now = self.clock.now();
        let index = self.index_at(now)?;
        act(Authority {
            policy: &self.policy,
            index: index.as_ref(),
            now: Some(now),
        })
    }

    /// Reads the version that the selector means. Nothing of it is checked.
    fn find(
        &self,
        name: &PluginName,
        selector: &VersionSelector,
    ) -> Result<Candidate, RegistryError> {
        let not_found = || RegistryError::not_found(name, selector.clone());
        for _ in 0..MAX_ATTEMPTS {
            let store = Dir::open_store(&self.path)?.ok_or_else(not_found)?;
            let plugin = store
                .subdir(layout::plugin_dir(name))
                .map_err(|fault| fault.of(name, selector.clone()))?
                .ok_or_else(not_found)?;
            let version = match selector {
                VersionSelector::Exact(version) => version.clone(),
                _ => selector
                    .choose(self.versions(&plugin)?)
                    .ok_or_else(not_found)?,
            };
            match self.read(&plugin, name, &version)? {
                Found::Version(candidate) => return Ok(*candidate),
                Found::Nothing if matches!(selector, VersionSelector::Exact(_)) => break,
                Found::Nothing | Found::Replaced => {}
            }
        }
        Err(not_found())
    }

    /// The versions in the directory of a plugin, good or bad.
    pub(crate) fn versions(&self, plugin: &Dir) -> Result<Vec<Version>, RegistryError> {
        let names = self.names(plugin)?;
        Ok(names.iter().filter_map(|n| layout::version_of(n)).collect())
    }

    /// The names in a directory, if they are not too many.
    pub(crate) fn names(&self, dir: &Dir) -> Result<Vec<std::ffi::CString>, RegistryError> {
        let limit = self.limits.directory_entries;
        match dir.names(limit)? {
            (names, false) => Ok(names),
            (_, true) => Err(RegistryError::TooManyEntries {
                path: dir.path().to_owned(),
                limit,
            }),
        }
    }

    /// Reads a version from the directory of its plugin.
    pub(crate) fn read(
        &self,
        plugin: &Dir,
        name: &PluginName,
        version: &Version,
    ) -> Result<Found, RegistryError> {
        let dir_name = layout::version_dir(version)?;
        let open = || plugin.subdir(&dir_name).map_err(|f| f.of(name, version));
        let Some(dir) = open()? else {
            return Ok(Found::Nothing);
        };
        match self.read_files(&dir) {
            Ok((manifest, wasm)) => Ok(Found::Version(Box::new(Candidate {
                name: name.clone(),
                version: version.clone(),
                manifest,
                wasm,
            }))),
            Err(fault @ Fault::Defect(Defect::MissingFile { .. })) => match open()? {
                // A file that is missing from a version that is still there is damage.
                Some(again) if again.is_same(&dir)? => Err(fault.of(name, version)),
                // Somebody has removed the version since it was opened.
                _ => Ok(Found::Replaced),
            },
            Err(fault) => Err(fault.of(name, version)),
        }
    }

    fn read_files(&self, dir: &Dir) -> Result<(PluginManifest, Vec<u8>), Fault> {
        let json = dir.read(layout::MANIFEST, self.limits.manifest_bytes)?;
        let manifest = PluginManifest::from_json(&json).map_err(Fault::Defect)?;
        let wasm = dir.read(layout::WASM, self.limits.wasm_bytes)?;
        Ok((manifest, wasm))
    }
}

/// What was found where a version should be.
pub(crate) enum Found {
    /// Files that can be read. Nothing of them is checked.
    Version(Box<Candidate>),
    /// Nothing.
    Nothing,
    /// A version that was removed while it was read. Another may have taken its place.
    Replaced,
}
