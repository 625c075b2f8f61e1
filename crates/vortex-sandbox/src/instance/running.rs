//! A guest whose meter runs, and how its functions are entered.
//!
//! wasmer's typed functions keep account of which store runs on which thread, so that
//! functions of the host find theirs. No guest here imports any. And two calls can
//! share what is dear about one, the switch to the guest's stack.
#![allow(
    unsafe_code,
    reason = "calls the machine code of a guest, and lends its memory meanwhile"
)]

use std::marker::PhantomData;
use std::ptr::NonNull;

use wasmer::{AsStoreMut, Extern, Instance, RuntimeError, Store, Value, WasmTypeList};
use wasmer_types::{RawValue, StoreId};
use wasmer_vm::{VMCallerCheckedAnyfunc, VMConfig, VMExtern};

use super::guest::Exports;
use super::memory::Reservation;
use crate::SandboxError;
use crate::abi::guest_memory::GuestRange;

/// A guest whose meter runs: the only way to call it.
pub(crate) struct Running<'g> {
    pub(crate) store: &'g mut Store,
    pub(super) instance: &'g Instance,
    pub(crate) exports: &'g Exports,
    pub(super) reservation: &'g Reservation,
    pub(super) stack_bytes: usize,
}

impl Running<'_> {
    /// Bytes of linear memory that the guest has.
    pub(crate) fn memory_len(&self) -> usize {
        self.reservation.len()
    }

    /// Bytes of linear memory to be written to; `None` when they are not all there.
    pub(crate) fn bytes_mut(&mut self, ptr: u32, len: u32) -> Option<&mut [u8]> {
        // SAFETY: the guest runs when its functions are called, with `self.store`;
        // that takes `&mut self`, which cannot be had while the slice borrows it.
        // Other slices borrow the `Guest` that is borrowed here.
        unsafe { self.reservation.bytes_mut(ptr, len) }
    }

    /// Calls an export by name with any values.
    pub(crate) fn call_dynamic(
        &mut self,
        export: &str,
        params: &[Value],
    ) -> Result<Box<[Value]>, RuntimeError> {
        let function = self
            .instance
            .exports
            .get_function(export)
            .map_err(|error| RuntimeError::new(error.to_string()))?;
        function.call(self.store, params)
    }

    /// Calls a function of this guest's.
    #[inline]
    pub(crate) fn call(
        &mut self,
        function: &Entry<i32, i32>,
        param: i32,
    ) -> Result<i32, RuntimeError> {
        let code = function.code_in(self.store)?;
        // SAFETY: `self` has the guest to itself.
        unsafe {
            self.on_guest_stack(move || {
                let mut values = [RawValue::from(param), RawValue::default()];
                code.call(&mut values);
                values[0].i32
            })
        }
    }

    /// Asks `alloc` for room, copies `input` there and calls `handle` with it, without
    /// leaving the guest's stack in between.
    #[inline]
    pub(crate) fn exchange(
        &mut self,
        alloc: &Entry<i32, i32>,
        handle: &Entry<(i32, i32), i64>,
        input: &[u8],
    ) -> Result<i64, CallFailure> {
        // An input is at most some hundred KiB: a body of 64 KiB and what a gateway
        // lets through as headers. One that no i32 can count fits into no guest either.
        let len = i32::try_from(input.len()).unwrap_or(i32::MAX);
        let (alloc, handle) = (alloc.code_in(self.store)?, handle.code_in(self.store)?);
        let (input, memory) = (NonNull::from(input), NonNull::from(self.reservation));
        // SAFETY: `self` has the guest to itself; `input` and `memory` are borrowed by
        // this function, which returns later than `work`; and what `work` makes is
        // dropped by it before it enters the guest, or is its result.
        let packed = unsafe {
            self.on_guest_stack(move || {
                let mut values = [RawValue::from(len), RawValue::default()];
                alloc.call(&mut values);
                let room = GuestRange {
                    export: "alloc",
                    ptr: values[0].u32,
                    len: len.cast_unsigned(),
                };
                // The guest may have grown it.
                let memory = memory.as_ref();
                room.check(memory.len())?;
                match (memory.bytes_mut(room.ptr, room.len), input.as_ref()) {
                    (Some(bytes), input) if bytes.len() == input.len() => {
                        bytes.copy_from_slice(input);
                    }
                    _ => return Err(room.inaccessible(memory.len())),
                }
                values = [RawValue::from(values[0].i32), RawValue::from(len)];
                handle.call(&mut values);
                Ok(values[0].i64)
            })
        };
        Ok(packed??)
    }

    /// Runs `work` on a stack of the guest's size, until it ends or a trap ends it.
    ///
    /// # Safety
    ///
    /// The code that `work` calls is this guest's, and what it refers to outlives this
    /// call. A trap leaves it where it is: when it calls code it has nothing to drop.
    #[inline]
    unsafe fn on_guest_stack<T: 'static>(
        &mut self,
        work: impl FnOnce() -> T + 'static,
    ) -> Result<T, RuntimeError> {
        let stack = VMConfig {
            wasm_stack_size: Some(self.stack_bytes),
        };
        // SAFETY: nothing is left undropped, as the caller promises. wasmer's typed
        // functions do the same, but for the account of stores and for callbacks of
        // a store: functions of the host use these, and there are none.
        unsafe { wasmer_vm::catch_traps(None, &stack, work) }.map_err(RuntimeError::from)
    }
}

