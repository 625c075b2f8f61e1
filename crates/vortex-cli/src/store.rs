//! The store and the policy that a command works with.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;
use vortex_plugins::PluginRef;
use vortex_plugins::registry::{
    KeyId, PluginManifest, Policy, PublicKey, Refusal, Registry, Trust,
};

use crate::cli::Options;
use crate::exit::usage_error;
use crate::table::{BAD, Cell, DOUBTFUL, GOOD};

impl Options {
    /// Whether a policy or a trusted key was given.
    pub(crate) fn says_who_is_trusted(&self) -> bool {
        self.policy_file().is_some() || !self.trust.is_empty()
    }

    /// The policy file; keys given on the command line count more than the variable.
    pub(crate) fn policy_file(&self) -> Option<PathBuf> {
        if self.policy.is_some() || !self.trust.is_empty() {
            return self.policy.clone();
        }
        let file = std::env::var_os("VORTEX_PLUGIN_POLICY").map(PathBuf::from);
        file.filter(|path| !path.as_os_str().is_empty())
    }

    /// The policy: the file, the keys, or else one that trusts nobody.
    pub(crate) fn policy(&self) -> Result<Policy> {
        if let Some(file) = self.policy_file() {
            return Ok(Policy::read_toml_file(file)?);
        }
        let keys: Result<Vec<_>, _> = self.trust.iter().map(PublicKey::read_pem_file).collect();
        Ok(Policy::strict(keys?))
    }

    /// Where the store is.
    pub(crate) fn store(&self) -> Result<PathBuf> {
        let store = self.store.clone();
        let store = store.or_else(|| std::env::var_os("VORTEX_PLUGIN_DIR").map(PathBuf::from));
        // An empty variable is none.
        let store = store.filter(|path| !path.as_os_str().is_empty());
        store.ok_or_else(|| {
            usage_error("no plugin store given: use --store DIR or set VORTEX_PLUGIN_DIR")
        })
    }

    /// The store under the policy.
    pub(crate) fn registry(&self) -> Result<Registry> {
        Ok(Registry::open(self.store()?, self.policy()?)?)
    }
}

/// A plugin in the store, or a file.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// `name@version`: what the registry finds under the policy.
    Installed(PluginRef),
    /// A path.
    File(PathBuf),
}

impl FromStr for Target {
    type Err = anyhow::Error;

    /// A path has a slash or a dot before any `@`, or is `-`; neither can stand in a name.
    fn from_str(text: &str) -> Result<Self> {
        let name = text.split('@').next().unwrap_or(text);
        if text == "-" || name.contains(['/', '.']) {
            return Ok(Self::File(PathBuf::from(text)));
        }
        Ok(Self::Installed(text.parse()?))
    }
}

/// The first digits of a key id or digest, which is what people compare.
pub(crate) fn brief(id: impl ToString) -> String {
    let mut id = id.to_string();
    id.truncate(16);
    id
}

/// Key ids as one text, each shortened.
pub(crate) fn brief_ids<'a>(ids: impl IntoIterator<Item = &'a KeyId>) -> String {
    let ids: Vec<_> = ids.into_iter().map(brief).collect();
    ids.join(", ")
}

/// What the policy thinks of a version, in few words.
pub(crate) fn trust_cell(trust: &Trust) -> Cell {
    match trust {
        Trust::Signed { signers, .. } => {
            Cell::new(format!("trusted ({})", brief_ids(signers)), GOOD)
        }
        Trust::Unsigned => Cell::new("unsigned", DOUBTFUL),
        Trust::UntrustedKey { key_ids } => {
            Cell::new(format!("untrusted key ({})", brief_ids(key_ids)), DOUBTFUL)
        }
        Trust::Refused { refusal } => {
            Cell::new(format!("refused: {}", brief_refusal(refusal)), BAD)
        }
        _ => Cell::new("unknown", BAD),
    }
}

fn brief_refusal(refusal: &Refusal) -> String {
    match refusal {
        Refusal::DeniedDigest { .. } => "its module is denied".to_owned(),
        Refusal::RevokedKey { key_id } => format!("key {} is revoked", brief(key_id)),
        other => other.to_string(),
    }
}

/// What the policy thinks of a version, for machines.
pub(crate) fn trust_json(trust: &Trust) -> serde_json::Value {
    let ids = |ids: &std::collections::BTreeSet<KeyId>| {
        let ids: Vec<_> = ids.iter().map(KeyId::to_string).collect();
        ids
    };
    match trust {
        Trust::Signed { signers, .. } => {
            serde_json::json!({ "state": "trusted", "signers": ids(signers) })
        }
        Trust::Unsigned => serde_json::json!({ "state": "unsigned" }),
        Trust::UntrustedKey { key_ids } => {
            serde_json::json!({ "state": "untrusted_key", "key_ids": ids(key_ids) })
        }
        Trust::Refused { refusal } => {
            serde_json::json!({ "state": "refused", "reason": refusal.to_string() })
        }
        _ => serde_json::json!({ "state": "unknown" }),
    }
}

/// The hook types of a manifest as one text.
pub(crate) fn hook_types(manifest: &PluginManifest) -> String {
    let types: Vec<_> = manifest
        .hook_types
        .iter()
        .map(ToString::to_string)
        .collect();
    types.join(" ")
}

/// A moment in seconds since 1970 as people write it.
pub(crate) fn date(seconds: u64) -> String {
    /// The end of the year 9999, past which RFC 3339 does not reach.
    const END: u64 = 253_402_300_800;
    if seconds >= END {
        return format!("{seconds} s after 1970");
    }
    let moment = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(moment).to_string()
}

/// Now, in seconds since 1970.
pub(crate) fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}
