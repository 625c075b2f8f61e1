//! A million random names and as many random versions: what is accepted stays
//! under the store.

use std::path::{Component, Path, PathBuf};

use vortex_registry::{PluginName, VersionSelector};

/// xorshift64* (Vigna 2016), since a good generator would take longer than the test.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    /// Mostly harmless pieces, with one that is not every now and then.
    fn text(&mut self, harmless: &[&str]) -> String {
        const HARMFUL: [&str; 24] = [
            "/", "..", "../", ".", "\\", "\0", "\n", " ", "é", "ａ", "\u{202e}", "%2e", ":", "~",
            "con", "nul", "--", "A", "_", "-", "$", "*", "\u{7f}", "//",
        ];
        let (pieces, harm) = (self.below(8), self.below(3));
        (0..pieces)
            .map(|_| {
                if harm == 0 && self.below(4) == 0 {
                    HARMFUL[self.below(HARMFUL.len())]
                } else {
                    harmless[self.below(harmless.len())]
                }
            })
            .collect()
    }
}

/// Where the path leads if every component is taken literally.
fn resolve(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => _ = resolved.pop(),
            Component::CurDir => {}
            other => resolved.push(other),
        }
    }
    resolved
}

/// Whether the text names something directly in the store, the way that a file
/// system on Linux or Windows would take it.
fn stays_inside(text: &str) -> bool {
    let store = Path::new("/var/lib/store");
    let resolved = resolve(&store.join(text));
    resolved.parent() == Some(store)
        && resolved.file_name() == Some(text.as_ref())
        && !text.contains(['\\', ':', '\0'])
        && !text.starts_with('.')
}

#[test]
fn a_million_random_names_stay_under_the_store() {
    const HARMLESS: [&str; 12] = [
        "a", "z", "0", "9", "re", "x1", "auth", "-a", "-0", "b-c", "com", "lpt1",
    ];
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (mut accepted, mut would_escape) = (0, 0);
    for _ in 0..1_000_000 {
        let text = random.text(&HARMLESS);
        let inside = stays_inside(&text);
        would_escape += usize::from(!inside);
        if let Ok(name) = text.parse::<PluginName>() {
            assert!(inside, "{text:?}");
            assert_eq!(name.as_str(), text);
            accepted += 1;
        }
    }
    assert!(accepted > 300_000, "{accepted}");
    assert!(would_escape > 100_000, "{would_escape}");
    println!("{accepted} accepted, {would_escape} would have left the store");
}

#[test]
fn a_million_random_versions_stay_under_the_plugin() {
    const HARMLESS: [&str; 12] = [
        "1.0.0", "0.1.2", "1", ".", "0", "-rc", "+b", "-", "2.3.4-a", "x", ".1", "+1.a-b",
    ];
    let mut random = Random(0xD1B5_4A32_D192_ED03);
    let (mut accepted, mut would_escape) = (0, 0);
    for _ in 0..1_000_000 {
        let text = random.text(&HARMLESS);
        let inside = stays_inside(&text);
        would_escape += usize::from(!inside);
        if let Ok(VersionSelector::Exact(version)) = text.parse() {
            assert!(inside, "{text:?}");
            assert_eq!(version.to_string(), text);
            accepted += 1;
        }
    }
    assert!(accepted > 20_000, "{accepted}");
    assert!(would_escape > 100_000, "{would_escape}");
    println!("{accepted} accepted, {would_escape} would have left the store");
}
