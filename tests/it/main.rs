//! Integration tests through the public APIs, a module per scenario.

mod abi;
mod sandbox_bulk;
mod sandbox_deep_traps;
mod sandbox_evasion;
mod sandbox_features;
mod sandbox_tables;
mod util;
