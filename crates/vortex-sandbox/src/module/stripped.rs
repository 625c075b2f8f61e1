//! Compiled code without what a run has no use for.
//!
//! What is loaded stays in memory as it was serialized for as long as its module
//! does, and most of that is there for backtraces, which nobody reads: the place in
//! the module of each machine instruction, and unwind tables, whose page would be
//! the second of the two that a small module takes. The rest are stubs for every
//! function of wasmer's, of which a module calls a few or none.
//!
//! Without unwind tables a trap records no frames of the guest either, so that one
//! deep in a recursion costs the host no more than another.

use std::collections::HashSet;

use wasmer_compiler::serialize::{
    RkyvSerializableCompilation, SerializableCompilation, SerializableModule,
};
use wasmer_compiler::types::address_map::FunctionAddressMap;
use wasmer_compiler::types::function::{CompiledFunctionFrameInfo, UnwindInfo};
use wasmer_compiler::types::module::CompileModuleInfo;
use wasmer_compiler::types::relocation::{Relocation, RelocationTarget};
use wasmer_compiler::types::section::{CustomSection, SectionBody};
use wasmer_compiler::{ArtifactBuild, ArtifactCreate};
use wasmer_types::entity::PrimaryMap;
use wasmer_types::{LibCall, TrapCode};

/// What `build` needs to run; `None` if it is not code of the kind that Cranelift makes.
pub(super) fn stripped(build: &ArtifactBuild) -> Option<SerializableModule> {
    let mut compilation = RkyvSerializableCompilation {
        function_bodies: build.get_function_bodies_ref()?.clone(),
        function_relocations: build.get_function_relocations()?.clone(),
        function_frame_info: build
            .get_frame_info_ref()?
            .values()
            .map(without_addresses)
            .collect(),
        function_call_trampolines: build.get_function_call_trampolines_ref()?.clone(),
        dynamic_function_trampolines: build.get_dynamic_function_trampolines_ref()?.clone(),
        custom_sections: build.get_custom_sections_ref()?.clone(),
        custom_section_relocations: build.get_custom_section_relocations_ref()?.clone(),
        unwind_info: build.get_unwind_info()?.clone(),
        got: build.get_got_ref()?.clone(),
        libcall_trampolines: build.get_libcall_trampolines()?,
        libcall_trampoline_len: u32::try_from(build.get_libcall_trampoline_len()?).ok()?,
    };
    drop_unwind_tables(&mut compilation);
    drop_unused_stubs(&mut compilation);
    for section in compilation.custom_sections.values_mut() {
        // Linking reads those beside the sections.
        section.relocations = Vec::new();
    }
    Some(SerializableModule {
        compilation: SerializableCompilation::Rkyv(compilation),
        compile_info: CompileModuleInfo {
            features: build.features().clone(),
            module: build.create_module_info(),
            memory_styles: build.memory_styles().clone(),
            table_styles: build.table_styles().clone(),
            // Which Cranelift does not know.
            function_max_stack_usage: PrimaryMap::new(),
        },
        data_initializers: build.data_initializers().cloned().collect(),
        cpu_features: build.cpu_features().as_u64(),
    })
}

/// A function's traps that are told apart by their place alone. Whatever else faults
/// is taken for an access out of bounds, as those that are left out here are.
fn without_addresses(info: &CompiledFunctionFrameInfo) -> CompiledFunctionFrameInfo {
    let traps = info.traps.iter();
    CompiledFunctionFrameInfo {
        traps: traps
            .filter(|trap| trap.trap_code != TrapCode::HeapAccessOutOfBounds)
            .copied()
            .collect(),
        address_map: FunctionAddressMap::default(),
    }
}

/// Empties the sections with unwind tables; their places stay, since others are
/// named by theirs.
fn drop_unwind_tables(compilation: &mut RkyvSerializableCompilation) {
    let UnwindInfo {
        eh_frame,
        compact_unwind,
    } = std::mem::take(&mut compilation.unwind_info);
    for section in eh_frame.into_iter().chain(compact_unwind) {
        if let Some(section) = compilation.custom_sections.get_mut(section) {
            section.bytes = SectionBody::default();
        }
        if let Some(relocations) = compilation.custom_section_relocations.get_mut(section) {
            *relocations = Vec::new();
        }
    }
}

/// Cuts the stubs off after the last one that is called, and links those alone. The
/// first one stays, since wasmer allocates no code of no length.
fn drop_unused_stubs(compilation: &mut RkyvSerializableCompilation) {
    let stubs = compilation.libcall_trampolines;
    let sections = compilation.custom_section_relocations.iter();
    let in_sections = sections.filter(|(section, _)| *section != stubs);
    let called: HashSet<LibCall> = compilation
        .function_relocations
        .values()
        .chain(in_sections.map(|(_, relocations)| relocations))
        .flatten()
        .filter_map(libcall)
        .collect();
    let len = compilation.libcall_trampoline_len as usize;
    let end = called.iter().map(|&call| (call as usize + 1) * len).max();
    if let Some(section) = compilation.custom_sections.get_mut(stubs) {
        cut(section, end.unwrap_or(len));
    }
    if let Some(relocations) = compilation.custom_section_relocations.get_mut(stubs) {
        relocations.retain(|stub| libcall(stub).is_some_and(|call| called.contains(&call)));
    }
}

