//! `inspect`: what a module says about itself, and what the sandbox says about it.

use anyhow::Result;
use bytesize::ByteSize;
use clap::Args;
use serde_json::{Value, json};
use vortex_plugins::sandbox::{ExportType, Inspection, RuntimeConfig, SandboxError};

use super::run::parse_bytes;
use crate::cli::Options;
use crate::exit::Exit;
use crate::files;
use crate::store::Target;
use crate::table::{BAD, Cell, DOUBTFUL, GOOD, HEAD, Table, styled};
use crate::ui::Ui;

/// Show what a module contains and every limit that it would break
///
/// Nothing is compiled or run. Any file can be inspected; a plugin in the store is verified
/// first. Ends with code 6 when the sandbox would refuse the module, or no gateway could call it.
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// A path to a module (with a slash or a dot), or NAME@VERSION in the store
    #[arg(value_name = "PLUGIN")]
    target: Target,

    /// The memory limit to check against, such as 16MiB
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<usize>,
}

/// How a gateway talks to a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abi {
    Json,
    Frames,
}

impl Inspect {
    pub(crate) fn run(self, options: &Options, ui: &Ui) -> Result<Exit> {
        let wasm = match &self.target {
            Target::File(path) => files::read_wasm(path)?,
            Target::Installed(reference) => {
                let registry = options.registry()?;
                registry
                    .get(reference.name(), reference.version())?
                    .into_wasm()
            }
        };
        let mut config = RuntimeConfig::default();
        config.memory_bytes = self.memory.unwrap_or(config.memory_bytes);
        let inspection = {
            let _spinner = ui.spinner("inspecting");
            Inspection::of(&wasm, &config)
        };
        let abi = abi_of(&inspection);
        ui.result(|| to_json(&inspection, &abi), || to_text(&inspection, &abi))?;
        let runs = inspection.findings.is_empty() && abi.is_ok();
        Ok(if runs { Exit::Done } else { Exit::PluginFailed })
    }
}

/// Which ABI the module speaks, or what it lacks of the JSON one.
pub(crate) fn abi_of(inspection: &Inspection) -> Result<Abi, String> {
    let function = |params: &[&str], results: &[&str]| ExportType::Function {
        params: params.iter().map(ToString::to_string).collect(),
        results: results.iter().map(ToString::to_string).collect(),
    };
    let check = |name: &str, expected: &ExportType| {
        let export = inspection.exports.iter().find(|export| export.name == name);
        match export.map(|export| &export.ty) {
            Some(Some(found)) if found == expected => Ok(()),
            Some(Some(found)) => Err(format!("its export `{name}` is {found}, not {expected}")),
            Some(None) => Err(format!("its export `{name}` is of an unknown type")),
            None => Err(format!("it does not export `{name}`, {expected}")),
        }
    };
    let frames = [
        ("memory", ExportType::Memory),
        ("vortex_abi_v2", function(&[], &["i32"])),
        ("vortex_handle", function(&["i32"], &["i32"])),
    ];
    if frames
        .iter()
        .all(|(name, expected)| check(name, expected).is_ok())
    {
        return Ok(Abi::Frames);
    }
    for (name, expected) in [
        ("memory", ExportType::Memory),
        ("alloc", function(&["i32"], &["i32"])),
        ("handle", function(&["i32", "i32"], &["i64"])),
    ] {
        check(name, &expected)?;
    }
    Ok(Abi::Json)
}

