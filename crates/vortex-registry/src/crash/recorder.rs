//! A real directory whose every change is written down, and whose every step can fail.

use std::collections::HashMap;
use std::ffi::{CString, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use crate::io::{Io, System};

/// A file or directory, whatever it is called. The first one is the root.
pub(super) type Node = usize;

/// What a system call has done.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Change {
    /// Bytes were appended to a file.
    Write {
        file: Node,
        bytes: Vec<u8>,
    },
    /// An empty file or directory was made.
    Add {
        dir: Node,
        name: OsString,
        node: Node,
        is_dir: bool,
    },
    Remove {
        dir: Node,
        name: OsString,
    },
    Rename {
        from: (Node, OsString),
        to: (Node, OsString),
        node: Node,
    },
    /// A file or directory was synced.
    Sync {
        node: Node,
    },
    /// It should have been, and that failed: nobody knows any more what is on
    /// the disk, and a later sync does not tell.
    FailedSync {
        node: Node,
    },
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { file, bytes } => write!(f, "write {} bytes to {file}", bytes.len()),
            Self::Add {
                dir, name, node, ..
            } => write!(f, "make {node} as {name:?} in {dir}"),
            Self::Remove { dir, name } => write!(f, "remove {name:?} from {dir}"),
            Self::Rename { from, to, node } => write!(f, "rename {node} from {from:?} to {to:?}"),
            Self::Sync { node } => write!(f, "sync {node}"),
            Self::FailedSync { node } => write!(f, "sync {node}: failed"),
        }
    }
}

/// Which steps fail, counted from the moment the fault was set.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// This one alone.
    Once(usize, Errno),
    /// This one and the next one, which may be there to undo the damage.
    Twice(usize, Errno),
    /// This one and all that follow: the disk stays full, or the process has
    /// been killed, for then nothing happens any more either.
    From(usize, Errno),
    /// Every lock.
    Locks(Errno),
}

#[derive(Debug, Default)]
struct State {
    nodes: HashMap<(u64, u64), Node>,
    log: Vec<Change>,
    fault: Option<Fault>,
    steps: usize,
}

/// Passes everything on to the operating system but what is to fail.
#[derive(Debug)]
pub(super) struct Recorder(Mutex<State>);

impl Recorder {
    /// Records what happens below this directory, which is empty.
    pub(super) fn new(root: &Path) -> Self {
        let recorder = Self(Mutex::default());
        let root = File::open(root).unwrap();
        assert_eq!(recorder.state().node(root.as_fd()), 0);
        recorder
    }

    /// From now on this fails.
    pub(super) fn set_fault(&self, fault: Option<Fault>) {
        let mut state = self.state();
        (state.fault, state.steps) = (fault, 0);
    }

    /// How many steps were taken since the fault was set.
    pub(super) fn steps(&self) -> usize {
        self.state().steps
    }

    /// All that has changed.
    pub(super) fn log(&self) -> Vec<Change> {
        self.state().log.clone()
    }

    /// How much has changed.
    pub(super) fn len(&self) -> usize {
        self.state().log.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Counts a step, and says whether it may be taken.
    fn step(&self) -> Result<MutexGuard<'_, State>, Errno> {
        let mut state = self.state();
        state.steps += 1;
        let step = state.steps - 1;
        match state.fault {
            Some(Fault::Once(at, errno)) if step == at => Err(errno),
            Some(Fault::Twice(at, errno)) if step == at || step == at + 1 => Err(errno),
            Some(Fault::From(at, errno)) if step >= at => Err(errno),
            _ => Ok(state),
        }
    }

    /// Whether the last step failed while the process was still alive.
    fn has_just_failed(&self) -> bool {
        let state = self.state();
        match state.fault {
            Some(Fault::Once(at, _) | Fault::From(at, _)) => state.steps == at + 1,
            Some(Fault::Twice(at, _)) => state.steps == at + 1 || state.steps == at + 2,
            Some(Fault::Locks(_)) | None => false,
        }
    }
}

impl State {
    fn node(&mut self, file: BorrowedFd<'_>) -> Node {
        let stat = rustix::fs::fstat(file).unwrap();
        let next = self.nodes.len();
        *self.nodes.entry((stat.st_dev, stat.st_ino)).or_insert(next)
    }

    /// The directory that a name is in, and the rest of the name.
    fn place(&mut self, at: BorrowedFd<'_>, name: &Path) -> (Node, OsString) {
        let file_name = name.file_name().unwrap().to_owned();
        let dir = match name.parent() {
            Some(parent) if parent != Path::new("") => {
                let dir = rustix::fs::openat(at, parent, OFlags::PATH, Mode::empty()).unwrap();
                self.node(dir.as_fd())
            }
            _ => self.node(at),
        };
        (dir, file_name)
    }

