//! Linear memory with a safepoint region.
//!
//! wasmer asks its `Tunables` for each memory. Ours reserves the whole range
//! that a guest can address, so that every stray access faults, and keeps the
//! safepoint region in it:
//!
//! ```text
//! 0            len          1 GiB        2 GiB - 64 KiB     2 GiB          8 GiB
//! | read+write | inaccessible … | … | safepoints: read, or nothing | inaccessible |
//! ```
#![allow(
    unsafe_code,
    reason = "maps and protects memory, and implements wasmer's memory interface on it"
)]

pub(crate) mod image;

use std::cell::RefCell;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, LazyLock};

use wasmer::sys::{BaseTunables, Tunables};
use wasmer::{MemoryError, MemoryType, Pages, TableType};
use wasmer_types::MemoryStyle;
use wasmer_types::TableStyle;
use wasmer_vm::{LinearMemory, VMConfig, VMMemory, VMMemoryDefinition, VMTable, VMTableDefinition};

use crate::config::PAGE;
use crate::instrument::safepoint;

/// What 32-bit addresses with a 32-bit offset can reach: wasmer's code for memories
/// of the static style checks neither.
fn reservation_len() -> usize {
    let guard = MemoryStyle::static_offset_guard_size().max(1 << 32);
    (1 << 32) + guard as usize
}

/// The most guests at a time in this process. Each takes up to five of the mappings
/// that the kernel allows a process; one that has none left cannot even start a
/// thread or run a panic handler.
fn max_reservations() -> usize {
    static MAX: LazyLock<usize> = LazyLock::new(|| {
        let maps = std::fs::read_to_string("/proc/sys/vm/max_map_count");
        let maps = maps.ok().and_then(|text| text.trim().parse::<usize>().ok());
        maps.unwrap_or(65_530) / 8
    });
    *MAX
}

static RESERVATIONS: AtomicUsize = AtomicUsize::new(0);

/// The address range of one guest, mapped as long as this lives.
#[derive(Debug)]
pub(crate) struct Reservation {
    base: NonNull<u8>,
    /// Accessible bytes from the base, a multiple of the page size.
    len: AtomicUsize,
    /// The most that `len` may become.
    max: usize,
    /// Whether growth has been refused since the flag was last cleared.
    denied: AtomicBool,
    /// Where the instance's code looks up base and length; null before there is one.
    definition: AtomicPtr<VMMemoryDefinition>,
}

// SAFETY: the base is the address of a mapping that this value alone owns. All it
// does with it by itself is to change how it is mapped, which the kernel
// serialises; it reads and writes through it only where the caller promises
// exclusive access.
unsafe impl Send for Reservation {}
// SAFETY: as above.
unsafe impl Sync for Reservation {}

impl Reservation {
    /// Reserves the range for a memory of at most `max` bytes.
    pub(crate) fn new(max: usize) -> io::Result<Self> {
        if RESERVATIONS.load(Ordering::Relaxed) >= max_reservations() {
            return Err(io::Error::other(format!(
                "{} instances live, an eighth of vm.max_map_count",
                max_reservations()
            )));
        }
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice
        // touches nothing that exists.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                reservation_len(),
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
        RESERVATIONS.fetch_add(1, Ordering::Relaxed);
        let reservation = Self {
            base,
            len: AtomicUsize::new(0),
            max,
            denied: AtomicBool::new(false),
            definition: AtomicPtr::new(ptr::null_mut()),
        };
        let region = (safepoint::BASE as usize, safepoint::LEN as usize);
        reservation.protect(region.0, region.1, libc::PROT_READ)?;
        Ok(reservation)
    }

    /// Bytes that the guest has.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Takes the safepoint region away: the guest's next safepoint faults. Safe to call
    /// in a signal handler.
    pub(crate) fn stop_guest(&self) {
        let region = (safepoint::BASE as usize, safepoint::LEN as usize);
        // Splitting nothing and allocating nothing, this can only fail for want of
        // kernel memory; the watchdog then tries again at its next tick.
        let _ = self.protect(region.0, region.1, libc::PROT_NONE);
    }

    /// Whether the guest was refused memory since the last call of this function.
    pub(crate) fn take_denied(&self) -> bool {
        self.denied.load(Ordering::Relaxed) && self.denied.swap(false, Ordering::Relaxed)
    }

    /// Bytes of the guest's memory; `None` when they are not all there.
    ///
    /// # Safety
    ///
    /// While the slice lives, the guest does not run and nobody has these bytes
    /// to write to.
    pub(super) unsafe fn bytes(&self, ptr: u32, len: u32) -> Option<&[u8]> {
        let (start, len) = self.range(ptr, len)?;
        // SAFETY: the range lies below `len()`, which is readable as long as
        // `self` lives; the caller promises that nobody writes to it.
        Some(unsafe { std::slice::from_raw_parts(start, len) })
    }

