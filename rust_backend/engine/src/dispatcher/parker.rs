//! How an executor without work is woken.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The way to one executor: a thread that sleeps, or an event loop that has other things to do.
#[derive(Debug)]
pub(super) enum Parker {
    Thread(Sleep),
    Loop(Arc<Bell>),
}

impl Default for Parker {
    fn default() -> Self {
        Self::Thread(Sleep::default())
    }
}

impl Parker {
    /// Sleep until [`Parker::unpark`] or `timeout`. An event loop has its own way to sleep.
    pub(super) fn park(&self, timeout: Duration) {
        match self {
            Self::Thread(sleep) => sleep.park(timeout),
            Self::Loop(_) => {}
        }
    }

    pub(super) fn unpark(&self) {
        match self {
            Self::Thread(sleep) => sleep.unpark(),
            Self::Loop(bell) => bell.ring(),
        }
    }
}

/// Sleep of one executor thread: a token that ends it; given early, it ends the next sleep at once.
///
/// Not `std::thread::park`, whose token other code in the same thread may consume.
#[derive(Debug, Default)]
pub(super) struct Sleep {
    token: Mutex<bool>,
    given: Condvar,
}

impl Sleep {
    fn park(&self, timeout: Duration) {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut token, _) = self
            .given
            .wait_timeout_while(token, timeout, |given| !*given)
            .unwrap_or_else(PoisonError::into_inner);
        *token = false;
    }

    fn unpark(&self) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.given.notify_one();
    }
}

/// Wakes an event loop through a descriptor that becomes readable.
///
/// At most one byte is ever under way, so that ringing never blocks and costs one system call for
/// any number of rings before the loop looks.
#[derive(Debug)]
pub struct Bell {
    reader: PipeReader,
    writer: PipeWriter,
    rung: AtomicBool,
}

impl Bell {
    /// A bell that nobody has rung.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self {
            reader,
            writer,
            rung: AtomicBool::new(false),
        })
    }

    /// The descriptor that is readable once it was rung.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Take note of the rings so far: whoever asks for work after this misses none of them.
    pub fn clear(&self) {
        if self.rung.load(Ordering::Acquire) {
            // The byte first. A ring that comes before the mark is gone writes none, but what it
            // rang for is there already, and its hearer is about to look.
            if (&self.reader).read(&mut [0]).is_ok() {
                self.rung.store(false, Ordering::Release);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // It can only fail if the reader is gone, and that lives as long as this.
            drop((&self.writer).write(&[1]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rings_are_one_and_the_next_is_heard_again() {
        let bell = Bell::new().unwrap();
        bell.clear();
        // More than a pipe holds: a ring that writes each time would wait here for ever.
        for _ in 0..100_000 {
            bell.ring();
        }
        bell.clear();
        assert!(!bell.is_rung());
        bell.ring();
        (&bell.reader).read_exact(&mut [0]).unwrap();
    }
}
