//! An instance of a module in a store of its own.
#![allow(
    unsafe_code,
    reason = "moves a store from thread to thread and lends guest memory"
)]

use std::sync::Arc;
use std::time::Duration;

use vortex_hook_core::HookContext;
use wasmer::{
    AsStoreMut, Global, Instance, InstantiationError, RuntimeError, Store, Value, imports,
};

use super::alarm;
use super::budget::{Meter, Stop};
use super::memory::image::Image;
use super::memory::{Reservation, with_reservation};
use super::running::{CallFailure, Running};
use super::trap::TrapKind;
use super::watchdog::Watchdog;
use crate::abi::{Abi, frame, json};
use crate::guarded::guarded;
use crate::instrument::{FUEL_EXHAUSTED, FUEL_REMAINING, abort, start};
use crate::module::compile::Compiled;
use crate::{Isolation, RuntimeConfig, SandboxError};

/// A store that may be sent to another thread.
struct SendStore(Store);

// SAFETY: `Store` is not `Send` because it may hold host functions, externrefs,
// a trap handler and an `on_called` handler that are not. A store in here gets
// none of these: modules with imports are refused, reference types are off, and
// the store is never handed out of this file. What is left are instances,
// memories (`GuestMemory`, `Send`), tables and globals, whose raw pointers lead
// into allocations of the same store. It is used by one thread at a time, since
// every use goes through `&mut Guest`.
unsafe impl Send for SendStore {}

/// What is needed to meter fuel.
struct Fuel {
    limit: u64,
    remaining: Global,
    exhausted: Global,
}

/// One instance of a plugin: its store, its memory, its meter.
pub(crate) struct Guest {
    // Dropped in this order: the code of an instance must outlive it.
    instance: Instance,
    store: SendStore,
    compiled: Arc<Compiled>,
    has_memory: bool,
    exports: Exports,
    aborted: Option<Global>,
    fuel: Option<Fuel>,
    /// What every call begins with, if each is to find the same.
    snapshot: Option<Arc<Snapshot>>,
    meter: Arc<Meter>,
    reservation: Arc<Reservation>,
    watchdog: Arc<Watchdog>,
    spoiled: bool,
}

/// The functions that a hook call needs, looked up once.
#[derive(Debug)]
pub(crate) enum Exports {
    /// The module is no hook.
    None,
    Json(json::Exports),
    Frame(frame::Exports),
}

/// The state of an instance that no call has run on.
#[derive(Debug)]
pub(crate) struct Snapshot {
    memory: Image,
    globals: Vec<u128>,
}

impl Guest {
    /// Makes an instance and runs its start function under the budget of one call.
    pub(crate) fn new(
        compiled: &Arc<Compiled>,
        watchdog: &Arc<Watchdog>,
        cx: &HookContext,
    ) -> Result<Self, SandboxError> {
        let config = &compiled.config;
        let reservation = Reservation::new(config.memory_pages() * crate::config::PAGE)
            .map_err(|source| SandboxError::AddressSpace { source })?;
        let reservation = Arc::new(reservation);
        let meter = Arc::new(Meter::new(config, Arc::clone(&reservation)));
        watchdog.watch(Arc::clone(&meter));
        let mut store = SendStore(Store::new(compiled.engine.clone()));
        let made = guarded(|| {
            with_reservation(Arc::clone(&reservation), || {
                Instance::new(&mut store.0, &compiled.module, &imports! {})
                    .map_err(instantiation_error)
            })
        });
        let instance = match made.and_then(|made| made) {
            Ok(instance) => instance,
            Err(error) => {
                // The store goes first, so that the memory is unmapped with the last of its owners.
                drop(store);
                meter.retire();
                return Err(error);
            }
        };
        let watchdog = Arc::clone(watchdog);
        let compiled = Arc::clone(compiled);
        let mut guest = Self::of(instance, store, compiled, meter, reservation, watchdog);
        guest.start(cx)?;
        if guest.compiled.config.isolation == Isolation::PerCall {
            guest.isolate()?;
        }
        Ok(guest)
    }

    fn of(
        instance: Instance,
        store: SendStore,
        compiled: Arc<Compiled>,
        meter: Arc<Meter>,
        reservation: Arc<Reservation>,
        watchdog: Arc<Watchdog>,
    ) -> Self {
        let exports = &instance.exports;
        let global = |name| exports.get_global(name).ok().cloned();
        let fuel = compiled.config.max_fuel.and_then(|limit| {
            Some(Fuel {
                limit,
                remaining: global(FUEL_REMAINING)?,
                exhausted: global(FUEL_EXHAUSTED)?,
            })
        });
        Self {
            has_memory: exports.get_memory("memory").is_ok(),
            aborted: global(abort::EXPORT),
            exports: Exports::None,
            fuel,
            snapshot: None,
            instance,
            store,
            compiled,
            meter,
            reservation,
            watchdog,
            spoiled: false,
        }
    }

