//! A module's bytes as they are compiled.

use wasmer::wasmparser::{BinaryReaderError, Parser, Payload};

use super::bulk::Helpers;

/// The sections that are left out or added to, by their identifiers in a module.
const CUSTOM: u8 = 0;
const TYPES: u8 = 1;
const FUNCTIONS: u8 = 3;
const CODE: u8 = 10;

/// A valid module without names and whatever else is not code, since wasmer would copy
/// the name of a function for each frame of each trap; and with functions that move
/// bytes, where it moves any.
pub(crate) fn prepare(wasm: &[u8]) -> Result<(Vec<u8>, Option<Helpers>), BinaryReaderError> {
    const HEADER: usize = 8;
    let helpers = helpers_for(wasm)?;
    let mut types = 0;
    let mut prepared = wasm.get(..HEADER).unwrap_or_default().to_vec();
    let mut start = HEADER;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        if let Payload::TypeSection(section) = &payload {
            types = section.count();
        }
        let Some((id, contents)) = payload.as_section() else {
            continue;
        };
        let at = |offset| usize::try_from(offset).unwrap_or(wasm.len());
        let bytes = |start, end| wasm.get(start..end).unwrap_or_default();
        let end = at(contents.end);
        let contents = bytes(at(contents.start), end);
        match id {
            CUSTOM => {}
            TYPES if helpers.is_some() => {
                prepared.extend(with_entries(id, contents, &[&Helpers::TYPE]));
            }
            FUNCTIONS if helpers.is_some() => {
                let ty = &*number(types.into());
                prepared.extend(with_entries(id, contents, &[ty; Helpers::COUNT]));
            }
            CODE if helpers.is_some() => {
                let body = &Helpers::BODY[..];
                prepared.extend(with_entries(id, contents, &[body; Helpers::COUNT]));
            }
            _ => prepared.extend_from_slice(bytes(start, end)),
        }
        start = end;
    }
    Ok((prepared, helpers))
}

/// The functions that a module needs added.
fn helpers_for(wasm: &[u8]) -> Result<Option<Helpers>, BinaryReaderError> {
    let mut functions = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::FunctionSection(section) => functions = section.count(),
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader()? {
                    if Helpers::replace(&operator?) {
                        return Ok(Some(Helpers::after(functions)));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(None)
}

/// A section with more entries than it has.
fn with_entries(id: u8, contents: &[u8], entries: &[&[u8]]) -> Vec<u8> {
    let mut bytes = contents.iter();
    let (mut count, mut shift) = (0, 0);
    for byte in bytes.by_ref() {
        count |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut longer = number(count + entries.len() as u64);
    longer.extend_from_slice(bytes.as_slice());
    longer.extend(entries.iter().copied().flatten());
    let mut section = vec![id];
    section.extend(number(longer.len() as u64));
    section.extend(longer);
    section
}

/// An unsigned number as a module has it.
fn number(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use wasmer::wasmparser::Validator;

    use super::*;

    /// Types, functions and bodies, and the names of other sections, as a module has them.
    fn counts(wasm: &[u8]) -> (u32, u32, u32, Vec<u8>) {
        let (mut types, mut functions, mut bodies, mut others) = (0, 0, 0, Vec::new());
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.unwrap();
            match &payload {
                Payload::TypeSection(section) => types = section.count(),
                Payload::FunctionSection(section) => functions = section.count(),
                Payload::CodeSectionStart { count, .. } => bodies = *count,
                payload => others.extend(payload.as_section().map(|(id, _)| id)),
            }
        }
        (types, functions, bodies, others)
    }

    fn module(functions: usize, operator: &str) -> Vec<u8> {
        let function = format!("(func (param i32) {operator})").repeat(functions);
        wat::parse_str(format!(
            r#"(module $name (memory 1) (global i32 (i32.const 0)) {function}
                 (export "last" (func {})) (data (i32.const 0) "bytes"))"#,
            functions - 1
        ))
        .unwrap()
    }

    #[test]
    fn functions_come_last_and_names_go() {
        // The count of functions takes a byte, and then two.
        for functions in [1, 125, 126, 127, 128, 16_382] {
            let operator = "(memory.copy (local.get 0) (local.get 0) (local.get 0))";
            let wasm = module(functions, operator);
            let (prepared, helpers) = prepare(&wasm).unwrap();
            Validator::new().validate_all(&prepared).unwrap();
            let (types, count, bodies, others) = counts(&wasm);
            assert_eq!(others.last(), Some(&CUSTOM));
            let kept = others.into_iter().filter(|id| *id != CUSTOM).collect();
            assert_eq!(
                counts(&prepared),
                (types + 1, count + 2, bodies + 2, kept),
                "{functions}"
            );
            let first = u32::try_from(functions).unwrap();
            assert_eq!(helpers, Some(Helpers::after(first)));
        }
    }

    #[test]
    fn a_module_that_moves_no_bytes_gets_no_functions() {
        let wasm = module(3, "(drop (i32.load (local.get 0)))");
        let (prepared, helpers) = prepare(&wasm).unwrap();
        assert_eq!(helpers, None);
        assert!(wasm.starts_with(&prepared) && prepared.len() < wasm.len());
    }

    /// Counts and sizes may be written longer than they have to be.
    #[test]
    fn padded_numbers_are_read() {
        let mut wasm = b"\0asm\x01\0\0\0".to_vec();
        // A type; a function; a memory; a body that fills no bytes.
        wasm.extend([1, 0x88, 0x80, 0, 0x81, 0x80, 0x80, 0x80, 0, 0x60, 0, 0]);
        wasm.extend([3, 0x84, 0, 0x81, 0x80, 0, 0]);
        wasm.extend([5, 3, 1, 0, 1]);
        let body = [0, 0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 11, 0, 0x0b];
        wasm.extend([10, 14, 0x81, 0, 11]);
        wasm.extend(body);
        Validator::new().validate_all(&wasm).unwrap();
        let (prepared, helpers) = prepare(&wasm).unwrap();
        Validator::new().validate_all(&prepared).unwrap();
        assert_eq!(counts(&prepared), (2, 3, 3, vec![5]));
        assert_eq!(helpers, Some(Helpers::after(1)));
    }
}
