//! `memory.copy` and `memory.fill` as functions that are added to the module.
//!
//! wasmer carries both out in the host. Out of bounds they trap there, which is
//! unsafe near the end of the stack (see `abort`); in bounds one of them can move
//! the whole memory, for tens of milliseconds that nothing interrupts; and moving a
//! few bytes, as most of them do, costs less than the way there. So they are calls of
//! functions that move up to 64 bytes themselves, and otherwise check the bounds and
//! have the host move chunks.
//!
//! A middleware adds no functions. [`Helpers`] come into the module as bytes, without
//! code, before it is compiled; the middleware writes the code.

use wasmer::LocalFunctionIndex;
use wasmer::sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware};
use wasmer::wasmparser::{BlockType, Operator};

use super::{byte_at, fault, load_byte};
use crate::RuntimeConfig;

/// The most bytes that one operation moves between two safepoints.
const CHUNK: i32 = 256 << 10;

/// The most bytes that are moved without the host: four vectors.
const SMALL: i32 = 64;

/// The functions that move bytes, which come last in their module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Helpers {
    copy: u32,
    fill: u32,
}

impl Helpers {
    /// How many functions are added.
    pub(crate) const COUNT: usize = 2;

    /// Their type, as a module has it: three i32, and no result.
    pub(crate) const TYPE: [u8; 6] = [0x60, 3, 0x7f, 0x7f, 0x7f, 0];

    /// One of them, as a module has it: its locals (an i64, four v128, two i64), and no code.
    pub(crate) const BODY: [u8; 9] = [8, 3, 1, 0x7e, 4, 0x7b, 2, 0x7e, 0x0b];

    /// The functions that are added to a module of so many.
    pub(crate) fn after(functions: u32) -> Self {
        Self {
            copy: functions,
            fill: functions + 1,
        }
    }

    /// Whether they do what an operator does.
    pub(crate) fn replace(operator: &Operator<'_>) -> bool {
        matches!(
            operator,
            Operator::MemoryCopy { .. } | Operator::MemoryFill { .. }
        )
    }
}

/// Destination address.
const DST: u32 = 0;
/// Source address, or the value to fill with.
const SRC: u32 = 1;
/// Length in bytes.
const LEN: u32 = 2;
/// The end of a range, i64.
const END: u32 = 3;
/// What is moved, as vectors.
const VECTORS: [u32; 4] = [4, 5, 6, 7];
/// What is moved, as two i64.
const WORDS: [u32; 2] = [8, 9];

#[derive(Debug)]
pub(crate) struct BulkOperations {
    /// `None` for a module that moves no bytes.
    pub(crate) helpers: Option<Helpers>,
}

impl ModuleMiddleware for BulkOperations {
    fn generate_function_middleware<'a>(
        &self,
        function: LocalFunctionIndex,
    ) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        // Nothing is imported: it is the function's index.
        let function = function.as_u32();
        Box::new(match self.helpers {
            Some(helpers) if function == helpers.copy => FunctionBulk::Helper(copy()),
            Some(helpers) if function == helpers.fill => FunctionBulk::Helper(fill()),
            helpers => FunctionBulk::Guest(helpers),
        })
    }
}

#[derive(Debug)]
enum FunctionBulk<'a> {
    /// A function of the module's own.
    Guest(Option<Helpers>),
    /// One that was added, with the code that is yet to be written.
    Helper(Vec<Operator<'a>>),
}

impl<'a> FunctionMiddleware<'a> for FunctionBulk<'a> {
    fn feed(
        &mut self,
        operator: Operator<'a>,
        state: &mut MiddlewareReaderState<'a>,
    ) -> Result<(), MiddlewareError> {
        match self {
            Self::Helper(code) => state.extend(std::mem::take(code)),
            Self::Guest(helpers) if Helpers::replace(&operator) => {
                let helpers = helpers.ok_or_else(|| {
                    MiddlewareError::new("BulkOperations", "the module was not prepared")
                })?;
                let is_copy = matches!(operator, Operator::MemoryCopy { .. });
                let function_index = if is_copy { helpers.copy } else { helpers.fill };
                state.push_operator(Operator::Call { function_index });
                return Ok(());
            }
            Self::Guest(_) => {}
        }
        state.push_operator(operator);
        Ok(())
    }
}

