//! The other side: what a compiler process does.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use super::super::artifact::Seal;
use super::super::code_limits::CodeLimits;
use super::super::compile::compile;
use super::super::toolchain;
use super::{REQUEST_HEADER, exit};
use crate::SandboxError;
use crate::guarded::guarded;

/// Compiles the module on standard input and writes its machine code to standard
/// output: all that `vortex-compile` does.
#[doc(hidden)]
#[must_use]
pub fn compiler_main() -> ExitCode {
    // What a panic says is said once, by way of the error.
    std::panic::set_hook(Box::new(|_| ()));
    let answer = || answer(&mut io::stdin().lock(), &mut io::stdout().lock());
    let (code, reason) = match guarded(answer).unwrap_or_else(|panic| Err(panic.into())) {
        Ok(()) => return ExitCode::from(exit::DONE),
        Err(Failed::Foreign(reason)) => (exit::FOREIGN, reason),
        Err(Failed::Module(SandboxError::Panic { message })) => (exit::PANIC, message),
        Err(Failed::Module(SandboxError::Compile { reason })) => (exit::REFUSED, reason),
        Err(Failed::Module(error)) => (exit::REFUSED, error.to_string()),
    };
    eprintln!("{reason}");
    ExitCode::from(code)
}

/// How it ends where there is no memory left.
#[doc(hidden)]
pub const COMPILER_OUT_OF_MEMORY: u8 = exit::MEMORY;

enum Failed {
    /// Whoever asks does not speak our language.
    Foreign(String),
    Module(SandboxError),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Foreign(format!(
            "cannot talk to the program that started this: {error}"
        ))
    }
}

impl From<SandboxError> for Failed {
    fn from(error: SandboxError) -> Self {
        Self::Module(error)
    }
}

fn answer(input: &mut impl Read, output: &mut impl Write) -> Result<(), Failed> {
    let mut header = [0; REQUEST_HEADER];
    input.read_exact(&mut header)?;
    let (id, key, limits, len) = parse(&header)
        .filter(|(id, ..)| id == toolchain::id())
        .ok_or_else(|| Failed::Foreign("started by a program of another version".to_owned()))?;
    let config = limits.to_config();
    config.check()?;
    let max = config.module.module_bytes;
    if len > max {
        return Err(Failed::Foreign(format!(
            "a module of {len} bytes, not {max}"
        )));
    }
    let mut wasm = Vec::new();
    input.take(len.saturating_add(1)).read_to_end(&mut wasm)?;
    if wasm.len() as u64 != len {
        return Err(Failed::Foreign(
            "the module is not as long as said".to_owned(),
        ));
    }
    let artifact = compile(&wasm, &config)?;
    let code = artifact.bytes();
    output.write_all(&Seal::new(key).header(&id, code))?;
    output.write_all(code)?;
    output.flush()?;
    Ok(())
}

type Header = ([u8; 32], [u8; 32], CodeLimits, u64);

fn parse(header: &[u8; REQUEST_HEADER]) -> Option<Header> {
    let (id, rest) = header.split_first_chunk()?;
    let (key, rest) = rest.split_first_chunk()?;
    let (limits, rest) = rest.split_first_chunk()?;
    let (len, _) = rest.split_first_chunk()?;
    Some((
        *id,
        *key,
        CodeLimits::from_bytes(limits),
        u64::from_le_bytes(*len),
    ))
}
