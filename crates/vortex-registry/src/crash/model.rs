//! What may be on the disk after a power cut.
//!
//! The bytes of a file are safe once the file has been synced, unless a sync has
//! failed before; the names in a directory once the directory has. Of all else any part may be there: each
//! change is kept or lost, whatever came before or after it, and bytes that are
//! lost may leave nothing, half of them, or zeros of the same length.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::recorder::{Change, Node};

/// Directories (none) and files (their bytes) by path.
pub(super) type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Up to so many unsafe changes every subset of them is tried. Of more: all,
/// none, each one alone, all but each one, and all up to each one.
const MAX_EXHAUSTIVE: usize = 8;

/// What a rename is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Renames {
    /// One change, which is safe as soon as either directory is synced: so it
    /// is on all journaling file systems.
    Whole,
    /// Two, a name more here and a name less there, each as safe as its directory.
    InHalves,
}

/// What is left of bytes that were lost.
#[derive(Clone, Copy, Debug)]
enum Remains {
    Nothing,
    Half,
    Zeros,
}

/// A change that is on the disk as a whole or not at all.
struct Atom<'a> {
    what: What<'a>,
    is_safe: bool,
}

enum What<'a> {
    Bytes(Node, &'a [u8]),
    /// Names that come to mean a node, or nothing.
    Names(Vec<(Node, &'a OsString, Option<Node>)>),
}

/// Calls back with everything that may be on the disk if the power is cut after
/// the last of the changes, when the first ones are known to be safe. Says how
/// many that were; some may be equal.
pub(super) fn after_power_cut(
    changes: &[Change],
    safe: usize,
    renames: Renames,
    mut found: impl FnMut(Tree),
) -> usize {
    let atoms = atoms(changes, safe, renames);
    let unsafe_atoms: Vec<usize> = (0..atoms.len()).filter(|i| !atoms[*i].is_safe).collect();
    let mut count = 0;
    for lost in subsets(&unsafe_atoms) {
        let loses_bytes = lost
            .iter()
            .any(|i| matches!(atoms[*i].what, What::Bytes(..)));
        let remains: &[_] = match loses_bytes {
            true => &[Remains::Nothing, Remains::Half, Remains::Zeros],
            false => &[Remains::Nothing],
        };
        for remains in remains {
            found(tree(changes, &atoms, &lost, *remains));
            count += 1;
        }
    }
    count
}

/// The changes with the random names of staging numbered, to compare two runs.
pub(super) fn without_chance(changes: &[Change]) -> Vec<Change> {
    let mut seen = Vec::new();
    let mut number = |name: &OsString| {
        if !is_random(name) {
            return name.clone();
        }
        let position = seen.iter().position(|other| other == name);
        let position = position.unwrap_or_else(|| {
            seen.push(name.clone());
            seen.len() - 1
        });
        format!("staged {position}").into()
    };
    let mut changes = changes.to_vec();
    for change in &mut changes {
        match change {
            Change::Add { name, .. } | Change::Remove { name, .. } => *name = number(name),
            Change::Rename { from, to, .. } => {
                (from.1, to.1) = (number(&from.1), number(&to.1));
            }
            Change::Write { .. } | Change::Sync { .. } | Change::FailedSync { .. } => {}
        }
    }
    changes
}

/// The tree with the random names of staging numbered, to lay out no two that are alike.
pub(super) fn without_litter_names(tree: Tree) -> Tree {
    let mut seen = Vec::new();
    let renamed = tree.into_iter().map(|(path, bytes)| {
        let mut renamed = PathBuf::new();
        for part in &path {
            if !is_random(part) {
                renamed.push(part);
                continue;
            }
            if !seen.iter().any(|other| other == part) {
                seen.push(part.to_owned());
            }
            renamed.push(format!("staged {}", seen.len() - 1));
        }
        (renamed, bytes)
    });
    renamed.collect()
}

fn is_random(name: &OsStr) -> bool {
    name.len() == 32
}

/// What is there when nothing is lost, as after a kill.
pub(super) fn after_kill(changes: &[Change]) -> Tree {
    let atoms = atoms(changes, 0, Renames::Whole);
    tree(changes, &atoms, &HashSet::new(), Remains::Nothing)
}

fn atoms(changes: &[Change], safe: usize, renames: Renames) -> Vec<Atom<'_>> {
    let dirs = dirs(changes);
    let mut atoms = Vec::new();
    for (i, change) in changes.iter().enumerate() {
        let later = &changes[i + 1..];
        let is_synced = |node: Node| {
            let syncs = later.iter().find_map(|change| match change {
                Change::Sync { node: synced } if *synced == node => Some(true),
                // The system takes the bytes for written although they are not.
                Change::FailedSync { node: failed } if *failed == node && !dirs.contains(&node) => {
                    Some(false)
                }
                _ => None,
            });
            i < safe || syncs == Some(true)
        };
        let mut push = |what, is_safe| atoms.push(Atom { what, is_safe });
        match change {
            Change::Write { file, bytes } => push(What::Bytes(*file, bytes), is_synced(*file)),
            Change::Add {
                dir, name, node, ..
            } => push(
                What::Names(vec![(*dir, name, Some(*node))]),
                is_synced(*dir),
            ),
            Change::Remove { dir, name } => {
                push(What::Names(vec![(*dir, name, None)]), is_synced(*dir));
            }
            Change::Rename { from, to, node } => {
                let less = (from.0, &from.1, None);
                let more = (to.0, &to.1, Some(*node));
                let (from, to) = (is_synced(from.0), is_synced(to.0));
                match renames {
                    Renames::Whole => push(What::Names(vec![less, more]), from || to),
                    Renames::InHalves => {
                        push(What::Names(vec![less]), from);
                        push(What::Names(vec![more]), to);
                    }
                }
            }
            Change::Sync { .. } | Change::FailedSync { .. } => {}
        }
    }
    atoms
}

fn dirs(changes: &[Change]) -> HashSet<Node> {
    let dirs = changes.iter().filter_map(|change| match change {
        Change::Add {
            node, is_dir: true, ..
        } => Some(*node),
        _ => None,
    });
    // The root has never been made.
    dirs.chain([0]).collect()
}

fn subsets(of: &[usize]) -> Vec<HashSet<usize>> {
    if of.len() <= MAX_EXHAUSTIVE {
        return (0..1_usize << of.len())
            .map(|bits| {
                let chosen = (0..of.len()).filter(|i| bits >> i & 1 == 1);
                chosen.map(|i| of[i]).collect()
            })
            .collect();
    }
    let all: HashSet<usize> = of.iter().copied().collect();
    let mut subsets = vec![HashSet::new(), all.clone()];
    for (i, one) in of.iter().enumerate() {
        subsets.push(HashSet::from([*one]));
        subsets.push(&all - &HashSet::from([*one]));
        subsets.push(of[i..].iter().copied().collect());
    }
    subsets
}

fn tree(changes: &[Change], atoms: &[Atom<'_>], lost: &HashSet<usize>, remains: Remains) -> Tree {
    let mut bytes: HashMap<Node, Vec<u8>> = HashMap::new();
    let mut names: BTreeMap<(Node, &OsString), Node> = BTreeMap::new();
    for (i, atom) in atoms.iter().enumerate() {
        let is_lost = lost.contains(&i);
        match &atom.what {
            What::Bytes(file, written) => {
                let left = match (is_lost, remains) {
                    (false, _) => written.to_vec(),
                    (true, Remains::Nothing) => Vec::new(),
                    (true, Remains::Half) => written[..written.len() / 2].to_vec(),
                    (true, Remains::Zeros) => vec![0; written.len()],
                };
                bytes.entry(*file).or_default().extend(left);
            }
            What::Names(_) if is_lost => {}
            What::Names(changed) => {
                for (dir, name, node) in changed {
                    match node {
                        Some(node) => names.insert((*dir, name), *node),
                        None => names.remove(&(*dir, *name)),
                    };
                }
            }
        }
    }
    let dirs = dirs(changes);
    // A directory that has two names is emptied through the one in staging.
    let mut named = HashSet::new();
    let twice: HashSet<Node> = names
        .values()
        .copied()
        .filter(|node| !named.insert(*node) && dirs.contains(node))
        .collect();
    let mut tree = Tree::new();
    let mut pending = vec![(0, PathBuf::new())];
    while let Some((dir, path)) = pending.pop() {
        for ((_, name), node) in names.range((dir, &OsString::new())..(dir + 1, &OsString::new())) {
            let path = path.join(Path::new(name));
            if !dirs.contains(node) {
                tree.insert(path, Some(bytes.get(node).cloned().unwrap_or_default()));
                continue;
            }
            tree.insert(path.clone(), None);
            if !twice.contains(node) {
                pending.push((*node, path));
            }
        }
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(dir: Node, name: &str, node: Node, is_dir: bool) -> Change {
        let name = name.into();
        Change::Add {
            dir,
            name,
            node,
            is_dir,
        }
    }

    fn all(changes: &[Change], renames: Renames) -> Vec<Tree> {
        let mut trees = Vec::new();
        after_power_cut(changes, 0, renames, |tree| trees.push(tree));
        trees.sort();
        trees.dedup();
        trees
    }

    #[test]
    fn a_file_is_safe_when_it_and_its_directory_are_synced() {
        let bytes = b"abcd".to_vec();
        let mut changes = vec![add(0, "f", 1, false), Change::Write { file: 1, bytes }];
        let nothing_is_safe = all(&changes, Renames::Whole);
        // No file, or one with the bytes, with none, half of them, or zeros.
        assert_eq!(nothing_is_safe.len(), 5);
        changes.push(Change::Sync { node: 1 });
        assert_eq!(all(&changes, Renames::Whole).len(), 2);
        changes.push(Change::Sync { node: 0 });
        assert_eq!(all(&changes, Renames::Whole), [after_kill(&changes)]);
    }

    #[test]
    fn bytes_are_not_safe_after_a_sync_that_failed_whatever_the_next_one_says() {
        let bytes = b"abcd".to_vec();
        let mut changes = vec![add(0, "f", 1, false), Change::Write { file: 1, bytes }];
        let failures = [
            Change::FailedSync { node: 1 },
            Change::FailedSync { node: 0 },
        ];
        changes.extend(failures);
        changes.push(Change::Sync { node: 1 });
        assert_eq!(all(&changes, Renames::Whole).len(), 5);
        // Names are another matter: a journal that cannot be written is closed.
        changes.push(Change::Sync { node: 0 });
        assert_eq!(all(&changes, Renames::Whole).len(), 4);
    }

    #[test]
    fn a_rename_is_one_change_or_two() {
        let mut changes = vec![
            add(0, "from", 1, true),
            add(0, "to", 2, true),
            add(1, "x", 3, true),
            Change::Sync { node: 0 },
            Change::Sync { node: 1 },
        ];
        let (from, to) = ((1, "x".into()), (2, "x".into()));
        changes.push(Change::Rename { from, to, node: 3 });
        assert_eq!(all(&changes, Renames::Whole).len(), 2);
        assert_eq!(all(&changes, Renames::InHalves).len(), 4);
        changes.push(Change::Sync { node: 1 });
        assert_eq!(all(&changes, Renames::Whole), [after_kill(&changes)]);
        assert_eq!(all(&changes, Renames::InHalves).len(), 2);
    }
}
