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
use super::report::{Examination, count};
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

/// Checks a module.
pub(crate) fn validate(wasm: &[u8], config: &RuntimeConfig) -> Result<(), SandboxError> {
    examine(wasm, FEATURES, &mut Examination::strict(config))
}

/// What the validator alone has against a module.
pub(super) fn validity(wasm: &[u8]) -> Result<(), SandboxError> {
    let mut validator = Validator::new_with_features(FEATURES);
    validator.validate_all(wasm).map(|_| ()).map_err(invalid)
}

/// Goes through a module, part by part.
pub(super) fn examine(
    wasm: &[u8],
    features: WasmFeatures,
    examination: &mut Examination<'_>,
) -> Result<(), SandboxError> {
    count!(examination, module_bytes, wasm.len() as u64)?;
    let mut validator = Validator::new_with_features(features);
    let mut allocations = FuncValidatorAllocations::default();
    let mut exports = Vec::new();
    let mut wanted = Vec::new();
    let mut has_memory = false;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(invalid)?;
        check_counts(&payload, examination)?;
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
                let wanted = std::mem::take(&mut wanted);
                examination.object(SandboxError::Imports { wanted })?;
            }
        }
        if let Payload::ExportSection(section) = &payload {
            for export in section.clone() {
                let export = export.map_err(invalid)?;
                exports.push(export);
            }
        }
        if let Payload::MemorySection(section) = &payload {
            has_memory = section.count() > 0;
        }
        match validator.payload(&payload).map_err(invalid)? {
            // Code is stopped by way of its memory.
            ValidPayload::Func(to_validate, body) => {
                if !has_memory {
                    examination.object(SandboxError::MissingExport {
                        export: "memory".to_owned(),
                        expected: ExportType::Memory.to_string(),
                    })?;
                }
                let mut function = to_validate.into_validator(allocations);
                function::check(&body, examination, &mut function)?;
                allocations = function.into_allocations();
            }
            ValidPayload::End(types) => {
                for export in &exports {
                    check_export(export, types.as_ref())
                        .or_else(|error| examination.object(error))?;
                }
                return Ok(());
            }
            _ => {}
        }
    }
    Err(SandboxError::InvalidModule {
        reason: "the module has no end".to_owned(),
    })
}

fn check_export(export: &Export<'_>, types: TypesRef<'_>) -> Result<(), SandboxError> {
    let name = export.name.to_owned();
    if instrument::is_reserved(export.name) {
        return Err(SandboxError::ReservedExport { name });
    }
    match export_type(export, types) {
        Some(_) => Ok(()),
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
fn check_counts(
    payload: &Payload<'_>,
    examination: &mut Examination<'_>,
) -> Result<(), SandboxError> {
    let config = examination.config;
    match payload {
        Payload::TypeSection(s) => {
            count!(examination, types, s.count().into())?;
            let mut all = 0;
            for group in s.clone() {
                for ty in group.map_err(invalid)?.types() {
                    if let CompositeInnerType::Func(func) = &ty.composite_type.inner {
                        let values = (func.params().len() + func.results().len()) as u64;
                        count!(examination, signature, values)?;
                        all += values;
                        count!(examination, signatures, all)?;
                    }
                }
            }
            Ok(())
        }
        Payload::FunctionSection(s) => count!(examination, functions, s.count().into()),
        Payload::GlobalSection(s) => count!(examination, globals, s.count().into()),
        Payload::ExportSection(s) => count!(examination, exports, s.count().into()),
        Payload::DataSection(s) => {
            count!(examination, data_segments, s.count().into())?;
            let mut bytes = 0;
            for segment in s.clone() {
                let segment = segment.map_err(invalid)?;
                if matches!(segment.kind, DataKind::Passive) {
                    examination.object(passive("passive data segment", segment.range.start))?;
                }
                bytes += segment.data.len() as u64;
                memory_cap(bytes, config.memory_bytes, examination)?;
            }
            Ok(())
        }
        Payload::ElementSection(s) => {
            count!(examination, element_segments, s.count().into())?;
            let mut elements = 0;
            for segment in s.clone() {
                let segment = segment.map_err(invalid)?;
                if !matches!(segment.kind, ElementKind::Active { .. }) {
                    examination.object(passive("passive element segment", segment.range.start))?;
                }
                elements += u64::from(match segment.items {
                    ElementItems::Functions(items) => items.count(),
                    ElementItems::Expressions(_, items) => items.count(),
                });
                count!(examination, table_elements, elements)?;
            }
            Ok(())
        }
        Payload::TableSection(s) => {
            count!(examination, tables, s.count().into())?;
            for table in s.clone() {
                let ty = table.map_err(invalid)?.ty;
                let elements = ty.initial.max(ty.maximum.unwrap_or(0));
                // Without `table.grow`, which is refused, a maximum costs nothing by
                // itself, but a fixed-size table lives inside the instance.
                count!(examination, table_elements, elements)?;
            }
            Ok(())
        }
        Payload::MemorySection(s) => {
            count!(examination, memories, s.count().into())?;
            for memory in s.clone() {
                let pages = memory.map_err(invalid)?.initial;
                let bytes = pages.saturating_mul(PAGE as u64);
                memory_cap(bytes, config.memory_pages() * PAGE, examination)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn memory_cap(
    bytes: u64,
    max: usize,
    examination: &mut Examination<'_>,
) -> Result<(), SandboxError> {
    cap("memory_bytes", bytes, max as u64).or_else(|over| examination.object(over))
}

fn passive(operator: &'static str, offset: u64) -> SandboxError {
    SandboxError::RefusedOperator {
        operator,
        offset,
        why: "segments must be active; build without threads and reference types",
    }
}
