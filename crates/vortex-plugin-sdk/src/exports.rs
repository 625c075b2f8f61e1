//! What a plugin exports: its buffers, and the calls that the host makes.

#![allow(
    unsafe_code,
    reason = "the host writes to memory that the plugin owns: static buffers behind a lock"
)]

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::{Error, Input, Output};

/// What `vortex_handle` returns to a call within a call, which no host makes,
/// or after a call that trapped.
const BUSY: i32 = -4;

/// The sizes of a plugin's buffers in bytes.
///
/// They lie in zeroed memory, of which an untouched page costs nothing.
///
/// ```
/// use vortex_plugin_sdk::Sizes;
///
/// assert_eq!(Sizes::DEFAULT.input, 192 * 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// For the input frame. The default holds the largest body window and what
    /// gateways let through as headers; a larger input fails the call.
    pub input: usize,
    /// For the output frame, 120 bytes of it for records.
    pub output: usize,
    /// For the input and the answer of the JSON ABI.
    pub json: usize,
}

impl Sizes {
    /// 192 KiB, 64 KiB and 256 KiB.
    pub const DEFAULT: Self = Self {
        input: 192 * 1024,
        output: 64 * 1024,
        json: 256 * 1024,
    };
}

/// The state of a plugin: what [`plugin!`](crate::plugin) makes one of.
#[doc(hidden)]
#[derive(Debug)]
pub struct Plugin<const INPUT: usize, const OUTPUT: usize, const JSON: usize> {
    busy: AtomicBool,
    descriptor: [AtomicU32; 4],
    input: UnsafeCell<[u8; INPUT]>,
    output: UnsafeCell<[u8; OUTPUT]>,
    json: UnsafeCell<[u8; JSON]>,
}

// SAFETY: the buffers are only reached by the one that has set `busy`.
unsafe impl<const INPUT: usize, const OUTPUT: usize, const JSON: usize> Sync
    for Plugin<INPUT, OUTPUT, JSON>
{
}

impl<const INPUT: usize, const OUTPUT: usize, const JSON: usize> Plugin<INPUT, OUTPUT, JSON> {
    /// Buffers of zeros.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it is a static")]
    pub const fn new() -> Self {
        Self {
            busy: AtomicBool::new(false),
            descriptor: [const { AtomicU32::new(0) }; 4],
            input: UnsafeCell::new([0; INPUT]),
            output: UnsafeCell::new([0; OUTPUT]),
            json: UnsafeCell::new([0; JSON]),
        }
    }

    /// `vortex_abi_v2`: the address of the buffer descriptor.
    pub fn descriptor(&'static self) -> i32 {
        let values = [
            self.input.get() as usize as u32,
            INPUT as u32,
            self.output.get() as usize as u32,
            OUTPUT as u32,
        ];
        for (place, value) in self.descriptor.iter().zip(values) {
            place.store(value, Ordering::Relaxed);
        }
        self.descriptor.as_ptr() as usize as i32
    }

    /// `vortex_handle`: answers the input frame of that length.
    #[inline]
    pub fn handle(
        &'static self,
        length: i32,
        hook: impl FnOnce(&Input<'_>, &mut Output<'_>) -> Result<(), Error>,
    ) -> i32 {
        if self.busy.swap(true, Ordering::Acquire) {
            return BUSY;
        }
        // SAFETY: `busy` was not set, so that nobody else has a reference; the
        // host writes between calls only. It is cleared when these are gone.
        let (input, output) = unsafe { (&*self.input.get(), &mut *self.output.get()) };
        let frame = usize::try_from(length)
            .ok()
            .and_then(|end| input.get(..end));
        let answer = match frame {
            Some(frame) => crate::call(frame, output, hook),
            None => Err(Error::Malformed),
        };
        self.busy.store(false, Ordering::Release);
        match answer {
            Ok(length) => length as i32,
            Err(error) => error.code(),
        }
    }

