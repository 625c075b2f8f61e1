//! Integration tests through the public APIs, a module per scenario.

mod abi;
mod facade;
mod facade_install;
mod facade_reference;
mod facade_refusals;
mod facade_replace;
mod facade_revoke;
mod facade_stop;
mod sandbox_budgets;
mod sandbox_bulk;
mod sandbox_deep_traps;
mod sandbox_evasion;
mod sandbox_features;
mod sandbox_fuel;
mod sandbox_isolation;
mod sandbox_late_watchdog;
mod sandbox_leaks;
mod sandbox_limits;
mod sandbox_neighbours;
mod sandbox_pool;
mod sandbox_runtime;
mod sandbox_safepoints;
mod sandbox_soak;
mod sandbox_tables;
mod sandbox_unload;
mod util;