    /// Runs the start function and looks up what hook calls need, which may run
    /// the guest as well.
    fn start(&mut self, cx: &HookContext) -> Result<(), SandboxError> {
        let exports = &self.instance.exports;
        if let Ok(start) = exports.get_typed_function::<(), ()>(&self.store.0, start::EXPORT) {
            self.on_budget(cx, |running| Ok(start.call(running.store)?))?;
        }
        let (exports, store) = (&self.instance.exports, &mut self.store.0);
        self.exports = match self.compiled.abi {
            Some(Abi::Json) => {
                json::Exports::of(exports, store).map_or(Exports::None, Exports::Json)
            }
            Some(Abi::Frame) => match frame::Exports::of(exports, store) {
                Some((describe, handle)) => Exports::Frame(self.on_budget(cx, |running| {
                    frame::Exports::described(running, &describe, handle)
                })?),
                None => Exports::None,
            },
            None => Exports::None,
        };
        Ok(())
    }

    /// Has every call from now on begin with the state that the instance is in.
    ///
    /// Instances of a module begin in the same state, since there is nothing
    /// that could tell one from the other: they share the image of the first.
    fn isolate(&mut self) -> Result<(), SandboxError> {
        let address_space = |source| SandboxError::AddressSpace { source };
        let snapshot = match self.compiled.snapshot.get() {
            Some(snapshot) => Arc::clone(snapshot),
            None => {
                let taken = Arc::new(self.snapshot());
                // Another instance may have been first.
                Arc::clone(self.compiled.snapshot.get_or_init(|| taken))
            }
        };
        // SAFETY: guest and bytes of its memory are had through `self` alone.
        unsafe { self.reservation.map_image(&snapshot.memory) }.map_err(address_space)?;
        self.snapshot = Some(snapshot);
        Ok(())
    }

    /// The state that the instance is in.
    fn snapshot(&mut self) -> Snapshot {
        Snapshot {
            // SAFETY: the guest runs through `&mut self` alone.
            memory: unsafe { Image::of(&self.reservation) },
            globals: self.store.0.objects_mut().as_u128_globals(),
        }
    }

    /// The functions that a hook call needs.
    pub(crate) fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Bytes of linear memory that the guest has.
    pub(crate) fn memory_len(&self) -> usize {
        self.reservation.len()
    }

    /// Makes the instance ready for the next call; `false` when none may run on it.
    #[inline]
    pub(crate) fn recycle(&mut self) -> bool {
        if self.spoiled {
            return false;
        }
        if let Some(snapshot) = &self.snapshot {
            // SAFETY: guest and bytes of its memory are had through `self` alone.
            let reset = unsafe { self.reservation.reset(&snapshot.memory) };
            if reset.is_err() {
                return false;
            }
            let objects = self.store.0.objects_mut();
            for (index, value) in snapshot.globals.iter().enumerate() {
                objects.set_global_unchecked(index, *value);
            }
        }
        let config = &self.compiled.config;
        self.memory_len() <= config.keep_bytes.max(self.compiled.initial_bytes)
    }

    /// How long the last call was seen to run, see [`Meter::seen_for`].
    #[inline]
    pub(crate) fn seen_for(&self) -> Duration {
        self.meter.seen_for()
    }

    /// Keeps the next call away from this instance.
    pub(crate) fn spoil(&mut self) {
        self.spoiled = true;
    }

