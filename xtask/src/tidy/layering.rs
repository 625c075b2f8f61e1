//! Which crate may depend on which: an arrow never points up.

use super::File;

/// The crates of this workspace that each of them may depend on, in
/// dev-dependencies too. Tests, examples and benches stand above all.
const MAY_DEPEND_ON: [(&str, &[&str]); 9] = [
    ("vortex-hook-core", &[]),
    ("vortex-sandbox", &["vortex-hook-core"]),
    ("vortex-registry", &["vortex-hook-core"]),
    ("vortex-oci", &["vortex-registry"]),
    (
        "vortex-plugins",
        &[
            "vortex-hook-core",
            "vortex-oci",
            "vortex-registry",
            "vortex-sandbox",
        ],
    ),
    ("vortex-tower", &["vortex-hook-core", "vortex-plugins"]),
    ("vortex-plugin-sdk", &["vortex-hook-core"]),
    ("vortex-cli", &["vortex-plugins"]),
    ("xtask", &[]),
];

/// Where wasmer may appear: the crate that hides it, and what measures or
/// tests that crate against it.
const MAY_KNOW_WASMER: [&str; 3] = ["crates/vortex-sandbox/", "tests/", "benches/"];

/// Dependencies that point where they must not.
pub(super) fn check(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.name() == "Cargo.toml")
        .flat_map(check_manifest)
        .collect()
}

fn check_manifest(file: &File) -> Vec<String> {
    let Manifest { name, dependencies } = Manifest::read(file.text.as_deref().unwrap_or_default());
    // The root's manifest has no package, and its table of versions binds nobody.
    let Some(name) = name else {
        return Vec::new();
    };
    let allowed = MAY_DEPEND_ON
        .iter()
        .find(|(crate_name, _)| *crate_name == name)
        .map(|(_, allowed)| *allowed);
    let knows_wasmer = MAY_KNOW_WASMER
        .iter()
        .any(|place| file.path.starts_with(place));

    let mut findings = Vec::new();
    for (line, dependency) in dependencies {
        let at = format!("{}:{line}", file.path);
        if let Some(allowed) = allowed
            && dependency.starts_with("vortex-")
            && !allowed.contains(&dependency.as_str())
        {
            findings.push(format!("{at}: {name} must not depend on {dependency}"));
        }
        let is_wasmer = dependency == "wasmer" || dependency.starts_with("wasmer-");
        if is_wasmer && !knows_wasmer {
            findings.push(format!(
                "{at}: only vortex-sandbox knows wasmer, {name} must not depend on {dependency}"
            ));
        }
    }
    findings
}

/// As much of a manifest as layering needs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Manifest {
    name: Option<String>,
    /// The line and the crate's own name, of dependencies of every kind.
    dependencies: Vec<(usize, String)>,
}

impl Manifest {
    /// Reads the shapes of TOML that cargo's manifests are written in: a
    /// table of dependencies, or a table for each of them.
    fn read(text: &str) -> Self {
        let mut manifest = Self::default();
        let mut section = String::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(header) = line.strip_prefix('[') {
                section = header.trim_end_matches(']').to_owned();
                if let Some((kind, name)) = section.rsplit_once('.')
                    && is_dependencies(kind)
                {
                    manifest.dependencies.push((at + 1, unquoted(name)));
                }
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                continue;
            };
            let key = key.trim();
            if section == "package" && key == "name" {
                manifest.name = Some(unquoted(value));
            } else if is_dependencies(&section) {
                let name = package_of(value).unwrap_or_else(|| {
                    let name = key.split('.').next().unwrap_or(key);
                    unquoted(name)
                });
                manifest.dependencies.push((at + 1, name));
            } else if key == "package"
                && section
                    .rsplit_once('.')
                    .is_some_and(|(kind, _)| is_dependencies(kind))
            {
                manifest.dependencies.push((at + 1, unquoted(value)));
            }
        }
        manifest
    }
}

/// `dependencies`, `dev-dependencies`, `build-dependencies`, and each of them
/// for a target.
fn is_dependencies(section: &str) -> bool {
    let last = section.rsplit('.').next().unwrap_or(section);
    !section.starts_with("workspace.")
        && ["dependencies", "dev-dependencies", "build-dependencies"].contains(&last)
}

/// The `package = "…"` of a dependency that goes by another name.
fn package_of(value: &str) -> Option<String> {
    let (_, rest) = value.split_once("package")?;
    let (_, rest) = rest.split_once('=')?;
    let mut parts = rest.split('"');
    parts.next()?;
    parts.next().map(str::to_owned)
}

fn unquoted(text: &str) -> String {
    text.trim().trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\n{rest}")
    }

    fn found(path: &str, name: &str, rest: &str) -> usize {
        check(&[File::of(path, &manifest(name, rest))]).len()
    }

    #[test]
    fn every_shape_of_dependency_is_read() {
        let text = manifest(
            "x",
            "[dependencies]\na.workspace = true\nb = \"1\" # why\n\"c\" = { version = \"1\" }\n\
             d = { package = \"real-d\", version = \"1\" }\n\
             [dev-dependencies]\ne = \"1\"\n\
             [target.'cfg(unix)'.dependencies]\nf = \"1\"\n\
             [build-dependencies.g]\nversion = \"1\"\n\
             [features]\nh = []\n",
        );
        let manifest = Manifest::read(&text);
        let names: Vec<_> = manifest
            .dependencies
            .iter()
            .map(|(_, name)| name.as_str())
            .collect();
        assert_eq!(manifest.name.as_deref(), Some("x"));
        assert_eq!(names, ["a", "b", "c", "real-d", "e", "f", "g"]);
    }

    #[test]
    fn sandbox_and_registry_never_see_each_other() {
        let path = "crates/vortex-sandbox/Cargo.toml";
        let dependency = "[dev-dependencies]\nvortex-registry.workspace = true\n";
        assert_eq!(found(path, "vortex-sandbox", dependency), 1);
        let path = "crates/vortex-registry/Cargo.toml";
        let dependency = "[dependencies]\nvortex-sandbox = { path = \"../vortex-sandbox\" }\n";
        assert_eq!(found(path, "vortex-registry", dependency), 1);
    }

    #[test]
    fn the_core_stands_on_nothing() {
        let path = "crates/vortex-hook-core/Cargo.toml";
        let dependency = "[dependencies.vortex-registry]\npath = \"../vortex-registry\"\n";
        assert_eq!(found(path, "vortex-hook-core", dependency), 1);
    }

    #[test]
    fn wasmer_is_known_to_the_sandbox_alone() {
        let wasmer = "[dependencies]\nwasmer-types.workspace = true\n";
        assert_eq!(
            found("crates/vortex-sandbox/Cargo.toml", "vortex-sandbox", wasmer),
            0
        );
        assert_eq!(found("tests/Cargo.toml", "vortex-tests", wasmer), 0);
        assert_eq!(
            found("crates/vortex-plugins/Cargo.toml", "vortex-plugins", wasmer),
            1
        );
        assert_eq!(found("xtask/Cargo.toml", "xtask", wasmer), 1);
    }
}
