//! What a failing hook means.

/// What a chain does when a registered hook returns an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FailPolicy {
    /// The chain stops with [`ChainError::Hook`](crate::ChainError::Hook): the request is denied.
    #[default]
    Deny,
    /// The failure is logged as a warning and the chain goes on as if the hook were not there.
    Skip,
}
