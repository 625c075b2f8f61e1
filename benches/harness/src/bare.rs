//! The same guest in wasmer as it comes: no limits, no instrumentation, no pool.
//!
//! This is what a plain user would write: one store, typed functions looked up
//! once, `serde_json` on both sides.

use std::collections::BTreeMap;

use anyhow::Result;
use http::{HeaderMap, Request};
use serde::{Deserialize, Serialize};
use vortex_hook_core::{HookInput, HookOutput};
use wasmer::sys::{Cranelift, EngineBuilder};
use wasmer::{Engine, Instance, Memory, Module, Store, TypedFunction, imports};

use crate::request::{REMOTE, ROUTE};

/// The hook input of the JSON ABI, in the order in which the host writes it.
#[derive(Serialize)]
struct Input<'a> {
    #[serde(rename = "type")]
    hook_type: &'a str,
    method: &'a str,
    path: &'a str,
    headers: BTreeMap<String, Vec<String>>,
    body: Option<&'a str>,
    remote: &'a str,
    route: &'a str,
}

/// The hook output of the JSON ABI.
#[derive(Debug, Deserialize)]
pub struct Output {
    /// Whether the request may go on.
    pub allow: bool,
    /// Whether `headers` are to be applied.
    #[serde(default)]
    pub modified: bool,
    /// Headers to set.
    #[serde(default)]
    pub headers: BTreeMap<String, Vec<String>>,
    /// The status of a denial; 0 leaves it to the host.
    #[serde(default)]
    pub status: u16,
}

/// One instance of a guest.
pub struct BareGuest {
    memory: Memory,
    alloc: TypedFunction<i32, i32>,
    handle: TypedFunction<(i32, i32), i64>,
    store: Store,
    // Last: a module's code lives as long as its engine.
    _module: Module,
    _engine: Engine,
}

impl BareGuest {
    /// Compiles the module with Cranelift and instantiates it.
    ///
    /// # Errors
    ///
    /// If the module is no valid one, or has not the exports of the JSON ABI.
    pub fn new(wasm: &[u8]) -> Result<Self> {
        let engine = Engine::from(EngineBuilder::new(Cranelift::default()).engine());
        let module = Module::new(&engine, wasm)?;
        let mut store = Store::new(engine.clone());
        let instance = Instance::new(&mut store, &module, &imports! {})?;
        let exports = &instance.exports;
        Ok(Self {
            memory: exports.get_memory("memory")?.clone(),
            alloc: exports.get_typed_function(&store, "alloc")?,
            handle: exports.get_typed_function(&store, "handle")?,
            store,
            _module: module,
            _engine: engine,
        })
    }

    /// One call, from a request to the answer.
    ///
    /// # Errors
    ///
    /// If a header is no text, or the guest traps or answers with no output.
    pub fn call(&mut self, request: &Request<()>) -> Result<Output> {
        let answer = self.exchange(&encode(request)?)?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// The same with the host's own reading and writing of JSON: what is left to
    /// tell it from a hook's call is the sandbox.
    ///
    /// # Errors
    ///
    /// If the guest traps or answers with no output.
    pub fn call_with_codec(&mut self, input: &HookInput<'_>) -> Result<HookOutput> {
        let answer = self.exchange(input.to_json())?;
        Ok(HookOutput::from_json(&answer)?)
    }

    /// The part of a call that nobody can save: the guest's own work, and its
    /// bytes in and out.
    ///
    /// # Errors
    ///
    /// If the guest traps, or gives an address outside of its memory.
    pub fn exchange(&mut self, json: &[u8]) -> Result<Vec<u8>> {
        let len = i32::try_from(json.len())?;
        let ptr = self.alloc.call(&mut self.store, len)?;
        let start = u64::from(ptr.cast_unsigned());
        self.memory.view(&self.store).write(start, json)?;
        let packed = self.handle.call(&mut self.store, ptr, len)?.cast_unsigned();
        let mut answer = vec![0; usize::try_from(packed & u64::from(u32::MAX))?];
        self.memory
            .view(&self.store)
            .read(packed >> 32, &mut answer)?;
        Ok(answer)
    }
}

/// A request as JSON, by way of a struct and a map.
///
/// # Errors
///
/// If a header is no text.
pub fn encode(request: &Request<()>) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(&Input {
        hook_type: "pre_request",
        method: request.method().as_str(),
        path: request.uri().path(),
        headers: owned(request.headers())?,
        body: None,
        remote: REMOTE,
        route: ROUTE,
    })?)
}

fn owned(headers: &HeaderMap) -> Result<BTreeMap<String, Vec<String>>> {
    let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        map.entry(canonical(name.as_str()))
            .or_default()
            .push(value.to_str()?.to_owned());
    }
    Ok(map)
}

/// `x-api-key` as `X-Api-Key`.
fn canonical(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|c| {
            let c = if upper { c.to_ascii_uppercase() } else { c };
            upper = c == '-';
            c
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use vortex_hook_core::HookType;

    use super::*;
    use crate::request;

    #[test]
    fn both_sides_write_the_same_document() {
        let request = request::sample().unwrap();
        let ours = HookInput::from_request(HookType::PreRequest, &request)
            .with_remote(REMOTE)
            .with_route(ROUTE);
        let ours: serde_json::Value = serde_json::from_slice(ours.to_json()).unwrap();
        let bare: serde_json::Value = serde_json::from_slice(&encode(&request).unwrap()).unwrap();
        assert_eq!(ours, bare);
    }
}
