//! The system calls of our SQLite that are replaced.
//!
//! POSIX record locks belong to the process: when any library in it closes any descriptor of a
//! file, every lock that the process holds on that file is gone, silently. Our SQLite and
//! Python's `sqlite3` may be in one process on one file, so ours must hold locks that nobody else
//! can drop. SQLite's unix VFS lets a library replace its system calls:
//!
//! - `fcntl`: locks on the bytes 120 to 128, which SQLite takes on the `-shm` file only, become
//!   open-file-description locks. They belong to the descriptor, and conflict with POSIX locks as
//!   those do with each other. One descriptor per process and file serves all connections there,
//!   which is what such locks need. The main file's locks stay as they are: SQLite takes and
//!   releases them through different descriptors.
//! - `open`, `close`: every descriptor is in the table of `descriptors`.
//! - `mmap`: a shared mapping is not inherited by a forked child; it would keep the description
//!   of the `-shm` file, and with it the dead parent's locks.
//! - `stat`, `fstat`: the device number carries the fork generation. SQLite finds the locks that
//!   it holds on a file by device and inode; a child that opens the file anew must not find its
//!   parent's, which it did not inherit.
#![expect(
    unsafe_code,
    reason = "functions that C calls, with C's types, in the place of system calls"
)]

use std::ffi::{c_char, c_int, c_void};
use std::io;
use std::ptr;
use std::sync::OnceLock;

use rusqlite::ffi;

use super::descriptors::{ForkExcluded, ensure_fork_handlers, fork_generation, is_registered};

/// The lock bytes of a `-shm` file: eight WAL locks and the dead man's switch.
const SHM_LOCK_FIRST: i64 = 120;
const SHM_LOCK_LAST: i64 = 128;

/// Major and minor numbers leave the upper 20 bits of a device number empty.
const GENERATION_SHIFT: u32 = 44;

/// What SQLite stores for a system call, whatever its arguments.
type AnySystemCall = unsafe extern "C" fn();

#[cfg(any(test, feature = "failpoints"))]
static DISABLED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Leaves SQLite's system calls, forks and the main file's lock as they are, in this process and
/// from now on: the way to show that a scenario fails without the defence. Call it before
/// [`install`].
#[cfg(any(test, feature = "failpoints"))]
pub fn disable_defence_for_tests() {
    DISABLED.store(true, std::sync::atomic::Ordering::SeqCst);
}

#[cfg(any(test, feature = "failpoints"))]
pub(super) fn defence_is_disabled() -> bool {
    DISABLED.load(std::sync::atomic::Ordering::SeqCst)
}

#[cfg(not(any(test, feature = "failpoints")))]
pub(super) const fn defence_is_disabled() -> bool {
    false
}

/// Replaces the system calls of our SQLite and sets up the fork handlers, once per process.
///
/// Call it before the first database is opened; later calls answer what the first one did.
///
/// # Errors
///
/// When the bundled SQLite has no unix VFS or refuses a replacement.
pub fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    if defence_is_disabled() {
        return Ok(());
    }
    ensure_fork_handlers()?;
    INSTALLED
        .get_or_init(replace_system_calls)
        .clone()
        .map_err(io::Error::other)
}

fn replace_system_calls() -> Result<(), String> {
    // SAFETY: null asks for the default VFS, which lives as long as the process.
    let vfs = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
    // SAFETY: SQLite answers a valid VFS or null.
    let replace = unsafe { vfs.as_ref() }
        .filter(|found| found.iVersion >= 3)
        .and_then(|found| found.xSetSystemCall)
        .ok_or("the bundled SQLite has no VFS whose system calls can be replaced")?;
    // SAFETY: each function has exactly the type through which SQLite calls that system call
    // (see the `os...` macros in os_unix.c). `fcntl` is called as variadic; on every 64-bit Linux
    // a variadic argument travels like a named one.
    let replacements: [(&std::ffi::CStr, AnySystemCall); 6] = unsafe {
        [
            (
                c"open",
                std::mem::transmute::<
                    unsafe extern "C" fn(*const c_char, c_int, c_int) -> c_int,
                    AnySystemCall,
                >(open_registered),
            ),
            (
                c"close",
                std::mem::transmute::<unsafe extern "C" fn(c_int) -> c_int, AnySystemCall>(
                    close_registered,
                ),
            ),
            (
                c"fcntl",
                std::mem::transmute::<
                    unsafe extern "C" fn(c_int, c_int, *mut c_void) -> c_int,
                    AnySystemCall,
                >(fcntl_by_description),
            ),
            (
                c"mmap",
                std::mem::transmute::<
                    unsafe extern "C" fn(
                        *mut c_void,
                        usize,
                        c_int,
                        c_int,
                        c_int,
                        libc::off_t,
                    ) -> *mut c_void,
                    AnySystemCall,
                >(mmap_not_inherited),
            ),
            (
                c"stat",
                std::mem::transmute::<
                    unsafe extern "C" fn(*const c_char, *mut libc::stat) -> c_int,
                    AnySystemCall,
                >(stat_of_generation),
            ),
            (
                c"fstat",
                std::mem::transmute::<
                    unsafe extern "C" fn(c_int, *mut libc::stat) -> c_int,
                    AnySystemCall,
                >(fstat_of_generation),
            ),
        ]
    };
    for (name, function) in replacements {
        // SAFETY: the VFS and the name are valid; the function fits the name, see above.
        let answer = unsafe { replace(vfs, name.as_ptr(), Some(function)) };
        if answer != ffi::SQLITE_OK {
            return Err(format!(
                "the bundled SQLite refused to replace the system call {name:?} (code {answer})"
            ));
        }
    }
    Ok(())
}

