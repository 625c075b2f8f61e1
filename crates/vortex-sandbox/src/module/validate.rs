//! The checks that need no compiler: validity under an explicit set of
//! features, structural caps, refused operators, imports, exports.

use std::fmt;

use wasmer::wasmparser::{
    BinaryReaderError, CompositeInnerType, DataKind, ElementItems, ElementKind, Export,
    FuncValidatorAllocations, Import, Parser, Payload, ValType, ValidPayload, Validator,
    WasmFeatures,
    types::{EntityType, TypesRef},
};

use super::function;
use super::inspect::kind_of;
use crate::config::PAGE;
use crate::{RuntimeConfig, SandboxError, instrument};

/// What the compilers of today emit for wasm32, and nothing else. Bulk memory
/// brings table operators that are refused below; of the reference types only
/// the long encoding of `call_indirect` is enabled.
const FEATURES: WasmFeatures = WasmFeatures::FLOATS
    .union(WasmFeatures::MUTABLE_GLOBAL)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::CALL_INDIRECT_OVERLONG)
    .union(WasmFeatures::SIMD);

/// Checks that a module has an export of this name and type.
pub(crate) fn require(
    exports: &[(String, ExportType)],
    name: &str,
    expected: &ExportType,
) -> Result<(), SandboxError> {
    match exports.iter().find(|(export, _)| export == name) {
        Some((_, found)) if found == expected => Ok(()),
        Some((_, found)) => Err(SandboxError::MistypedExport {
            export: name.to_owned(),
            found: found.to_string(),
            expected: expected.to_string(),
        }),
        None => Err(SandboxError::MissingExport {
            export: name.to_owned(),
            expected: expected.to_string(),
        }),
    }
}

/// How many imports an error names.
const MAX_IMPORTS_NAMED: usize = 16;

/// The type of a module's export, as far as the sandbox tells them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExportType {
    /// A function, with the types of its parameters and results as WebAssembly names them.
    Function {
        /// Such as `["i32", "i32"]`.
        params: Vec<String>,
        /// Such as `["i64"]`.
        results: Vec<String>,
    },
    /// A linear memory.
    Memory,
    /// A table.
    Table,
    /// A global variable.
    Global,
}

impl fmt::Display for ExportType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function { params, results } => {
                write!(
                    f,
                    "a function ({}) -> ({})",
                    params.join(", "),
                    results.join(", ")
                )
            }
            Self::Memory => f.write_str("a memory"),
            Self::Table => f.write_str("a table"),
            Self::Global => f.write_str("a global"),
        }
    }
}

/// What is known of a module that has passed.
pub(crate) struct Validated {
    /// Its exports by name.
    pub(crate) exports: Vec<(String, ExportType)>,
    /// Its memory at first, in bytes.
    pub(crate) initial_bytes: usize,
}

/// Checks a module.
pub(crate) fn validate(wasm: &[u8], config: &RuntimeConfig) -> Result<Validated, SandboxError> {
    validate_with(wasm, config, &mut Err)
}

/// Checks a module and hands every rule that it breaks to `broken`, whose `Err` ends the
/// checks. After an `Ok` the rest is checked, but for the function that broke the rule.
pub(super) fn validate_with(
    wasm: &[u8],
    config: &RuntimeConfig,
    broken: &mut dyn FnMut(SandboxError) -> Result<(), SandboxError>,
) -> Result<Validated, SandboxError> {
    let limits = &config.module;
    cap("module_bytes", wasm.len() as u64, limits.module_bytes).or_else(&mut *broken)?;
    let mut validator = Validator::new_with_features(FEATURES);
    let mut allocations = FuncValidatorAllocations::default();
    let mut exports = Vec::new();
    let mut wanted = Vec::new();
    let mut memory = None;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(invalid)?;
        check_counts(&payload, config).or_else(&mut *broken)?;
        if let Payload::ImportSection(section) = &payload {
            for import in section.clone().into_imports() {
                let import = import.map_err(invalid)?;
                match wanted.len() {
                    ..MAX_IMPORTS_NAMED => wanted.push(describe(&import)),
                    MAX_IMPORTS_NAMED => wanted.push(format!("{} in all", section.count())),
                    _ => break,
                }
            }
            // Said before the validator meets types that only an import would use.
            if !wanted.is_empty() {
                broken(SandboxError::Imports {
                    wanted: std::mem::take(&mut wanted),
                })?;
            }
        }
        if let Payload::ExportSection(section) = &payload {
            for export in section.clone() {
                let export = export.map_err(invalid)?;
                exports.push(export);
            }
        }
        if let Payload::MemorySection(section) = &payload {
            for ty in section.clone() {
                let pages = usize::try_from(ty.map_err(invalid)?.initial).unwrap_or(0);
                memory = Some(pages.saturating_mul(PAGE));
            }
        }
        match validator.payload(&payload).map_err(invalid)? {
            ValidPayload::Func(to_validate, body) => {
                // Code is stopped by way of its memory.
                if memory.is_none() {
                    broken(SandboxError::MissingExport {
                        export: "memory".to_owned(),
                        expected: ExportType::Memory.to_string(),
                    })?;
                }
                let mut function = to_validate.into_validator(allocations);
                function::check(&body, config, &mut function).or_else(&mut *broken)?;
                allocations = function.into_allocations();
            }
            ValidPayload::End(types) => {
                let mut typed = Vec::with_capacity(exports.len());
                for export in &exports {
                    match type_of(export, types.as_ref()) {
                        Ok(export) => typed.push(export),
                        Err(error) => broken(error)?,
                    }
                }
                return Ok(Validated {
                    exports: typed,
                    initial_bytes: memory.unwrap_or(0),
                });
            }
            _ => {}
        }
    }
    Err(SandboxError::InvalidModule {
        reason: "the module has no end".to_owned(),
    })
}

