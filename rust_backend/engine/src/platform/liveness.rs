//! The lock and the start log by which other processes see that a worker died.
//!
//! Each worker has a file `<worker id>.run`. The kernel drops the lock on its first byte when the
//! process dies, however it dies, and not when it is merely stopped. Behind the lock byte lies
//! the start log: one number per executor slot, the token of the run that task code works on.
//!
//! The log is a shared mapping. A store to it is in the page cache of the kernel at once, not in
//! memory of the process, so it survives SIGKILL at any instant and costs no system call. It need
//! not survive the machine: another boot ends every lease anyway, so it is never synced. Nobody
//! but the worker writes to the file, and others read it only when the lock is free, so a plain
//! read sees the final state.
#![expect(unsafe_code, reason = "a shared mapping has no safe interface")]

use std::ffi::{c_int, c_void};
use std::io;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, mem};

use super::descriptors::{Descriptor, ForkExcluded, checked};
use super::locks::{LockKind, is_locked_by_another, set_lock};
use super::{Liveness, START_LOG_SLOTS};

const TOKEN_SIZE: usize = mem::size_of::<u64>();
/// The lock byte and room beside it, so that no token lies under the lock.
const LOG_START: usize = TOKEN_SIZE;
const FILE_SIZE: usize = LOG_START + START_LOG_SLOTS * TOKEN_SIZE;
const FREE: u64 = 0;

/// The liveness file of a worker of this process.
///
/// Dropping it without [`remove`](Self::remove) makes the worker look dead to others.
#[derive(Debug)]
pub struct LivenessFile {
    path: PathBuf,
    mapping: NonNull<c_void>,
    descriptor: Descriptor,
}

// SAFETY: the mapping is only touched through atomics, and unmapped only by the last owner.
unsafe impl Send for LivenessFile {}
// SAFETY: as above.
unsafe impl Sync for LivenessFile {}

impl LivenessFile {
    /// Creates the file of a worker, locked and with an empty start log.
    ///
    /// Create it before the worker is visible to others: until it is locked it looks dead.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a worker id that is not 1 to 64 of `0-9a-f-`; `AlreadyExists` when the
    /// id is taken; what the file system says otherwise, such as no space for the log.
    pub fn create(folder: &Path, worker_id: &str) -> io::Result<Self> {
        let path = path_of(folder, worker_id)?;
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let descriptor = Descriptor::open(&path, flags, 0o600)?;
        match Self::prepare(&descriptor) {
            Ok(mapping) => Ok(Self {
                path,
                mapping,
                descriptor,
            }),
            Err(error) => {
                // Nobody knows the worker yet; a file that could not be used must not stay.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn prepare(descriptor: &Descriptor) -> io::Result<NonNull<c_void>> {
        let number = descriptor.number()?;
        set_lock(number, LockKind::Write, 0, 1)?;
        // Space is taken now: a store into a hole on a full disk would kill the process.
        // SAFETY: a plain system call on our own descriptor.
        match unsafe { libc::posix_fallocate(number, 0, file_offset(FILE_SIZE)) } {
            0 => map_shared(number),
            failure => Err(io::Error::from_raw_os_error(failure)),
        }
    }

    /// Notes that the run with this token is now handed to task code in this slot.
    ///
    /// Does nothing in a forked child, which is not the worker.
    ///
    /// # Panics
    ///
    /// When the slot is not below [`START_LOG_SLOTS`].
    pub fn set(&self, slot: usize, token: u64) {
        assert!(
            slot < START_LOG_SLOTS,
            "executor slot {slot} is beyond the start log of {START_LOG_SLOTS} slots"
        );
        if self.descriptor.is_foreign() {
            return;
        }
        // SAFETY: the slot lies inside the mapping, which lives as long as `self`, is aligned to
        // a page, and holds nothing but such numbers behind the lock byte's word.
        let place = unsafe {
            AtomicU64::from_ptr(
                self.mapping
                    .as_ptr()
                    .cast::<u64>()
                    .add(LOG_START / TOKEN_SIZE + slot),
            )
        };
        place.store(token, Ordering::Release);
    }

    /// Notes that the run in this slot has ended.
    ///
    /// # Panics
    ///
    /// When the slot is not below [`START_LOG_SLOTS`].
    pub fn clear(&self, slot: usize) {
        self.set(slot, FREE);
    }

    /// Removes the file: the worker unregistered in good order.
    ///
    /// # Errors
    ///
    /// In a forked child, which must not unregister its parent, and what the file system says;
    /// a file that is gone already is fine.
    pub fn remove(self) -> io::Result<()> {
        self.descriptor.number()?;
        ignore_missing(fs::remove_file(&self.path))
    }
}

impl Drop for LivenessFile {
    fn drop(&mut self) {
        // A forked child has no such mapping, and the range may have been used again.
        if !self.descriptor.is_foreign() {
            // SAFETY: our own mapping, not used afterwards. The mapping holds the description,
            // and so the lock, as the descriptor does.
            unsafe { libc::munmap(self.mapping.as_ptr(), FILE_SIZE) };
        }
    }
}

/// Asks whether a worker of this host lives, and what it had started if not.
///
/// Asking takes no lock, so any number of processes may ask at once, the worker's own included.
///
/// # Errors
///
/// `InvalidInput` for a malformed worker id, and what the file system says; a missing file is
/// [`Liveness::Unknown`].
pub fn probe(folder: &Path, worker_id: &str) -> io::Result<Liveness> {
    let path = path_of(folder, worker_id)?;
    let descriptor = match Descriptor::open(&path, libc::O_RDONLY | libc::O_NOFOLLOW, 0) {
        Ok(descriptor) => descriptor,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Liveness::Unknown),
        Err(error) => return Err(error),
    };
    let number = descriptor.number()?;
    if is_locked_by_another(number, LockKind::Read, 0, 1)? {
        return Ok(Liveness::Alive);
    }
    Ok(Liveness::Dead {
        started: read_started(number)?,
    })
}

/// Removes the file of a dead worker whose runs have been rescued.
///
/// # Errors
///
/// `InvalidInput` for a malformed worker id, and what the file system says; a missing file is
/// fine, since another rescuer may have been faster.
pub fn forget(folder: &Path, worker_id: &str) -> io::Result<()> {
    ignore_missing(fs::remove_file(path_of(folder, worker_id)?))
}

fn path_of(folder: &Path, worker_id: &str) -> io::Result<PathBuf> {
    let fits = (1..=64).contains(&worker_id.len())
        && worker_id
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    if !fits {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("worker id {worker_id:?} must be 1 to 64 characters of 0-9, a-f and '-'"),
        ));
    }
    Ok(folder.join(format!("{worker_id}.run")))
}