fn libcall(relocation: &Relocation) -> Option<LibCall> {
    match relocation.reloc_target {
        RelocationTarget::LibCall(call) => Some(call),
        _ => None,
    }
}

fn cut(section: &mut CustomSection, end: usize) {
    let bytes = section.bytes.as_slice();
    let kept = bytes.get(..end).unwrap_or(bytes).to_vec();
    section.bytes = SectionBody::new_with_vec(kept);
}

#[cfg(test)]
mod tests {
    use wasmer::sys::{Cranelift, EngineBuilder};
    use wasmer::{Engine, Instance, Store, imports};
    use wasmer_compiler::types::section::CustomSectionProtection;
    use wasmer_types::target::{CpuFeature, Target, Triple};

    use super::*;
    use crate::module::artifact::Artifact;
    use crate::module::compile::build;

    /// What wasmer makes of a module for a processor with no more than every one has,
    /// which rounds numbers with the help of the host.
    fn built(text: &str) -> ArtifactBuild {
        let features = CpuFeature::set() | (CpuFeature::for_host() & CpuFeature::SSE2);
        let target = Target::new(Triple::host(), features);
        let engine = EngineBuilder::new(Cranelift::default()).set_target(Some(target));
        build(&engine.engine(), &wat::parse_str(text).unwrap()).unwrap()
    }

    fn compilation(build: &ArtifactBuild) -> RkyvSerializableCompilation {
        match stripped(build).unwrap().compilation {
            SerializableCompilation::Rkyv(compilation) => compilation,
            SerializableCompilation::Elf(_) => unreachable!("Cranelift makes no such code"),
        }
    }

    const TRAPS: &str = r#"(module (memory 1)
        (func (export "f") (param i32) (result i32)
          (if (i32.eqz (local.get 0)) (then unreachable))
          (i32.div_u (i32.load (local.get 0)) (local.get 0))))"#;

    #[test]
    fn what_only_backtraces_need_is_left_out() {
        let build = built(TRAPS);
        let whole = build.serialize().unwrap().len();
        let code = compilation(&build);
        assert_eq!(code.unwind_info, UnwindInfo::default());
        let data: usize = (code.custom_sections.values())
            .filter(|section| section.protection == CustomSectionProtection::Read)
            .map(|section| section.bytes.len())
            .sum();
        assert_eq!(data, 0, "bytes that would take a page of their own");
        for info in code.function_frame_info.values() {
            assert_eq!(info.address_map, FunctionAddressMap::default());
        }
        let serialized = Artifact::of(&build).unwrap().bytes().len();
        assert!(serialized * 2 < whole, "{serialized} bytes of {whole}");
    }

    #[test]
    fn traps_that_only_their_place_tells_apart_stay() {
        let code = compilation(&built(TRAPS));
        let traps = code
            .function_frame_info
            .values()
            .flat_map(|info| &info.traps);
        let codes: HashSet<_> = traps.map(|trap| trap.trap_code).collect();
        assert!(
            codes.contains(&TrapCode::UnreachableCodeReached),
            "{codes:?}"
        );
        assert!(
            codes.contains(&TrapCode::IntegerDivisionByZero),
            "{codes:?}"
        );
        assert!(
            !codes.contains(&TrapCode::HeapAccessOutOfBounds),
            "{codes:?}"
        );
    }

    // Elsewhere every processor rounds by itself.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_stub_that_is_called_stays() {
        let build = built(
            r#"(module (func (export "floor") (param f64) (result f64)
                 (f64.floor (local.get 0))))"#,
        );
        let code = compilation(&build);
        let stubs = &code.custom_section_relocations[code.libcall_trampolines];
        let called: Vec<_> = stubs.iter().filter_map(libcall).collect();
        assert_eq!(called, [LibCall::FloorF64]);
        let engine = Engine::from(EngineBuilder::headless().engine());
        let module = Artifact::of(&build).unwrap().load(&engine).unwrap();
        let mut store = Store::new(engine);
        let instance = Instance::new(&mut store, &module, &imports! {}).unwrap();
        let floor = instance
            .exports
            .get_typed_function::<f64, f64>(&store, "floor");
        assert_eq!(floor.unwrap().call(&mut store, -1.5).unwrap(), -2.0);
    }

    #[test]
    fn stubs_that_nobody_calls_are_cut_off() {
        let build = built(TRAPS);
        let stubs = build.get_libcall_trampolines().unwrap();
        let before = &build.get_custom_sections_ref().unwrap()[stubs];
        let code = compilation(&build);
        assert!(code.custom_sections[stubs].bytes.len() * 20 < before.bytes.len());
        assert!(code.custom_section_relocations[stubs].is_empty());
    }

    /// Which leaves next to nothing to allocate.
    #[test]
    fn a_module_without_functions_is_loaded() {
        for text in [
            "(module)",
            r#"(module (memory 1) (data (i32.const 0) "x"))"#,
        ] {
            let engine = Engine::from(EngineBuilder::headless().engine());
            assert!(Artifact::of(&built(text)).unwrap().load(&engine).is_ok());
        }
    }
}
