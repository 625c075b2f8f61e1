//! The guest in wasmtime, as one uses it by hand.

use anyhow::{Context, Result};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, InstancePre, Linker, Memory, Module,
    ModuleExport, PoolingAllocationConfig, Store, StoreLimits, StoreLimitsBuilder, TypedFunc,
    WasmParams, WasmResults,
};

/// The sandbox's own default.
const MEMORY_BYTES: usize = 64 << 20;

/// Ticks until a call is stopped: 100 ms, the sandbox's own default.
const DEADLINE: u64 = 100;

/// What keeps a guest from running for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Nothing, and no limit on memory either.
    None,
    /// Epochs: whoever calls has a [`Ticker`](crate::ticker::Ticker) running.
    Epoch,
    /// So much fuel for each call.
    Fuel(u64),
}

/// Where instances come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allocation {
    /// From the operating system.
    OnDemand,
    /// From the pooling allocator with its default options.
    Pooling,
    /// From the pooling allocator, which puts the pages that were written back by
    /// hand where the kernel can name them (`PAGEMAP_SCAN`), up to 1 MiB.
    PoolingResident,
}

/// A compiled module, from which instances are made.
pub(crate) struct Template {
    pre: InstancePre<StoreLimits>,
    bound: Bound,
}

impl Template {
    /// Compiles the module.
    pub(crate) fn new(wasm: &[u8], bound: Bound, allocation: Allocation) -> Result<Self> {
        let mut config = Config::new();
        config
            .epoch_interruption(bound == Bound::Epoch)
            .consume_fuel(matches!(bound, Bound::Fuel(_)));
        if allocation != Allocation::OnDemand {
            let mut pool = PoolingAllocationConfig::new();
            pool.max_memory_size(MEMORY_BYTES);
            if allocation == Allocation::PoolingResident {
                pool.linear_memory_keep_resident(1 << 20)
                    .table_keep_resident(1 << 20)
                    .pagemap_scan(Enabled::Auto);
            }
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        }
        let engine = Engine::new(&config)?;
        let module = Module::new(&engine, wasm)?;
        let pre = Linker::new(&engine).instantiate_pre(&module)?;
        Ok(Self { pre, bound })
    }

    /// What a ticker needs.
    pub(crate) fn engine(&self) -> &Engine {
        self.pre.module().engine()
    }

    /// A place to look an export up that saves the comparison of names.
    pub(crate) fn export(&self, name: &str) -> Result<ModuleExport> {
        let export = self.pre.module().get_export_index(name);
        export.with_context(|| format!("the guest does not export `{name}`"))
    }

    /// An instance in a store of its own.
    pub(crate) fn instance(&self) -> Result<Instance> {
        let limits = match self.bound {
            Bound::None => StoreLimits::default(),
            Bound::Epoch | Bound::Fuel(_) => {
                StoreLimitsBuilder::new().memory_size(MEMORY_BYTES).build()
            }
        };
        let mut store = Store::new(self.engine(), limits);
        if self.bound != Bound::None {
            store.limiter(|limits| limits);
        }
        renew(&mut store, self.bound)?;
        let instance = self.pre.instantiate(&mut store)?;
        Ok(Instance {
            store,
            instance,
            bound: self.bound,
        })
    }
}

/// A new deadline, or a full tank.
fn renew(store: &mut Store<StoreLimits>, bound: Bound) -> Result<()> {
    match bound {
        Bound::None => {}
        Bound::Epoch => store.set_epoch_deadline(DEADLINE),
        Bound::Fuel(units) => store.set_fuel(units)?,
    }
    Ok(())
}

/// An instance of any module.
pub(crate) struct Instance {
    store: Store<StoreLimits>,
    instance: wasmtime::Instance,
    bound: Bound,
}

impl Instance {
    /// A function that is called often.
    pub(crate) fn function<P: WasmParams, R: WasmResults>(
        &mut self,
        export: &ModuleExport,
    ) -> Result<TypedFunc<P, R>> {
        let export = self.instance.get_module_export(&mut self.store, export);
        let function = export.and_then(wasmtime::Extern::into_func);
        Ok(function.context("not a function")?.typed(&self.store)?)
    }

    /// Calls it on a new budget.
    pub(crate) fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        function: &TypedFunc<P, R>,
        parameters: P,
    ) -> Result<R> {
        renew(&mut self.store, self.bound)?;
        Ok(function.call(&mut self.store, parameters)?)
    }
}

/// A module with the JSON ABI.
pub(crate) struct JsonTemplate {
    template: Template,
    memory: ModuleExport,
    alloc: ModuleExport,
    handle: ModuleExport,
}

impl JsonTemplate {
    /// Compiles the module.
    pub(crate) fn new(wasm: &[u8], bound: Bound, allocation: Allocation) -> Result<Self> {
        let template = Template::new(wasm, bound, allocation)?;
        Ok(Self {
            memory: template.export("memory")?,
            alloc: template.export("alloc")?,
            handle: template.export("handle")?,
            template,
        })
    }

    /// What a ticker needs.
    pub(crate) fn engine(&self) -> &Engine {
        self.template.engine()
    }

    /// A new guest.
    pub(crate) fn guest(&self) -> Result<JsonGuest> {
        let mut inner = self.template.instance()?;
        let memory = inner
            .instance
            .get_module_export(&mut inner.store, &self.memory);
        let memory = memory.and_then(wasmtime::Extern::into_memory);
        Ok(JsonGuest {
            memory: memory.context("not a memory")?,
            alloc: inner.function(&self.alloc)?,
            handle: inner.function(&self.handle)?,
            inner,
        })
    }
}

/// An instance with the JSON ABI, its functions looked up once.
pub(crate) struct JsonGuest {
    memory: Memory,
    alloc: TypedFunc<i32, i32>,
    handle: TypedFunc<(i32, i32), i64>,
    inner: Instance,
}

impl JsonGuest {
    /// Hands the guest a document and `read` its answer, where it stands.
    pub(crate) fn call<T>(
        &mut self,
        json: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let len = i32::try_from(json.len())?;
        let Instance { store, bound, .. } = &mut self.inner;
        renew(store, *bound)?;
        let ptr = self.alloc.call(&mut *store, len)?;
        let start = usize::try_from(ptr.cast_unsigned())?;
        self.memory.write(&mut *store, start, json)?;
        let packed = self.handle.call(&mut *store, (ptr, len))?.cast_unsigned();
        let start = usize::try_from(packed >> 32)?;
        let len = usize::try_from(packed & u64::from(u32::MAX))?;
        let answer = self.memory.data(&*store).get(start..);
        let answer = answer.and_then(|rest| rest.get(..len));
        read(answer.context("the guest's answer lies outside of its memory")?)
    }
}
