//! What the sandbox tests share.

use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use vortex_hook_core::{Hook, HookContext, HookError, HookInput, HookOutput, HookType};
use vortex_sandbox::{Runtime, RuntimeConfig, SandboxError, WasmHook};

/// Where the fixtures are built.
pub(crate) fn fixtures() -> PathBuf {
    let target = match std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"),
    };
    target.join("fixtures")
}

/// A built fixture.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = fixtures().join(name).with_extension("wasm");
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}: run cargo xtask fixtures", path.display()))
}

/// A module from its text.
pub(crate) fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The defaults with a CPU budget in milliseconds, and no wall limit that a busy
/// machine could reach.
pub(crate) fn cpu(millis: u64) -> RuntimeConfig {
    RuntimeConfig {
        cpu_time: Duration::from_millis(millis),
        wall_time: Some(Duration::from_secs(60)),
        ..RuntimeConfig::default()
    }
}

/// A runtime under which innocent guests pass on a busy machine.
pub(crate) fn runtime() -> Runtime {
    Runtime::new(cpu(2_000)).unwrap()
}

/// A fixture as a hook of this runtime.
pub(crate) fn hook(runtime: &Runtime, name: &str) -> WasmHook {
    WasmHook::new(runtime.load(name, &fixture(name)).unwrap()).unwrap()
}

/// A fixture as a hook of a runtime of its own, with limits of its own.
pub(crate) fn hook_with(name: &str, config: RuntimeConfig) -> Alone {
    let runtime = Runtime::new(config).unwrap();
    let hook = hook(&runtime, name);
    Alone {
        hook,
        _runtime: runtime,
    }
}

/// A hook with the runtime that it lives in.
pub(crate) struct Alone {
    hook: WasmHook,
    _runtime: Runtime,
}

impl Deref for Alone {
    type Target = WasmHook;

    fn deref(&self) -> &WasmHook {
        &self.hook
    }
}

/// One call for a request of this path.
pub(crate) fn call(hook: &WasmHook, path: &str) -> Result<HookOutput, HookError> {
    call_in(hook, &HookContext::new(), path)
}

/// One call in a context.
pub(crate) fn call_in(
    hook: &WasmHook,
    cx: &HookContext,
    path: &str,
) -> Result<HookOutput, HookError> {
    let input = HookInput::new(HookType::PreRequest).with_path(path);
    futures_executor::block_on(hook.call(cx, &input))
}

/// The value of a header that the hook sets.
pub(crate) fn header(output: &HookOutput, name: &'static str) -> String {
    let values = output.headers.get(&http::HeaderName::from_static(name));
    let value = values.and_then(|values| values.first());
    value
        .unwrap_or_else(|| panic!("no header {name} in {output:?}"))
        .to_str()
        .unwrap()
        .to_owned()
}

/// An error that is, or holds, one of the sandbox.
pub(crate) trait Failure {
    fn sandbox(&self) -> &SandboxError;
}

impl Failure for SandboxError {
    fn sandbox(&self) -> &SandboxError {
        self
    }
}

impl Failure for HookError {
    fn sandbox(&self) -> &SandboxError {
        self.downcast_ref()
            .unwrap_or_else(|| panic!("not an error of the sandbox: {self:?}"))
    }
}

/// Asserts that a result is an error of the sandbox of this pattern.
macro_rules! assert_fails {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        match $result {
            Err(error) => {
                let error = $crate::util::Failure::sandbox(&error);
                assert!(
                    matches!(error, $pattern $(if $guard)?),
                    "expected {}, got {error:?}",
                    stringify!($pattern $(if $guard)?)
                );
            }
            Ok(_) => panic!("expected {}, got an answer", stringify!($pattern)),
        }
    };
}
pub(crate) use assert_fails;

/// Runs `body`, the whole of the calling test, in a process of its own, and
/// fails if that fails or hangs: for tests whose failure would take the other
/// tests with it, and for those that count what a process has.
pub(crate) fn isolated<F: FnOnce()>(limit: Duration, body: F) {
    isolated_by(Command::new(std::env::current_exe().unwrap()), limit, body);
}

/// [`isolated`] in a process that may have so many KiB of address space.
pub(crate) fn isolated_in<F: FnOnce()>(kib: u64, limit: Duration, body: F) {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("ulimit -v {kib} && exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap());
    isolated_by(shell, limit, body);
}

const CHILD: &str = "VORTEX_TEST_CHILD";

fn isolated_by<F: FnOnce()>(mut command: Command, limit: Duration, body: F) {
    // The body is a closure of the test: its type's name holds the test's.
    let name = std::any::type_name::<F>();
    let name = name
        .split_once("::")
        .unwrap()
        .1
        .replace("::{{closure}}", "");
    if std::env::var_os(CHILD).is_some_and(|child| *child == *name) {
        body();
        return;
    }
    let child = command
        .args(["--exact", &name, "--nocapture", "--test-threads=1"])
        .env(CHILD, &name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let (done, output) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let output = output.recv_timeout(limit).unwrap_or_else(|_| {
        // Its threads may hang in the kernel's or the unwinder's locks.
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        panic!("{name} has hung for {limit:?}")
    });
    let output = output.unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{name}: {}\n{out}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    // What the child measured is for whoever asks with --nocapture.
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `work` on a thread of its own, and fails if it takes longer: for work
/// that would otherwise hang the test.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, result) = mpsc::channel();
    let worker = thread::spawn(move || {
        let _ = done.send(work());
    });
    match result.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("not done within {limit:?}"),
        Err(RecvTimeoutError::Disconnected) => match worker.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("the worker sends or panics"),
        },
    }
}

/// Waits until `condition` holds; fails when it does not come to.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}: not yet");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A generator of numbers that look random, the same in each run (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % bound
    }
}

/// Entries of a directory under `/proc/self`, such as `task`.
pub(crate) fn count_in_proc(dir: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{dir}"))
        .unwrap()
        .count()
}

/// Threads of this process that have this name.
pub(crate) fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        // One may end between the listing and the look at it.
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|comm| comm.trim() == name)
        .count()
}

/// Lines of a file under `/proc/self`, such as `maps`.
pub(crate) fn lines_in_proc(file: &str) -> usize {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    text.lines().count()
}

/// Reservations of guests' memories: the inaccessible rest of each is the only
/// mapping of that size.
pub(crate) fn reservations() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let len = |line: &str| {
        let (start, rest) = line.split_once('-')?;
        let (end, _) = rest.split_once(' ')?;
        Some(u64::from_str_radix(end, 16).ok()? - u64::from_str_radix(start, 16).ok()?)
    };
    maps.lines()
        .filter_map(len)
        .filter(|len| (3 << 30..9 << 30).contains(len))
        .count()
}

/// Resident memory of this process, in bytes.
pub(crate) fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages = statm.split_whitespace().nth(1).unwrap();
    pages.parse::<usize>().unwrap() * 4096
}
