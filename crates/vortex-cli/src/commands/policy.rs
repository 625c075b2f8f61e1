//! `policy`: what a policy file says.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use bytesize::ByteSize;
use clap::{Args, Subcommand};
use serde_json::json;
use vortex_plugins::registry::{KeyId, Mode, PluginName, Policy, Rule};

use crate::cli::Options;
use crate::exit::{Exit, usage_error};
use crate::store::{brief, brief_ids, date, now};
use crate::table::{BAD, Cell, DOUBTFUL, GOOD, Table};
use crate::ui::Ui;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(Check),
}

impl Command {
    pub(crate) fn run(self, options: &Options, ui: &Ui) -> Result<Exit> {
        match self {
            Self::Check(check) => check.run(options, ui),
        }
    }
}

/// Read a policy file, say what it means and what in it cannot work
///
/// With --plugin it ends with code 3 when no rule is about that name.
#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The policy file. That of --policy or VORTEX_PLUGIN_POLICY, if left out
    file: Option<PathBuf>,

    /// Say which rule decides about this plugin
    #[arg(long, value_name = "NAME")]
    plugin: Option<PluginName>,
}

impl Check {
    fn run(self, options: &Options, ui: &Ui) -> Result<Exit> {
        let file = self.file.or_else(|| options.policy_file());
        let file = file
            .ok_or_else(|| usage_error("no policy file given: name one, or use --policy FILE"))?;
        let policy = Policy::read_toml_file(file)?;
        let now = now();
        let warnings = warnings(&policy, now);
        let deciding = self.plugin.as_ref().map(|name| {
            let at = policy
                .rules()
                .iter()
                .position(|rule| rule.pattern().matches(name));
            (name, at)
        });
        ui.result(
            || {
                let mut value = to_json(&policy, now, &warnings);
                if let Some((name, at)) = deciding {
                    value["plugin"] = json!({ "name": name, "rule": at.map(|at| at + 1) });
                }
                value
            },
            || {
                let mut text = to_text(&policy, now);
                if let Some((name, at)) = deciding {
                    let verdict = match at {
                        Some(at) => format!("rule {} decides about {name}", at + 1),
                        None => format!("no rule is about {name}: it is refused"),
                    };
                    text.push_str(&format!("\n{verdict}\n"));
                }
                text
            },
        )?;
        if !ui.json {
            for warning in &warnings {
                ui.note(warning);
            }
        }
        Ok(match deciding {
            Some((_, None)) => Exit::Refused,
            _ => Exit::Done,
        })
    }
}

/// What a key is good for now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyState {
    Valid,
    NotYet,
    Expired,
    Revoked,
}

