//! Wake-ups between processes: one file beside the database that everyone watches.
//!
//! Whoever commits something of interest writes one byte to it; inotify tells every waiting
//! process. A ring is a hint and never carries information: what happened is in the database.
#![expect(
    unsafe_code,
    reason = "inotify, eventfd and poll have no safe interface in the standard library"
)]

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Wake;
use super::descriptors::{Descriptor, checked, path_of_descriptor, path_to_c, retry};

/// Longer waits are cut to this; callers wait in a loop anyhow.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The bell of one database folder.
#[derive(Debug)]
pub struct Bell {
    descriptor: Descriptor,
}

impl Bell {
    /// Opens, or creates with mode 0600, the file `bell` in the folder.
    ///
    /// # Errors
    ///
    /// What the file system says; a symbolic link in its place is refused.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_NOFOLLOW;
        Ok(Self {
            descriptor: Descriptor::open(&folder.join("bell"), flags, 0o600)?,
        })
    }

    /// Wakes every waiter of every process.
    ///
    /// # Errors
    ///
    /// In a forked child, and what the file system says, such as a full disk at the first ring.
    pub fn ring(&self) -> io::Result<()> {
        let number = self.descriptor.number()?;
        // SAFETY: writes the one byte given. The same byte each time: the write is the event.
        retry(|| unsafe { libc::pwrite(number, c"!".as_ptr().cast(), 1, 0) }).map(drop)
    }

    /// Starts to watch the bell. Rings from now on are seen by the waiter's next wait.
    ///
    /// # Errors
    ///
    /// In a forked child, and when the user's limit of inotify instances or descriptors is
    /// reached (`EMFILE`; see `/proc/sys/fs/inotify/max_user_instances`).
    pub fn waiter(&self) -> io::Result<BellWaiter> {
        let bell = path_of_descriptor(self.descriptor.number()?);
        // SAFETY: a plain system call.
        let events = Descriptor::adopt(|| unsafe {
            libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK)
        })?;
        // SAFETY: a plain system call.
        let interrupt = Descriptor::adopt(|| unsafe {
            libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)
        })?;
        let bell_watch = watch(&events, &bell)?;
        Ok(BellWaiter {
            events,
            interrupt: Arc::new(interrupt),
            bell_watch,
            file_changed: AtomicBool::new(false),
        })
    }
}

/// Waits for rings. One thread at a time waits; others may interrupt it.
#[derive(Debug)]
pub struct BellWaiter {
    events: Descriptor,
    interrupt: Arc<Descriptor>,
    bell_watch: c_int,
    /// A file changed in the same instant as the bell rang; told by the next wait.
    file_changed: AtomicBool,
}

/// Ends a wait from another thread.
#[derive(Clone, Debug)]
pub struct InterruptHandle(Arc<Descriptor>);

impl InterruptHandle {
    /// Ends the present wait, or the next one if nobody waits.
    ///
    /// # Errors
    ///
    /// In a forked child.
    pub fn interrupt(&self) -> io::Result<()> {
        let number = self.0.number()?;
        let one = 1_u64.to_ne_bytes();
        // SAFETY: writes the eight bytes that an eventfd takes.
        match retry(|| unsafe { libc::write(number, one.as_ptr().cast(), one.len()) }) {
            // The counter is full of interrupts that nobody has seen yet: one more says nothing.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            answer => answer.map(drop),
        }
    }
}

impl BellWaiter {
    /// Watches one more file, such as the `-wal`: its writes end a wait with
    /// [`Wake::FileChanged`].
    ///
    /// # Errors
    ///
    /// When the file does not exist, in a forked child, or when the limit of watches is reached.
    pub fn also_watch(&self, path: &Path) -> io::Result<()> {
        watch(&self.events, &path_to_c(path)?).map(drop)
    }

    /// A handle to end a wait from another thread.
    #[must_use]
    pub fn interrupt_handle(&self) -> InterruptHandle {
        InterruptHandle(Arc::clone(&self.interrupt))
    }