    /// [`Reservation::bytes`] to be written to.
    ///
    /// # Safety
    ///
    /// While the slice lives, the guest does not run and nobody else has these
    /// bytes to read or write.
    #[allow(clippy::mut_from_ref, reason = "the caller promises exclusive access")]
    pub(super) unsafe fn bytes_mut(&self, ptr: u32, len: u32) -> Option<&mut [u8]> {
        let (start, len) = self.range(ptr, len)?;
        // SAFETY: the range lies below `len()`, which is writable as long as
        // `self` lives; the caller promises that nobody else uses it.
        Some(unsafe { std::slice::from_raw_parts_mut(start, len) })
    }

    fn range(&self, ptr: u32, len: u32) -> Option<(*mut u8, usize)> {
        let (start, len) = (ptr as usize, len as usize);
        if start + len > self.len() {
            return None;
        }
        // SAFETY: an offset inside of the mapping that `self` owns.
        Some((unsafe { self.base.as_ptr().add(start) }, len))
    }

    /// Makes `len` bytes accessible in all, if that is allowed.
    fn grow_to(&self, len: usize) -> bool {
        let old = self.len();
        if len > self.max {
            self.denied.store(true, Ordering::Relaxed);
            return false;
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        if len > old && self.protect(old, len - old, access).is_err() {
            return false;
        }
        self.len.store(len.max(old), Ordering::Relaxed);
        true
    }

    fn protect(&self, start: usize, len: usize, protection: libc::c_int) -> io::Result<()> {
        if start
            .checked_add(len)
            .is_none_or(|end| end > reservation_len())
        {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        // SAFETY: the range was just checked to lie in the mapping that `self`
        // owns. No reference into the mapping exists outside of wasmer's own
        // accesses, which either happen on the guest's thread, where a fault is
        // what the watchdog wants, or below `len`, which never loses its access.
        let result =
            unsafe { libc::mprotect(self.base.as_ptr().add(start).cast(), len, protection) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mapping = Mapping {
            base: self.base,
            len: self.len(),
        };
        if mapping.len < LARGE {
            return;
        }
        if let Some(unmapper) = &*UNMAPPER {
            let sent = unmapper.try_send(mapping);
            if let Err(TrySendError::Full(mapping) | TrySendError::Disconnected(mapping)) = sent {
                mapping.give_back();
            }
        }
    }
}

/// The memory, in bytes, that takes so long to unmap that it is done elsewhere.
const LARGE: usize = 4 << 20;

/// The most mappings that wait for being unmapped.
const UNMAP_QUEUE: usize = 8;

/// The thread that unmaps large memories, so that a call that used much does not
/// also wait for its being given back; `None` where it could not be started.
static UNMAPPER: LazyLock<Option<SyncSender<Mapping>>> = LazyLock::new(|| {
    let (sender, receiver) = sync_channel::<Mapping>(UNMAP_QUEUE);
    let thread = std::thread::Builder::new().name("vortex-unmap".to_owned());
    let started = thread.spawn(move || receiver.into_iter().for_each(Mapping::give_back));
    started.is_ok().then_some(sender)
});

/// A mapping that nobody uses any more.
struct Mapping {
    base: NonNull<u8>,
    /// Bytes from the base that may have pages.
    len: usize,
}

impl Mapping {
    /// Unmaps it bit by bit: whoever changes a mapping, as the watchdog does to stop
    /// a guest, waits for as long as the kernel takes to give pages back.
    fn give_back(self) {
        const STEP: usize = 1 << 20;
        for start in (0..self.len).step_by(STEP) {
            // SAFETY: the range lies in the mapping, which `self` owns and nobody
            // uses. Whatever fails here is done by the unmapping in `drop`.
            unsafe {
                let start = self.base.as_ptr().add(start).cast();
                libc::madvise(start, STEP, libc::MADV_DONTNEED);
            }
        }
    }
}

// SAFETY: the address of a mapping that this value alone owns.
unsafe impl Send for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        RESERVATIONS.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: the mapping was made in `Reservation::new` with this length and is
        // unmapped only here, once its `Reservation` is dropped. wasmer's memory holds
        // an `Arc` of that, so no instance that could reach it is left.
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), reservation_len());
        }
    }
}

thread_local! {
    /// The range that the instance being made on this thread gets: wasmer offers no
    /// other way to hand something to `create_vm_memory`.
    static NEXT: RefCell<Option<Arc<Reservation>>> = const { RefCell::new(None) };
}

/// Runs `instantiate` with `reservation` as the memory of what it makes.
pub(crate) fn with_reservation<T>(
    reservation: Arc<Reservation>,
    instantiate: impl FnOnce() -> T,
) -> T {
    NEXT.set(Some(reservation));
    let result = instantiate();
    NEXT.set(None);
    result
}

/// wasmer's view of a [`Reservation`].
#[derive(Debug)]
struct GuestMemory {
    reservation: Arc<Reservation>,
    ty: MemoryType,
    /// Lies in the instance that owns this memory; wasmer's code reads base and length there.
    definition: NonNull<VMMemoryDefinition>,
}

