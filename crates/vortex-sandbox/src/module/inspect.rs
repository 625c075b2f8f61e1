//! What a module says about itself, and every rule that it breaks.

use sha2::{Digest, Sha256};
use wasmer::wasmparser::{
    BinaryReaderError, CustomSectionReader, Export, KnownCustom, Name, Parser, Payload, TypeRef,
    ValidPayload, Validator, WasmFeatures, types::TypesRef,
};

use super::report::ModuleReport;
use super::validate::{ExportType, export_type, validate};
use crate::guarded::guarded;
use crate::{RuntimeConfig, SandboxError};

/// How many exports, imports and so on are kept of each.
const MAX_LISTED: usize = 1_000;
/// How many characters are kept of a name that the module makes up.
const MAX_NAME: usize = 256;

/// What a module says about itself, and what the sandbox says about it.
///
/// Any bytes can be inspected; nothing is compiled or run. Names are the module's
/// own, shortened, and may hold any character: escape them before printing. Lists
/// end after 1,000 entries.
///
/// ```
/// use vortex_sandbox::{Inspection, RuntimeConfig, SandboxError};
///
/// let wasm = wat::parse_str(r#"(module $demo (import "env" "now" (func (result i64))) (memory 2000))"#)?;
/// let inspection = Inspection::of(&wasm, &RuntimeConfig::default());
/// assert_eq!(inspection.module_name.as_deref(), Some("demo"));
/// assert_eq!(inspection.imports[0].name, "now");
/// assert!(matches!(inspection.findings[0], SandboxError::Imports { .. }));
/// assert!(matches!(inspection.findings[1], SandboxError::ModuleLimit { limit: "memory_bytes", .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Inspection {
    /// The size of the module, in bytes.
    pub size: u64,
    /// The SHA-256 digest of its bytes.
    pub digest: [u8; 32],
    /// The name in its `name` section.
    pub module_name: Option<String>,
    /// What made it, from its `producers` section.
    pub producers: Vec<Producer>,
    /// Its exports, in order.
    pub exports: Vec<InspectedExport>,
    /// Its imports, in order.
    pub imports: Vec<InspectedImport>,
    /// Its own memories.
    pub memories: Vec<MemorySize>,
    /// Its custom sections, by name and size in bytes.
    pub custom_sections: Vec<(String, u64)>,
    /// How many functions it has, imports aside.
    pub functions: u32,
    /// How many globals it has, imports aside.
    pub globals: u32,
    /// How many data segments it has.
    pub data_segments: u32,
    /// Whether it has a start function.
    pub has_start: bool,
    /// Why the sandbox would refuse it under the given limits: every rule broken, each once with
    /// its highest value, as far as the module can be read. Empty when it would be compiled.
    pub findings: Vec<SandboxError>,
}

/// A tool or language that made a module, as the module has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Producer {
    /// `language`, `processed-by` or `sdk`.
    pub field: String,
    /// The tool or language.
    pub name: String,
    /// Its version, which may be empty.
    pub version: String,
}

/// An export of a module that need not be valid.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedExport {
    /// Its name.
    pub name: String,
    /// Its type, unless the module is too broken to tell.
    pub ty: Option<ExportType>,
}

/// An import of a module that need not be valid.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedImport {
    /// From which module.
    pub module: String,
    /// Under which name.
    pub name: String,
    /// `function`, `table`, `memory`, `global` or `tag`.
    pub kind: &'static str,
}

/// The size of a memory, in pages of 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemorySize {
    /// At first.
    pub initial: u64,
    /// At most, if the module says so.
    pub maximum: Option<u64>,
}

impl Inspection {
    /// Reads as much of a module as can be read and checks it under these limits.
    #[must_use]
    pub fn of(wasm: &[u8], config: &RuntimeConfig) -> Self {
        let mut inspection = Self {
            size: wasm.len() as u64,
            digest: Sha256::digest(wasm).into(),
            ..Self::default()
        };
        // What cannot be read is said by the checks; what has been read until then stands.
        let described = guarded(|| _ = inspection.describe(wasm));
        let checked = guarded(|| inspection.findings = findings(wasm, config));
        inspection.findings.extend(described.err());
        inspection.findings.extend(checked.err());
        inspection
    }

