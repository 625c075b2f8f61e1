//! The policy as a TOML file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::value::{Datetime, Offset};
use vortex_hook_core::HookType;

use super::{NamePattern, Policy, Rule, Validity};
use crate::bounded::read_regular;
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::key::{KeyId, PublicKey};
use crate::name::PluginName;
use crate::revocations::{PluginVersion, Revocations};
use crate::version::parse_version;

/// The largest policy file read, in bytes.
const MAX_POLICY_BYTES: usize = 256 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    #[serde(default)]
    mode: FileMode,
    #[serde(default)]
    index_required: bool,
    #[serde(default)]
    keys: Vec<KeyEntry>,
    #[serde(default)]
    rules: Vec<RuleEntry>,
    #[serde(default)]
    revoked: Revoked,
    #[serde(default)]
    minimum_versions: BTreeMap<PluginName, String>,
    index: Option<IndexEntry>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FileMode {
    #[default]
    Strict,
    Permissive,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    name: String,
    pem: Option<String>,
    file: Option<PathBuf>,
    not_before: Option<Datetime>,
    not_after: Option<Datetime>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleEntry {
    name: String,
    keys: Vec<String>,
    #[serde(default = "one")]
    threshold: usize,
    hook_types: Option<BTreeSet<HookType>>,
    max_bytes: Option<u64>,
    #[serde(default)]
    require_sbom: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Revoked {
    keys: BTreeSet<KeyId>,
    digests: BTreeSet<Digest>,
    versions: BTreeSet<PluginVersion>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexEntry {
    keys: Vec<String>,
    #[serde(default = "one")]
    threshold: usize,
}

const fn one() -> usize {
    1
}

impl Policy {
    /// Reads a policy from TOML of at most 256 KiB; paths of key files start at `base_dir`.
    ///
    /// ```
    /// use vortex_registry::{Policy, PrivateKey};
    ///
    /// let text = format!(
    ///     r#"
    /// mode = "strict"                        # or "permissive"; strict if left out
    /// # index_required = true                # refuse everything without a fresh fleet index
    ///
    /// [[keys]]
    /// name = "alice"
    /// pem = """{}"""                         # or file = "alice.pem"
    /// not_before = 2025-01-01T00:00:00Z      # RFC 3339; both ends may be left out
    /// not_after = 2035-01-01T00:00:00Z
    ///
    /// [[rules]]                              # the first rule that matches decides, alone
    /// name = "auth-*"
    /// keys = ["alice"]
    /// threshold = 1                          # 1 if left out
    /// hook_types = ["pre_request"]           # all if left out
    /// max_bytes = 1048576                    # the registry's limit if left out
    /// require_sbom = false                   # true: only what is signed with an SBOM's digest
    ///
    /// [revoked]
    /// keys = []                              # key ids
    /// digests = []                           # SHA-256 of modules
    /// versions = ["auth-jwt@1.2.3"]
    ///
    /// [minimum_versions]
    /// auth-jwt = "1.2.0"
    ///
    /// [index]                                # who signs the fleet index
    /// keys = ["alice"]
    /// threshold = 1
    /// "#,
    ///     PrivateKey::generate()?.public_key().to_pem()?
    /// );
    /// let policy = Policy::from_toml(&text, "/etc/vortex")?;
    /// assert_eq!(policy.rules().len(), 1);
    /// # Ok::<(), vortex_registry::RegistryError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RegistryError::InvalidPolicy`] when it is no such TOML, when a key has two names or a
    /// name two keys, when a rule names a key that is not there, asks for more keys than it has or
    /// for none, or can never apply because of a rule before it.
    pub fn from_toml(text: &str, base_dir: impl AsRef<Path>) -> Result<Self, RegistryError> {
        parse(text, base_dir.as_ref()).map_err(|reason| RegistryError::InvalidPolicy {
            origin: "the policy".to_owned(),
            reason,
        })
    }

    /// Reads a policy file of at most 256 KiB, with key files beside it.
    ///
    /// # Errors
    ///
    /// As [`from_toml`](Self::from_toml); [`RegistryError::Io`] when the file cannot be read.
    pub fn read_toml_file(path: impl AsRef<Path>) -> Result<Self, RegistryError> {
        let path = path.as_ref();
        let bytes = read_regular(path, MAX_POLICY_BYTES)
            .map_err(|e| RegistryError::read("read", path, e))?;
        // Relative to the file, wherever the process has been started.
        let base_dir = path.parent().unwrap_or(Path::new(""));
        str::from_utf8(&bytes)
            .map_err(|error| error.to_string())
            .and_then(|text| parse(text, base_dir))
            .map_err(|reason| RegistryError::InvalidPolicy {
                origin: path.display().to_string(),
                reason,
            })
    }
}

fn parse(text: &str, base_dir: &Path) -> Result<Policy, String> {
    if text.len() > MAX_POLICY_BYTES {
        return Err(format!(
            "it is larger than the limit of {MAX_POLICY_BYTES} bytes"
        ));
    }
    let file: PolicyFile = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        format!("line {line}: {}", error.message())
    })?;

    let mut keys = BTreeMap::new();
    let mut validities = BTreeMap::new();
    for entry in file.keys {
        let at = |reason: String| format!("key {:?}: {reason}", entry.name);
        let key = read_key(&entry, base_dir).map_err(at)?;
        let validity = validity_of(&entry).map_err(at)?;
        // One key under two names would look like two keys to whoever counts names.
        if validities.insert(key.key_id(), validity).is_some() {
            return Err(at("the same key stands under another name".to_owned()));
        }
        if keys.insert(entry.name.clone(), key).is_some() {
            return Err(at("there are two keys of that name".to_owned()));
        }
    }

    let mut rules: Vec<Rule> = Vec::new();
    for (index, entry) in file.rules.into_iter().enumerate() {
        let at = |reason: String| format!("rule {} ({:?}): {reason}", index + 1, entry.name);
        let pattern: NamePattern = entry
            .name
            .parse()
            .map_err(|error: RegistryError| at(error.to_string()))?;
        if let Some(earlier) = rules.iter().find(|rule| rule.pattern().covers(&pattern)) {
            let earlier = earlier.pattern();
            return Err(at(format!(
                "it can never apply, since the earlier rule {earlier} matches the same names"
            )));
        }
        let signers = select(&keys, &entry.keys, entry.threshold).map_err(at)?;
        let mut rule = Rule::new(pattern, signers).with_threshold(entry.threshold);
        if let Some(hook_types) = entry.hook_types {
            rule = rule.with_hook_types(hook_types);
        }
        if let Some(bytes) = entry.max_bytes {
            rule = rule.with_max_bytes(bytes);
        }
        if entry.require_sbom {
            rule = rule.requiring_sbom();
        }
        rules.push(rule);
    }

    let mut minimum_versions = BTreeMap::new();
    for (name, version) in file.minimum_versions {
        let version =
            parse_version(&version).map_err(|error| format!("minimum_versions.{name}: {error}"))?;
        minimum_versions.insert(name, version);
    }
    let mut policy = match file.mode {
        FileMode::Strict => Policy::strict([]),
        FileMode::Permissive => Policy::permissive([]),
    }
    .with_rules(rules)
    .with_revocations(Revocations {
        keys: file.revoked.keys,
        digests: file.revoked.digests,
        versions: file.revoked.versions,
        minimum_versions,
    });
    for (key_id, validity) in validities {
        policy = policy.with_validity(key_id, validity);
    }
    if let Some(entry) = &file.index {
        let signers = select(&keys, &entry.keys, entry.threshold)
            .map_err(|reason| format!("index: {reason}"))?;
        policy = policy.with_index_keys(signers, entry.threshold);
    }
    match (file.index_required, file.index) {
        (false, _) => Ok(policy),
        (true, Some(_)) => Ok(policy.requiring_index()),
        (true, None) => Err("index_required: no [index] says which keys sign it".to_owned()),
    }
}

fn read_key(entry: &KeyEntry, base_dir: &Path) -> Result<PublicKey, String> {
    match (&entry.pem, &entry.file) {
        (Some(pem), None) => PublicKey::from_pem(pem),
        (None, Some(file)) => PublicKey::read_pem_file(base_dir.join(file)),
        _ => return Err("give either `pem` or `file`".to_owned()),
    }
    .map_err(|error| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

/// The keys with these names, if there are enough of them.
fn select(
    keys: &BTreeMap<String, PublicKey>,
    names: &[String],
    threshold: usize,
) -> Result<Vec<PublicKey>, String> {
    let names: BTreeSet<_> = names.iter().collect();
    if threshold == 0 || threshold > names.len() {
        return Err(format!(
            "threshold is {threshold}, and there are {} distinct keys",
            names.len()
        ));
    }
    let find = |name: &String| {
        let key = keys.get(name).cloned();
        key.ok_or_else(|| format!("no key is named {name:?}"))
    };
    names.into_iter().map(find).collect()
}

fn validity_of(entry: &KeyEntry) -> Result<Validity, String> {
    let seconds = |field, value: &Option<Datetime>| {
        let Some(value) = value else { return Ok(None) };
        unix_seconds(value).map(Some).ok_or_else(|| {
            format!("{field} is {value}: use a date since 1970 with time and offset, such as 2026-01-31T00:00:00Z")
        })
    };
    let validity = Validity {
        not_before: seconds("not_before", &entry.not_before)?,
        not_after: seconds("not_after", &entry.not_after)?,
    };
    match validity {
        Validity {
            not_before: Some(first),
            not_after: Some(last),
        } if first > last => Err("not_after is earlier than not_before".to_owned()),
        _ => Ok(validity),
    }
}

/// The moment in seconds since 1970-01-01 UTC; fractions of a second are dropped.
fn unix_seconds(moment: &Datetime) -> Option<u64> {
    let (date, time) = (moment.date?, moment.time?);
    let offset_minutes = match moment.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let (year, month, day) = (
        i64::from(date.year),
        i64::from(date.month),
        i64::from(date.day),
    );
    // Counted from 1 March of the year 0, so that a leap day ends its year.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + (day - 1)
        - 719_468;
    let seconds = i64::from(time.hour) * 3600
        + (i64::from(time.minute) - offset_minutes) * 60
        + i64::from(time.second.unwrap_or(0));
    u64::try_from(days * 86_400 + seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_as_posix_does() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1969-12-31T23:59:59Z", None),
            ("1970-01-01T00:30:00+01:00", None),
            ("1970-01-01T00:00:00-01:30", Some(5_400)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2001-09-09T01:46:40Z", Some(1_000_000_000)),
            ("2026-11-23T03:27:00.75Z", Some(1_795_404_420)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("9999-12-31T23:59:59Z", Some(253_402_300_799)),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01", None),
            ("07:32:00", None),
        ] {
            assert_eq!(unix_seconds(&text.parse().unwrap()), expected, "{text}");
        }
        for impossible in ["2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z"] {
            assert!(impossible.parse::<Datetime>().is_err(), "{impossible}");
        }
    }
}
