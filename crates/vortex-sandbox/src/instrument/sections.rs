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
