//! `memory.copy` and `memory.fill` with their bounds checked first, in chunks.
//!
//! wasmer carries both out in the host. Out of bounds they trap there, which is
//! unsafe near the end of the stack (see `abort`); in bounds one of them can move
//! the whole memory, for tens of milliseconds that nothing interrupts.
//!
//! A middleware can add globals but no locals, so the operands wait in globals.
//! Nothing else runs in the instance meanwhile.

use std::sync::OnceLock;

use wasmer::sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware};
use wasmer::wasmparser::{BlockType, Operator};
use wasmer::{GlobalInit, GlobalType, LocalFunctionIndex, Mutability, Type};
use wasmer_types::ModuleInfo;

use super::{fault, load_byte};
use crate::RuntimeConfig;

/// The most bytes that one operation moves between two safepoints.
const CHUNK: i32 = 256 << 10;

/// Indices of the added globals.
#[derive(Clone, Copy, Debug)]
struct Scratch {
    /// Destination address, i32.
    dst: u32,
    /// Source address or the value to fill with, i32.
    src: u32,
    /// Length in bytes, i32.
    len: u32,
    /// The end of a range, i64.
    end: u32,
}

#[derive(Debug, Default)]
pub(crate) struct BulkOperations {
    scratch: OnceLock<Scratch>,
}

impl ModuleMiddleware for BulkOperations {
    fn generate_function_middleware<'a>(
        &self,
        _: LocalFunctionIndex,
    ) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        Box::new(FunctionBulk {
            scratch: self.scratch.get().copied(),
        })
    }

    fn transform_module_info(&self, info: &mut ModuleInfo) -> Result<(), MiddlewareError> {
        let mut add = |ty, init| {
            info.global_initializers.push(init);
            info.globals
                .push(GlobalType::new(ty, Mutability::Var))
                .as_u32()
        };
        let scratch = Scratch {
            dst: add(Type::I32, GlobalInit::I32Const(0)),
            src: add(Type::I32, GlobalInit::I32Const(0)),
            len: add(Type::I32, GlobalInit::I32Const(0)),
            end: add(Type::I64, GlobalInit::I64Const(0)),
        };
        self.scratch
            .set(scratch)
            .map_err(|_| MiddlewareError::new("BulkOperations", "used for two modules"))
    }
}

#[derive(Debug)]
struct FunctionBulk {
    scratch: Option<Scratch>,
}

impl<'a> FunctionMiddleware<'a> for FunctionBulk {
    fn feed(
        &mut self,
        operator: Operator<'a>,
        state: &mut MiddlewareReaderState<'a>,
    ) -> Result<(), MiddlewareError> {
        let is_copy = match operator {
            Operator::MemoryCopy { .. } => true,
            Operator::MemoryFill { .. } => false,
            other => {
                state.push_operator(other);
                return Ok(());
            }
        };
        let s = self
            .scratch
            .ok_or_else(|| MiddlewareError::new("BulkOperations", "the module was not prepared"))?;
        state.extend(&[set(s.len), set(s.src), set(s.dst)]);
        s.check_bounds(state, s.dst);
        if is_copy {
            s.check_bounds(state, s.src);
        }
        s.move_chunks(state, is_copy, &operator);
        state.extend(&[get(s.dst), get(s.src), get(s.len)]);
        state.push_operator(operator);
        Ok(())
    }
}

impl Scratch {
    /// Faults unless `start..start + len` lies in the memory, as the
    /// specification has it: an empty range may end where the memory does.
    ///
    /// The range's last byte (or, for an empty range, the one before it) is read:
    /// memory is one accessible stretch, so if that byte is in it, so is the
    /// range. The largest memory is compared first, which keeps the read below
    /// the safepoint region.
    fn check_bounds(self, state: &mut MiddlewareReaderState<'_>, start: u32) {
        state.extend(&[
            get(start),
            Operator::I64ExtendI32U,
            get(self.len),
            Operator::I64ExtendI32U,
            Operator::I64Add,
            set(self.end),
            get(self.end),
            Operator::I64Const {
                value: RuntimeConfig::MAX_MEMORY as i64,
            },
            Operator::I64GtU,
            Operator::If {
                blockty: BlockType::Empty,
            },
        ]);
        state.extend(&fault());
        state.extend(&[
            Operator::End,
            get(self.end),
            Operator::I64Const { value: 0 },
            Operator::I64Ne,
            Operator::If {
                blockty: BlockType::Empty,
            },
            get(self.end),
            Operator::I32WrapI64,
            Operator::I32Const { value: 1 },
            Operator::I32Sub,
            load_byte(),
            Operator::Drop,
            Operator::End,
        ]);
    }

    /// While more than a chunk is left, moves one; the rest is left in the scratch.
    ///
    /// Chunks are taken from the end of the range, or from its start where a copy
    /// goes down, so that overlapping ranges come out as from one operation.
    fn move_chunks<'a>(
        self,
        state: &mut MiddlewareReaderState<'a>,
        is_copy: bool,
        operator: &Operator<'a>,
    ) {
        let more = [
            get(self.len),
            Operator::I32Const { value: CHUNK },
            Operator::I32GtU,
        ];
        let add = |state: &mut MiddlewareReaderState<'a>, global, value| {
            state.extend(&[
                get(global),
                Operator::I32Const { value },
                Operator::I32Add,
                set(global),
            ]);
        };
        state.extend(&more);
        state.extend(&[
            Operator::If {
                blockty: BlockType::Empty,
            },
            Operator::Loop {
                blockty: BlockType::Empty,
            },
        ]);
        add(state, self.len, -CHUNK);
        if is_copy {
            state.extend(&[
                get(self.dst),
                get(self.src),
                Operator::I32LeU,
                Operator::If {
                    blockty: BlockType::Empty,
                },
                get(self.dst),
                get(self.src),
                Operator::I32Const { value: CHUNK },
            ]);
            state.push_operator(operator.clone());
            add(state, self.dst, CHUNK);
            add(state, self.src, CHUNK);
            state.push_operator(Operator::Else);
        }
        state.extend(&[get(self.dst), get(self.len), Operator::I32Add]);
        if is_copy {
            state.extend(&[get(self.src), get(self.len), Operator::I32Add]);
        } else {
            state.push_operator(get(self.src));
        }
        state.push_operator(Operator::I32Const { value: CHUNK });
        state.push_operator(operator.clone());
        if is_copy {
            state.push_operator(Operator::End);
        }
        state.extend(&more);
        state.extend(&[
            Operator::BrIf { relative_depth: 0 },
            Operator::End,
            Operator::End,
        ]);
    }
}

fn get<'a>(global_index: u32) -> Operator<'a> {
    Operator::GlobalGet { global_index }
}

fn set<'a>(global_index: u32) -> Operator<'a> {
    Operator::GlobalSet { global_index }
}
