//! Where the fleet index is kept, and the highest one that has been seen.

use std::sync::{Mutex, PoisonError};

use super::{FleetIndex, IndexDefect, MAX_INDEX_BYTES};
use crate::digest::Digest;
use crate::dir::{Dir, Fault};
use crate::error::{Defect, RegistryError};
use crate::layout;
use crate::lock::StoreLock;
use crate::registry::Registry;
use crate::staging::Staging;
use crate::verify::verify_index;

/// The largest file of the highest number read, in bytes: 20 digits, a space and a digest.
const MAX_SEEN_BYTES: u64 = 128;

/// An index that has been accepted once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    seq: u64,
    digest: Digest,
}

/// The highest index that this process has accepted.
///
/// Whoever can write to the store can put back both files. A running process
/// has its own memory.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Option<Mark>>);

impl Seen {
    fn mark(&self) -> Option<Mark> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raise(&self, to: Mark) {
        let mut mark = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if mark.is_none_or(|mark| mark.seq < to.seq) {
            *mark = Some(to);
        }
    }
}

impl Mark {
    fn of(index: &FleetIndex, bytes: &[u8]) -> Self {
        Self {
            seq: index.seq,
            digest: Digest::of(bytes),
        }
    }

    /// Refuses what is older than this, or of the same number and different.
    fn admit(self, given: Self) -> Result<(), IndexDefect> {
        let (seen, seq) = (self.seq, given.seq);
        if seq < seen {
            return Err(IndexDefect::Rollback { seen, given: seq });
        }
        if seq == seen && given.digest != self.digest {
            return Err(IndexDefect::Equivocation { seq });
        }
        Ok(())
    }

    fn to_text(self) -> String {
        format!("{} {}\n", self.seq, self.digest)
    }

    fn from_text(text: &[u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?.strip_suffix('\n')?;
        let (seq, digest) = text.split_once(' ')?;
        Some(Self {
            seq: seq.parse().ok()?,
            digest: digest.parse().ok()?,
        })
    }
}

impl Registry {
    /// Takes over a newer fleet index. From then on every read applies it, in
    /// every process that uses the store.
    ///
    /// It is written and synced aside, then replaces the old one in one step.
    /// Waits for other writers of the store. Updating to the index that is there
    /// already changes nothing.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Index`] when too few index keys have signed it, when it has expired, when
    /// a newer one or a different one of the same number has been seen;
    /// [`RegistryError::ReadOnly`] or [`RegistryError::Io`] with the old index in force or the new
    /// one, whole.
    pub fn update_index(&self, bytes: &[u8]) -> Result<(), RegistryError> {
        if bytes.len() as u64 > MAX_INDEX_BYTES {
            return Err(too_large(layout::INDEX, MAX_INDEX_BYTES).into());
        }
        let now = self.clock.now();
        let given = verify_index(&self.policy, bytes, None, now)?;
        if given.expires <= now {
            let expires = given.expires;
            return Err(IndexDefect::Freeze { expires, now }.into());
        }
        let store = Dir::create_store(&self.io, &self.path)?;
        let lock = StoreLock::acquire(&store)?;
        let mark = Mark::of(&given, bytes);
        for seen in [self.seen.mark(), read_mark(&store)?].into_iter().flatten() {
            seen.admit(mark)?;
        }
        if let Some(old) = read_file(&store, layout::INDEX, MAX_INDEX_BYTES)?
            && let Ok(current) = verify_index(&self.policy, &old, None, now)
        {
            Mark::of(&current, &old).admit(mark)?;
            // A key that the index in force revokes cannot bring itself back.
            if old != bytes {
                verify_index(&self.policy, bytes, Some(&current.revocations.keys), now)?;
            }
        }
        // In this order: after a crash in between the index alone has the higher number.
        let staging = Staging::open(&store, &lock)?;
        staging.replace(&store, layout::INDEX, bytes)?;
        staging.replace(&store, layout::INDEX_SEEN, mark.to_text().as_bytes())?;
        self.seen.raise(mark);
        Ok(())
    }

    /// The fleet index in force, if the policy has index keys and there is an index.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Index`] when it is damaged, not signed as the policy asks, older than one
    /// that has been seen, or when the policy requires an index and there is none that has not
    /// expired. Nothing can be read from the store then.
    pub fn index(&self) -> Result<Option<FleetIndex>, RegistryError> {
        self.index_at(self.clock.now())
    }

    pub(crate) fn index_at(&self, now: u64) -> Result<Option<FleetIndex>, RegistryError> {
        let index = self.index_in_force(now)?;
        match &index {
            None if self.policy.index_required() => Err(IndexDefect::Missing.into()),
            Some(FleetIndex { expires, .. }) if self.policy.index_required() && *expires <= now => {
                let expires = *expires;
                Err(IndexDefect::Freeze { expires, now }.into())
            }
            _ => Ok(index),
        }
    }

    /// The fleet index in force, whether or not it has expired.
    pub(crate) fn index_in_force(&self, now: u64) -> Result<Option<FleetIndex>, RegistryError> {
        if self.policy.index_signers().is_none() {
            return Ok(None);
        }
        // The marks first: an update in the meantime can only make the index newer.
        let in_memory = self.seen.mark();
        let store = Dir::open_store(&self.io, &self.path)?;
        let on_disk = match &store {
            Some(store) => read_mark(store)?,
            None => None,
        };
        let bytes = match &store {
            Some(store) => read_file(store, layout::INDEX, MAX_INDEX_BYTES)?,
            None => None,
        };
        let Some(bytes) = bytes else {
            return match in_memory.or(on_disk) {
                Some(_) => Err(IndexDefect::Missing.into()),
                None => Ok(None),
            };
        };
        let index = verify_index(&self.policy, &bytes, None, now)?;
        let mark = Mark::of(&index, &bytes);
        for seen in [in_memory, on_disk].into_iter().flatten() {
            seen.admit(mark)?;
        }
        self.seen.raise(mark);
        Ok(Some(index))
    }
}

fn read_mark(store: &Dir) -> Result<Option<Mark>, RegistryError> {
    let Some(text) = read_file(store, layout::INDEX_SEEN, MAX_SEEN_BYTES)? else {
        return Ok(None);
    };
    let damaged = || IndexDefect::Unreadable {
        reason: format!("{} is damaged", layout::INDEX_SEEN),
    };
    Mark::from_text(&text)
        .map(Some)
        .ok_or_else(|| damaged().into())
}

fn read_file(
    store: &Dir,
    name: &'static str,
    limit: u64,
) -> Result<Option<Vec<u8>>, RegistryError> {
    match store.read(name, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Fault::Defect(Defect::MissingFile { .. })) => Ok(None),
        Err(Fault::Defect(defect)) => Err(IndexDefect::Unreadable {
            reason: defect.to_string(),
        }
        .into()),
        Err(Fault::System(error)) => Err(error),
    }
}

fn too_large(file: &'static str, limit: u64) -> IndexDefect {
    IndexDefect::Unreadable {
        reason: Defect::TooLarge { file, limit }.to_string(),
    }
}
