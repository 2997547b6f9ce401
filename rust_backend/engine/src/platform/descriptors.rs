//! The descriptors that must not survive a fork, and the fork handlers.
//!
//! An open-file-description lock lives until the *last* descriptor of that description is closed.
//! A forked child inherits descriptors, so without care a child that outlives its parent keeps the
//! locks of a dead worker: the worker looks alive, and a kill inside a commit stops the whole
//! queue. Therefore every descriptor that our SQLite opens, and every one of our own, is
//! registered here, and a `pthread_atfork` handler closes all of them in the child, at once.
//! Mappings hold a description open just as a descriptor does; they are made with
//! `MADV_DONTFORK` (see `syscalls` and `liveness`).
//!
//! The table is one bit per descriptor number: nothing to allocate and nothing to search, so the
//! child can walk it. A lock, held across every open and close, is taken before a fork and let go
//! on both sides after it: the child never sees a descriptor that is open and not yet registered,
//! or registered and already closed.
#![expect(
    unsafe_code,
    reason = "fork handlers and the system calls open, close and fork safe locking have no safe interface"
)]

use std::cell::UnsafeCell;
use std::ffi::{CStr, CString, c_int};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use rusqlite::ffi;

/// One bit each for 1,048,576 descriptors, the kernel's usual upper bound for a process. Zero
/// pages until they are used.
const WORDS: usize = 1 << 14;

static REGISTERED: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];
/// One more than the highest word ever used, so that the child walks no further.
static USED_WORDS: AtomicUsize = AtomicUsize::new(0);
/// How many forks lie between this process and the one that loaded the library.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// SQLite's static mutexes in the order in which its own code nests them. They are held across a
/// fork, so that the child can open databases even if another thread was inside SQLite.
const SQLITE_MUTEXES: [c_int; 9] = [
    ffi::SQLITE_MUTEX_STATIC_MAIN,
    ffi::SQLITE_MUTEX_STATIC_OPEN,
    ffi::SQLITE_MUTEX_STATIC_VFS1,
    ffi::SQLITE_MUTEX_STATIC_VFS2,
    ffi::SQLITE_MUTEX_STATIC_VFS3,
    ffi::SQLITE_MUTEX_STATIC_LRU,
    ffi::SQLITE_MUTEX_STATIC_PMEM,
    ffi::SQLITE_MUTEX_STATIC_PRNG,
    ffi::SQLITE_MUTEX_STATIC_MEM,
];
static HELD_MUTEXES: [AtomicPtr<ffi::sqlite3_mutex>; SQLITE_MUTEXES.len()] =
    [const { AtomicPtr::new(ptr::null_mut()) }; SQLITE_MUTEXES.len()];

unsafe extern "C" {
    // glibc keeps it in the static part of the C library; the libc crate does not declare it.
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> c_int;
}

/// A mutex that may be taken before a fork and let go on both sides of it. POSIX promises that
/// of its own mutex; nothing promises it of the standard library's.
struct ForkLock(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: a pthread mutex is made to be used from several threads through a shared address.
unsafe impl Sync for ForkLock {}

static FORK_LOCK: ForkLock = ForkLock(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));

impl ForkLock {
    fn lock(&self) {
        // SAFETY: the mutex is static and initialised; its owner never takes it twice.
        unsafe { libc::pthread_mutex_lock(self.0.get()) };
    }

    fn unlock(&self) {
        // SAFETY: only called by the thread that holds the mutex, or by its copy in the child.
        unsafe { libc::pthread_mutex_unlock(self.0.get()) };
    }
}

/// No fork happens while this exists. Hold it across an open and its registration, or a removal
/// and its close, and for nothing else.
pub(super) struct ForkExcluded(());

impl ForkExcluded {
    pub(super) fn enter() -> Self {
        FORK_LOCK.lock();
        Self(())
    }

    /// Enters a descriptor into the table; false when its number is beyond the table.
    ///
    /// The standard streams (0 to 2) are never entered: SQLite parks `/dev/null` there when they
    /// are missing, and a child needs them.
    #[expect(clippy::unused_self, reason = "proof that no fork happens now")]
    pub(super) fn mark(&self, descriptor: RawFd) -> bool {
        let Some((word, bit)) = position(descriptor) else {
            return descriptor <= 2;
        };
        USED_WORDS.fetch_max(word + 1, Ordering::Relaxed);
        REGISTERED[word].fetch_or(bit, Ordering::Relaxed);
        true
    }

