//! From untrusted bytes to code that can be bounded.

pub(crate) mod artifact;
pub(crate) mod artifact_cache;
mod cache_dir;
mod code_limits;
pub(crate) mod compile;
pub(crate) mod compiler_process;
pub(crate) mod function;
pub(crate) mod inspect;
pub(crate) mod limits;
pub(crate) mod loader;
pub(crate) mod report;
mod stripped;
mod toolchain;
pub(crate) mod validate;
