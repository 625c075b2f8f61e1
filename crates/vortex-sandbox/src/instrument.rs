//! What the sandbox changes in a guest's code before it is compiled.
//!
//! [`sections`] changes its bytes. All else is done by wasmer middlewares, which form a
//! chain in which each reads what the one before it wrote:
//!
//! 1. [`bulk`] makes `memory.copy` and `memory.fill` calls of functions that move few
//!    bytes themselves and otherwise check bounds and cut into chunks, so that neither
//!    runs long or traps inside the host;
//! 2. [`safepoint`] makes every function entry, loop header and bulk operation
//!    stoppable, those that the first step has written included;
//! 3. [`start`] turns the start function into an export;
//! 4. metering, on demand, counts the operators of the result;
//! 5. [`abort`] turns `unreachable`, metering's included, into a fault.

pub(crate) mod abort;
pub(crate) mod bulk;
pub(crate) mod safepoint;
pub(crate) mod sections;
pub(crate) mod start;

use std::sync::Arc;

use wasmer::sys::ModuleMiddleware;
use wasmer::wasmparser::{MemArg, Operator};
use wasmer_middlewares::Metering;

/// Whether an export is one that instrumentation adds, or may come to add.
pub(crate) fn is_reserved(export: &str) -> bool {
    export.starts_with("vortex:") || [FUEL_REMAINING, FUEL_EXHAUSTED].contains(&export)
}

/// The name under which `wasmer_middlewares::Metering` exports what is left.
pub(crate) const FUEL_REMAINING: &str = "wasmer_metering_remaining_points";
/// The name under which it exports whether nothing is left.
pub(crate) const FUEL_EXHAUSTED: &str = "wasmer_metering_points_exhausted";

/// The middlewares for one module, in order. They hold the module's state and
/// serve for no other.
pub(crate) fn middlewares(
    max_fuel: Option<u64>,
    helpers: Option<bulk::Helpers>,
) -> Vec<Arc<dyn ModuleMiddleware>> {
    let mut chain: Vec<Arc<dyn ModuleMiddleware>> = vec![
        Arc::new(bulk::BulkOperations { helpers }),
        Arc::new(safepoint::Safepoints),
        Arc::new(start::StartFunction),
    ];
    if let Some(fuel) = max_fuel {
        chain.push(Arc::new(Metering::new(fuel, |_: &Operator<'_>| 1)));
    }
    chain.push(Arc::new(abort::Aborts::default()));
    chain
}

/// A read that always faults: no memory reaches the last byte of the address space.
fn fault<'a>() -> [Operator<'a>; 3] {
    [
        Operator::I32Const { value: -1 },
        load_byte(),
        Operator::Drop,
    ]
}

fn load_byte<'a>() -> Operator<'a> {
    Operator::I32Load8U { memarg: byte_at(0) }
}

fn byte_at(offset: u32) -> MemArg {
    MemArg {
        align: 0,
        max_align: 0,
        offset: offset.into(),
        memory: 0,
    }
}