    /// Runs `work`, which may call the guest several times, on the budget of one
    /// call. An error spoils the instance.
    #[inline]
    pub(crate) fn on_budget<T>(
        &mut self,
        cx: &HookContext,
        work: impl FnOnce(&mut Running<'_>) -> Result<T, CallFailure>,
    ) -> Result<T, SandboxError> {
        if self.spoiled {
            return Err(SandboxError::Spoiled);
        }
        self.refuel()?;
        // Until the call has come to a good end.
        self.spoiled = true;
        let mut running = Running {
            store: &mut self.store.0,
            instance: &self.instance,
            exports: &self.exports,
            reservation: &self.reservation,
            stack_bytes: self.compiled.config.stack_bytes,
        };
        let (result, ended) = alarm::reaching(&self.meter, &self.reservation, || {
            self.meter.begin(cx, &self.watchdog);
            let result = guarded(|| work(&mut running));
            (result, self.meter.end(cx))
        });
        if ended.is_err() {
            self.meter.retire();
        }
        match (result, ended) {
            (Ok(Ok(value)), Ok(())) => {
                self.spoiled = false;
                Ok(value)
            }
            // The answer was complete when the budget ran out: it stands.
            (Ok(Ok(value)), Err(_)) => Ok(value),
            // The host had nothing to call the guest with.
            (Ok(Err(CallFailure::Sandbox(error @ SandboxError::Input(_)))), Ok(())) => {
                self.spoiled = false;
                Err(error)
            }
            (Ok(Err(failure)), ended) => Err(self.explain(failure, ended)),
            (Err(panic), _) => Err(panic),
        }
    }

    fn explain(&mut self, failure: CallFailure, ended: Result<(), Stop>) -> SandboxError {
        let error = match (failure, ended) {
            (CallFailure::Sandbox(error), _) => return error,
            (CallFailure::Guest(_), Err(stop)) => return self.meter.error(stop),
            (CallFailure::Guest(error), Ok(())) => error,
        };
        if let Some(fuel) = &self.fuel
            && fuel.exhausted.get(&mut self.store.0) != Value::I32(0)
        {
            return SandboxError::FuelExhausted { limit: fuel.limit };
        }
        let (aborted, store) = (&self.aborted, &mut self.store.0);
        trap_error(&error, &self.compiled.config, &self.reservation, || {
            aborted
                .as_ref()
                .is_some_and(|g| g.get(store) != Value::I32(0))
        })
    }

    #[inline]
    fn refuel(&mut self) -> Result<(), SandboxError> {
        self.reservation.take_denied();
        let Some(fuel) = &self.fuel else {
            return Ok(());
        };
        let limit = Value::I64(i64::from_ne_bytes(fuel.limit.to_ne_bytes()));
        fuel.remaining
            .set(&mut self.store.0, limit)
            .and_then(|()| fuel.exhausted.set(&mut self.store.0, Value::I32(0)))
            .map_err(|error| SandboxError::Instantiate {
                reason: error.message(),
            })
    }

    /// Operators that the last call has executed, if they are counted.
    pub(crate) fn fuel_used(&mut self) -> Option<u64> {
        let fuel = self.fuel.as_ref()?;
        if fuel.exhausted.get(&mut self.store.0) != Value::I32(0) {
            return Some(fuel.limit);
        }
        let Value::I64(remaining) = fuel.remaining.get(&mut self.store.0) else {
            return None;
        };
        Some(fuel.limit.saturating_sub(remaining.cast_unsigned()))
    }

    /// Bytes of the exported memory; `None` when they are not all there.
    #[inline]
    pub(crate) fn bytes(&self, ptr: u32, len: u32) -> Option<&[u8]> {
        if !self.has_memory {
            return None;
        }
        // SAFETY: the guest runs through `&mut self` alone, which cannot be had
        // while the slice borrows `self`.
        unsafe { self.reservation.bytes(ptr, len) }
    }

    /// [`Guest::bytes`] to be written to.
    pub(crate) fn bytes_mut(&mut self, ptr: u32, len: u32) -> Option<&mut [u8]> {
        if !self.has_memory {
            return None;
        }
        // SAFETY: as in `bytes`; and every other slice borrows `self` as well.
        unsafe { self.reservation.bytes_mut(ptr, len) }
    }
}

#[cfg(test)]
impl Guest {
    /// The first `len` bytes of the memory, exported or not.
    pub(super) fn bytes_of_memory(&mut self, len: u32) -> &[u8] {
        // SAFETY: as in `bytes`.
        unsafe { self.reservation.bytes(0, len) }.unwrap_or_default()
    }

    pub(super) fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    pub(super) fn store_mut(&mut self) -> &mut Store {
        &mut self.store.0
    }

    /// Has the instances of `isolated` begin each call with the state that this one is
    /// in, from an image without a file.
    pub(super) fn lend_copied_snapshot(&mut self, isolated: &Compiled) {
        let Snapshot { memory, globals } = self.snapshot();
        let memory = memory.without_file();
        isolated
            .snapshot
            .get_or_init(|| Arc::new(Snapshot { memory, globals }));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.meter.retire();
    }
}

fn instantiation_error(error: InstantiationError) -> SandboxError {
    SandboxError::Instantiate {
        reason: match error {
            // The start function is not run here, so what trapped was a segment.
            InstantiationError::Start(error) => {
                format!(
                    "a data or element segment does not fit: {}",
                    error.message()
                )
            }
            other => other.to_string(),
        },
    }
}

fn trap_error(
    error: &RuntimeError,
    config: &RuntimeConfig,
    reservation: &Reservation,
    aborted: impl FnOnce() -> bool,
) -> SandboxError {
    match TrapKind::of(error) {
        TrapKind::StackOverflow => SandboxError::StackOverflow {
            limit: config.stack_bytes,
        },
        TrapKind::Fault if aborted() => {
            if reservation.take_denied() {
                SandboxError::MemoryLimit {
                    limit: config.memory_bytes,
                    used: reservation.len(),
                }
            } else {
                SandboxError::Aborted
            }
        }
        TrapKind::Fault => SandboxError::Trap {
            reason: "out of bounds memory access".to_owned(),
        },
        TrapKind::Other(reason) => SandboxError::Trap { reason },
    }
}