/// The code of `memory.copy`.
///
/// Of few bytes all are read before any is written, so that overlapping ranges come
/// out right. The reads fault by themselves beyond the memory, which is one accessible
/// stretch; so does the one of the last byte that will be written.
fn copy<'a>() -> Vec<Operator<'a>> {
    let operator = Operator::MemoryCopy {
        dst_mem: 0,
        src_mem: 0,
    };
    let [first, last, second, third] = VECTORS;
    let mut code = Vec::new();
    code.extend([block()]);
    code.extend(unless_small(&[get(DST), get(SRC), Operator::I32Or]));
    code.extend(read_last(DST));
    code.extend(if_at_least(16));
    code.extend([get(SRC), load_vector(0), set(first)]);
    code.extend(before_end(SRC, 16));
    code.extend([load_vector(0), set(last)]);
    code.extend(if_at_least(33));
    code.extend([get(SRC), load_vector(16), set(second)]);
    code.extend(before_end(SRC, 32));
    code.extend([load_vector(0), set(third)]);
    code.extend([get(DST), get(second), store_vector(16)]);
    code.extend(before_end(DST, 32));
    code.extend([get(third), store_vector(0), Operator::End]);
    code.extend([get(DST), get(first), store_vector(0)]);
    code.extend(before_end(DST, 16));
    code.extend([get(last), store_vector(0)]);
    code.extend([Operator::Return, Operator::End]);
    let memarg = byte_at(0);
    for (bytes, load, store) in [
        (
            8,
            Operator::I64Load { memarg },
            Operator::I64Store { memarg },
        ),
        (
            4,
            Operator::I64Load32U { memarg },
            Operator::I64Store32 { memarg },
        ),
    ] {
        let [first, last] = WORDS;
        code.extend(if_at_least(bytes));
        code.extend([get(SRC), load.clone(), set(first)]);
        code.extend(before_end(SRC, bytes));
        code.extend([load, set(last)]);
        code.extend([get(DST), get(first), store.clone()]);
        code.extend(before_end(DST, bytes));
        code.extend([get(last), store, Operator::Return, Operator::End]);
    }
    let (load, store) = (
        Operator::I64Load8U { memarg },
        Operator::I64Store8 { memarg },
    );
    let [first, middle] = WORDS;
    code.extend([get(SRC), load.clone(), set(first)]);
    code.extend(half_way(SRC));
    code.extend([load.clone(), set(middle)]);
    code.extend(before_end(SRC, 1));
    code.extend([load, set(END)]);
    code.extend([get(DST), get(first), store.clone()]);
    code.extend(half_way(DST));
    code.extend([get(middle), store.clone()]);
    code.extend(before_end(DST, 1));
    code.extend([get(END), store, Operator::Return, Operator::End]);
    code.extend(check_bounds(DST));
    code.extend(check_bounds(SRC));
    code.extend(move_chunks(&operator));
    code.extend([get(DST), get(SRC), get(LEN), operator]);
    code
}

/// The code of `memory.fill`.
fn fill<'a>() -> Vec<Operator<'a>> {
    let operator = Operator::MemoryFill { mem: 0 };
    let vector = VECTORS[0];
    let mut code = Vec::new();
    code.extend([block()]);
    code.extend(unless_small(&[get(DST)]));
    code.extend(read_last(DST));
    code.extend(if_at_least(16));
    code.extend([get(SRC), Operator::I8x16Splat, set(vector)]);
    code.extend([get(DST), get(vector), store_vector(0)]);
    code.extend(before_end(DST, 16));
    code.extend([get(vector), store_vector(0)]);
    code.extend(if_at_least(33));
    code.extend([get(DST), get(vector), store_vector(16)]);
    code.extend(before_end(DST, 32));
    code.extend([get(vector), store_vector(0), Operator::End]);
    code.extend([Operator::Return, Operator::End]);
    let memarg = byte_at(0);
    let word = WORDS[0];
    code.extend([
        get(SRC),
        i32_const(0xff),
        Operator::I32And,
        Operator::I64ExtendI32U,
        i64_const(0x0101_0101_0101_0101),
        Operator::I64Mul,
        set(word),
    ]);
    for (bytes, store) in [
        (8, Operator::I64Store { memarg }),
        (4, Operator::I64Store32 { memarg }),
    ] {
        code.extend(if_at_least(bytes));
        code.extend([get(DST), get(word), store.clone()]);
        code.extend(before_end(DST, bytes));
        code.extend([get(word), store, Operator::Return, Operator::End]);
    }
    let store = Operator::I64Store8 { memarg };
    code.extend([get(DST), get(word), store.clone()]);
    code.extend(half_way(DST));
    code.extend([get(word), store.clone()]);
    code.extend(before_end(DST, 1));
    code.extend([get(word), store, Operator::Return, Operator::End]);
    code.extend(check_bounds(DST));
    code.extend(move_chunks(&operator));
    code.extend([get(DST), get(SRC), get(LEN), operator]);
    code
}

/// Leaves the block unless there are some bytes to move, but few, and all `addresses`
/// are below the largest memory: what is read from there on lies below the safepoint
/// region, and no address wraps around.
fn unless_small<'a>(addresses: &[Operator<'a>]) -> Vec<Operator<'a>> {
    let leave = Operator::BrIf { relative_depth: 0 };
    let mut code = vec![
        get(LEN),
        i32_const(1),
        Operator::I32Sub,
        i32_const(SMALL),
        Operator::I32GeU,
        leave.clone(),
    ];
    code.extend_from_slice(addresses);
    code.extend([
        i32_const(RuntimeConfig::MAX_MEMORY as i32),
        Operator::I32GeU,
        leave,
    ]);
    code
}

