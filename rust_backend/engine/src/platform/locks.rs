//! Open-file-description locks, and the guard of a database file.
//!
//! Such a lock belongs to the open file description: nobody else's `close()` drops it, and it
//! goes away exactly when the last descriptor and the last mapping of the description do, at the
//! latest when the process dies.
#![expect(
    unsafe_code,
    reason = "fcntl with a lock as its argument has no safe interface"
)]

use std::ffi::c_int;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::FileIdentity;
use super::descriptors::{Descriptor, checked, retry};
use super::syscalls::defence_is_disabled;

/// The range on which SQLite's readers hold a shared lock and which it locks exclusively before
/// it deletes the WAL or changes the journal mode.
const SHARED_FIRST: i64 = 0x4000_0002;
const SHARED_SIZE: i64 = 510;

/// How long [`Guard::acquire`] waits for someone who holds the file exclusively.
const GUARD_PATIENCE: Duration = Duration::from_secs(2);

/// The two kinds of lock, and none.
#[derive(Clone, Copy)]
pub(super) enum LockKind {
    Read,
    Write,
    None,
}

/// Takes or drops a lock without waiting; `WouldBlock` when another description holds it.
pub(super) fn set_lock(
    descriptor: RawFd,
    kind: LockKind,
    start: i64,
    length: i64,
) -> io::Result<()> {
    let lock = describe(kind, start, length);
    // SAFETY: the lock outlives the call.
    checked(unsafe { libc::fcntl(descriptor, libc::F_OFD_SETLK, &raw const lock) })?;
    Ok(())
}

/// Whether another description holds a lock that conflicts with this one. Takes nothing.
pub(super) fn is_locked_by_another(
    descriptor: RawFd,
    kind: LockKind,
    start: i64,
    length: i64,
) -> io::Result<bool> {
    let mut lock = describe(kind, start, length);
    // SAFETY: the lock outlives the call, which overwrites it.
    checked(unsafe { libc::fcntl(descriptor, libc::F_OFD_GETLK, &raw mut lock) })?;
    Ok(c_int::from(lock.l_type) != libc::F_UNLCK)
}

fn describe(kind: LockKind, start: i64, length: i64) -> libc::flock {
    let kind = match kind {
        LockKind::Read => libc::F_RDLCK,
        LockKind::Write => libc::F_WRLCK,
        LockKind::None => libc::F_UNLCK,
    };
    // SAFETY: all fields are integers, for which zero is a value; `l_pid` must be zero.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    // The constants are small; the field is as narrow as the kernel wants it.
    #[expect(clippy::cast_possible_truncation, reason = "0, 1 and 2")]
    {
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
    }
    lock.l_start = start;
    lock.l_len = length;
    lock
}

/// Keeps every process from deleting the WAL under us or changing the journal mode.
///
/// A descriptor of the main database file of its own holds a read lock on SQLite's shared range.
/// In WAL mode an exclusive lock on the main file is wanted only to delete the WAL on the last
/// close or to change the journal mode: both are refused, to every process, while the guard
/// exists. The WAL then stays behind at exit, and the next opener recovers it.
///
/// Dropping a guard leaves the lock and the descriptor in place until the process ends, on
/// purpose: closing any descriptor of the file would drop the POSIX locks of another SQLite
/// library in this process.
#[derive(Debug)]
pub struct Guard {
    descriptor: ManuallyDrop<Descriptor>,
}

impl Guard {
    /// Takes the guard of a database that is in WAL mode.
    ///
    /// Waits up to two seconds for a process that holds the file exclusively, for example to
    /// leave WAL mode.
    ///
    /// # Errors
    ///
    /// What opening or locking the file says; `WouldBlock` when it stayed locked. The descriptor
    /// stays open then too, for the reason named above.
    pub fn acquire(path: &Path) -> io::Result<Self> {
        Self::lock(Descriptor::open(path, libc::O_RDONLY, 0)?)
    }

    /// Takes the guard if the file is a database in WAL mode, before anything else opens it.
    ///
    /// A connection that is opened without a guard is protected by nothing but POSIX locks: another
    /// SQLite library could delete the log under it. `None` if the file is not in WAL mode.
    ///
    /// # Errors
    ///
    /// As [`Guard::acquire`].
    pub fn acquire_in_wal_mode(path: &Path) -> io::Result<Option<Self>> {
        let descriptor = Descriptor::open(path, libc::O_RDONLY, 0)?;
        if !is_in_wal_mode(&descriptor)? {
            // Not closed either: the close would drop the locks of another library.
            descriptor.leak();
            return Ok(None);
        }
        let guard = Self::lock(descriptor)?;
        if is_in_wal_mode(&guard.descriptor)? {
            return Ok(Some(guard));
        }
        guard.release()?;
        Ok(None)
    }

