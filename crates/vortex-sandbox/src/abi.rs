//! How host and guest talk.

pub(crate) mod guest_memory;
pub(crate) mod json;