    fn add(&mut self, at: BorrowedFd<'_>, name: &Path, is_dir: bool) {
        let (dir, file_name) = self.place(at, name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let made = rustix::fs::openat(at, name, flags, Mode::empty()).unwrap();
        let stat = rustix::fs::fstat(&made).unwrap();
        // A number may have been that of a file which is gone.
        let node = self.nodes.len();
        if let Some(old) = self.nodes.insert((stat.st_dev, stat.st_ino), node) {
            self.nodes.insert((u64::MAX, old as u64), old);
        }
        self.log.push(Change::Add {
            dir,
            name: file_name,
            node,
            is_dir,
        });
    }
}

impl Io for Recorder {
    fn open(
        &self,
        at: BorrowedFd<'_>,
        name: &Path,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        let mut state = self.step()?;
        let existed = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let opened = System.open(at, name, flags, mode)?;
        if !existed {
            state.add(at, name, false);
        }
        Ok(opened)
    }

    fn stat(&self, file: BorrowedFd<'_>) -> Result<Stat, Errno> {
        let _state = self.step()?;
        System.stat(file)
    }

    fn names(&self, dir: BorrowedFd<'_>, limit: usize) -> Result<(Vec<CString>, bool), Errno> {
        let _state = self.step()?;
        System.names(dir, limit)
    }

    fn read(&self, file: &File, limit: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
        let _state = self.step()?;
        System.read(file, limit, bytes)
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        // A write that fails, or is the last thing a process does, may be done in part.
        let (written, result) = match self.step() {
            Ok(_) => (bytes, Ok(())),
            Err(errno) if self.has_just_failed() => (&bytes[..bytes.len() / 2], Err(errno)),
            Err(errno) => return Err(errno.into()),
        };
        System.write(file, written)?;
        let mut state = self.state();
        let (file, bytes) = (state.node(file.as_fd()), written.to_vec());
        state.log.push(Change::Write { file, bytes });
        Ok(result?)
    }

    fn create_dir(&self, at: BorrowedFd<'_>, name: &Path, mode: Mode) -> Result<(), Errno> {
        let mut state = self.step()?;
        System.create_dir(at, name, mode)?;
        state.add(at, name, true);
        Ok(())
    }

    fn set_mode(&self, file: BorrowedFd<'_>, mode: Mode) -> Result<(), Errno> {
        let _state = self.step()?;
        System.set_mode(file, mode)
    }

    fn rename(
        &self,
        from: (BorrowedFd<'_>, &Path),
        to: (BorrowedFd<'_>, &Path),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let mut state = self.step()?;
        System.rename(from, to, flags)?;
        let moved = rustix::fs::openat(to.0, to.1, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty());
        let change = Change::Rename {
            node: state.node(moved.unwrap().as_fd()),
            from: state.place(from.0, from.1),
            to: state.place(to.0, to.1),
        };
        state.log.push(change);
        Ok(())
    }

    fn remove(&self, at: BorrowedFd<'_>, name: &Path, flags: AtFlags) -> Result<(), Errno> {
        let mut state = self.step()?;
        System.remove(at, name, flags)?;
        let (dir, name) = state.place(at, name);
        state.log.push(Change::Remove { dir, name });
        Ok(())
    }

    fn sync(&self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        let allowed = self.step().map(drop);
        // After a kill nothing is even tried, and what was not tried has not failed.
        if allowed.is_err() && !self.has_just_failed() {
            return allowed;
        }
        let mut state = self.state();
        let node = state.node(file);
        state.log.push(match allowed {
            Ok(()) => Change::Sync { node },
            Err(_) => Change::FailedSync { node },
        });
        allowed
    }

    fn lock(&self, file: BorrowedFd<'_>, operation: FlockOperation) -> Result<(), Errno> {
        let state = self.step()?;
        if let Some(Fault::Locks(errno)) = state.fault {
            return Err(errno);
        }
        drop(state);
        System.lock(file, operation)
    }
}

/// What is below a directory, as the model of the disk has it.
pub(super) fn read_tree(root: &Path) -> super::model::Tree {
    let mut tree = super::model::Tree::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let inside = path.strip_prefix(root).unwrap().to_owned();
            if path.is_dir() {
                tree.insert(inside, None);
                pending.push(path);
            } else {
                tree.insert(inside, Some(std::fs::read(&path).unwrap()));
            }
        }
    }
    tree
}

/// The recorder must be able to say where the store itself was made.
#[test]
fn paths_are_resolved_to_nodes() {
    let temp = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(temp.path());
    let mode = Mode::from_raw_mode(0o755);
    recorder
        .create_dir(CWD, &temp.path().join("a"), mode)
        .unwrap();
    recorder
        .create_dir(CWD, &temp.path().join("a/b"), mode)
        .unwrap();
    let dirs: Vec<_> = recorder
        .log()
        .into_iter()
        .map(|change| match change {
            Change::Add { dir, node, .. } => (dir, node),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(dirs, [(0, 1), (1, 2)]);
}