    fn describe(&mut self, wasm: &[u8]) -> Result<(), BinaryReaderError> {
        // Every feature, so that the types of exports are known in modules that are refused.
        let mut validator = Some(Validator::new_with_features(WasmFeatures::all()));
        let mut exports = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.inspect_err(|_| self.set_exports(&exports, None))?;
            if let Payload::ExportSection(section) = &payload {
                exports.extend(section.clone().into_iter().flatten().take(MAX_LISTED));
            }
            self.see(&payload);
            let seen = validator
                .as_mut()
                .map(|validator| validator.payload(&payload));
            match seen {
                Some(Ok(ValidPayload::End(types))) => {
                    self.set_exports(&exports, Some(types.as_ref()));
                    return Ok(());
                }
                Some(Err(_)) => validator = None,
                _ => {}
            }
        }
        self.set_exports(&exports, None);
        Ok(())
    }

    fn set_exports(&mut self, exports: &[Export<'_>], types: Option<TypesRef<'_>>) {
        let exports = exports
            .iter()
            .take(MAX_LISTED)
            .map(|export| InspectedExport {
                name: short(export.name),
                ty: types.and_then(|types| export_type(export, types)),
            });
        self.exports = exports.collect();
    }

    fn see(&mut self, payload: &Payload<'_>) {
        match payload {
            Payload::ImportSection(section) => {
                let imports = section.clone().into_imports().flatten().take(MAX_LISTED);
                self.imports.extend(imports.map(|import| InspectedImport {
                    module: short(import.module),
                    name: short(import.name),
                    kind: kind_of(import.ty),
                }));
            }
            Payload::MemorySection(section) => {
                let memories = section.clone().into_iter().flatten().take(MAX_LISTED);
                self.memories.extend(memories.map(|memory| MemorySize {
                    initial: memory.initial,
                    maximum: memory.maximum,
                }));
            }
            Payload::FunctionSection(section) => self.functions = section.count(),
            Payload::GlobalSection(section) => self.globals = section.count(),
            Payload::DataSection(section) => self.data_segments = section.count(),
            Payload::StartSection { .. } => self.has_start = true,
            Payload::CustomSection(section) => self.see_custom(section),
            _ => {}
        }
    }

    fn see_custom(&mut self, section: &CustomSectionReader<'_>) {
        if self.custom_sections.len() < MAX_LISTED {
            let size = section.data().len() as u64;
            self.custom_sections.push((short(section.name()), size));
        }
        match section.as_known() {
            KnownCustom::Name(names) => {
                // The name of the module comes first.
                if let Some(Ok(Name::Module { name, .. })) = names.into_iter().next() {
                    self.module_name = Some(short(name));
                }
            }
            KnownCustom::Producers(fields) => {
                for field in fields.into_iter().flatten() {
                    let values = field.values.into_iter().flatten();
                    let room = MAX_LISTED - self.producers.len();
                    self.producers
                        .extend(values.take(room).map(|value| Producer {
                            field: field.name.to_owned(),
                            name: short(value.name),
                            version: short(value.version),
                        }));
                }
            }
            _ => {}
        }
    }
}

/// Every rule that the module breaks, the one for which it would be refused first.
fn findings(wasm: &[u8], config: &RuntimeConfig) -> Vec<SandboxError> {
    let mut findings: Vec<_> = validate(wasm, config).err().into_iter().collect();
    match ModuleReport::of(wasm, config) {
        Ok(report) => report
            .objections
            .into_iter()
            .for_each(|objection| note(&mut findings, objection)),
        Err(error) => note(&mut findings, error),
    }
    findings
}

/// Keeps an error, unless there is one like it; of a cap, the highest value is kept.
fn note(findings: &mut Vec<SandboxError>, error: SandboxError) {
    for known in findings.iter_mut() {
        match (known, &error) {
            (
                SandboxError::ModuleLimit { limit, value, .. },
                SandboxError::ModuleLimit {
                    limit: other,
                    value: higher,
                    ..
                },
            ) if limit == other => {
                *value = (*value).max(*higher);
                return;
            }
            (
                SandboxError::RefusedOperator { operator, .. },
                SandboxError::RefusedOperator {
                    operator: other, ..
                },
            ) if operator == other => return,
            (known, error) if known.to_string() == error.to_string() => return,
            _ => {}
        }
    }
    findings.push(error);
}

/// The kind of an import, in words.
pub(super) fn kind_of(ty: TypeRef) -> &'static str {
    match ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => "function",
        TypeRef::Table(_) => "table",
        TypeRef::Memory(_) => "memory",
        TypeRef::Global(_) => "global",
        TypeRef::Tag(_) => "tag",
    }
}

fn short(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}
