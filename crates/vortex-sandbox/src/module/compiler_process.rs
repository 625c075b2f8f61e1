//! Compilation in a process of its own, which can be killed.
//!
//! The caps of a module leave some that keep a compiler busy for longer than a host
//! can wait, and none foresees every defect of a compiler. In a process, each is
//! an error of one load.
//!
//! The process is given a module, limits and a key made for this one compilation,
//! and answers with machine code sealed under that key: what it writes is believed
//! no sooner than an entry of the artifact cache.

mod exchange;
pub(crate) mod serve;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::artifact::{Artifact, Seal};
use super::code_limits::CodeLimits;
use super::toolchain;
use crate::{RuntimeConfig, SandboxError};
use exchange::{Answer, Broken, Running};

/// The name of the program.
const PROGRAM: &str = "vortex-compile";

/// A wall limit that an [`Instant`] can be ahead of now.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What stands before the module in a request: toolchain, key, limits, length.
const REQUEST_HEADER: usize = 32 + 32 + CodeLimits::BYTES + 8;

/// How a compiler process says what has come of a module; any other end is a crash.
mod exit {
    /// The machine code is on standard output.
    pub(super) const DONE: u8 = 0;
    /// The module is refused, for the reason on standard error.
    pub(super) const REFUSED: u8 = 65;
    /// The request comes from a program of another version, or makes no sense.
    pub(super) const FOREIGN: u8 = 64;
    /// The compiler panicked, as said on standard error.
    pub(super) const PANIC: u8 = 70;
    /// The memory limit is reached.
    pub(super) const MEMORY: u8 = 71;
}

/// What one compilation in a process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// CPU time of all its threads together, rounded up to whole seconds: 10 s.
    pub cpu_time: Duration,
    /// Wall-clock time: 30 s.
    pub wall_time: Duration,
    /// Address space, in bytes: 2 GiB. The program itself takes 48 MiB of it.
    pub memory_bytes: u64,
    /// The machine code that comes out, in bytes: 256 MiB.
    pub code_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            cpu_time: Duration::from_secs(10),
            wall_time: Duration::from_secs(30),
            memory_bytes: 2 << 30,
            code_bytes: 256 << 20,
        }
    }
}

/// A program that compiles one module and ends, under limits that kill it.
///
/// It is `vortex-compile`, a binary of this package, built from the same version
/// as the program that uses it. It gets an empty environment and no arguments, and
/// the thread that loads the module waits for it. A compilation that it does not
/// bring to a good end is an error of the load; there is no second try in the
/// process of the host.
///
/// ```no_run
/// use vortex_sandbox::{CompilerProcess, Runtime, RuntimeConfig};
///
/// let runtime = Runtime::builder(RuntimeConfig::default())
///     .compiler_process(CompilerProcess::at("/usr/libexec/vortex-compile"))
///     .build()?;
/// # Ok::<(), vortex_sandbox::SandboxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct CompilerProcess {
    path: PathBuf,
    limits: CompileLimits,
}

