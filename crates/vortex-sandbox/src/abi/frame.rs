//! ABI 2: frames in buffers of the guest, see `docs/abi-frame.md`.

use vortex_hook_core::HookInput;
use wasmer::{Store, TypedFunction};

use super::Function;
use super::guest_memory::GuestRange;
use crate::instance::running::{CallFailure, Entry, Running};
use crate::{RuntimeConfig, SandboxError};

/// The export that says that a module speaks frames.
pub(super) const MARKER: &str = "vortex_abi_v2";
const HANDLE: &str = "vortex_handle";

pub(super) const FUNCTIONS: [Function; 2] = [(MARKER, &[], &["i32"]), (HANDLE, &["i32"], &["i32"])];

/// The buffer descriptor: four numbers of 32 bits.
const DESCRIPTOR_LEN: u32 = 16;

/// The function and the buffers of an instance.
#[derive(Debug)]
pub(crate) struct Exports {
    handle: Entry<i32, i32>,
    input: GuestRange,
    output: GuestRange,
}

impl Exports {
    /// The functions: the one that tells the descriptor, the one that handles a frame.
    #[allow(
        clippy::type_complexity,
        reason = "a pair of functions with their types"
    )]
    pub(crate) fn of(
        exports: &wasmer::Exports,
        store: &mut Store,
    ) -> Option<(TypedFunction<(), i32>, Entry<i32, i32>)> {
        Some((
            exports.get_typed_function(store, MARKER).ok()?,
            Entry::of(exports, store, HANDLE)?,
        ))
    }

    /// Asks the guest for its buffers; it is never asked again.
    pub(crate) fn described(
        running: &mut Running<'_>,
        describe: &TypedFunction<(), i32>,
        handle: Entry<i32, i32>,
    ) -> Result<Self, CallFailure> {
        let memory = running.memory_len();
        let descriptor = GuestRange {
            export: MARKER,
            ptr: describe.call(running.store)?.cast_unsigned(),
            len: DESCRIPTOR_LEN,
        }
        .check(memory)?;
        let bytes = running
            .bytes_mut(descriptor.ptr, descriptor.len)
            .ok_or_else(|| descriptor.inaccessible(memory))?;
        let mut words = bytes
            .chunks_exact(4)
            .map(|word| word.iter().rfold(0, |n, byte| n << 8 | u32::from(*byte)));
        let mut buffer = || {
            GuestRange {
                export: MARKER,
                ptr: words.next().unwrap_or_default(),
                len: words.next().unwrap_or_default(),
            }
            .check(memory)
        };
        Ok(Self {
            handle,
            input: buffer()?,
            output: buffer()?,
        })
    }

    /// One call; returns where the output frame is, which nobody has looked at yet.
    pub(crate) fn call(
        &self,
        running: &mut Running<'_>,
        input: &HookInput<'_>,
        plugin_config: &[u8],
        context: &[u8],
        config: &RuntimeConfig,
    ) -> Result<GuestRange, CallFailure> {
        let room = running
            .bytes_mut(self.input.ptr, self.input.len)
            .ok_or_else(|| self.input.inaccessible(0))?;
        let len = input
            .write_frame(room, plugin_config, context)
            .map_err(SandboxError::from)?;
        // It fits into a buffer of the guest's, so into 31 bits.
        let code = running.call(&self.handle, len as i32)?;
        let Ok(len) = u32::try_from(code) else {
            return Err(SandboxError::PluginFailed { code }.into());
        };
        let max = config.output_bytes.min(self.output.len as usize);
        if len as usize > max {
            return Err(SandboxError::OutputTooLarge {
                len: len as usize,
                max,
            }
            .into());
        }
        Ok(GuestRange {
            export: HANDLE,
            ptr: self.output.ptr,
            len,
        }
        .check(running.memory_len())?)
    }
}
