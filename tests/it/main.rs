//! Integration tests through the public APIs, a module per scenario.

mod abi;
mod sandbox_deep_traps;
mod util;