impl CompilerProcess {
    /// The program at this path, with the default limits. Whoever can write there
    /// decides what code the host runs.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            limits: CompileLimits::default(),
        }
    }

    /// `vortex-compile` in the directory of the program that runs, if it is there.
    /// Tests and examples, as cargo builds them, find it where it builds programs.
    #[must_use]
    pub fn find() -> Option<Self> {
        let program = std::env::current_exe().ok()?;
        let dir = program.parent()?;
        let above = ["deps", "examples"]
            .iter()
            .any(|name| dir.ends_with(name))
            .then(|| dir.parent())
            .flatten();
        [Some(dir), above]
            .into_iter()
            .flatten()
            .map(|dir| dir.join(PROGRAM))
            .find(|path| path.is_file())
            .map(Self::at)
    }

    /// Other limits than the default ones.
    #[must_use]
    pub fn with_limits(self, limits: CompileLimits) -> Self {
        Self { limits, ..self }
    }

    /// Where the program is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Compiles a module that has been validated.
    pub(super) fn compile(
        &self,
        wasm: &[u8],
        config: &RuntimeConfig,
    ) -> Result<Artifact, SandboxError> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| self.cannot_run(error.into()))?;
        let request = [
            &toolchain::id()[..],
            &key,
            &CodeLimits::from(config).to_bytes(),
            &(wasm.len() as u64).to_le_bytes(),
        ]
        .concat();
        let deadline = Instant::now() + self.limits.wall_time.min(FOREVER);
        let running = self.start().map_err(|source| self.cannot_run(source))?;
        let max = self.limits.code_bytes.saturating_add(Seal::HEADER as u64);
        let answer = match running.exchange(&[&request, wasm], max, deadline) {
            Ok(answer) => answer,
            Err(Broken::Late) => {
                return Err(SandboxError::CompileWallLimit {
                    limit: self.limits.wall_time,
                });
            }
            Err(Broken::TooLong) => {
                return Err(SandboxError::CompilerAnswer {
                    path: self.path.clone(),
                    reason: format!("longer than the limit of {max} bytes"),
                });
            }
            Err(Broken::System(source)) => return Err(self.cannot_run(source)),
        };
        self.judge(answer, &Seal::new(key))
    }

    fn start(&self) -> std::io::Result<Running> {
        let child = Command::new(std::path::absolute(&self.path)?)
            .env_clear()
            // Each thread's own arena would take 64 MiB of the address space.
            .env("MALLOC_ARENA_MAX", "2")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let running = Running::new(child);
        // From here, and not in the process, so that they hold whatever it does. It
        // has not got its request yet, and can have done nothing worth a limit.
        let pid = i32::try_from(running.id()).ok().and_then(Pid::from_raw);
        // No process would mean this one.
        let pid = Some(pid.ok_or(std::io::ErrorKind::NotFound)?);
        let cpu = self.limits.cpu_time;
        let cpu = cpu
            .as_secs()
            .saturating_add((cpu.subsec_nanos() > 0).into());
        for (resource, soft, hard) in [
            // The first ends it with a signal that tells, the second at any rate.
            (Resource::Cpu, cpu, cpu.saturating_add(1)),
            (
                Resource::As,
                self.limits.memory_bytes,
                self.limits.memory_bytes,
            ),
            (Resource::Core, 0, 0),
            (Resource::Fsize, 0, 0),
        ] {
            // It has the limits of this process already, and cannot be given more.
            let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
            let limit = Rlimit {
                current: Some(soft.min(most)),
                maximum: Some(hard.min(most)),
            };
            prlimit(pid, resource, limit)?;
        }
        Ok(running)
    }

    fn judge(&self, answer: Answer, seal: &Seal) -> Result<Artifact, SandboxError> {
        use std::os::unix::process::ExitStatusExt;

        let Answer { status, out, said } = answer;
        match status.code().and_then(|code| u8::try_from(code).ok()) {
            Some(exit::DONE) => {
                seal.open(toolchain::id(), out)
                    .ok_or_else(|| SandboxError::CompilerAnswer {
                        path: self.path.clone(),
                        reason: "not machine code that it has sealed".to_owned(),
                    })
            }
            Some(exit::REFUSED) => Err(SandboxError::Compile { reason: said }),
            Some(exit::PANIC) => Err(SandboxError::Panic { message: said }),
            Some(exit::MEMORY) => Err(SandboxError::CompileMemoryLimit {
                limit: self.limits.memory_bytes,
            }),
            Some(exit::FOREIGN) => Err(SandboxError::CompilerVersion {
                path: self.path.clone(),
            }),
            _ if status.signal() == Some(libc::SIGXCPU) => Err(SandboxError::CompileCpuLimit {
                limit: self.limits.cpu_time,
            }),
            _ => Err(SandboxError::CompilerCrashed {
                path: self.path.clone(),
                status: status.to_string(),
                said,
            }),
        }
    }

    fn cannot_run(&self, source: std::io::Error) -> SandboxError {
        SandboxError::CompilerStart {
            path: self.path.clone(),
            source,
        }
    }
}