// SAFETY: `definition` points into the allocation of the instance that this memory
// was made for, which the same store owns. It is written in `grow` alone, which
// only that instance's code calls, on the thread that has the store.
unsafe impl Send for GuestMemory {}
// SAFETY: through `&self` the pointer is handed out, never followed.
unsafe impl Sync for GuestMemory {}

impl LinearMemory for GuestMemory {
    fn ty(&self) -> MemoryType {
        MemoryType {
            minimum: self.size(),
            ..self.ty
        }
    }

    fn size(&self) -> Pages {
        // At most 2^14 pages, see `RuntimeConfig::MAX_MEMORY`.
        Pages((self.reservation.len() / PAGE) as u32)
    }

    fn style(&self) -> MemoryStyle {
        MemoryStyle::Static
    }

    fn grow(&mut self, delta: Pages) -> Result<Pages, MemoryError> {
        let current = self.size();
        let len = (current.0 as usize)
            .checked_add(delta.0 as usize)
            .filter(|pages| self.ty.maximum.is_none_or(|max| *pages <= max.0 as usize))
            .and_then(|pages| pages.checked_mul(PAGE));
        if len.is_none_or(|len| !self.reservation.grow_to(len)) {
            return Err(MemoryError::CouldNotGrow {
                current,
                attempted_delta: delta,
            });
        }
        // SAFETY: see `unsafe impl Send` above: it is the instance's code that calls
        // this, so the instance is alive, and nobody else writes there.
        unsafe { self.definition.as_mut() }.current_length = self.reservation.len();
        Ok(current)
    }

    fn vmmemory(&self) -> NonNull<VMMemoryDefinition> {
        self.definition
    }

    fn try_clone(&self) -> Result<Box<dyn LinearMemory + Send + Sync>, MemoryError> {
        Err(MemoryError::MemoryNotShared)
    }

    fn copy(&self) -> Result<Box<dyn LinearMemory + Send + Sync>, MemoryError> {
        Err(MemoryError::MemoryNotShared)
    }
}

/// What wasmer asks for memories, tables and the stack size of one plugin.
pub(crate) struct GuestTunables {
    base: BaseTunables,
    table_elements: u64,
    vm: VMConfig,
}

impl GuestTunables {
    pub(crate) fn new(stack_bytes: usize, table_elements: u64) -> Self {
        Self {
            base: BaseTunables::new(),
            table_elements,
            vm: VMConfig {
                wasm_stack_size: Some(stack_bytes),
            },
        }
    }
}

impl Tunables for GuestTunables {
    fn memory_style(&self, _: &MemoryType) -> MemoryStyle {
        MemoryStyle::Static
    }

    fn table_style(&self, table: &TableType) -> TableStyle {
        self.base.table_style(table)
    }

    fn create_host_memory(&self, _: &MemoryType, _: &MemoryStyle) -> Result<VMMemory, MemoryError> {
        Err(unsupported("a memory outside of an instance"))
    }

    unsafe fn create_vm_memory(
        &self,
        ty: &MemoryType,
        _: &MemoryStyle,
        mut location: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        let reservation = NEXT
            .take()
            .ok_or_else(|| unsupported("a second memory, or one outside of the sandbox"))?;
        if !reservation.grow_to(ty.minimum.bytes().0) {
            return Err(unsupported("an initial memory of that size"));
        }
        // SAFETY: the caller promises that `location` is the place of this memory's
        // definition in the instance under construction.
        let definition = unsafe { location.as_mut() };
        definition.base = reservation.base.as_ptr();
        definition.current_length = reservation.len();
        reservation
            .definition
            .store(location.as_ptr(), Ordering::Relaxed);
        let memory: Box<dyn LinearMemory + Send + Sync> = Box::new(GuestMemory {
            reservation,
            ty: *ty,
            definition: location,
        });
        Ok(VMMemory::from(memory))
    }

    fn create_host_table(&self, _: &TableType, _: &TableStyle) -> Result<VMTable, String> {
        Err("a table outside of an instance is not supported".to_owned())
    }

    unsafe fn create_vm_table(
        &self,
        ty: &TableType,
        style: &TableStyle,
        location: NonNull<VMTableDefinition>,
    ) -> Result<VMTable, String> {
        // Validation has refused such a table already; this is the last line.
        if u64::from(ty.minimum) > self.table_elements {
            return Err(format!(
                "a table of {} elements is not supported",
                ty.minimum
            ));
        }
        // SAFETY: the caller's promise about `location` is handed on.
        unsafe { self.base.create_vm_table(ty, style, location) }
    }

    fn vmconfig(&self) -> &VMConfig {
        &self.vm
    }
}

fn unsupported(what: &str) -> MemoryError {
    MemoryError::UnsupportedOperation {
        message: format!("{what} is not supported"),
    }
}