fn ignore_missing(answer: io::Result<()>) -> io::Result<()> {
    match answer {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn map_shared(number: c_int) -> io::Result<NonNull<c_void>> {
    // A forked child must not inherit the mapping: it would keep the lock, and could write.
    let _fork_excluded = ForkExcluded::enter();
    // SAFETY: a new mapping at an address of the kernel's choice; the file is as long as it.
    let mapping = unsafe {
        libc::mmap(
            ptr::null_mut(),
            FILE_SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            number,
            0,
        )
    };
    if mapping == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the range was just mapped, and nobody knows it yet.
    if let Err(error) = checked(unsafe { libc::madvise(mapping, FILE_SIZE, libc::MADV_DONTFORK) }) {
        // SAFETY: as above.
        unsafe { libc::munmap(mapping, FILE_SIZE) };
        return Err(error);
    }
    NonNull::new(mapping).ok_or_else(|| io::Error::other("the kernel mapped a file at address 0"))
}

fn read_started(number: c_int) -> io::Result<Vec<u64>> {
    let mut log = vec![0_u8; START_LOG_SLOTS * TOKEN_SIZE];
    let mut filled = 0;
    while filled < log.len() {
        let rest = &mut log[filled..];
        // SAFETY: reads at most as much as the buffer holds.
        let count = unsafe {
            libc::pread(
                number,
                rest.as_mut_ptr().cast(),
                rest.len(),
                file_offset(LOG_START + filled),
            )
        };
        match usize::try_from(count) {
            // The worker died before its log had its length: it had started nothing.
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(log
        .chunks_exact(TOKEN_SIZE)
        .filter_map(|bytes| bytes.try_into().ok().map(u64::from_ne_bytes))
        .filter(|token| *token != FREE)
        .collect())
}

fn file_offset(position: usize) -> libc::off_t {
    // Positions are bounded by the size of the file, about 32 KiB.
    libc::off_t::try_from(position).unwrap_or(libc::off_t::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn a_worker_is_alive_then_dead_then_unknown() {
        let folder = folder();
        let file = LivenessFile::create(folder.path(), "00-ff").expect("create");
        assert_eq!(
            probe(folder.path(), "00-ff").expect("probe"),
            Liveness::Alive
        );
        file.set(0, 7);
        file.set(1, 8);
        file.set(START_LOG_SLOTS - 1, u64::MAX);
        file.clear(1);
        drop(file);
        assert_eq!(
            probe(folder.path(), "00-ff").expect("probe"),
            Liveness::Dead {
                started: vec![7, u64::MAX]
            }
        );
        forget(folder.path(), "00-ff").expect("forget");
        forget(folder.path(), "00-ff").expect("forgetting twice is fine");
        assert_eq!(
            probe(folder.path(), "00-ff").expect("probe"),
            Liveness::Unknown
        );
    }

    #[test]
    fn a_worker_that_leaves_in_good_order_leaves_nothing() {
        let folder = folder();
        let file = LivenessFile::create(folder.path(), "a").expect("create");
        file.remove().expect("remove");
        assert_eq!(probe(folder.path(), "a").expect("probe"), Liveness::Unknown);
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 0);
    }

    #[test]
    fn an_id_is_used_once_and_the_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder();
        let file = LivenessFile::create(folder.path(), "a").expect("create");
        let error = LivenessFile::create(folder.path(), "a").expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let mode = fs::metadata(&file.path)
            .expect("metadata")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(probe(folder.path(), "a").expect("probe"), Liveness::Alive);
    }

    #[test]
    fn a_file_without_a_log_means_nothing_was_started() {
        let folder = folder();
        fs::write(folder.path().join("b.run"), b"").expect("write");
        assert_eq!(
            probe(folder.path(), "b").expect("probe"),
            Liveness::Dead { started: vec![] }
        );
    }

    #[test]
    fn ids_that_could_leave_the_folder_are_refused() {
        let folder = folder();
        for id in ["", "../a", "A", "a/b", "a.run", "g", &"a".repeat(65)] {
            let error = probe(folder.path(), id).expect_err(id);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{id}");
            assert!(error.to_string().contains("worker id"), "{error}");
            assert!(LivenessFile::create(folder.path(), id).is_err(), "{id}");
            assert!(forget(folder.path(), id).is_err(), "{id}");
        }
    }
}
