//! The command as a person, a script or an attacker meets it: the binary itself is run.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says by panicking that it failed, and so do its helpers"
)]

mod documents;
mod errors;
mod fleet;
mod hostile;
mod index;
mod inspect;
mod keys;
mod policy;
mod run;
mod story;
mod terminal;
mod util;
