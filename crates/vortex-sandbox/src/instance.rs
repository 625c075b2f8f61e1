//! One running copy of a module, its memory, its budget, and the pool it waits in.

pub(crate) mod alarm;
pub(crate) mod budget;
pub(crate) mod caller;
pub(crate) mod guest;
#[cfg(test)]
mod isolation;
pub(crate) mod memory;
pub(crate) mod pool;
pub(crate) mod running;
pub(crate) mod trap;
mod trimmer;
pub(crate) mod watchdog;