    /// Waits until something happens, at most for `timeout` (and at most for a day).
    ///
    /// Any number of rings before it returns are one. An interrupt comes first; a ring that came
    /// with it is told by the next wait.
    ///
    /// # Errors
    ///
    /// In a forked child, and what the system calls say.
    pub fn wait(&self, timeout: Duration) -> io::Result<Wake> {
        let deadline = Instant::now() + timeout.min(LONGEST_WAIT);
        let mut watched = [
            libc::pollfd {
                fd: self.interrupt.number()?,
                events: libc::POLLIN,
                revents: 0,
            },
            libc::pollfd {
                fd: self.events.number()?,
                events: libc::POLLIN,
                revents: 0,
            },
        ];
        loop {
            if self.file_changed.load(Ordering::Relaxed) {
                // Told below, without waiting, unless someone interrupts.
                poll(&mut watched, Duration::ZERO)?;
            } else {
                poll(
                    &mut watched,
                    deadline.saturating_duration_since(Instant::now()),
                )?;
            }
            if watched[0].revents != 0 && read_all(&self.interrupt, |_| ())? {
                return Ok(Wake::Interrupted);
            }
            let mut rung = false;
            if watched[1].revents != 0 {
                read_all(&self.events, |events| {
                    for watch in watches_of(events) {
                        // A negative watch says that events were lost: the bell may be among them.
                        rung |= watch == self.bell_watch || watch < 0;
                        if watch != self.bell_watch {
                            self.file_changed.store(true, Ordering::Relaxed);
                        }
                    }
                })?;
            }
            if rung {
                return Ok(Wake::Rung);
            }
            if self.file_changed.swap(false, Ordering::Relaxed) {
                return Ok(Wake::FileChanged);
            }
            if Instant::now() >= deadline {
                return Ok(Wake::TimedOut);
            }
        }
    }
}

fn watch(events: &Descriptor, path: &CStr) -> io::Result<c_int> {
    let number = events.number()?;
    // SAFETY: the path is a valid C string for the duration of the call.
    checked(unsafe { libc::inotify_add_watch(number, path.as_ptr(), libc::IN_MODIFY) })
}

