//! From untrusted bytes to code that can be bounded.

pub(crate) mod compile;
pub(crate) mod function;
pub(crate) mod inspect;
pub(crate) mod limits;
pub(crate) mod validate;