    /// `alloc` of the JSON ABI: where that many bytes of input go, or 0 when
    /// there is no room.
    pub fn alloc(&'static self, length: i32) -> i32 {
        match usize::try_from(length) {
            Ok(length) if length <= JSON => self.json.get() as usize as i32,
            _ => 0,
        }
    }

    /// `handle` of the JSON ABI: answers the input in the JSON buffer. The
    /// address of the answer is in the high 32 bits, its length in the low
    /// ones; 0 is no answer, which fails the call.
    pub fn handle_json(
        &'static self,
        address: i32,
        length: i32,
        hook: impl FnOnce(&Input<'_>, &mut Output<'_>) -> Result<(), Error>,
    ) -> i64 {
        let Ok(length) = usize::try_from(length) else {
            return 0;
        };
        let own = self.json.get() as usize as u32;
        if address as u32 != own || self.busy.swap(true, Ordering::Acquire) {
            return 0;
        }
        // SAFETY: `busy` was not set, so that nobody else has a reference; the
        // host writes between calls only. It is cleared when these are gone.
        let (json, input, output) = unsafe {
            (
                &mut *self.json.get(),
                &mut *self.input.get(),
                &mut *self.output.get(),
            )
        };
        let answer = crate::call_json(json, length, input, output, hook);
        self.busy.store(false, Ordering::Release);
        match answer {
            Ok(length) => (u64::from(own) << 32 | length as u64) as i64,
            Err(_) => 0,
        }
    }
}

/// Exports a hook as a plugin, for the frame ABI and the JSON ABI alike.
///
/// The hook is a function `fn(&Input<'_>, &mut Output<'_>) -> Result<(), Error>`.
/// What follows it are [`Sizes`] that are not to be the default ones. A module
/// has one such line.
///
/// ```
/// use vortex_plugin_sdk::{Error, Input, Output};
///
/// vortex_plugin_sdk::plugin!(check, input = 96 * 1024, output = 4096);
///
/// fn check(input: &Input<'_>, output: &mut Output<'_>) -> Result<(), Error> {
///     match input.header("x-api-key") {
///         Some(_) => output.set_header("x-checked", "yes"),
///         None => {
///             output.deny(401);
///             Ok(())
///         }
///     }
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! plugin {
    ($hook:path $(, $buffer:ident = $size:expr)* $(,)?) => {
        const _: () = {
            const SIZES: $crate::Sizes = {
                #[allow(unused_mut)]
                let mut sizes = $crate::Sizes::DEFAULT;
                $(sizes.$buffer = $size;)*
                sizes
            };

            static PLUGIN: $crate::Plugin<{ SIZES.input }, { SIZES.output }, { SIZES.json }> =
                $crate::Plugin::new();

            // SAFETY: the ABI gives the name this meaning, and no other item has it.
            #[unsafe(no_mangle)]
            extern "C" fn vortex_abi_v2() -> i32 {
                PLUGIN.descriptor()
            }

            // SAFETY: the ABI gives the name this meaning, and no other item has it.
            #[unsafe(no_mangle)]
            extern "C" fn vortex_handle(length: i32) -> i32 {
                PLUGIN.handle(length, $hook)
            }

            // SAFETY: the ABI gives the name this meaning, and no other item has it.
            #[unsafe(no_mangle)]
            extern "C" fn alloc(length: i32) -> i32 {
                PLUGIN.alloc(length)
            }

            // SAFETY: the ABI gives the name this meaning, and no other item has it.
            #[unsafe(no_mangle)]
            extern "C" fn handle(address: i32, length: i32) -> i64 {
                PLUGIN.handle_json(address, length, $hook)
            }
        };
    };
}

/// Makes a panic of a `no_std` plugin a trap, which fails the call.
///
/// Without `std`, a plugin takes a few kilobytes instead of some tens.
///
/// ```no_run
/// # // A program of the test has a panic handler already.
/// # #[cfg(target_arch = "wasm32")]
/// vortex_plugin_sdk::panic_handler!();
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! panic_handler {
    () => {
        #[cfg(all(target_arch = "wasm32", not(test)))]
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            core::arch::wasm32::unreachable()
        }
    };
}
