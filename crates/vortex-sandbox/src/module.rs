//! From untrusted bytes to code that can be bounded.

pub(crate) mod compile;
pub(crate) mod function;
pub(crate) mod limits;
pub(crate) mod report;
pub(crate) mod validate;
