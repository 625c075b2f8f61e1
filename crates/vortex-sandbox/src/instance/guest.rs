//! An instance of a module in a store of its own.
#![allow(unsafe_code, reason = "moves a store from thread to thread")]

use std::sync::Arc;

use vortex_hook_core::HookContext;
use wasmer::{
    AsStoreMut, AsStoreRef, Global, Instance, InstantiationError, Memory, RuntimeError, Store,
    StoreMut, StoreRef, TypedFunction, Value, imports,
};

use super::budget::{Meter, Stop};
use super::memory::{Reservation, with_reservation};
use super::trap::TrapKind;
use super::watchdog::Watchdog;
use crate::guarded::guarded;
use crate::instrument::{FUEL_EXHAUSTED, FUEL_REMAINING, abort, start};
use crate::module::compile::Compiled;
use crate::{RuntimeConfig, SandboxError};

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
    memory: Option<Memory>,
    abi: Option<JsonExports>,
    aborted: Option<Global>,
    fuel: Option<Fuel>,
    meter: Arc<Meter>,
    reservation: Arc<Reservation>,
    watchdog: Arc<Watchdog>,
    spoiled: bool,
}

/// The functions of the JSON ABI, looked up once.
#[derive(Clone)]
pub(crate) struct JsonExports {
    pub(crate) alloc: TypedFunction<i32, i32>,
    pub(crate) handle: TypedFunction<(i32, i32), i64>,
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
        let mut guest = Self::with_exports(instance, store, compiled, meter, reservation, watchdog);
        if let Ok(start) = guest
            .instance
            .exports
            .get_typed_function::<(), ()>(&guest.store.0, start::EXPORT)
        {
            guest.on_budget(cx, |running| Ok::<_, CallFailure>(start.call(running)?))?;
        }
        Ok(guest)
    }

    fn with_exports(
        instance: Instance,
        store: SendStore,
        compiled: Arc<Compiled>,
        meter: Arc<Meter>,
        reservation: Arc<Reservation>,
        watchdog: Arc<Watchdog>,
    ) -> Self {
        let exports = &instance.exports;
        let abi = exports
            .get_typed_function(&store.0, "alloc")
            .ok()
            .zip(exports.get_typed_function(&store.0, "handle").ok())
            .map(|(alloc, handle)| JsonExports { alloc, handle });
        let global = |name| exports.get_global(name).ok().cloned();
        let fuel = compiled.config.max_fuel.and_then(|limit| {
            Some(Fuel {
                limit,
                remaining: global(FUEL_REMAINING)?,
                exhausted: global(FUEL_EXHAUSTED)?,
            })
        });
        Self {
            memory: exports.get_memory("memory").ok().cloned(),
            aborted: global(abort::EXPORT),
            abi,
            fuel,
            instance,
            store,
            compiled,
            meter,
            reservation,
            watchdog,
            spoiled: false,
        }
    }

    pub(crate) fn json_exports(&self) -> Option<JsonExports> {
        self.abi.clone()
    }

    /// Bytes of linear memory that the guest has.
    pub(crate) fn memory_len(&self) -> usize {
        self.reservation.len()
    }

    /// Whether the next call may run on this instance.
    pub(crate) fn is_reusable(&self) -> bool {
        !self.spoiled
            && self.memory_len()
                <= self
                    .compiled
                    .config
                    .keep_bytes
                    .max(self.compiled.initial_bytes)
    }

    /// Keeps the next call away from this instance.
    pub(crate) fn spoil(&mut self) {
        self.spoiled = true;
    }

    /// Runs `work`, which may call the guest several times, on the budget of one
    /// call. An error spoils the instance.
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
        let meter = Arc::clone(&self.meter);
        meter.begin(cx, &self.watchdog);
        let result = guarded(|| work(&mut Running { guest: self }));
        let ended = meter.end(cx);
        if ended.is_err() {
            meter.retire();
        }
        match (result, ended) {
            (Ok(Ok(value)), Ok(())) => {
                self.spoiled = false;
                Ok(value)
            }
            // The answer was complete when the budget ran out: it stands.
            (Ok(Ok(value)), Err(_)) => Ok(value),
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

    /// Copies `bytes` into guest memory; `false` when they do not fit there.
    pub(crate) fn write(&self, ptr: u32, bytes: &[u8]) -> bool {
        self.memory
            .as_ref()
            .is_some_and(|m| m.view(&self.store.0).write(ptr.into(), bytes).is_ok())
    }

    /// Copies `len` bytes out of guest memory; `None` when they are not all there.
    pub(crate) fn read(&self, ptr: u32, len: u32) -> Option<Vec<u8>> {
        let end = u64::from(ptr) + u64::from(len);
        if end > self.memory_len() as u64 {
            return None;
        }
        let mut bytes = vec![0; len as usize];
        let memory = self.memory.as_ref()?;
        memory
            .view(&self.store.0)
            .read(ptr.into(), &mut bytes)
            .ok()?;
        Some(bytes)
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
        function.call(&mut self.store.0, params)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.meter.retire();
    }
}

/// A guest whose meter runs: the only way to call it.
pub(crate) struct Running<'g> {
    pub(crate) guest: &'g mut Guest,
}

impl AsStoreRef for Running<'_> {
    fn as_store_ref(&self) -> StoreRef<'_> {
        self.guest.store.0.as_store_ref()
    }
}

impl AsStoreMut for Running<'_> {
    fn as_store_mut(&mut self) -> StoreMut<'_> {
        self.guest.store.0.as_store_mut()
    }

    fn objects_mut(&mut self) -> &mut wasmer::StoreObjects {
        self.guest.store.0.objects_mut()
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
