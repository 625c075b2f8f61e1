//! `memory.copy` and `memory.fill` as functions that are added to the module.
//!
//! wasmer carries both out in the host. Out of bounds they trap there, which is
//! unsafe near the end of the stack (see `abort`); in bounds one of them can move
//! the whole memory, for tens of milliseconds that nothing interrupts; and moving a
//! few bytes, as most of them do, costs less than the way there. So they are calls of
//! functions that move up to 128 bytes themselves, and otherwise check the bounds and
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

/// The most bytes that are moved without the host: eight vectors.
const SMALL: i32 = 128;

/// The functions that move bytes, which come last in their module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Helpers {
    copy: u32,
    fill: u32,
}

impl Helpers {
    /// How many functions are added.
    pub(crate) const COUNT: usize = 2;

    /// Their type, as a module has it: three i32, and no result.
    pub(crate) const TYPE: [u8; 6] = [0x60, 3, 0x7f, 0x7f, 0x7f, 0];

    /// One of them, as a module has it: its locals (an i64, eight v128, three i64), and
    /// no code.
    pub(crate) const BODY: [u8; 9] = [8, 3, 1, 0x7e, 8, 0x7b, 3, 0x7e, 0x0b];

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
/// What is moved, v128.
const VECTORS: [u32; 8] = [4, 5, 6, 7, 8, 9, 10, 11];
/// What is moved, i64.
const WORDS: [u32; 3] = [12, 13, 14];

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
    let mut code = vec![block()];
    code.extend(unless_small(&[get(DST), get(SRC), Operator::I32Or]));
    code.extend(read_last(DST));
    code.extend(by_length(|width, pairs| {
        let locals = if width == 16 {
            &VECTORS[..]
        } else {
            &WORDS[..]
        };
        let places = places(width, pairs);
        let mut code = Vec::new();
        for (place, local) in places.iter().zip(locals) {
            code.extend(place.address(SRC));
            code.extend([load(width, place.offset()), set(*local)]);
        }
        for (place, local) in places.iter().zip(locals) {
            code.extend(place.address(DST));
            code.extend([get(*local), store(width, place.offset())]);
        }
        code
    }));
    code.extend(check_bounds(DST));
    code.extend(check_bounds(SRC));
    code.extend(move_chunks(&operator));
    code.extend([get(DST), get(SRC), get(LEN), operator]);
    code
}

/// The code of `memory.fill`.
fn fill<'a>() -> Vec<Operator<'a>> {
    let operator = Operator::MemoryFill { mem: 0 };
    let (vector, word) = (VECTORS[0], WORDS[0]);
    let mut code = vec![block()];
    code.extend(unless_small(&[get(DST)]));
    code.extend(read_last(DST));
    code.extend([get(SRC), Operator::I8x16Splat, set(vector)]);
    code.extend([
        get(vector),
        Operator::I64x2ExtractLane { lane: 0 },
        set(word),
    ]);
    code.extend(by_length(|width, pairs| {
        let local = if width == 16 { vector } else { word };
        let mut code = Vec::new();
        for place in places(width, pairs) {
            code.extend(place.address(DST));
            code.extend([get(local), store(width, place.offset())]);
        }
        code
    }));
    code.extend(check_bounds(DST));
    code.extend(move_chunks(&operator));
    code.extend([get(DST), get(SRC), get(LEN), operator]);
    code
}

/// Picks a way to move a small number of bytes, and ends the block that this is in.
///
/// Each is given as a width in bytes and a number of [`places`].
fn by_length<'a>(way: impl Fn(i32, i32) -> Vec<Operator<'a>>) -> Vec<Operator<'a>> {
    let mut code = Vec::new();
    let arms: [&[(i32, i32, i32)]; 3] = [
        &[(16, 16, 1), (33, 16, 2), (65, 16, 4)],
        &[(8, 8, 1)],
        &[(4, 4, 1)],
    ];
    for nested in arms {
        for (at_least, ..) in nested {
            code.extend([get(LEN), i32_const(*at_least), Operator::I32GeU, if_()]);
        }
        for (_, width, pairs) in nested.iter().rev() {
            code.extend(way(*width, *pairs));
            code.extend([Operator::Return, Operator::End]);
        }
    }
    code.extend(way(1, 1));
    code.extend([Operator::Return, Operator::End]);
    code
}

/// Where a part of a range is.
#[derive(Clone, Copy)]
enum Place {
    /// So many bytes after its start.
    AfterStart(i32),
    /// So many bytes before its end.
    BeforeEnd(i32),
    /// In its middle: of three bytes the second, else one that is the first or the last.
    HalfWay,
}

/// Parts of a width that cover a range: as many from its start as from its end. There
/// are one to three parts of one byte.
fn places(width: i32, pairs: i32) -> Vec<Place> {
    let pair = |k| {
        [
            Place::AfterStart(k * width),
            Place::BeforeEnd((k + 1) * width),
        ]
    };
    let half_way = (width == 1).then_some(Place::HalfWay);
    (0..pairs).flat_map(pair).chain(half_way).collect()
}

impl Place {
    /// Its address in the range that starts where a local says, without [`Place::offset`].
    fn address<'a>(self, start: u32) -> Vec<Operator<'a>> {
        match self {
            Self::AfterStart(_) => vec![get(start)],
            Self::BeforeEnd(bytes) => vec![
                get(start),
                get(LEN),
                Operator::I32Add,
                i32_const(bytes),
                Operator::I32Sub,
            ],
            Self::HalfWay => vec![
                get(start),
                get(LEN),
                i32_const(1),
                Operator::I32ShrU,
                Operator::I32Add,
            ],
        }
    }

    fn offset(self) -> u32 {
        match self {
            Self::AfterStart(bytes) => bytes.cast_unsigned(),
            _ => 0,
        }
    }
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
    let mut code = Place::BeforeEnd(1).address(start);
    code.extend([load_byte(), Operator::Drop]);
    code
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
        if_(),
    ];
    code.extend(fault());
    code.extend([
        Operator::End,
        get(END),
        i64_const(0),
        Operator::I64Ne,
        if_(),
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
        if_(),
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
            if_(),
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

fn if_<'a>() -> Operator<'a> {
    Operator::If {
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

fn load<'a>(width: i32, offset: u32) -> Operator<'a> {
    let memarg = byte_at(offset);
    match width {
        16 => Operator::V128Load { memarg },
        8 => Operator::I64Load { memarg },
        4 => Operator::I64Load32U { memarg },
        _ => Operator::I64Load8U { memarg },
    }
}

fn store<'a>(width: i32, offset: u32) -> Operator<'a> {
    let memarg = byte_at(offset);
    match width {
        16 => Operator::V128Store { memarg },
        8 => Operator::I64Store { memarg },
        4 => Operator::I64Store32 { memarg },
        _ => Operator::I64Store8 { memarg },
    }
}
