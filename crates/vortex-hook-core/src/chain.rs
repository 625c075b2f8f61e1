//! Hooks in order.

use std::error::Error;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

use crate::{
    ChainError, FailPolicy, Hook, HookContext, HookError, HookInput, HookOutput, HookType,
    InvalidHeader,
};

/// In which order a chain runs its hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ChainOrder {
    /// As they were registered.
    #[default]
    Registration,
    /// By priority, lowest first; equal priorities as they were registered.
    Priority,
}

/// A hook with its place in a chain.
#[derive(Clone)]
pub struct Registration {
    name: Arc<str>,
    types: [bool; HookType::ALL.len()],
    priority: i32,
    on_error: FailPolicy,
    hook: Arc<dyn Hook>,
}

impl Registration {
    /// Registers `hook` under a name, for errors and logs, and for some hook types.
    pub fn new(
        name: impl Into<Arc<str>>,
        types: impl IntoIterator<Item = HookType>,
        hook: impl Hook + 'static,
    ) -> Self {
        Self::shared(name, types, Arc::new(hook))
    }

    /// [`Registration::new`] for a hook that is shared with others.
    pub fn shared(
        name: impl Into<Arc<str>>,
        types: impl IntoIterator<Item = HookType>,
        hook: Arc<dyn Hook>,
    ) -> Self {
        let mut flags = [false; HookType::ALL.len()];
        for hook_type in types {
            flags[hook_type as usize] = true;
        }
        Self {
            name: name.into(),
            types: flags,
            priority: 0,
            on_error: FailPolicy::default(),
            hook,
        }
    }

    /// Sets the priority, 0 if not set; it counts in [`ChainOrder::Priority`] only.
    #[must_use]
    pub fn with_priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets what an error of this hook does.
    #[must_use]
    pub fn on_error(mut self, policy: FailPolicy) -> Self {
        self.on_error = policy;
        self
    }