    #[expect(clippy::unused_self, reason = "proof that no fork happens now")]
    pub(super) fn unmark(&self, descriptor: RawFd) {
        if let Some((word, bit)) = position(descriptor) {
            REGISTERED[word].fetch_and(!bit, Ordering::Relaxed);
        }
    }
}

impl Drop for ForkExcluded {
    fn drop(&mut self) {
        FORK_LOCK.unlock();
    }
}

fn position(descriptor: RawFd) -> Option<(usize, u64)> {
    let number = usize::try_from(descriptor).ok().filter(|n| *n > 2)?;
    (number / 64 < WORDS).then(|| (number / 64, 1 << (number % 64)))
}

/// Whether a descriptor is in the table.
pub(super) fn is_registered(descriptor: RawFd) -> bool {
    position(descriptor)
        .is_some_and(|(word, bit)| REGISTERED[word].load(Ordering::Relaxed) & bit != 0)
}

/// Enters a descriptor into the table of those that a forked child closes at once.
///
/// # Errors
///
/// When the fork handlers cannot be set up, or the number is beyond 1,048,575.
pub fn register_descriptor(descriptor: RawFd) -> io::Result<()> {
    ensure_fork_handlers()?;
    if ForkExcluded::enter().mark(descriptor) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EMFILE))
    }
}

/// Takes a descriptor out of the table; call it right before closing the descriptor.
pub fn forget_descriptor(descriptor: RawFd) {
    ForkExcluded::enter().unmark(descriptor);
}

/// The number of forks between this process and the one that loaded the engine.
#[must_use]
pub fn fork_generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Whether this process is a forked child of the one in which `generation` was read.
///
/// If so, nothing opened there may be used or dropped here: its descriptors are closed, their
/// numbers may belong to other files.
#[must_use]
pub fn process_is_forked_child(generation: u64) -> bool {
    fork_generation() != generation
}

/// Sets up the fork handlers, once per process.
pub(super) fn ensure_fork_handlers() -> io::Result<()> {
    static HANDLERS: OnceLock<c_int> = OnceLock::new();
    if super::syscalls::defence_is_disabled() {
        return Ok(());
    }
    let failure = *HANDLERS.get_or_init(|| {
        // SAFETY: SQLite may be initialised at any time, from any thread; a static mutex exists
        // as long as the process.
        unsafe {
            if ffi::sqlite3_initialize() != ffi::SQLITE_OK {
                return libc::ENOMEM;
            }
            for (slot, id) in HELD_MUTEXES.iter().zip(SQLITE_MUTEXES) {
                slot.store(ffi::sqlite3_mutex_alloc(id), Ordering::Release);
            }
        }
        // SAFETY: the three handlers are functions of this library, which is never unloaded
        // (Python does not unload extension modules).
        unsafe { pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) }
    });
    if failure == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(failure))
    }
}

/// Takes SQLite's mutexes before ours, as SQLite does when it opens a file.
unsafe extern "C" fn before_fork() {
    for mutex in &HELD_MUTEXES {
        // SAFETY: a static mutex of SQLite, or null, which SQLite ignores.
        unsafe { ffi::sqlite3_mutex_enter(mutex.load(Ordering::Acquire)) };
    }
    FORK_LOCK.lock();
}

unsafe extern "C" fn in_parent() {
    release_after_fork();
}

/// Runs in the child before `fork` returns. Only the forking thread exists here: nothing may
/// allocate or wait for a lock that it does not itself hold.
unsafe extern "C" fn in_child() {
    let used = USED_WORDS.load(Ordering::Relaxed);
    for (index, word) in REGISTERED.iter().enumerate().take(used) {
        let mut bits = word.swap(0, Ordering::Relaxed);
        while bits != 0 {
            let number = index * 64 + bits.trailing_zeros() as usize;
            if let Ok(descriptor) = RawFd::try_from(number) {
                // SAFETY: a registered descriptor is open and belongs to this engine; its
                // owner's copy in this process refuses itself by the generation.
                unsafe { libc::close(descriptor) };
            }
            bits &= bits - 1;
        }
    }
    GENERATION.fetch_add(1, Ordering::Relaxed);
    release_after_fork();
}