/// Reads the last byte of a range, and faults where there is none.
fn read_last<'a>(start: u32) -> Vec<Operator<'a>> {
    let mut code = before_end(start, 1).to_vec();
    code.extend([load_byte(), Operator::Drop]);
    code
}

/// Begins what is done for so many bytes or more.
fn if_at_least<'a>(bytes: i32) -> [Operator<'a>; 4] {
    [
        get(LEN),
        i32_const(bytes),
        Operator::I32GeU,
        Operator::If {
            blockty: BlockType::Empty,
        },
    ]
}

/// The address so many bytes before a range's end.
fn before_end<'a>(start: u32, bytes: i32) -> [Operator<'a>; 5] {
    [
        get(start),
        get(LEN),
        Operator::I32Add,
        i32_const(bytes),
        Operator::I32Sub,
    ]
}

/// The address in the middle of a range: of three bytes the second, else one that is
/// the first or the last.
fn half_way<'a>(start: u32) -> [Operator<'a>; 5] {
    [
        get(start),
        get(LEN),
        i32_const(1),
        Operator::I32ShrU,
        Operator::I32Add,
    ]
}

/// Faults unless `start..start + len` lies in the memory, as the specification has
/// it: an empty range may end where the memory does.
///
/// The range's last byte (or, for an empty range, the one before it) is read:
/// memory is one accessible stretch, so if that byte is in it, so is the range. The
/// largest memory is compared first, which keeps the read below the safepoint region.
fn check_bounds<'a>(start: u32) -> Vec<Operator<'a>> {
    let mut code = vec![
        get(start),
        Operator::I64ExtendI32U,
        get(LEN),
        Operator::I64ExtendI32U,
        Operator::I64Add,
        Operator::LocalTee { local_index: END },
        i64_const(RuntimeConfig::MAX_MEMORY as i64),
        Operator::I64GtU,
        Operator::If {
            blockty: BlockType::Empty,
        },
    ];
    code.extend(fault());
    code.extend([
        Operator::End,
        get(END),
        i64_const(0),
        Operator::I64Ne,
        Operator::If {
            blockty: BlockType::Empty,
        },
        get(END),
        Operator::I32WrapI64,
        i32_const(1),
        Operator::I32Sub,
        load_byte(),
        Operator::Drop,
        Operator::End,
    ]);
    code
}

/// While more than a chunk is left, moves one; the rest is left in the locals.
///
/// Chunks are taken from the end of the range, or from its start where a copy goes
/// down, so that overlapping ranges come out as from one operation.
fn move_chunks<'a>(operator: &Operator<'a>) -> Vec<Operator<'a>> {
    let is_copy = matches!(operator, Operator::MemoryCopy { .. });
    let more = [get(LEN), i32_const(CHUNK), Operator::I32GtU];
    let add = |local, value| [get(local), i32_const(value), Operator::I32Add, set(local)];
    let mut code = more.to_vec();
    code.extend([
        Operator::If {
            blockty: BlockType::Empty,
        },
        Operator::Loop {
            blockty: BlockType::Empty,
        },
    ]);
    code.extend(add(LEN, -CHUNK));
    if is_copy {
        code.extend([
            get(DST),
            get(SRC),
            Operator::I32LeU,
            Operator::If {
                blockty: BlockType::Empty,
            },
            get(DST),
            get(SRC),
            i32_const(CHUNK),
            operator.clone(),
        ]);
        code.extend(add(DST, CHUNK));
        code.extend(add(SRC, CHUNK));
        code.push(Operator::Else);
    }
    code.extend([get(DST), get(LEN), Operator::I32Add, get(SRC)]);
    if is_copy {
        code.extend([get(LEN), Operator::I32Add]);
    }
    code.extend([i32_const(CHUNK), operator.clone()]);
    if is_copy {
        code.push(Operator::End);
    }
    code.extend(more);
    code.extend([
        Operator::BrIf { relative_depth: 0 },
        Operator::End,
        Operator::End,
    ]);
    code
}

fn block<'a>() -> Operator<'a> {
    Operator::Block {
        blockty: BlockType::Empty,
    }
}

fn get<'a>(local_index: u32) -> Operator<'a> {
    Operator::LocalGet { local_index }
}

fn set<'a>(local_index: u32) -> Operator<'a> {
    Operator::LocalSet { local_index }
}

fn i32_const<'a>(value: i32) -> Operator<'a> {
    Operator::I32Const { value }
}

fn i64_const<'a>(value: i64) -> Operator<'a> {
    Operator::I64Const { value }
}

fn load_vector<'a>(offset: u32) -> Operator<'a> {
    Operator::V128Load {
        memarg: byte_at(offset),
    }
}

fn store_vector<'a>(offset: u32) -> Operator<'a> {
    Operator::V128Store {
        memarg: byte_at(offset),
    }
}
