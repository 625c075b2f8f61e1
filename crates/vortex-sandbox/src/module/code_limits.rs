//! The limits that decide which code a module becomes, and whether it becomes any.

use crate::{ModuleLimits, RuntimeConfig};

/// These limits as numbers: part of the name of an artifact, and what a compiler
/// process is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodeLimits([u64; Self::COUNT]);

impl CodeLimits {
    const COUNT: usize = 25;

    /// Their length as bytes.
    pub(crate) const BYTES: usize = Self::COUNT * 8;

    /// Little-endian, in the order of the fields.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (place, value) in bytes.chunks_exact_mut(8).zip(self.0) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut values = [0; Self::COUNT];
        for (value, place) in values.iter_mut().zip(bytes.chunks_exact(8)) {
            *value = place
                .iter()
                .rev()
                .fold(0, |n, byte| n << 8 | u64::from(*byte));
        }
        Self(values)
    }

    /// Limits under which the same code comes out.
    pub(crate) fn to_config(self) -> RuntimeConfig {
        let [
            memory_bytes,
            metered,
            fuel,
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
        ] = self.0;
        RuntimeConfig {
            memory_bytes: usize::try_from(memory_bytes).unwrap_or(usize::MAX),
            max_fuel: (metered != 0).then_some(fuel),
            module: ModuleLimits {
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
            },
            ..RuntimeConfig::default()
        }
    }
}

impl From<&RuntimeConfig> for CodeLimits {
    fn from(config: &RuntimeConfig) -> Self {
        // Every field is named, so that whoever adds one has to say here whether
        // code depends on it. Caps count: what is cached is not validated again.
        let RuntimeConfig {
            memory_bytes,
            max_fuel,
            module,
            // Looked at when code runs.
            cpu_time: _,
            wall_time: _,
            stack_bytes: _,
            output_bytes: _,
            max_instances: _,
            instance_wait: _,
            isolation: _,
            blocking_above: _,
            keep_bytes: _,
            idle_timeout: _,
        } = config;
        let fuel = [u64::from(max_fuel.is_some()), max_fuel.unwrap_or(0)];
        let caps = module.entries().map(|(_, cap)| cap);
        let mut values = [0; Self::COUNT];
        let all = [*memory_bytes as u64].into_iter().chain(fuel).chain(caps);
        for (place, value) in values.iter_mut().zip(all) {
            *place = value;
        }
        Self(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value for each field that no other field has.
    fn distinct() -> CodeLimits {
        let mut values = [0; CodeLimits::COUNT];
        for (value, n) in values.iter_mut().zip(1 << 40..) {
            *value = n;
        }
        values[1] = 1;
        CodeLimits(values)
    }

    #[test]
    fn limits_survive_the_way_there_and_back() {
        for limits in [distinct(), CodeLimits::from(&RuntimeConfig::default())] {
            assert_eq!(CodeLimits::from_bytes(&limits.to_bytes()), limits);
            assert_eq!(CodeLimits::from(&limits.to_config()), limits);
        }
    }

    #[test]
    fn no_fuel_is_not_fuel_of_zero() {
        let with = |max_fuel| {
            CodeLimits::from(&RuntimeConfig {
                max_fuel,
                ..RuntimeConfig::default()
            })
        };
        assert_ne!(with(None), with(Some(0)));
        assert_ne!(with(Some(1)), with(Some(0)));
    }
}
