//! Talking to a process that may do anything but hold us up.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStdin, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};

/// How much of what a process says on standard error is kept, in bytes.
const MAX_SAID: usize = 4096;

/// How often it is looked whether a process that has closed its output has ended.
const TICK: Duration = Duration::from_millis(1);

/// A process that is killed, if it still runs, and reaped when this is dropped.
pub(super) struct Running {
    child: Child,
}

/// What a process has said before it ended by itself.
pub(super) struct Answer {
    pub(super) status: ExitStatus,
    /// Its standard output.
    pub(super) out: Bytes,
    /// The beginning of its standard error, as text that is safe to print.
    pub(super) said: String,
}

/// Why there is no answer.
pub(super) enum Broken {
    /// It had not ended by the deadline.
    Late,
    /// It wrote more than was asked for.
    TooLong,
    System(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl Running {
    pub(super) fn new(child: Child) -> Self {
        Self { child }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes `request` to standard input and reads up to `max` bytes of standard
    /// output until the process has ended.
    pub(super) fn exchange(
        mut self,
        request: &[&[u8]],
        max: u64,
        deadline: Instant,
    ) -> Result<Answer, Broken> {
        let mut input = Input::new(self.child.stdin.take(), request)?;
        let mut out = Output::new(self.child.stdout.take(), max)?;
        // What does not fit is read and forgotten, so that the process can go on.
        let mut said = Output::new(self.child.stderr.take(), u64::MAX)?;
        let mut chunk = vec![0; 64 << 10];
        while out.pipe.is_some() || said.pipe.is_some() {
            wait_for([input.wants(), out.wants(), said.wants()], deadline)?;
            input.write()?;
            out.read(&mut chunk)?;
            said.read(&mut chunk)?;
            said.bytes.truncate(MAX_SAID);
        }
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() >= deadline {
                return Err(Broken::Late);
            }
            thread::sleep(TICK);
        };
        Ok(Answer {
            status,
            out: out.bytes.into(),
            said: printable(&said.bytes),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until one of these can be read or written.
fn wait_for(
    wanted: [Option<(BorrowedFd<'_>, PollFlags)>; 3],
    deadline: Instant,
) -> Result<(), Broken> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Broken::Late);
    }
    let mut fds: Vec<PollFd<'_>> = wanted
        .into_iter()
        .flatten()
        .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
        .collect();
    let left = Timespec::try_from(left).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
    match poll(&mut fds, Some(&left)) {
        // Whether it is late is asked again before the next wait.
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Broken::System(errno.into())),
    }
}

/// What is still to be written, and where.
struct Input<'a> {
    pipe: Option<ChildStdin>,
    parts: Vec<&'a [u8]>,
}

impl<'a> Input<'a> {
    fn new(pipe: Option<ChildStdin>, parts: &[&'a [u8]]) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            ioctl_fionbio(pipe, true)?;
        }
        let parts = parts.iter().rev().copied().collect();
        Ok(Self { pipe, parts })
    }

    fn wants(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.pipe.as_ref().map(|p| (p.as_fd(), PollFlags::OUT))
    }

    /// Writes what the pipe takes, and closes it after the last byte.
    fn write(&mut self) -> io::Result<()> {
        while let (Some(pipe), Some(part)) = (&mut self.pipe, self.parts.last_mut()) {
            if part.is_empty() {
                self.parts.pop();
                continue;
            }
            match pipe.write(part) {
                Ok(written) => *part = part.get(written..).unwrap_or_default(),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(()),
                    ErrorKind::Interrupted => {}
                    // It does not want to hear the rest. Its status will say why.
                    ErrorKind::BrokenPipe => self.parts.clear(),
                    _ => return Err(error),
                },
            }
        }
        self.pipe = None;
        Ok(())
    }
}

/// What has been read, and where there may be more.
struct Output<P> {
    pipe: Option<P>,
    bytes: Vec<u8>,
    max: u64,
}

impl<P: Read + AsFd> Output<P> {
    fn new(pipe: Option<P>, max: u64) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            ioctl_fionbio(pipe, true)?;
        }
        let bytes = Vec::new();
        Ok(Self { pipe, bytes, max })
    }

    fn wants(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.pipe.as_ref().map(|p| (p.as_fd(), PollFlags::IN))
    }

    /// Reads a chunk, if there is one, and closes the pipe at its end.
    fn read(&mut self, chunk: &mut [u8]) -> Result<(), Broken> {
        let Some(pipe) = &mut self.pipe else {
            return Ok(());
        };
        match pipe.read(chunk) {
            Ok(0) => self.pipe = None,
            Ok(read) => {
                self.bytes
                    .extend_from_slice(chunk.get(..read).unwrap_or_default());
                if self.bytes.len() as u64 > self.max {
                    return Err(Broken::TooLong);
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => {}
                _ => return Err(error.into()),
            },
        }
        Ok(())
    }
}

fn printable(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let text = text.trim().chars();
    text.map(|c| if c.is_control() { ' ' } else { c }).collect()
}