    fn lock(descriptor: Descriptor) -> io::Result<Self> {
        let descriptor = ManuallyDrop::new(descriptor);
        let number = descriptor.number()?;
        let give_up_at = Instant::now() + GUARD_PATIENCE;
        while !defence_is_disabled() {
            match set_lock(number, LockKind::Read, SHARED_FIRST, SHARED_SIZE) {
                Ok(()) => break,
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < give_up_at =>
                {
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self { descriptor })
    }

    /// Which file is guarded; `links` is zero when it has no name left.
    ///
    /// # Errors
    ///
    /// In a forked child, and what the system call says.
    pub fn identity(&self) -> io::Result<FileIdentity> {
        // SAFETY: all fields are integers, for which zero is a value.
        let mut facts: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: the structure outlives the call, which fills it in.
        checked(unsafe { libc::fstat(self.descriptor.number()?, &raw mut facts) })?;
        Ok(FileIdentity {
            device: facts.st_dev,
            inode: facts.st_ino,
            links: facts.st_nlink as _,
        })
    }

    /// Drops the lock, so that the journal mode may be changed.
    ///
    /// The descriptor is closed only when the file has no name left: nobody can open it any more.
    ///
    /// # Errors
    ///
    /// In a forked child, and what the system call says.
    pub fn release(self) -> io::Result<()> {
        let number = self.descriptor.number()?;
        set_lock(number, LockKind::None, SHARED_FIRST, SHARED_SIZE)?;
        let nameless = self.identity()?.links == 0;
        let descriptor = ManuallyDrop::into_inner(self.descriptor);
        if !nameless {
            descriptor.leak();
        }
        Ok(())
    }
}

/// Whether the header of a database says so ("File format write version" and "read version" in
/// SQLite's description of the format, section 1.3.3).
fn is_in_wal_mode(descriptor: &Descriptor) -> io::Result<bool> {
    let mut versions = [0_u8; 2];
    let number = descriptor.number()?;
    // SAFETY: reads at most as many bytes as the array has.
    let read =
        retry(|| unsafe { libc::pread(number, versions.as_mut_ptr().cast(), versions.len(), 18) })?;
    Ok(read == 2 && versions == [2, 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> tempfile::NamedTempFile {
        tempfile::NamedTempFile::new().expect("a temporary file")
    }

    fn exclusive_is_refused(path: &Path) -> bool {
        let other = Descriptor::open(path, libc::O_RDWR, 0).expect("open");
        is_locked_by_another(
            other.number().expect("same process"),
            LockKind::Write,
            SHARED_FIRST,
            SHARED_SIZE,
        )
        .expect("ask")
    }

    #[test]
    fn a_guard_stays_when_dropped_and_goes_when_released() {
        let kept = file();
        {
            let _guard = Guard::acquire(kept.path()).expect("guard");
        }
        assert!(exclusive_is_refused(kept.path()));

        let released = file();
        let guard = Guard::acquire(released.path()).expect("guard");
        assert!(exclusive_is_refused(released.path()));
        drop(std::fs::File::open(released.path()).expect("open and close"));
        assert!(exclusive_is_refused(released.path()));
        guard.release().expect("release");
        assert!(!exclusive_is_refused(released.path()));
    }

    #[test]
    fn a_guard_notices_that_the_file_was_deleted() {
        let deleted = file();
        let guard = Guard::acquire(deleted.path()).expect("guard");
        assert_eq!(guard.identity().expect("identity").links, 1);
        drop(deleted);
        assert_eq!(guard.identity().expect("identity").links, 0);
        guard.release().expect("release");
    }

    #[test]
    fn a_guard_is_refused_while_the_file_is_held_exclusively() {
        let held = file();
        let holder = Descriptor::open(held.path(), libc::O_RDWR, 0).expect("open");
        set_lock(
            holder.number().expect("same process"),
            LockKind::Write,
            SHARED_FIRST,
            SHARED_SIZE,
        )
        .expect("lock");
        let error = Guard::acquire(held.path()).expect_err("held");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
