//! From untrusted bytes to code that can be bounded.

pub(crate) mod compile;
pub(crate) mod limits;
pub(crate) mod validate;
