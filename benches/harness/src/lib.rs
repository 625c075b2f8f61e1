//! What the harness shares with that of the peers, `benches/peers`.

pub mod bare;
pub mod compare;
pub mod json_call;
pub mod place;
pub mod poll;
pub mod report;
pub mod request;