fn release_after_fork() {
    FORK_LOCK.unlock();
    for mutex in HELD_MUTEXES.iter().rev() {
        // SAFETY: taken by this thread in `before_fork`.
        unsafe { ffi::sqlite3_mutex_leave(mutex.load(Ordering::Acquire)) };
    }
}

/// An owned, registered descriptor that knows in which process it was opened.
///
/// Unlike the standard library's, it may be dropped in a forked child, where the number is closed
/// already and may belong to another file by now.
#[derive(Debug)]
pub(super) struct Descriptor {
    number: RawFd,
    generation: u64,
}

impl Descriptor {
    /// Opens a file, close-on-exec, and registers the descriptor.
    pub(super) fn open(path: &Path, flags: c_int, mode: libc::mode_t) -> io::Result<Self> {
        let path = path_to_c(path)?;
        // SAFETY: the path is a valid C string for the duration of the call.
        Self::adopt(|| unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode) })
    }

    /// Registers the descriptor that `make` opens; `make` answers -1 and sets `errno` otherwise.
    pub(super) fn adopt(mut make: impl FnMut() -> c_int) -> io::Result<Self> {
        ensure_fork_handlers()?;
        loop {
            let fork_excluded = ForkExcluded::enter();
            let number = make();
            if number >= 0 {
                if fork_excluded.mark(number) {
                    return Ok(Self {
                        number,
                        generation: fork_generation(),
                    });
                }
                // SAFETY: just opened, known to nobody else.
                unsafe { libc::close(number) };
                return Err(io::Error::from_raw_os_error(libc::EMFILE));
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// The number, for a system call.
    pub(super) fn number(&self) -> io::Result<RawFd> {
        if self.is_foreign() {
            return Err(io::Error::other(
                "this file was opened before the process was forked; open the queue again in the child",
            ));
        }
        Ok(self.number)
    }

    /// Whether it was opened before a fork that made this process.
    pub(super) fn is_foreign(&self) -> bool {
        process_is_forked_child(self.generation)
    }

    /// Never closes the descriptor while the process lives; a forked child still closes it.
    pub(super) fn leak(self) {
        std::mem::forget(self);
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.is_foreign() {
            return;
        }
        let fork_excluded = ForkExcluded::enter();
        fork_excluded.unmark(self.number);
        // SAFETY: owned by this value and not used afterwards.
        unsafe { libc::close(self.number) };
    }
}

/// A path as the system calls want it.
pub(super) fn path_to_c(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the path contains a null byte"))
}

/// `Ok` with the answer of a system call, or the error it left in `errno`.
pub(super) fn checked(answer: c_int) -> io::Result<c_int> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

/// The path through which the kernel reaches exactly the file behind a descriptor.
pub(super) fn path_of_descriptor(number: RawFd) -> CString {
    CString::new(format!("/proc/self/fd/{number}")).unwrap_or_else(|_| CStr::to_owned(c"/"))
}

/// Repeats a system call that a signal interrupted.
pub(super) fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(count) = usize::try_from(call()) {
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_streams_and_huge_numbers_have_no_place() {
        assert_eq!(position(-1), None);
        assert_eq!(position(2), None);
        assert_eq!(position(3), Some((0, 8)));
        assert_eq!(position(64), Some((1, 1)));
        assert_eq!(position(1 << 20), None);
    }

    #[test]
    fn a_descriptor_is_registered_while_it_lives() {
        let descriptor =
            Descriptor::open(Path::new("/dev/null"), libc::O_RDONLY, 0).expect("open /dev/null");
        let number = descriptor.number().expect("same process");
        assert!(is_registered(number));
        let fork_excluded = ForkExcluded::enter();
        fork_excluded.unmark(number);
        assert!(!is_registered(number));
        assert!(fork_excluded.mark(number));
        drop(fork_excluded);
        drop(descriptor);
    }

    #[test]
    fn a_failed_open_names_the_reason() {
        let error = Descriptor::open(Path::new("/nowhere/at/all"), libc::O_RDONLY, 0)
            .expect_err("there is no such file");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