    /// Passes over the hook's failure if that is its policy.
    #[cold]
    fn skip(
        &self,
        error: HookError,
        cx: &HookContext,
        hook_type: HookType,
    ) -> Result<(), ChainError> {
        let hook = self.name.as_ref().to_owned();
        match self.on_error {
            // A hook that was stopped with its request has not failed by itself.
            FailPolicy::Skip if cx.is_cancelled() => Err(ChainError::Cancelled { hook }),
            FailPolicy::Skip if cx.is_expired() => Err(ChainError::DeadlineExceeded { hook }),
            FailPolicy::Skip => {
                let error: &(dyn Error + 'static) = &error;
                tracing::warn!(%hook, %hook_type, error, "hook failed and is skipped");
                Ok(())
            }
            FailPolicy::Deny => Err(ChainError::Hook {
                hook,
                source: error,
            }),
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types = HookType::ALL
            .into_iter()
            .filter(|t| self.types[*t as usize]);
        f.debug_struct("Registration")
            .field("name", &self.name)
            .field("types", &types.collect::<Vec<_>>())
            .field("priority", &self.priority)
            .field("on_error", &self.on_error)
            .finish_non_exhaustive()
    }
}

/// Names one registration in its chain, for as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistrationId(u64);

/// The hooks of a gateway or route, run one after the other.
///
/// A run works on the hooks that were registered when it began. Changing the
/// chain never waits for runs and never makes one wait.
///
/// ```
/// use vortex_hook_core::{hook_fn, HookChain, HookContext, HookInput, HookOutput, HookType, Registration};
///
/// let chain = HookChain::default();
/// chain.register(Registration::new("tag", [HookType::PreRequest], hook_fn(|_, _| {
///     Ok(HookOutput::allow().with_header("x-tag", "1").unwrap())
/// })));
///
/// let input = HookInput::new(HookType::PreRequest);
/// let output = futures_executor::block_on(chain.execute(&HookContext::new(), &input))?;
/// assert!(output.allow && output.modified);
/// # Ok::<(), vortex_hook_core::ChainError>(())
/// ```
#[derive(Debug, Default)]
pub struct HookChain {
    order: ChainOrder,
    hooks: ArcSwap<Hooks>,
    next_id: AtomicU64,
    /// Held while the chain is changed, never while it runs.
    edit: Mutex<()>,
}

/// What a run works on: every registration in the order of execution, and by type.
#[derive(Debug, Default)]
struct Hooks {
    all: Vec<(RegistrationId, Arc<Registration>)>,
    by_type: [Vec<Arc<Registration>>; HookType::ALL.len()],
}

impl Hooks {
    fn new(order: ChainOrder, mut all: Vec<(RegistrationId, Arc<Registration>)>) -> Self {
        match order {
            ChainOrder::Registration => all.sort_by_key(|(id, _)| *id),
            ChainOrder::Priority => all.sort_by_key(|(id, r)| (r.priority, *id)),
        }
        let by_type = HookType::ALL.map(|hook_type| {
            all.iter()
                .filter(|(_, r)| r.types[hook_type as usize])
                .map(|(_, r)| Arc::clone(r))
                .collect()
        });
        Self { all, by_type }
    }
}

impl HookChain {
    /// An empty chain, which allows everything.
    #[must_use]
    pub fn new(order: ChainOrder) -> Self {
        Self {
            order,
            ..Self::default()
        }
    }

    /// Adds a hook; runs that begin from now on see it.
    pub fn register(&self, registration: Registration) -> RegistrationId {
        let id = RegistrationId(self.next_id.fetch_add(1, Ordering::Relaxed));
        self.edit(|all| all.push((id, Arc::new(registration))));
        id
    }

    /// Removes a hook; returns whether it was there.
    pub fn unregister(&self, id: RegistrationId) -> bool {
        self.edit(|all| {
            let before = all.len();
            all.retain(|(other, _)| *other != id);
            all.len() < before
        })
    }

    /// Puts another registration in the place of one; returns whether that was there.
    ///
    /// Runs in flight finish with the old hook. The place among equals is kept,
    /// and so is the id.
    pub fn replace(&self, id: RegistrationId, registration: Registration) -> bool {
        // Swapped, so that what goes is dropped here and not under the lock.
        let mut registration = Arc::new(registration);
        self.edit(|all| match all.iter_mut().find(|(other, _)| *other == id) {
            Some((_, old)) => {
                mem::swap(old, &mut registration);
                true
            }
            None => false,
        })
    }

    /// The number of registered hooks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hooks.load().all.len()
    }

    /// Whether no hook is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a run for this hook type would call any hook; a gateway that asks
    /// can skip the preparation of an input.
    #[must_use]
    pub fn has_hooks(&self, hook_type: HookType) -> bool {
        !self.hooks.load().by_type[hook_type as usize].is_empty()
    }

    /// Runs the hooks of the input's type in order and merges what they answer.
    ///
    /// A denial stops the chain and keeps the changes made so far. A later
    /// hook's value for a header replaces an earlier one's, and so does its body.
    /// The first status that any hook sets wins. An empty chain allows. Changes that would take
    /// a run past [`HeaderChanges::MAX_NAMES`](crate::HeaderChanges::MAX_NAMES)
    /// fail the hook that made them; a denial stands and loses its own.
    ///
    /// # Errors
    ///
    /// [`ChainError`]: every one of them denies, and drops the changes.
    pub async fn execute(
        &self,
        cx: &HookContext,
        input: &HookInput<'_>,
    ) -> Result<HookOutput, ChainError> {
        let hook_type = input.hook_type().ok_or(ChainError::NoHookType)?;
        let mut hooks = self.hooks.load();
        let mut merged = HookOutput::allow();
        for i in 0..hooks.by_type[hook_type as usize].len() {
            let registration = &hooks.by_type[hook_type as usize][i];
            let hook = || registration.name.as_ref().to_owned();
            if cx.is_expired() {
                return Err(ChainError::DeadlineExceeded { hook: hook() });
            }
            if cx.is_cancelled() {
                return Err(ChainError::Cancelled { hook: hook() });
            }
            let answer = match registration.hook.call_now(cx, input) {
                Some(answer) => answer,
                None => {
                    // A thread can borrow few snapshots: who waits counts itself instead.
                    hooks = Guard::from_inner(Guard::into_inner(hooks));
                    let registration = &hooks.by_type[hook_type as usize][i];
                    let call = registration.hook.call(cx, input);
                    let Some(answer) = cx.until_cancelled(call).await else {
                        let hook = registration.name.as_ref().to_owned();
                        return Err(ChainError::Cancelled { hook });
                    };
                    answer
                }
            };
            let registration = &hooks.by_type[hook_type as usize][i];
            let failure = match answer {
                Ok(output) => {
                    let name = registration.name.as_ref();
                    tracing::debug!(%name, allow = output.allow, "hook {hook_type}");
                    merge(&mut merged, output).err()
                }
                Err(error) => Some(error),
            };
            if let Some(error) = failure {
                registration.skip(error, cx, hook_type)?;
            }
            if !merged.allow {
                break;
            }
        }
        Ok(merged)
    }

    fn edit<T>(
        &self,
        change: impl FnOnce(&mut Vec<(RegistrationId, Arc<Registration>)>) -> T,
    ) -> T {
        // Nothing in here panics half way, so a poisoned lock guards sound data.
        let guard = self.edit.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.hooks.load().all.clone();
        let result = change(&mut all);
        let old = self.hooks.swap(Arc::new(Hooks::new(self.order, all)));
        // A hook may take long to drop, or edit the chain as it goes.
        drop(guard);
        drop(old);
        result
    }
}

/// Adds one hook's answer to what came before.
///
/// An answer whose headers do not fit changes nothing, unless it denies: no
/// hook can fill the room up to turn a later one's denial into a failure,
/// which might be skipped.
fn merge(merged: &mut HookOutput, output: HookOutput) -> Result<(), HookError> {
    if output.modified && !output.headers.is_empty() {
        if merged.headers.merge(output.headers) {
            merged.modified = true;
        } else if output.allow {
            return Err(HookError::new(InvalidHeader::TooMany));
        }
    }
    // An earlier hook's body is for what goes on.
    if output.body.is_some() || !output.allow {
        merged.body = output.body;
    }
    merged.status = merged.status.or(output.status);
    merged.allow = output.allow;
    Ok(())
}