fn type_of(export: &Export<'_>, types: TypesRef<'_>) -> Result<(String, ExportType), SandboxError> {
    let name = export.name.to_owned();
    if instrument::is_reserved(export.name) {
        return Err(SandboxError::ReservedExport { name });
    }
    match export_type(export, types) {
        Some(export_type) => Ok((name, export_type)),
        None => Err(SandboxError::InvalidModule {
            reason: format!("export `{name}` is of an unknown kind"),
        }),
    }
}

/// The type of an export; `None` for kinds that no module of ours can have.
pub(super) fn export_type(export: &Export<'_>, types: TypesRef<'_>) -> Option<ExportType> {
    Some(match types.entity_type_from_export(export)? {
        EntityType::Func(id) => {
            let func = types[id].unwrap_func();
            ExportType::Function {
                params: names(func.params()),
                results: names(func.results()),
            }
        }
        EntityType::Memory(_) => ExportType::Memory,
        EntityType::Table(_) => ExportType::Table,
        EntityType::Global(_) => ExportType::Global,
        _ => return None,
    })
}

fn names(types: &[ValType]) -> Vec<String> {
    types.iter().map(ToString::to_string).collect()
}

pub(super) fn invalid(error: BinaryReaderError) -> SandboxError {
    SandboxError::InvalidModule {
        reason: error.to_string(),
    }
}

pub(super) fn cap(limit: &'static str, value: u64, max: u64) -> Result<(), SandboxError> {
    if value <= max {
        Ok(())
    } else {
        Err(SandboxError::ModuleLimit { limit, value, max })
    }
}

fn describe(import: &Import<'_>) -> String {
    let kind = kind_of(import.ty);
    let short = |name: &str| name.chars().take(64).collect::<String>();
    format!("{}.{} ({kind})", short(import.module), short(import.name))
}

/// Everything that a section's header or entries say about size. It comes before
/// the validator's own look at the section, so that a cap is named as what it is.
fn check_counts(payload: &Payload<'_>, config: &RuntimeConfig) -> Result<(), SandboxError> {
    let limits = &config.module;
    match payload {
        Payload::TypeSection(s) => {
            cap("types", s.count().into(), limits.types)?;
            let mut all = 0;
            for group in s.clone() {
                for ty in group.map_err(invalid)?.types() {
                    if let CompositeInnerType::Func(func) = &ty.composite_type.inner {
                        let values = (func.params().len() + func.results().len()) as u64;
                        cap("signature", values, limits.signature)?;
                        all += values;
                        cap("signatures", all, limits.signatures)?;
                    }
                }
            }
            Ok(())
        }
        Payload::FunctionSection(s) => cap("functions", s.count().into(), limits.functions),
        Payload::GlobalSection(s) => cap("globals", s.count().into(), limits.globals),
        Payload::ExportSection(s) => cap("exports", s.count().into(), limits.exports),
        Payload::DataSection(s) => {
            cap("data_segments", s.count().into(), limits.data_segments)?;
            let mut bytes = 0;
            for segment in s.clone() {
                let segment = segment.map_err(invalid)?;
                if matches!(segment.kind, DataKind::Passive) {
                    return Err(passive("passive data segment", segment.range.start));
                }
                bytes += segment.data.len() as u64;
                cap("memory_bytes", bytes, config.memory_bytes as u64)?;
            }
            Ok(())
        }
        Payload::ElementSection(s) => {
            cap(
                "element_segments",
                s.count().into(),
                limits.element_segments,
            )?;
            let mut elements = 0;
            for segment in s.clone() {
                let segment = segment.map_err(invalid)?;
                if !matches!(segment.kind, ElementKind::Active { .. }) {
                    return Err(passive("passive element segment", segment.range.start));
                }
                elements += u64::from(match segment.items {
                    ElementItems::Functions(items) => items.count(),
                    ElementItems::Expressions(_, items) => items.count(),
                });
                cap("table_elements", elements, limits.table_elements)?;
            }
            Ok(())
        }
        Payload::TableSection(s) => {
            cap("tables", s.count().into(), limits.tables)?;
            for table in s.clone() {
                let ty = table.map_err(invalid)?.ty;
                let elements = ty.initial.max(ty.maximum.unwrap_or(0));
                // Without `table.grow`, which is refused, a maximum costs nothing by
                // itself, but a fixed-size table lives inside the instance.
                cap("table_elements", elements, limits.table_elements)?;
            }
            Ok(())
        }
        Payload::MemorySection(s) => {
            cap("memories", s.count().into(), limits.memories)?;
            for memory in s.clone() {
                let pages = memory.map_err(invalid)?.initial;
                let bytes = pages.saturating_mul(PAGE as u64);
                cap("memory_bytes", bytes, (config.memory_pages() * PAGE) as u64)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn passive(operator: &'static str, offset: u64) -> SandboxError {
    SandboxError::RefusedOperator {
        operator,
        offset,
        why: "segments must be active; build without threads and reference types",
    }
}
