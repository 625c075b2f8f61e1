//! The checks of one function: validity, caps, refused operators.

use std::collections::HashSet;

use wasmer::wasmparser::{
    CompositeInnerType, FuncValidator, FunctionBody, Operator, OperatorsReader, WasmModuleResources,
};

use super::report::{Examination, count};
use super::validate::invalid;
use crate::SandboxError;

/// Blocks that a bulk operation counts as: more than the call that it becomes would
/// have to, and less than any compiler's output minds.
const BULK_BLOCKS: u64 = 12;

/// Validates one function, counting as it goes.
pub(super) fn check<R: WasmModuleResources>(
    body: &FunctionBody<'_>,
    examination: &mut Examination<'_>,
    function: &mut FuncValidator<R>,
) -> Result<(), SandboxError> {
    let range = body.range();
    count!(examination, function_bytes, range.end - range.start)?;
    let mut reader = body.get_binary_reader();
    let mut locals = 0u64;
    for group in body.get_locals_reader().map_err(invalid)? {
        locals += u64::from(group.map_err(invalid)?.0);
        count!(examination, locals, locals)?;
    }
    function.read_locals(&mut reader).map_err(invalid)?;
    let metered = examination.config.max_fuel.is_some();
    let (mut blocks, mut targets, mut call_values) = (0u64, 0u64, 0u64);
    let mut operators = OperatorsReader::new(reader);
    let mut merges = Merges {
        kept: kept_locals(operators.clone(), metered)?,
        ..Merges::default()
    };
    while !operators.eof() {
        let (operator, offset) = operators.read_with_offset().map_err(invalid)?;
        if let Some((name, why)) = refused(&operator) {
            examination.object(SandboxError::RefusedOperator {
                operator: name,
                offset,
                why,
            })?;
        }
        blocks += new_blocks(&operator, metered);
        count!(examination, blocks, blocks)?;
        count!(examination, block_locals, blocks.saturating_mul(locals))?;
        call_values += values_of_call(&operator, function.resources());
        count!(examination, call_values, call_values)?;
        if let Operator::BrTable { targets: table } = &operator {
            targets += u64::from(table.len());
            count!(examination, branch_targets, targets)?;
        }
        let frame = function.get_control_frame(0);
        merges.see(&operator, frame.is_some_and(|frame| !frame.unreachable));
        count!(examination, merged_locals, merges.sum)?;
        count!(examination, loop_nesting, merges.loops)?;
        function.op(offset, &operator).map_err(invalid)?;
        let nesting = function.control_stack_height().into();
        count!(examination, nesting, nesting)?;
        let stack = function.operand_stack_height().into();
        count!(examination, operand_stack, stack)?;
    }
    operators.finish().map_err(invalid)
}

/// Parameters and results of a call; an index that names nothing is left to the validator.
fn values_of_call(operator: &Operator<'_>, resources: &impl WasmModuleResources) -> u64 {
    let index = match operator {
        Operator::Call { function_index } => resources.type_index_of_function(*function_index),
        Operator::CallIndirect { type_index, .. } => Some(*type_index),
        _ => None,
    };
    match index.and_then(|index| resources.sub_type_at(index)) {
        Some(ty) => match &ty.composite_type.inner {
            CompositeInnerType::Func(func) => (func.params().len() + func.results().len()) as u64,
            _ => 0,
        },
        None => 0,
    }
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

/// Whether the code splits at an operator: what comes after it is another basic
/// block, or will be once it is instrumented.
fn splits(operator: &Operator<'_>, metered: bool) -> bool {
    new_blocks(operator, metered) > 0
        || matches!(
            operator,
            Operator::Else
                | Operator::End
                | Operator::Br { .. }
                | Operator::BrTable { .. }
                | Operator::Return
        )
}

/// The locals that are read in another basic block than the one that set them. The
/// others are a compiler's scratch: they are never merged. `wasm-merge` and compilers
/// that do not optimise leave hundreds of those in a function.
fn kept_locals(
    mut operators: OperatorsReader<'_>,
    metered: bool,
) -> Result<HashSet<u32>, SandboxError> {
    let (mut kept, mut set_here) = (HashSet::new(), HashSet::new());
    while !operators.eof() {
        let operator = operators.read().map_err(invalid)?;
        match &operator {
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                set_here.insert(*local_index);
            }
            Operator::LocalGet { local_index } if !set_here.contains(local_index) => {
                kept.insert(*local_index);
            }
            operator if splits(operator, metered) => set_here.clear(),
            _ => {}
        }
    }
    Ok(kept)
}