fn set_errno(value: c_int) {
    // SAFETY: the address of this thread's `errno` is always valid.
    unsafe { *libc::__errno_location() = value };
}

/// A descriptor of the parent, met in a forked child: its number may belong to another file.
fn is_inherited(descriptor: c_int) -> bool {
    fork_generation() > 0 && descriptor > 2 && !is_registered(descriptor)
}

unsafe extern "C" fn open_registered(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    let fork_excluded = ForkExcluded::enter();
    // SAFETY: SQLite passes a valid path.
    let descriptor = unsafe { libc::open(path, flags | libc::O_CLOEXEC, mode) };
    if descriptor >= 0 && !fork_excluded.mark(descriptor) {
        // SAFETY: just opened, known to nobody else.
        unsafe { libc::close(descriptor) };
        set_errno(libc::EMFILE);
        return -1;
    }
    descriptor
}

unsafe extern "C" fn close_registered(descriptor: c_int) -> c_int {
    let fork_excluded = ForkExcluded::enter();
    if is_inherited(descriptor) {
        return 0;
    }
    fork_excluded.unmark(descriptor);
    // SAFETY: SQLite closes what it opened.
    unsafe { libc::close(descriptor) }
}

unsafe extern "C" fn fcntl_by_description(
    descriptor: c_int,
    command: c_int,
    argument: *mut c_void,
) -> c_int {
    if is_inherited(descriptor) {
        // No lock, so a connection of the parent can neither read nor write here.
        set_errno(libc::EBADF);
        return -1;
    }
    let by_description = match command {
        libc::F_SETLK => libc::F_OFD_SETLK,
        libc::F_SETLKW => libc::F_OFD_SETLKW,
        libc::F_GETLK => libc::F_OFD_GETLK,
        // SAFETY: the caller's own call, unchanged.
        _ => return unsafe { libc::fcntl(descriptor, command, argument) },
    };
    let lock = argument.cast::<libc::flock>();
    // SAFETY: a lock command's argument is a `struct flock`; SQLite fills in type and range.
    let (whence, start, length) = unsafe { ((*lock).l_whence, (*lock).l_start, (*lock).l_len) };
    if !is_shm_lock(c_int::from(whence), start, length) {
        // SAFETY: the caller's own call, unchanged.
        return unsafe { libc::fcntl(descriptor, command, argument) };
    }
    // SAFETY: as above; the kernel demands a process id of zero for these commands.
    unsafe {
        (*lock).l_pid = 0;
        libc::fcntl(descriptor, by_description, argument)
    }
}

fn is_shm_lock(whence: c_int, start: i64, length: i64) -> bool {
    whence == libc::SEEK_SET
        && start >= SHM_LOCK_FIRST
        && length >= 1
        && start.saturating_add(length - 1) <= SHM_LOCK_LAST
}

unsafe extern "C" fn mmap_not_inherited(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    descriptor: c_int,
    offset: libc::off_t,
) -> *mut c_void {
    let _fork_excluded = ForkExcluded::enter();
    // SAFETY: the caller's own call, unchanged.
    let mapping = unsafe { libc::mmap(address, length, protection, flags, descriptor, offset) };
    if mapping == libc::MAP_FAILED || flags & libc::MAP_SHARED == 0 {
        return mapping;
    }
    // SAFETY: the range was just mapped, and nobody knows it yet.
    unsafe {
        if libc::madvise(mapping, length, libc::MADV_DONTFORK) != 0 {
            libc::munmap(mapping, length);
            set_errno(libc::ENOMEM);
            return libc::MAP_FAILED;
        }
    }
    mapping
}

unsafe extern "C" fn stat_of_generation(path: *const c_char, facts: *mut libc::stat) -> c_int {
    // SAFETY: the caller's own call, unchanged.
    let answer = unsafe { libc::stat(path, facts) };
    if answer == 0 {
        // SAFETY: filled in by the kernel.
        unsafe { (*facts).st_dev ^= fork_generation() << GENERATION_SHIFT };
    }
    answer
}

unsafe extern "C" fn fstat_of_generation(descriptor: c_int, facts: *mut libc::stat) -> c_int {
    // SAFETY: the caller's own call, unchanged.
    let answer = unsafe { libc::fstat(descriptor, facts) };
    if answer == 0 {
        // SAFETY: filled in by the kernel.
        unsafe { (*facts).st_dev ^= fork_generation() << GENERATION_SHIFT };
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: c_int = libc::SEEK_SET;

    #[test]
    fn exactly_the_shm_lock_bytes_are_turned() {
        assert!(is_shm_lock(SET, 120, 1));
        assert!(is_shm_lock(SET, 123, 5));
        assert!(is_shm_lock(SET, 128, 1));
        assert!(is_shm_lock(SET, 120, 9));
        assert!(!is_shm_lock(SET, 119, 1));
        assert!(!is_shm_lock(SET, 120, 10));
        assert!(!is_shm_lock(SET, 120, 0));
        assert!(!is_shm_lock(SET, 0x4000_0002, 510));
        assert!(!is_shm_lock(libc::SEEK_END, 120, 1));
    }

    #[test]
    fn installing_twice_is_one_installation() {
        install().expect("first");
        install().expect("second");
    }
}
