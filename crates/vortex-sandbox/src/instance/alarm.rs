//! The alarm: stops a guest on the guest's own thread when its CPU time is used up.
//!
//! The watchdog sleeps between its rounds, and where an idle processor wakes late, it is
//! milliseconds late. The processor that a guest keeps busy is awake. So the watchdog
//! sends the thread of a call that nears the end of its budget a signal, well ahead. Its
//! handler sets a timer for what is left, which the kernel keeps on the processor that
//! set it, and which brings the same signal. The handler then compares again, and stops
//! the call or sets the timer once more.
//!
//! A thread that was sent the alarm expects more of that kind: for its next calls it
//! sets the timer itself when they begin, and depends on nobody.
//!
//! A signal reaches a thread only while it runs a call: the end of a call waits until
//! none is on its way, see `Meter::end`. So no system call of the embedder is ever
//! interrupted, and none comes when the signal stack of an ending thread is gone,
//! which wasmer unmaps without saying so.
//!
//! Whatever fails here leaves the guest to the watchdog.
#![allow(
    unsafe_code,
    reason = "handles a signal, and makes system calls that have no safe form"
)]

use std::cell::Cell;
use std::ptr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering, compiler_fence};

use super::budget::Meter;
use super::caller;
use super::memory::Reservation;

/// No timer yet: one is made when the first alarm rings on the thread.
const NONE: libc::c_int = -1;
/// No timer, and none to be made: the thread ends, or has been refused one.
const NEVER: libc::c_int = -2;

/// The calls for which a thread sets the timer itself after it was sent the alarm. That
/// is two system calls each, which together are little beside the call before them.
const WARY: u32 = 32;

/// What the handler finds on its thread. It has no destructor, so that the handler can
/// have it at any time.
struct Local {
    /// The running call's meter; null while there is none.
    meter: AtomicPtr<Meter>,
    /// The memory of that call's guest, valid while there is a meter.
    guest: AtomicPtr<Reservation>,
    /// Whether the signal has come since it was last silenced.
    rang: AtomicBool,
    timer: AtomicI32,
    /// The calls to come that set the timer themselves.
    wary: Cell<u32>,
    /// The process that made the timer: a forked child inherits none.
    process: AtomicI32,
}

thread_local! {
    static LOCAL: Local = const {
        Local {
            meter: AtomicPtr::new(ptr::null_mut()),
            guest: AtomicPtr::new(ptr::null_mut()),
            rang: AtomicBool::new(false),
            timer: AtomicI32::new(NONE),
            wary: Cell::new(0),
            process: AtomicI32::new(0),
        }
    };

    static AT_EXIT: AtExit = const { AtExit };
}

/// Deletes the timer with the thread: the kernel keeps it until the process ends.
struct AtExit;

impl Drop for AtExit {
    fn drop(&mut self) {
        LOCAL.with(|local| {
            let timer = local.timer();
            local.timer.store(NEVER, Ordering::Relaxed);
            // SAFETY: a number, which is that of this thread's own timer, or of none.
            unsafe { libc::syscall(libc::SYS_timer_delete, timer) };
        });
    }
}

/// Called before the first call on a thread.
pub(super) fn enter_thread() {
    // A thread that ends already, and runs a guest all the same, gets no timer.
    if AT_EXIT.try_with(|_| ()).is_err() {
        LOCAL.with(|local| local.timer.store(NEVER, Ordering::Relaxed));
    }
}

/// The signal of the alarm; `None` when none was free.
///
/// The first real-time signals are those that programs take which count from the
/// first, and the last are those of runtimes such as Java's; one in between is taken
/// that nobody handles.
static SIGNAL: LazyLock<Option<libc::c_int>> =
    LazyLock::new(|| (libc::SIGRTMIN() + 8..=libc::SIGRTMAX() - 8).find(|signal| take(*signal)));

/// Installs the handler, once in a process.
pub(super) fn install() {
    LazyLock::force(&SIGNAL);
}

/// What a signal does now.
fn action_of(signal: libc::c_int) -> Option<libc::sigaction> {
    // SAFETY: a struct of numbers, for which zeros are values.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `action` is valid for a write, and nothing is installed.
    let result = unsafe { libc::sigaction(signal, ptr::null(), &mut action) };
    (result == 0).then_some(action)
}

/// Takes a signal, unless somebody has it.
fn take(signal: libc::c_int) -> bool {
    let is_free = |action: libc::sigaction| action.sa_sigaction == libc::SIG_DFL;
    if !action_of(signal).is_some_and(is_free) {
        return false;
    }
    // SAFETY: as in `action_of`. No other signal is blocked while the handler runs.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // A guest may be at the end of its stack, so the handler runs on that for signals.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    let mut previous = action;
    // SAFETY: both are valid, and the handler does only what a handler may.
    let installed = unsafe { libc::sigaction(signal, &action, &mut previous) } == 0;
    if installed && !is_free(previous) {
        // Somebody was faster, and gets it back.
        // SAFETY: what was installed before.
        unsafe { libc::sigaction(signal, &previous, ptr::null_mut()) };
        return false;
    }
    installed
}

/// Sends the alarm to a thread that runs a call, which lasts until this returns. Says
/// whether that was possible.
pub(super) fn send(thread: libc::pid_t) -> bool {
    // Whoever has taken the signal away since may have left it to end the process.
    let ours = |signal: &libc::c_int| {
        action_of(*signal).is_some_and(|now| now.sa_sigaction == handler as *const () as usize)
    };
    SIGNAL.filter(ours).is_some_and(|signal| {
        // SAFETY: numbers. The caller promises that the thread is there, if it is one.
        unsafe { libc::syscall(libc::SYS_tgkill, process(), thread, signal) == 0 }
    })
}