/// Counts the values that the compiler has to merge where branches meet: for each
/// loop with a way back, and each block or `if` whose end is reached in several
/// ways, the locals that may have changed. Its time grows with the square of it.
#[derive(Default)]
struct Merges {
    /// The locals that can be merged at all.
    kept: HashSet<u32>,
    open: Vec<Frame>,
    /// How many of the open ones are loops.
    loops: u64,
    sum: u64,
}

#[derive(Default)]
struct Frame {
    is_loop: bool,
    /// Locals that changed in it since it began, those in open inner frames aside.
    changed: HashSet<u32>,
    /// Locals that changed in the frames around it, before it began.
    before: usize,
    /// Ways that lead to its end, or to its beginning if it is a loop.
    ways: u32,
    /// The most locals that had changed on one of them.
    carried: usize,
}

impl Merges {
    /// Takes the next operator, and whether the code before it can be left by its end.
    fn see(&mut self, operator: &Operator<'_>, reachable: bool) {
        match operator {
            Operator::Loop { .. } => self.open(true, 0),
            Operator::Block { .. } => self.open(false, 0),
            // Past the condition there is a way to the end, or to the else.
            Operator::If { .. } => self.open(false, 1),
            Operator::Else if reachable => self.branch(0),
            Operator::End => self.end(reachable),
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                if let Some(frame) = self.open.last_mut()
                    && self.kept.contains(local_index)
                {
                    frame.changed.insert(*local_index);
                }
            }
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } if reachable => {
                self.branch(*relative_depth);
            }
            Operator::BrTable { targets } if reachable => {
                let targets = targets.targets().flatten().chain([targets.default()]);
                targets.for_each(|depth| self.branch(depth));
            }
            _ => {}
        }
    }

    fn open(&mut self, is_loop: bool, ways: u32) {
        self.loops += u64::from(is_loop);
        let outer = self.open.last();
        self.open.push(Frame {
            is_loop,
            ways,
            before: outer.map_or(0, |frame| frame.before + frame.changed.len()),
            ..Frame::default()
        });
    }

    /// A way to a label; past the outermost frame it is a return.
    fn branch(&mut self, depth: u32) {
        let changed = self.open.last().map_or(0, |f| f.before + f.changed.len());
        let target = self.open.iter_mut().rev().nth(depth as usize);
        if let Some(frame) = target {
            frame.ways += 1;
            frame.carried = frame.carried.max(changed - frame.before);
        }
    }

    fn end(&mut self, reachable: bool) {
        let Some(mut frame) = self.open.pop() else {
            return;
        };
        self.loops -= u64::from(frame.is_loop);
        let all = frame.changed.len();
        self.sum += match (frame.is_loop, frame.ways + u32::from(reachable)) {
            // Whatever changes in a loop may have changed when it begins again.
            (true, _) if frame.ways > 0 => all as u64,
            (false, 2..) if reachable => frame.carried.max(all) as u64,
            (false, 2..) => frame.carried as u64,
            _ => 0,
        };
        if let Some(outer) = self.open.last_mut() {
            // The smaller set goes into the larger.
            if outer.changed.len() < frame.changed.len() {
                std::mem::swap(&mut outer.changed, &mut frame.changed);
            }
            outer.changed.extend(frame.changed);
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
