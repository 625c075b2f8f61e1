//! How close a module comes to each cap.

use std::mem::discriminant;

use wasmer::wasmparser::WasmFeatures;

use super::validate::{examine, validity};
use crate::{ModuleLimits, RuntimeConfig, SandboxError};

/// How far past a cap a module may be for a report: a report is for the authors of
/// plugins, but it must end whatever it is given.
const HEADROOM: u64 = 16;

/// What a module has of everything that is capped, and all that speaks against it.
///
/// Loading a module says the first reason to refuse it; a report goes on and says
/// them all. It compiles nothing.
///
/// ```
/// use vortex_sandbox::{ModuleReport, RuntimeConfig, SandboxError};
///
/// let wasm = wat::parse_str(
///     r#"(module (import "env" "now" (func (result i64))) (memory 1)
///          (func (param i32) (local i32 i32) (block (loop))))"#,
/// )?;
/// let report = ModuleReport::of(&wasm, &RuntimeConfig::default())?;
/// assert_eq!((report.used.locals, report.used.blocks), (2, 2));
/// assert!(matches!(report.objections[..], [SandboxError::Imports { .. }]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct ModuleReport {
    /// For each cap, what the module has of it: of those that hold for a function,
    /// the most that any of its functions has.
    pub used: ModuleLimits,
    /// Why it would not be loaded, each kind of reason once; empty if it would be.
    pub objections: Vec<SandboxError>,
}

impl ModuleReport {
    /// Counts what is in a module, in the time of a validation.
    ///
    /// # Errors
    ///
    /// [`SandboxError::InvalidModule`] when it is not WebAssembly of any version, or
    /// [`SandboxError::ModuleLimit`] when it has sixteen times as much as a cap allows.
    pub fn of(wasm: &[u8], config: &RuntimeConfig) -> Result<Self, SandboxError> {
        let mut examination = Examination {
            factor: HEADROOM,
            objections: Some(Vec::new()),
            ..Examination::strict(config)
        };
        examine(wasm, WasmFeatures::all(), &mut examination)?;
        let used = examination.used;
        let mut objections = examination.objections.unwrap_or_default();
        objections.extend(validity(wasm).err());
        let caps = config.module.entries();
        for ((limit, value), (_, max)) in used.entries().into_iter().zip(caps) {
            objections.extend((value > max).then_some(SandboxError::ModuleLimit {
                limit,
                value,
                max,
            }));
        }
        Ok(Self { used, objections })
    }

    /// The cap that the module comes closest to, with the part of it that it uses:
    /// 1.0 is all of it. Caps of 0 and 1 are left out, since whatever is there uses
    /// all of those.
    ///
    /// ```
    /// use vortex_sandbox::{ModuleReport, RuntimeConfig};
    ///
    /// let config = RuntimeConfig::default();
    /// let wasm = wat::parse_str(format!("(module (memory 1) {})", "(type (func))".repeat(500)))?;
    /// let report = ModuleReport::of(&wasm, &config)?;
    /// assert_eq!(report.closest(&config.module), ("types", 0.1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn closest(&self, limits: &ModuleLimits) -> (&'static str, f64) {
        let used = self.used.entries().into_iter().zip(limits.entries());
        used.filter(|(_, (_, max))| *max > 1)
            .map(|((name, value), (_, max))| (name, value as f64 / max as f64))
            .max_by(|(_, a), (_, b)| a.total_cmp(b))
            .unwrap_or(("module_bytes", 0.0))
    }
}

/// A module's way past the caps.
pub(super) struct Examination<'a> {
    pub(super) config: &'a RuntimeConfig,
    /// How many times the caps may be used.
    pub(super) factor: u64,
    /// The most of everything so far.
    pub(super) used: ModuleLimits,
    /// What speaks against the module; `None` when the first of it is the end.
    objections: Option<Vec<SandboxError>>,
}

impl<'a> Examination<'a> {
    /// One that ends at the first objection.
    pub(super) fn strict(config: &'a RuntimeConfig) -> Self {
        Self {
            config,
            factor: 1,
            used: ModuleLimits::NONE,
            objections: None,
        }
    }

    /// Says that the module is to be refused.
    pub(super) fn object(&mut self, why: SandboxError) -> Result<(), SandboxError> {
        let Some(objections) = &mut self.objections else {
            return Err(why);
        };
        if !objections.iter().any(|known| same(known, &why)) {
            objections.push(why);
        }
        Ok(())
    }
}

fn same(one: &SandboxError, other: &SandboxError) -> bool {
    use SandboxError::RefusedOperator;
    match (one, other) {
        (
            RefusedOperator { operator: one, .. },
            RefusedOperator {
                operator: other, ..
            },
        ) => one == other,
        _ => discriminant(one) == discriminant(other),
    }
}

/// Notes a value under the name of its cap, and checks it.
macro_rules! count {
    ($examination:expr, $cap:ident, $value:expr) => {{
        let value: u64 = $value;
        let used = &mut $examination.used.$cap;
        *used = (*used).max(value);
        let max = $examination.config.module.$cap;
        $crate::module::validate::cap(
            stringify!($cap),
            value,
            max.saturating_mul($examination.factor),
        )
    }};
}
pub(super) use count;