fn to_json(inspection: &Inspection, abi: &Result<Abi, String>) -> Value {
    let type_of = |ty: &Option<ExportType>| ty.as_ref().map(ToString::to_string);
    json!({
        "size": inspection.size,
        "sha256": hex(&inspection.digest),
        "abi": match abi { Ok(Abi::Json) => 1.into(), Ok(Abi::Frames) => 2.into(), Err(_) => Value::Null },
        "name": inspection.module_name,
        "producers": inspection.producers.iter().map(|producer| json!({
            "field": producer.field, "name": producer.name, "version": producer.version,
        })).collect::<Vec<_>>(),
        "memories": inspection.memories.iter().map(|memory| json!({
            "initial_pages": memory.initial, "maximum_pages": memory.maximum,
        })).collect::<Vec<_>>(),
        "functions": inspection.functions,
        "globals": inspection.globals,
        "data_segments": inspection.data_segments,
        "start_function": inspection.has_start,
        "exports": inspection.exports.iter().map(|export| json!({
            "name": export.name, "type": type_of(&export.ty),
        })).collect::<Vec<_>>(),
        "imports": inspection.imports.iter().map(|import| json!({
            "module": import.module, "name": import.name, "kind": import.kind,
        })).collect::<Vec<_>>(),
        "custom_sections": inspection.custom_sections.iter().map(|(name, size)| json!({
            "name": name, "size": size,
        })).collect::<Vec<_>>(),
        "findings": inspection.findings.iter().map(finding_json).collect::<Vec<_>>(),
    })
}

fn finding_json(finding: &SandboxError) -> Value {
    let mut value = json!({ "message": finding.to_string() });
    if let SandboxError::ModuleLimit {
        limit,
        value: found,
        max,
    } = finding
    {
        value["limit"] = (*limit).into();
        value["value"] = (*found).into();
        value["max"] = (*max).into();
    }
    value
}

fn to_text(inspection: &Inspection, abi: &Result<Abi, String>) -> String {
    let mut text = facts(inspection, abi).lines();
    if !inspection.exports.is_empty() {
        let mut table = Table::with_head(&["EXPORT", "TYPE"]);
        for export in &inspection.exports {
            let ty = export
                .ty
                .as_ref()
                .map_or("unknown".to_owned(), ToString::to_string);
            table.row([(&export.name).into(), ty.into()]);
        }
        text.push_str(&format!("\n{}", table.lines()));
    }
    if !inspection.imports.is_empty() {
        let mut table = Table::with_head(&["IMPORT FROM", "NAME", "KIND"]);
        for import in &inspection.imports {
            table.row([
                (&import.module).into(),
                (&import.name).into(),
                import.kind.into(),
            ]);
        }
        text.push_str(&format!("\n{}", table.lines()));
    }
    text.push('\n');
    if inspection.findings.is_empty() {
        let verdict = "the sandbox would run it: it breaks no limit";
        text.push_str(&format!("{}\n", styled(GOOD, verdict)));
    } else {
        let verdict = "the sandbox would refuse it:";
        text.push_str(&format!("{}\n", styled(BAD, verdict)));
        let mut table = Table::default();
        for finding in &inspection.findings {
            table.row(["-".into(), finding.to_string().into()]);
        }
        text.push_str(&table.lines());
    }
    text
}

fn facts(inspection: &Inspection, abi: &Result<Abi, String>) -> Table {
    let mut table = Table::default();
    let size = inspection.size;
    table.field("size", format!("{size} bytes ({})", ByteSize(size)));
    table.field("sha256", hex(&inspection.digest));
    table.field(
        "abi",
        match abi {
            Ok(Abi::Json) => Cell::from("1 (JSON)"),
            Ok(Abi::Frames) => Cell::from("2 (frames)"),
            Err(missing) => Cell::new(format!("none: {missing}"), DOUBTFUL),
        },
    );
    if let Some(name) = &inspection.module_name {
        table.field("name", Cell::new(name, HEAD));
    }
    for producer in &inspection.producers {
        table.field(
            &producer.field,
            format!("{} {}", producer.name, producer.version),
        );
    }
    for memory in &inspection.memories {
        let bytes = |pages: u64| ByteSize(pages.saturating_mul(64 * 1024));
        let at_most = memory.maximum.map_or("no maximum".to_owned(), |pages| {
            format!("at most {}", bytes(pages))
        });
        table.field(
            "memory",
            format!("{} at first, {at_most}", bytes(memory.initial)),
        );
    }
    let start = if inspection.has_start {
        ", a start function"
    } else {
        ""
    };
    table.field(
        "contents",
        format!(
            "functions: {}, globals: {}, data segments: {}{start}",
            inspection.functions, inspection.globals, inspection.data_segments
        ),
    );
    for (name, size) in &inspection.custom_sections {
        table.field("custom section", format!("{name} ({size} bytes)"));
    }
    table
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