impl KeyState {
    fn of(policy: &Policy, id: &KeyId, now: u64) -> Self {
        let validity = policy.validity(id);
        if policy.revocations().keys.contains(id) {
            Self::Revoked
        } else if validity.not_before.is_some_and(|first| now < first) {
            Self::NotYet
        } else if validity.not_after.is_some_and(|last| now > last) {
            Self::Expired
        } else {
            Self::Valid
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::NotYet => "not valid yet",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// Every key that some rule trusts, with its state and the numbers of these rules.
fn keys(policy: &Policy, now: u64) -> BTreeMap<KeyId, (KeyState, Vec<usize>)> {
    let mut keys = BTreeMap::new();
    for (at, rule) in policy.rules().iter().enumerate() {
        for id in rule.keyring().iter().map(|key| key.key_id()) {
            let state = KeyState::of(policy, &id, now);
            let (_, rules): &mut (KeyState, Vec<usize>) =
                keys.entry(id).or_insert_with(|| (state, Vec::new()));
            rules.push(at + 1);
        }
    }
    keys
}

/// What the file allows itself to say and cannot work.
fn warnings(policy: &Policy, now: u64) -> Vec<String> {
    let mut warnings = Vec::new();
    if policy.rules().is_empty() {
        warnings.push("there is no rule: every plugin is refused".to_owned());
    }
    if policy.mode() == Mode::Permissive {
        warnings
            .push("the mode is permissive: plugins run that nobody trusted has signed".to_owned());
    }
    for (at, rule) in policy.rules().iter().enumerate() {
        let ids = rule.keyring().iter().map(|key| key.key_id());
        let valid = ids
            .filter(|id| KeyState::of(policy, id, now) == KeyState::Valid)
            .count();
        if valid < rule.threshold() {
            warnings.push(format!(
                "rule {} ({}) asks for {} keys, and {valid} of its keys can be used now: nothing of that name can run",
                at + 1,
                rule.pattern(),
                rule.threshold(),
            ));
        }
    }
    warnings
}

fn mode(policy: &Policy) -> &'static str {
    match policy.mode() {
        Mode::Strict => "strict",
        Mode::Permissive => "permissive",
    }
}

fn hooks_of(rule: &Rule) -> Option<Vec<String>> {
    let types = rule.hook_types()?;
    Some(types.iter().map(ToString::to_string).collect())
}

fn to_json(policy: &Policy, now: u64, warnings: &[String]) -> serde_json::Value {
    let revoked = policy.revocations();
    json!({
        "mode": mode(policy),
        "index_required": policy.index_required(),
        "rules": policy.rules().iter().map(|rule| json!({
            "name": rule.pattern().as_str(),
            "keys": rule.keyring().iter().map(|key| key.key_id()).collect::<Vec<_>>(),
            "threshold": rule.threshold(),
            "hook_types": hooks_of(rule),
            "max_bytes": rule.max_bytes(),
        })).collect::<Vec<_>>(),
        "keys": keys(policy, now).iter().map(|(id, (state, rules))| json!({
            "key_id": id, "state": state.as_str(), "rules": rules,
            "not_before": policy.validity(id).not_before,
            "not_after": policy.validity(id).not_after,
        })).collect::<Vec<_>>(),
        "revoked": {
            "keys": revoked.keys, "digests": revoked.digests, "versions": revoked.versions,
            "minimum_versions": revoked.minimum_versions,
        },
        "warnings": warnings,
    })
}

fn to_text(policy: &Policy, now: u64) -> String {
    let mut text = {
        let mut table = Table::default();
        let style = if policy.mode() == Mode::Strict {
            GOOD
        } else {
            DOUBTFUL
        };
        table.field("mode", Cell::new(mode(policy), style));
        let required = if policy.index_required() {
            "required"
        } else {
            "not required"
        };
        table.field("fleet index", required);
        let revoked = policy.revocations();
        table.field(
            "revoked",
            format!(
                "keys: {}, digests: {}, versions: {}; minimum versions: {}",
                revoked.keys.len(),
                revoked.digests.len(),
                revoked.versions.len(),
                revoked.minimum_versions.len()
            ),
        );
        table.lines()
    };
    let mut rules = Table::with_head(&["RULE", "NAMES", "KEYS", "THRESHOLD", "HOOKS", "AT MOST"]);
    for (at, rule) in policy.rules().iter().enumerate() {
        let ids: Vec<_> = rule.keyring().iter().map(|key| key.key_id()).collect();
        rules.row([
            (at + 1).to_string().into(),
            rule.pattern().as_str().into(),
            brief_ids(&ids).into(),
            rule.threshold().to_string().into(),
            hooks_of(rule)
                .map_or("all".to_owned(), |hooks| hooks.join(" "))
                .into(),
            rule.max_bytes()
                .map_or(String::new(), |bytes| ByteSize(bytes).to_string())
                .into(),
        ]);
    }
    text.push_str(&format!("\n{}", rules.lines()));
    let mut table = Table::with_head(&["KEY", "STATE", "FROM", "UNTIL"]);
    for (id, (state, _)) in keys(policy, now) {
        let validity = policy.validity(&id);
        let style = if state == KeyState::Valid { GOOD } else { BAD };
        table.row([
            brief(id).into(),
            Cell::new(state.as_str(), style),
            validity.not_before.map_or(String::new(), date).into(),
            validity.not_after.map_or(String::new(), date).into(),
        ]);
    }
    text.push_str(&format!("\n{}", table.lines()));
    text
}
