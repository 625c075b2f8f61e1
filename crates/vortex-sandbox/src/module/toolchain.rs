//! What made a piece of code, besides the module and the limits.

use std::sync::LazyLock;

use wasmer_types::MetadataHeader;
use wasmer_types::target::{CpuFeature, Triple};

/// The sources that decide which modules become code and which code: validation,
/// since what is cached is not validated again, instrumentation, the settings of the
/// compiler, and the memory that the code is made for.
const SOURCES: [(&str, &[u8]); 12] = [
    (
        "instance/memory.rs",
        include_bytes!("../instance/memory.rs"),
    ),
    ("instrument.rs", include_bytes!("../instrument.rs")),
    (
        "instrument/abort.rs",
        include_bytes!("../instrument/abort.rs"),
    ),
    (
        "instrument/bulk.rs",
        include_bytes!("../instrument/bulk.rs"),
    ),
    (
        "instrument/safepoint.rs",
        include_bytes!("../instrument/safepoint.rs"),
    ),
    (
        "instrument/sections.rs",
        include_bytes!("../instrument/sections.rs"),
    ),
    (
        "instrument/start.rs",
        include_bytes!("../instrument/start.rs"),
    ),
    ("module/code_limits.rs", include_bytes!("code_limits.rs")),
    ("module/compile.rs", include_bytes!("compile.rs")),
    ("module/function.rs", include_bytes!("function.rs")),
    ("module/stripped.rs", include_bytes!("stripped.rs")),
    ("module/validate.rs", include_bytes!("validate.rs")),
];

/// A version that nobody can forget to count up.
const VERSION: u64 = checksum(&SOURCES);

/// FNV-1a over sources. It tells one version from the next and resists nobody.
const fn checksum(sources: &[(&str, &[u8])]) -> u64 {
    let mut sum: u64 = 0xcbf2_9ce4_8422_2325;
    let mut source = 0;
    while source < sources.len() {
        let bytes = sources[source].1;
        let mut byte = 0;
        while byte < bytes.len() {
            sum = (sum ^ bytes[byte] as u64).wrapping_mul(0x0100_0000_01b3);
            byte += 1;
        }
        source += 1;
    }
    sum
}

/// A digest of everything in this program and on this machine that decides which
/// code comes out: two programs with the same one may use each other's artifacts.
pub(crate) fn id() -> &'static [u8; 32] {
    static ID: LazyLock<[u8; 32]> = LazyLock::new(|| {
        let purpose = "vortex-sandbox 2026-11 toolchain of an artifact";
        let mut id = blake3::Hasher::new_derive_key(purpose);
        let mut part = |bytes: &[u8]| {
            // With its length, so that no part can pass for another.
            id.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        part(env!("CARGO_PKG_VERSION").as_bytes());
        part(&VERSION.to_le_bytes());
        // It pins the version of Cranelift to the last digit.
        part(wasmer_types::VERSION.as_bytes());
        part(&MetadataHeader::CURRENT_VERSION.to_le_bytes());
        part(Triple::host().to_string().as_bytes());
        part(&CpuFeature::for_host().as_u64().to_le_bytes());
        *id.finalize().as_bytes()
    });
    &ID
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the folders with sources that count, these do not: they move bytes about.
    const OTHERS: [&str; 11] = [
        "module/inspect.rs",
        "module/report.rs",
        "module/artifact.rs",
        "module/artifact_cache.rs",
        "module/cache_dir.rs",
        "module/compiler_process.rs",
        "module/compiler_process/exchange.rs",
        "module/compiler_process/serve.rs",
        "module/limits.rs",
        "module/loader.rs",
        "module/toolchain.rs",
    ];

    #[test]
    fn every_source_that_makes_code_counts() {
        let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
        let mut folders = vec![root.join("instrument"), root.join("module")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                let counts = SOURCES.iter().any(|(source, _)| *source == name);
                assert!(
                    counts || OTHERS.contains(&name),
                    "{name}: put it into SOURCES or, if no code depends on it, into OTHERS"
                );
            }
        }
        for (name, text) in SOURCES {
            assert_eq!(text, std::fs::read(root.join(name)).unwrap(), "{name}");
        }
    }

    #[test]
    fn a_change_anywhere_is_another_version() {
        assert_ne!(checksum(&[("", b"ab")]), checksum(&[("", b"ac")]));
        assert_ne!(checksum(&[("", b"ab")]), checksum(&[("", b"bb")]));
        assert_eq!(
            checksum(&[("", b"a"), ("", b"b")]),
            checksum(&[("", b"ab")])
        );
    }
}
