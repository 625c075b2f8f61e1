//! Structural caps: what is refused before the compiler sees it.

/// How large a module may be in each of its dimensions.
///
/// A compiler's time and memory grow faster than its input in some of these, so
/// that a small module can keep it busy for minutes. The defaults pass what
/// common toolchains emit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleLimits {
    /// The module, in bytes: 16 MiB.
    pub module_bytes: u64,
    /// Types: 5,000.
    pub types: u64,
    /// Parameters and results of one type: 128.
    pub signature: u64,
    /// Parameters and results of all types: 40,000.
    pub signatures: u64,
    /// Functions: 100,000.
    pub functions: u64,
    /// The body of one function, in bytes: 256 KiB.
    pub function_bytes: u64,
    /// Locals of one function, its parameters aside: 4,096.
    pub locals: u64,
    /// Blocks, loops, ifs and conditional branches of one function, with bulk operations
    /// (12 each) and those that instrumentation adds, under `max_fuel`, to calls and
    /// branches: 10,000. At most [`ModuleLimits::MAX_BLOCKS`].
    pub blocks: u64,
    /// Locals that change on the ways that meet at the beginning of a loop or the end
    /// of a block, summed over the loops and blocks of one function: 16,384. Those
    /// that are only read in the basic block that set them do not count.
    pub merged_locals: u64,
    /// Locals times blocks of one function: 4,000,000.
    pub block_locals: u64,
    /// Parameters and results of all calls of one function: 200,000.
    pub call_values: u64,
    /// How deep blocks are nested: 2,048. Go nests a block for each place where a
    /// goroutine may be switched: a thousand, where it does not optimise.
    pub nesting: u64,
    /// How deep loops are nested in each other: 512. The compiler's time grows with
    /// the cube of it.
    pub loop_nesting: u64,
    /// Values that are live at once on the operand stack: 1,024.
    pub operand_stack: u64,
    /// Targets of all branch tables of one function: 10,000.
    pub branch_targets: u64,
    /// Globals: 10,000.
    pub globals: u64,
    /// Exports: 1,000.
    pub exports: u64,
    /// Tables: 1.
    pub tables: u64,
    /// Elements of a table, at first or at most, and of all element segments: 100,000.
    pub table_elements: u64,
    /// Data segments: 100,000. Together they hold no more than the memory may.
    pub data_segments: u64,
    /// Element segments: 10,000.
    pub element_segments: u64,
    /// Memories: 1.
    pub memories: u64,
}

impl Default for ModuleLimits {
    fn default() -> Self {
        Self {
            module_bytes: 16 << 20,
            types: 5_000,
            signature: 128,
            signatures: 40_000,
            functions: 100_000,
            function_bytes: 256 << 10,
            locals: 4_096,
            blocks: 10_000,
            merged_locals: 16_384,
            block_locals: 4_000_000,
            call_values: 200_000,
            nesting: 2_048,
            loop_nesting: 512,
            operand_stack: 1_024,
            branch_targets: 10_000,
            globals: 10_000,
            exports: 1_000,
            tables: 1,
            table_elements: 100_000,
            data_segments: 100_000,
            element_segments: 10_000,
            memories: 1,
        }
    }
}

impl ModuleLimits {
    /// Nothing at all: where counting begins.
    pub(super) const NONE: Self = Self {
        module_bytes: 0,
        types: 0,
        signature: 0,
        signatures: 0,
        functions: 0,
        function_bytes: 0,
        locals: 0,
        blocks: 0,
        merged_locals: 0,
        block_locals: 0,
        call_values: 0,
        nesting: 0,
        loop_nesting: 0,
        operand_stack: 0,
        branch_targets: 0,
        globals: 0,
        exports: 0,
        tables: 0,
        table_elements: 0,
        data_segments: 0,
        element_segments: 0,
        memories: 0,
    };

    /// The largest `blocks`: a function's safepoints must have addresses of their own.
    pub const MAX_BLOCKS: u64 = 60_000;

    /// All caps with their names, in the order of the fields.
    ///
    /// ```
    /// use vortex_sandbox::ModuleLimits;
    ///
    /// let caps = ModuleLimits::default().entries();
    /// assert_eq!(caps[0], ("module_bytes", 16 << 20));
    /// ```
    #[must_use]
    pub fn entries(&self) -> [(&'static str, u64); 22] {
        // Taken apart, so that a field that is added cannot be forgotten here.
        let Self {
            module_bytes,
            types,
            signature,
            signatures,
            functions,
            function_bytes,
            locals,
            blocks,
            merged_locals,
            block_locals,
            call_values,
            nesting,
            loop_nesting,
            operand_stack,
            branch_targets,
            globals,
            exports,
            tables,
            table_elements,
            data_segments,
            element_segments,
            memories,
        } = *self;
        [
            ("module_bytes", module_bytes),
            ("types", types),
            ("signature", signature),
            ("signatures", signatures),
            ("functions", functions),
            ("function_bytes", function_bytes),
            ("locals", locals),
            ("blocks", blocks),
            ("merged_locals", merged_locals),
            ("block_locals", block_locals),
            ("call_values", call_values),
            ("nesting", nesting),
            ("loop_nesting", loop_nesting),
            ("operand_stack", operand_stack),
            ("branch_targets", branch_targets),
            ("globals", globals),
            ("exports", exports),
            ("tables", tables),
            ("table_elements", table_elements),
            ("data_segments", data_segments),
            ("element_segments", element_segments),
            ("memories", memories),
        ]
    }
}