/// Lets alarms reach a call that begins and ends in `work`, on this thread.
#[inline(always)]
pub(super) fn reaching<T>(meter: &Meter, guest: &Reservation, work: impl FnOnce() -> T) -> T {
    /// Ends it also if `work` panics.
    struct Leave;

    impl Drop for Leave {
        fn drop(&mut self) {
            compiler_fence(Ordering::SeqCst);
            LOCAL.with(|local| local.meter.store(ptr::null_mut(), Ordering::Relaxed));
        }
    }

    LOCAL.with(|local| {
        let guest = ptr::from_ref(guest).cast_mut();
        local.guest.store(guest, Ordering::Relaxed);
        let meter = ptr::from_ref(meter).cast_mut();
        local.meter.store(meter, Ordering::Relaxed);
    });
    let _leave = Leave;
    compiler_fence(Ordering::SeqCst);
    work()
}

/// Whether the call that begins on this thread is to set the timer itself.
#[inline]
pub(super) fn is_wary() -> bool {
    LOCAL.with(|local| local.wary.get() > 0)
}

/// Sets the timer for the call that begins on this thread and has so many nanoseconds.
#[cold]
pub(super) fn set(nanos: u64) {
    let Some(signal) = *SIGNAL else { return };
    LOCAL.with(|local| {
        local.wary.set(local.wary.get() - 1);
        local.ring_in(nanos, signal);
    });
}

/// Called after a call for which the alarm was set, or to which it was sent: stops the
/// timer, and returns when no signal is left on its way to this thread.
#[cold]
pub(super) fn silence(was_sent: bool) {
    // SAFETY: zeros are no time at all, which stops a timer.
    let never: libc::itimerspec = unsafe { std::mem::zeroed() };
    LOCAL.with(|local| {
        // Without a timer this is an error, but a system call still. Signals that were
        // sent before it was made are handled before it returns.
        set_timer(local.timer(), &never);
        let rang = local.rang.swap(false, Ordering::Relaxed);
        if rang && local.timer() >= 0 {
            local.wary.set(WARY);
        }
        if was_sent && !rang {
            // The thread blocks the signal: it waits, and must not get company.
            caller::keep_quiet();
        }
    });
}

/// Everything in it may be done in a handler: it takes no lock, allocates nothing and
/// does not panic. POSIX does not name all of the system calls; of those that it does
/// not, `timer_create` could be more than a system call in a C library, and so is made
/// without one, as are the others that take what it returns.
extern "C" fn handler(signal: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the address of this thread's `errno`, which no other thread uses.
    let errno = unsafe { &mut *libc::__errno_location() };
    let interrupted = *errno;
    LOCAL.with(|local| local.ring(signal));
    *errno = interrupted;
}

impl Local {
    fn ring(&self, signal: libc::c_int) {
        self.rang.store(true, Ordering::Relaxed);
        let meter = self.meter.load(Ordering::Relaxed);
        if meter.is_null() {
            return;
        }
        // SAFETY: `reaching` sets both before a call and takes the meter away after it,
        // on this thread, which is between the two now, and holds both borrowed. So the
        // memory stays mapped also without the lock that the watchdog needs for that.
        let (meter, guest) = unsafe { (&*meter, &*self.guest.load(Ordering::Relaxed)) };
        if let Some(left) = meter.alarm_rings(guest) {
            self.ring_in(left, signal);
        }
    }

    /// The timer that this thread has in this process.
    fn timer(&self) -> libc::c_int {
        let timer = self.timer.load(Ordering::Relaxed);
        let is_inherited = timer >= 0 && self.process.load(Ordering::Relaxed) != process();
        if is_inherited { NONE } else { timer }
    }

    /// Has the signal come again in so many nanoseconds.
    fn ring_in(&self, nanos: u64, signal: libc::c_int) {
        let mut timer = self.timer();
        if timer == NONE {
            timer = new_timer(signal);
            self.timer.store(timer, Ordering::Relaxed);
            self.process.store(process(), Ordering::Relaxed);
        }
        // SAFETY: a struct of numbers, for which zeros are values.
        let mut time: libc::itimerspec = unsafe { std::mem::zeroed() };
        // No time at all would stop the timer.
        let nanos = nanos.max(1);
        time.it_value.tv_sec = (nanos / 1_000_000_000).cast_signed();
        time.it_value.tv_nsec = (nanos % 1_000_000_000).cast_signed();
        set_timer(timer, &time);
    }
}

/// A timer that signals the calling thread, or `NEVER`.
fn new_timer(signal: libc::c_int) -> libc::c_int {
    // SAFETY: a struct of numbers and pointers, for which zeros are values.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = signal;
    // SAFETY: it takes nothing and cannot fail.
    event.sigev_notify_thread_id = unsafe { libc::gettid() };
    let mut timer: libc::c_int = NEVER;
    // SAFETY: both are valid. The kernel's own identifier of a timer is an int.
    let made = unsafe {
        libc::syscall(
            libc::SYS_timer_create,
            libc::CLOCK_MONOTONIC,
            &mut event,
            &mut timer,
        )
    };
    if made == 0 { timer } else { NEVER }
}

fn set_timer(timer: libc::c_int, time: &libc::itimerspec) {
    let previous = ptr::null_mut::<libc::itimerspec>();
    // SAFETY: `time` is valid, and the timer is this thread's own or none.
    unsafe { libc::syscall(libc::SYS_timer_settime, timer, 0, time, previous) };
}

fn process() -> libc::pid_t {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::getpid() }
}

#[cfg(test)]
mod tests;
