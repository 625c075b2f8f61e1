//! The checks that need no compiler: validity under an explicit set of
//! features, structural caps, refused operators, imports, exports.

use std::fmt;

use wasmer::wasmparser::{
    BinaryReaderError, Export, FuncValidatorAllocations, FunctionBody, Import, Operator, Parser,
    Payload, TypeRef, ValType, ValidPayload, Validator, WasmFeatures,
    types::{EntityType, TypesRef},
};

use crate::config::PAGE;
use crate::{ModuleLimits, RuntimeConfig, SandboxError, instrument};

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

/// Checks a module and returns its exports by name.
pub(crate) fn validate(
    wasm: &[u8],
    config: &RuntimeConfig,
) -> Result<Vec<(String, ExportType)>, SandboxError> {
    let limits = &config.module;
    cap("module_bytes", wasm.len() as u64, limits.module_bytes)?;
    let mut validator = Validator::new_with_features(FEATURES);
    let mut allocations = FuncValidatorAllocations::default();
    let mut exports = Vec::new();
    let mut wanted = Vec::new();
    let mut has_memory = false;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(invalid)?;
        check_counts(&payload, config)?;
        if let Payload::ImportSection(section) = &payload {
            for import in section.clone().into_imports() {
                wanted.push(describe(&import.map_err(invalid)?));
            }
            // Said before the validator meets types that only an import would use.
            if !wanted.is_empty() {
                return Err(SandboxError::Imports { wanted });
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
            ValidPayload::Func(..) if !has_memory => {
                return Err(SandboxError::MissingExport {
                    export: "memory".to_owned(),
                    expected: ExportType::Memory.to_string(),
                });
            }
            ValidPayload::Func(to_validate, body) => {
                let mut function = to_validate.into_validator(allocations);
                check_body(&body, limits, &mut function)?;
                allocations = function.into_allocations();
            }
            ValidPayload::End(types) => {
                return exports
                    .iter()
                    .map(|export| type_of(export, types.as_ref()))
                    .collect();
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
    let export_type = match types.entity_type_from_export(export) {
        Some(EntityType::Func(id)) => {
            let func = types[id].unwrap_func();
            ExportType::Function {
                params: names(func.params()),
                results: names(func.results()),
            }
        }
        Some(EntityType::Memory(_)) => ExportType::Memory,
        Some(EntityType::Table(_)) => ExportType::Table,
        Some(EntityType::Global(_)) => ExportType::Global,
        _ => {
            return Err(SandboxError::InvalidModule {
                reason: format!("export `{name}` is of an unknown kind"),
            });
        }
    };
    Ok((name, export_type))
}

fn names(types: &[ValType]) -> Vec<String> {
    types.iter().map(ToString::to_string).collect()
}

fn invalid(error: BinaryReaderError) -> SandboxError {
    SandboxError::InvalidModule {
        reason: error.to_string(),
    }
}

fn cap(limit: &'static str, value: u64, max: u64) -> Result<(), SandboxError> {
    if value <= max {
        Ok(())
    } else {
        Err(SandboxError::ModuleLimit { limit, value, max })
    }
}

fn describe(import: &Import<'_>) -> String {
    let kind = match import.ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => "function",
        TypeRef::Table(_) => "table",
        TypeRef::Memory(_) => "memory",
        TypeRef::Global(_) => "global",
        TypeRef::Tag(_) => "tag",
    };
    format!("{}.{} ({kind})", import.module, import.name)
}

/// Everything that a section's header or entries say about size. It comes before
/// the validator's own look at the section, so that a cap is named as what it is.
fn check_counts(payload: &Payload<'_>, config: &RuntimeConfig) -> Result<(), SandboxError> {
    let limits = &config.module;
    match payload {
        Payload::TypeSection(s) => cap("types", s.count().into(), limits.types),
        Payload::FunctionSection(s) => cap("functions", s.count().into(), limits.functions),
        Payload::GlobalSection(s) => cap("globals", s.count().into(), limits.globals),
        Payload::ExportSection(s) => cap("exports", s.count().into(), limits.exports),
        Payload::DataSection(s) => cap("data_segments", s.count().into(), limits.data_segments),
        Payload::ElementSection(s) => cap(
            "element_segments",
            s.count().into(),
            limits.element_segments,
        ),
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

/// Validates one function, counting as it goes.
fn check_body<R: wasmer::wasmparser::WasmModuleResources>(
    body: &FunctionBody<'_>,
    limits: &ModuleLimits,
    function: &mut wasmer::wasmparser::FuncValidator<R>,
) -> Result<(), SandboxError> {
    let range = body.range();
    cap(
        "function_bytes",
        (range.end - range.start) as u64,
        limits.function_bytes,
    )?;
    let mut reader = body.get_binary_reader();
    let mut locals = 0u64;
    for group in body.get_locals_reader().map_err(invalid)? {
        locals += u64::from(group.map_err(invalid)?.0);
        cap("locals", locals, limits.locals)?;
    }
    function.read_locals(&mut reader).map_err(invalid)?;
    let (mut blocks, mut targets) = (0u64, 0u64);
    let mut operators = wasmer::wasmparser::OperatorsReader::new(reader);
    while !operators.eof() {
        let (operator, offset) = operators.read_with_offset().map_err(invalid)?;
        match &operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                blocks += 1;
                cap("blocks", blocks, limits.blocks)?;
            }
            Operator::BrTable { targets: table } => {
                targets += u64::from(table.len());
                cap("branch_targets", targets, limits.branch_targets)?;
            }
            _ => {}
        }
        if let Some((name, why)) = refused(&operator) {
            return Err(SandboxError::RefusedOperator {
                operator: name,
                offset: offset as u64,
                why,
            });
        }
        function.op(offset, &operator).map_err(invalid)?;
        cap(
            "nesting",
            function.control_stack_height().into(),
            limits.nesting,
        )?;
        cap(
            "operand_stack",
            function.operand_stack_height().into(),
            limits.operand_stack,
        )?;
    }
    operators.finish().map_err(invalid)
}

/// Operators whose implementation would trap inside the host, run unbounded
/// there, or grow what nothing bounds.
fn refused(operator: &Operator<'_>) -> Option<(&'static str, &'static str)> {
    const TABLE: &str = "tables are fixed; build without reference types and exceptions";
    const PASSIVE: &str = "data segments must be active; build without threads";
    Some(match operator {
        Operator::TableInit { .. } => ("table.init", TABLE),
        Operator::TableCopy { .. } => ("table.copy", TABLE),
        Operator::TableFill { .. } => ("table.fill", TABLE),
        Operator::TableGrow { .. } => ("table.grow", TABLE),
        Operator::TableGet { .. } => ("table.get", TABLE),
        Operator::TableSet { .. } => ("table.set", TABLE),
        Operator::TableSize { .. } => ("table.size", TABLE),
        Operator::ElemDrop { .. } => ("elem.drop", TABLE),
        Operator::RefFunc { .. } => ("ref.func", TABLE),
        Operator::MemoryInit { .. } => ("memory.init", PASSIVE),
        Operator::DataDrop { .. } => ("data.drop", PASSIVE),
        _ => return None,
    })
}