/// Waits for the first of them; a signal ends the wait early, as a wait without an event.
fn poll(watched: &mut [libc::pollfd; 2], timeout: Duration) -> io::Result<()> {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut span: libc::timespec = unsafe { mem::zeroed() };
    span.tv_sec = libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX);
    span.tv_nsec = timeout.subsec_nanos().into();
    for entry in watched.iter_mut() {
        entry.revents = 0;
    }
    // SAFETY: both entries and the span outlive the call; no signal mask is given.
    match checked(unsafe {
        libc::ppoll(watched.as_mut_ptr(), 2, &raw const span, std::ptr::null())
    }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// A buffer aligned as the kernel's events are.
#[repr(align(8))]
struct EventBuffer([u8; 4096]);

/// Reads a descriptor empty; answers whether there was anything.
fn read_all(descriptor: &Descriptor, mut seen: impl FnMut(&[u8])) -> io::Result<bool> {
    let number = descriptor.number()?;
    let mut buffer = EventBuffer([0; 4096]);
    let mut any = false;
    loop {
        let room: *mut c_void = buffer.0.as_mut_ptr().cast();
        // SAFETY: reads at most as much as the buffer holds.
        match retry(|| unsafe { libc::read(number, room, buffer.0.len()) }) {
            Ok(0) => return Ok(any),
            Ok(count) => {
                any = true;
                seen(&buffer.0[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
            Err(error) => return Err(error),
        }
    }
}

/// The watch of each event: its first field, followed by mask, cookie and the length of a name.
fn watches_of(mut events: &[u8]) -> Vec<c_int> {
    const HEADER: usize = mem::size_of::<libc::inotify_event>();
    let mut watches = Vec::new();
    while let Some((header, rest)) = events.split_first_chunk::<HEADER>() {
        let field = |index: usize| -> [u8; 4] {
            [
                header[index],
                header[index + 1],
                header[index + 2],
                header[index + 3],
            ]
        };
        watches.push(c_int::from_ne_bytes(field(0)));
        let name_length = u32::from_ne_bytes(field(12)) as usize;
        events = rest.get(name_length..).unwrap_or_default();
    }
    watches
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn rings_are_merged_and_then_nothing_is_left() {
        let folder = folder();
        let bell = Bell::open(folder.path()).expect("open");
        let waiter = bell.waiter().expect("waiter");
        assert_eq!(waiter.wait(Duration::ZERO).expect("wait"), Wake::TimedOut);
        for _ in 0..1000 {
            bell.ring().expect("ring");
        }
        assert_eq!(waiter.wait(LONG).expect("wait"), Wake::Rung);
        assert_eq!(waiter.wait(Duration::ZERO).expect("wait"), Wake::TimedOut);
        let length = std::fs::metadata(folder.path().join("bell"))
            .expect("metadata")
            .len();
        assert_eq!(length, 1);
    }

    #[test]
    fn an_interrupt_comes_first_and_loses_no_ring() {
        let folder = folder();
        let bell = Bell::open(folder.path()).expect("open");
        let waiter = bell.waiter().expect("waiter");
        let handle = waiter.interrupt_handle();
        bell.ring().expect("ring");
        handle.interrupt().expect("interrupt");
        handle.clone().interrupt().expect("interrupt");
        assert_eq!(waiter.wait(LONG).expect("wait"), Wake::Interrupted);
        assert_eq!(waiter.wait(LONG).expect("wait"), Wake::Rung);
        assert_eq!(waiter.wait(Duration::ZERO).expect("wait"), Wake::TimedOut);
    }

    #[test]
    fn a_sleeping_waiter_is_interrupted() {
        let folder = folder();
        let waiter = Bell::open(folder.path())
            .expect("open")
            .waiter()
            .expect("waiter");
        let handle = waiter.interrupt_handle();
        let sleeper = std::thread::spawn(move || waiter.wait(Duration::MAX).expect("wait"));
        handle.interrupt().expect("interrupt");
        assert_eq!(sleeper.join().expect("no panic"), Wake::Interrupted);
    }

    #[test]
    fn a_watched_file_is_told_apart_from_the_bell() {
        let folder = folder();
        let wal = folder.path().join("queue.db-wal");
        std::fs::write(&wal, b"").expect("create");
        let bell = Bell::open(folder.path()).expect("open");
        let waiter = bell.waiter().expect("waiter");
        waiter.also_watch(&wal).expect("watch");
        std::fs::write(&wal, b"frame").expect("write");
        assert_eq!(waiter.wait(LONG).expect("wait"), Wake::FileChanged);
        std::fs::write(&wal, b"frames").expect("write");
        bell.ring().expect("ring");
        assert_eq!(waiter.wait(LONG).expect("wait"), Wake::Rung);
        assert_eq!(waiter.wait(LONG).expect("wait"), Wake::FileChanged);
        assert_eq!(waiter.wait(Duration::ZERO).expect("wait"), Wake::TimedOut);
    }

    #[test]
    fn a_wait_lasts_as_long_as_asked() {
        let folder = folder();
        let waiter = Bell::open(folder.path())
            .expect("open")
            .waiter()
            .expect("waiter");
        let start = Instant::now();
        assert_eq!(
            waiter.wait(Duration::from_millis(30)).expect("wait"),
            Wake::TimedOut
        );
        assert!(start.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn a_symbolic_link_in_place_of_the_bell_is_refused() {
        let folder = folder();
        std::os::unix::fs::symlink("/dev/null", folder.path().join("bell")).expect("link");
        let error = Bell::open(folder.path()).expect_err("a link");
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }
}
