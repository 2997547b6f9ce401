//! The last resort of a worker that owns its process: end it although threads do not let it end.
//!
//! `std::process::exit` runs exit handlers, which can hang on the very threads that are stuck, so
//! this module calls `_exit(2)` directly. That, and the message before it, is all the `unsafe` here.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The exit code of a process that was ended this way (`EX_SOFTWARE` of `sysexits.h`).
pub const WATCHDOG_EXIT_CODE: i32 = 70;
/// The process has this long after the drain time.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Ends the process some time after the deadline. Dropping it does not disarm it: the process is
/// meant to end, and dropping may be all that its main thread still managed.
#[derive(Debug)]
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    exit: fn(i32),
}

#[derive(Debug, Default)]
struct Shared {
    end_at: Mutex<Option<Instant>>,
    moved: Condvar,
}

impl Watchdog {
    /// `exit` ends the process; [`end_process`] outside tests.
    pub(super) fn new(exit: fn(i32)) -> Self {
        Self {
            shared: Arc::default(),
            exit,
        }
    }

    /// End the process [`GRACE`] after `drain` from now; a later call can only shorten that.
    pub(super) fn arm(&self, drain: Duration) {
        let wanted = Instant::now().checked_add(drain.saturating_add(GRACE));
        let mut end_at = self
            .shared
            .end_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(wanted) = wanted else { return };
        if let Some(present) = *end_at {
            if wanted < present {
                *end_at = Some(wanted);
                self.shared.moved.notify_one();
            }
            return;
        }
        *end_at = Some(wanted);
        drop(end_at);
        let (shared, exit) = (Arc::clone(&self.shared), self.exit);
        let spawned = thread::Builder::new()
            .name("taskito-watchdog".to_owned())
            .spawn(move || shared.watch(exit));
        if spawned.is_err() {
            // Without a watchdog the process may hang, which is better than ending it early.
            *self
                .shared
                .end_at
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

impl Shared {
    fn watch(&self, exit: fn(i32)) {
        let mut end_at = self.end_at.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(at) = *end_at {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            end_at = self
                .moved
                .wait_timeout(end_at, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        drop(end_at);
        exit(WATCHDOG_EXIT_CODE);
    }
}

/// Say so on standard error and end the process without running exit handlers.
#[expect(
    unsafe_code,
    reason = "write(2) and _exit(2): nothing else may be waited for any more"
)]
pub(super) fn end_process(code: i32) {
    const MESSAGE: &[u8] =
        b"taskito: the process did not end within 2 s after the drain time; ending it now\n";
    // SAFETY: the pointer and the length describe a constant; a failure to write is ignored.
    unsafe { libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len()) };
    // SAFETY: _exit never returns and touches no memory of ours.
    unsafe { libc::_exit(code) };
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI32, Ordering};

    use super::*;

    #[test]
    fn it_ends_the_process_after_the_shortest_drain_and_the_grace() {
        static CODE: AtomicI32 = AtomicI32::new(0);
        let watchdog = Watchdog::new(|code| CODE.store(code, Ordering::SeqCst));
        let began = Instant::now();
        watchdog.arm(Duration::from_secs(3_600));
        watchdog.arm(Duration::from_millis(10));
        watchdog.arm(Duration::from_secs(7_200));
        while CODE.load(Ordering::SeqCst) == 0 {
            assert!(began.elapsed() < GRACE * 5, "the watchdog did not bite");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(CODE.load(Ordering::SeqCst), WATCHDOG_EXIT_CODE);
        assert!(began.elapsed() >= GRACE);
    }
}
