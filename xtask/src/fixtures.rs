//! `cargo xtask fixtures`: the guests that tests, demo and benches run.
//!
//! A fixture is built when the hash of its sources differs from the one noted
//! at its last build. Nothing built is ever committed.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::toolchain::{Kind, TARGET, Toolchain};
use crate::workspace;

/// A crate of the guests' workspace that is a library, not a guest.
const LIBRARY: &str = "guest-abi";

/// Raised when a build changes in a way that no source shows.
const RECIPE: u32 = 1;

/// Handles the command line of the task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let wanted = match arguments {
        [] => None,
        [flag, name] if flag == "--toolchain" => Some(Kind::parse(name)?),
        _ => bail!("usage: cargo xtask fixtures [--toolchain rustup|debian]"),
    };
    build(wanted)
}

/// Builds what is not up to date. A toolchain asked for by name builds the
/// Rust guests again in any case.
pub(crate) fn build(wanted: Option<Kind>) -> Result<()> {
    let out = workspace::fixtures();
    let stamps = Stamps::in_dir(out.join(".stamps"))?;
    let wat = wat_names()?;
    let guests = guest_names()?;
    if let Some(twice) = wat.intersection(&guests).next() {
        bail!("two fixtures are called `{twice}`");
    }
    remove_others(&out, &wat, &guests)?;
    build_wat(&wat, &out, &stamps)?;
    build_guests(&guests, &out, &stamps, wanted)
}

/// The names of the fixtures written as text.
pub(crate) fn wat_names() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in read_dir(&wat_dir())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wat") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into()));
        }
    }
    Ok(names)
}

/// The names of the fixtures written in Rust.
pub(crate) fn guest_names() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in read_dir(&guests_dir())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.join("Cargo.toml").is_file() && name != LIBRARY {
            names.insert(name.into_owned());
        }
    }
    Ok(names)
}

fn wat_dir() -> PathBuf {
    workspace::root().join("tests/fixtures/wat")
}

fn guests_dir() -> PathBuf {
    workspace::root().join("tests/fixtures/guests")
}

fn build_wat(names: &BTreeSet<String>, out: &Path, stamps: &Stamps) -> Result<()> {
    let begun = Instant::now();
    let mut built = 0;
    for name in names {
        let source = wat_dir().join(name).with_extension("wat");
        let target = out.join(format!("{name}.wasm"));
        let text = std::fs::read_to_string(&source)
            .with_context(|| format!("cannot read {}", source.display()))?;
        let hash = hash_of(|hasher| text.hash(hasher));
        if stamps.hold(name, hash) && target.is_file() {
            continue;
        }
        // The error of `wat` shows the place in the source by itself.
        let wasm = wat::parse_file(&source)?;
        write(&target, &wasm)?;
        stamps.note(name, hash)?;
        built += 1;
    }
    if built > 0 {
        println!(
            "fixtures: {built} of {} text modules in {:.1} s",
            names.len(),
            begun.elapsed().as_secs_f32()
        );
    }
    Ok(())
}

fn build_guests(
    names: &BTreeSet<String>,
    out: &Path,
    stamps: &Stamps,
    wanted: Option<Kind>,
) -> Result<()> {
    let hash = guests_hash()?;
    let target = |name: &String| out.join(format!("{name}.wasm"));
    let complete = names.iter().all(|name| target(name).is_file());
    if wanted.is_none() && complete && stamps.hold("guests", hash) {
        return Ok(());
    }

    let begun = Instant::now();
    let toolchain = Toolchain::find(wanted)?;
    println!(
        "fixtures: {} Rust guests with {}",
        names.len(),
        toolchain.describe()
    );
    let build_dir = workspace::target().join("guests");
    let mut cargo = toolchain.build();
    cargo
        .current_dir(guests_dir())
        .arg("--target-dir")
        .arg(&build_dir);
    crate::process::run(&mut cargo)?;
    for name in names {
        let built = build_dir
            .join(TARGET)
            .join("release")
            .join(format!("{}.wasm", name.replace('-', "_")));
        let wasm =
            std::fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
        write(&target(name), &wasm)?;
    }
    stamps.note("guests", hash)?;
    println!(
        "fixtures: {} Rust guests in {:.1} s",
        names.len(),
        begun.elapsed().as_secs_f32()
    );
    Ok(())
}

/// The hash of every file that the guests are made of, the SDK's among them, and
/// of the file that says which compiler builds them.
fn guests_hash() -> Result<u64> {
    let mut files = vec![workspace::root().join("rust-toolchain.toml")];
    files_under(&guests_dir(), &mut files)?;
    let sdk = workspace::root().join("crates/vortex-plugin-sdk");
    files.push(sdk.join("Cargo.toml"));
    files_under(&sdk.join("src"), &mut files)?;
    files.sort();
    let mut contents = Vec::new();
    for file in files {
        let bytes =
            std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        contents.push((file, bytes));
    }
    Ok(hash_of(|hasher| contents.hash(hasher)))
}

fn files_under(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in read_dir(dir)? {
        let entry = entry?;
        // What an editor's own cargo left behind is no source.
        if entry.file_name() == "target" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            files_under(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Removes what fixtures of other days left, so that no test can run on it.
fn remove_others(out: &Path, wat: &BTreeSet<String>, guests: &BTreeSet<String>) -> Result<()> {
    for entry in read_dir(out)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let known = wat.contains(name.as_ref()) || guests.contains(name.as_ref());
        if path
            .extension()
            .is_some_and(|extension| extension == "wasm")
            && !known
        {
            println!("fixtures: {name} is no more");
            std::fs::remove_file(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Writes a file in one step, so that a test running beside this never reads
/// half of one.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn read_dir(dir: &Path) -> Result<std::fs::ReadDir> {
    std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))
}

fn hash_of(feed: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    RECIPE.hash(&mut hasher);
    feed(&mut hasher);
    hasher.finish()
}

/// What the last build of each fixture was made from.
struct Stamps {
    dir: PathBuf,
}

impl Stamps {
    fn in_dir(dir: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self { dir })
    }

    fn hold(&self, name: &str, hash: u64) -> bool {
        std::fs::read_to_string(self.dir.join(name))
            .is_ok_and(|noted| noted == format!("{hash:016x}"))
    }

    fn note(&self, name: &str, hash: u64) -> Result<()> {
        write(&self.dir.join(name), format!("{hash:016x}").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_fixture_says_what_it_shows() {
        for name in wat_names().unwrap() {
            let text =
                std::fs::read_to_string(wat_dir().join(&name).with_extension("wat")).unwrap();
            assert!(
                text.starts_with(";; "),
                "{name}.wat begins without a comment"
            );
        }
    }

    #[test]
    fn the_library_is_no_guest() {
        let names = guest_names().unwrap();
        assert!(names.contains("api-key"));
        assert!(!names.contains(LIBRARY));
    }

    #[test]
    fn a_stamp_holds_for_its_hash_alone() {
        let dir = std::env::temp_dir().join(format!("xtask-stamps-{}", std::process::id()));
        let stamps = Stamps::in_dir(dir.clone()).unwrap();
        assert!(!stamps.hold("x", 7));
        stamps.note("x", 7).unwrap();
        assert!(stamps.hold("x", 7));
        assert!(!stamps.hold("x", 8));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