/// A function that a guest exports, with its type.
#[derive(Debug)]
pub(crate) struct Entry<A, R> {
    code: Code,
    store: StoreId,
    ty: PhantomData<fn(A) -> R>,
}

impl<A: WasmTypeList, R: WasmTypeList> Entry<A, R> {
    /// The function that is exported under this name, if it is one of this type.
    pub(crate) fn of(exports: &wasmer::Exports, store: &mut Store, name: &str) -> Option<Self> {
        exports.get_typed_function::<A, R>(store, name).ok()?;
        let function = Extern::Function(exports.get_function(name).ok()?.clone());
        let VMExtern::Function(handle) = function.to_vm_extern().unwrap_sys() else {
            return None;
        };
        let objects = store.objects_mut();
        let function = handle.get(objects.as_sys());
        // SAFETY: it lies in the instance, which lives as long as the store, and is
        // not written to once there are exports.
        let code = Code(unsafe { *function.anyfunc.as_ptr().as_ptr() });
        Some(Self {
            code,
            store: objects.id(),
            ty: PhantomData,
        })
    }
}

impl<A, R> Entry<A, R> {
    /// The code, if the function is one of this store.
    fn code_in(&self, store: &mut Store) -> Result<Code, RuntimeError> {
        if self.store == store.objects_mut().id() {
            Ok(self.code)
        } else {
            Err(RuntimeError::new("a function of another guest"))
        }
    }
}

/// The code of a function, and the instance that it runs in.
#[derive(Clone, Copy, Debug)]
struct Code(VMCallerCheckedAnyfunc);

// SAFETY: the pointers lead to the code of a module and into the instance that a
// store owns. They are followed with that store at hand alone, which one thread at a
// time has, as its `Guest` says.
unsafe impl Send for Code {}
// SAFETY: as above.
unsafe impl Sync for Code {}

impl Code {
    /// Calls the function on the stack that this runs on.
    ///
    /// # Safety
    ///
    /// That is the guest's stack, the instance lives and is the caller's alone, and
    /// the values are the function's parameters, with room for its result.
    unsafe fn call(self, values: &mut [RawValue; 2]) {
        // SAFETY: wasmer has compiled the trampoline for functions of this type; the
        // rest is what the caller promises.
        unsafe {
            let vmctx = self.0.vmctx.vmctx;
            (self.0.call_trampoline)(vmctx, self.0.func_ptr, values.as_mut_ptr());
        }
    }
}

/// Why work on a guest ended early.
pub(crate) enum CallFailure {
    /// The guest trapped; the meter knows whether it was made to.
    Guest(RuntimeError),
    /// The guest broke the rules of the ABI.
    Sandbox(SandboxError),
}

impl From<RuntimeError> for CallFailure {
    fn from(error: RuntimeError) -> Self {
        Self::Guest(error)
    }
}

impl From<SandboxError> for CallFailure {
    fn from(error: SandboxError) -> Self {
        Self::Sandbox(error)
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
mod tests {
    use std::sync::Arc;

    use vortex_hook_core::HookContext;

    use super::*;
    use crate::RuntimeConfig;
    use crate::instance::guest::Guest;
    use crate::instance::watchdog::Watchdog;
    use crate::module::compile::Compiled;

    #[test]
    fn functions_of_another_guest_are_not_called() {
        let wasm = wat::parse_str(
            r#"(module (memory (export "memory") 1)
                 (data (i32.const 16) "{\"allow\":true}")
                 (func (export "alloc") (param i32) (result i32) (i32.const 1024))
                 (func (export "handle") (param i32 i32) (result i64)
                   (i64.const 0x10_0000000e)))"#,
        )
        .unwrap();
        let config = RuntimeConfig::default();
        let compiled = Arc::new(Compiled::new(&wasm, &config).unwrap());
        let watchdog = Watchdog::start().unwrap();
        let cx = HookContext::new();
        let guest = || Guest::new(&compiled, &watchdog, &cx).unwrap();
        let (mut own, other) = (guest(), guest());
        let call = |guest: &mut Guest, functions: Option<&Exports>| {
            guest.on_budget(&cx, |running| {
                let Exports::Json(functions) = functions.unwrap_or(running.exports) else {
                    panic!("the module speaks JSON");
                };
                functions.call(running, b"{}", &config)
            })
        };
        assert_eq!(call(&mut own, None).unwrap().len, 14);
        match call(&mut own, Some(other.exports())) {
            Err(SandboxError::Trap { reason }) => {
                assert!(reason.contains("another guest"), "{reason}");
            }
            unexpected => panic!("{unexpected:?}"),
        }
    }
}
