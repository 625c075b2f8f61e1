//! Memory as it was before the first call, to go back to after each.
//!
//! The image is a file in memory that every instance maps privately: pages that a
//! call writes to are copies of its own. The rest of the memory is zero at the
//! beginning. After a call, a few pages are written over with what they were: that
//! spares the next call the faults that getting them anew would cost. Many are
//! given back to the kernel instead. Where no such file can be had, the image is
//! copied after they were.

#![allow(
    unsafe_code,
    reason = "maps an image over guest memory and gives pages back"
)]

mod scan;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use super::Reservation;
use crate::config::PAGE;

/// The granularity of mappings in bytes, at most that of wasm memory.
fn host_page() -> usize {
    static SIZE: LazyLock<usize> = LazyLock::new(|| {
        // SAFETY: asks for a number.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size).unwrap_or(PAGE)
    });
    *SIZE
}

/// The most pages that are written over instead of being given back.
const MAX_REWRITTEN: usize = 48;

/// What a memory contained, and where in the memory that belongs.
#[derive(Debug)]
pub(crate) struct Image {
    /// The bytes as a file to be mapped; `None` where the system gives none, for
    /// want of descriptors or of memory files.
    file: Option<File>,
    /// From the first page that is not zero to the last, whole pages.
    bytes: Vec<u8>,
    /// Offset in the memory of the first of them.
    start: usize,
    /// Bytes of the whole memory.
    memory_len: usize,
}

impl Image {
    /// Copies what is in the memory now.
    ///
    /// # Safety
    ///
    /// Nothing writes to the memory meanwhile.
    pub(crate) unsafe fn of(memory: &Reservation) -> Self {
        let memory_len = memory.len();
        let all = u32::try_from(memory_len).unwrap_or(u32::MAX);
        // SAFETY: the caller's promise is handed on.
        let bytes = unsafe { memory.bytes(0, all) }.unwrap_or_default();
        let is_zero = |page: &[u8]| page.iter().all(|byte| *byte == 0);
        let page = host_page();
        let pages = || bytes.chunks(page);
        let first = pages().position(|page| !is_zero(page)).unwrap_or(0);
        let end = pages()
            .rposition(|page| !is_zero(page))
            .map_or(0, |last| last + 1);
        let (start, len) = (first * page, end.saturating_sub(first) * page);
        let bytes = bytes.get(start..start + len).unwrap_or_default().to_vec();
        Self {
            file: file_of(&bytes).ok(),
            bytes,
            start,
            memory_len,
        }
    }

    /// The image as it is where the system gives no file.
    #[cfg(test)]
    pub(in crate::instance) fn without_file(self) -> Self {
        Self { file: None, ..self }
    }

    /// Writes what they were over the pages of `memory` in `written`.
    fn rewrite(&self, memory: &mut [u8], written: &scan::Written) {
        let len = host_page();
        for range in written.ranges() {
            for at in range.step_by(len) {
                let page = memory.get_mut(at..at + len).unwrap_or_default();
                let original = at
                    .checked_sub(self.start)
                    .and_then(|at| self.bytes.get(at..at + len));
                match original {
                    Some(original) => page.copy_from_slice(original),
                    None => page.fill(0),
                }
            }
        }
    }
}

/// A file in memory.
fn file_of(bytes: &[u8]) -> io::Result<File> {
    // SAFETY: the name is a string that ends with a zero byte.
    let fd = unsafe { libc::memfd_create(c"vortex-image".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and belongs to nobody else.
    let file = unsafe { File::from_raw_fd(fd) };
    file.write_all_at(bytes, 0)?;
    Ok(file)
}

impl Reservation {
    /// Puts the image in the place of what the memory contains, which must be as
    /// long as it was when the image was taken.
    ///
    /// # Safety
    ///
    /// The guest does not run, and nobody has bytes of its memory.
    pub(crate) unsafe fn map_image(&self, image: &Image) -> io::Result<()> {
        if self.len() != image.memory_len {
            return Err(io::Error::other("two instances of one module differ"));
        }
        let Some(file) = &image.file else {
            // There is nothing to map, and every instance begins with these bytes.
            return Ok(());
        };
        if !image.bytes.is_empty() {
            // SAFETY: the range lies inside of the memory, which `self` owns, and
            // nobody else uses it, as the caller promises. The file is never
            // written to again.
            let mapped = unsafe {
                libc::mmap(
                    self.base.as_ptr().add(image.start).cast(),
                    image.bytes.len(),
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE,
                    file.as_raw_fd(),
                    0,
                )
            };
            if mapped == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { self.give_back() }
    }

    /// Goes back to the image: gives back every page that was written to, and
    /// takes away what the memory has grown by.
    ///
    /// # Safety
    ///
    /// The guest does not run, and nobody has bytes of its memory.
    pub(crate) unsafe fn reset(&self, image: &Image) -> io::Result<()> {
        let len = self.len();
        let all = u32::try_from(len).unwrap_or(u32::MAX);
        let written = if len > image.memory_len {
            // What a call has grown is given back at once, and the rest with it.
            None
        } else {
            scan::written_pages::<MAX_REWRITTEN>(self.base.as_ptr() as usize, len)
        };
        // SAFETY: the caller's promise is handed on.
        match written.zip(unsafe { self.bytes_mut(0, all) }) {
            Some((written, memory)) => image.rewrite(memory, &written),
            None => {
                // SAFETY: the same.
                unsafe { self.give_back() }?;
                if image.file.is_none() {
                    // SAFETY: the same.
                    let memory = unsafe { self.bytes_mut(0, all) }.unwrap_or_default();
                    let changed = memory.get_mut(image.start..image.start + image.bytes.len());
                    changed.unwrap_or_default().copy_from_slice(&image.bytes);
                }
            }
        }
        if len > image.memory_len {
            self.protect(image.memory_len, len - image.memory_len, libc::PROT_NONE)?;
            self.len.store(image.memory_len, Ordering::Relaxed);
            let definition = self.definition.load(Ordering::Relaxed);
            if let Some(mut definition) = ptr::NonNull::new(definition) {
                // SAFETY: it lies in the instance that this memory belongs to, whose
                // code does not run.
                unsafe { definition.as_mut() }.current_length = image.memory_len;
            }
        }
        Ok(())
    }

    /// Gives every page of the memory back: those of an image that is mapped come back
    /// as the file's, all others as zeros.
    ///
    /// # Safety
    ///
    /// The guest does not run, and nobody has bytes of its memory.
    unsafe fn give_back(&self) -> io::Result<()> {
        let len = self.len();
        // SAFETY: the range is the guest's memory, which `self` owns, and nobody
        // else uses it, as the caller promises.
        let given = unsafe { libc::madvise(self.base.as_ptr().cast(), len, libc::MADV_DONTNEED) };
        if len > 0 && given != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}
