//! The checks of one function: validity, caps, refused operators.

use std::collections::HashSet;

use wasmer::wasmparser::{
    FuncValidator, FunctionBody, Operator, OperatorsReader, WasmModuleResources,
};

use super::validate::{cap, invalid};
use crate::{RuntimeConfig, SandboxError};

/// Blocks that instrumentation makes of a bulk operation.
const BULK_BLOCKS: u64 = 12;

/// Validates one function, counting as it goes.
pub(crate) fn check<R: WasmModuleResources>(
    body: &FunctionBody<'_>,
    config: &RuntimeConfig,
    function: &mut FuncValidator<R>,
) -> Result<(), SandboxError> {
    let limits = &config.module;
    let range = body.range();
    cap(
        "function_bytes",
        range.end - range.start,
        limits.function_bytes,
    )?;
    let mut reader = body.get_binary_reader();
    let mut locals = 0u64;
    for group in body.get_locals_reader().map_err(invalid)? {
        locals += u64::from(group.map_err(invalid)?.0);
        cap("locals", locals, limits.locals)?;
    }
    function.read_locals(&mut reader).map_err(invalid)?;
    let metered = config.max_fuel.is_some();
    let (mut blocks, mut targets) = (0u64, 0u64);
    let mut loops = LoopLocals::default();
    let mut operators = OperatorsReader::new(reader);
    while !operators.eof() {
        let (operator, offset) = operators.read_with_offset().map_err(invalid)?;
        if let Some((name, why)) = refused(&operator) {
            return Err(SandboxError::RefusedOperator {
                operator: name,
                offset,
                why,
            });
        }
        blocks += new_blocks(&operator, metered);
        cap("blocks", blocks, limits.blocks)?;
        if let Operator::BrTable { targets: table } = &operator {
            targets += u64::from(table.len());
            cap("branch_targets", targets, limits.branch_targets)?;
        }
        loops.see(&operator);
        cap("loop_locals", loops.sum, limits.loop_locals)?;
        function.op(offset, &operator).map_err(invalid)?;
        let nesting = function.control_stack_height().into();
        cap("nesting", nesting, limits.nesting)?;
        let stack = function.operand_stack_height().into();
        cap("operand_stack", stack, limits.operand_stack)?;
    }
    operators.finish().map_err(invalid)
}

/// Blocks of the compiler's that an operator makes, once it is instrumented.
fn new_blocks(operator: &Operator<'_>, metered: bool) -> u64 {
    match operator {
        Operator::Block { .. }
        | Operator::Loop { .. }
        | Operator::If { .. }
        | Operator::BrIf { .. } => 1 + u64::from(metered),
        Operator::MemoryCopy { .. } | Operator::MemoryFill { .. } => BULK_BLOCKS,
        Operator::Br { .. }
        | Operator::BrTable { .. }
        | Operator::Else
        | Operator::Return
        | Operator::Call { .. }
        | Operator::CallIndirect { .. } => u64::from(metered),
        _ => 0,
    }
}

/// Counts, over all loops, the locals that each loop changes: each is a value
/// that the compiler has to carry around that loop.
#[derive(Default)]
struct LoopLocals {
    /// For each open block its changed locals if it is a loop.
    open: Vec<Option<HashSet<u32>>>,
    sum: u64,
}

impl LoopLocals {
    fn see(&mut self, operator: &Operator<'_>) {
        match operator {
            Operator::Loop { .. } => self.open.push(Some(HashSet::new())),
            Operator::Block { .. } | Operator::If { .. } => self.open.push(None),
            Operator::End => {
                self.open.pop();
            }
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                for changed in self.open.iter_mut().rev().flatten() {
                    // What an inner loop changes, the outer ones have counted too.
                    if !changed.insert(*local_index) {
                        break;
                    }
                    self.sum += 1;
                }
            }
            _ => {}
        }
    }
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
