//! Every system but 64-bit Linux: the same names, with what is missing declared off.
//!
//! Without the defence the store must refuse a second SQLite library on its file; without
//! liveness a dead worker's jobs come back when its lease ends; without wake-ups waiters poll.

use std::fs;
use std::io;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{FileIdentity, Liveness, PathProblem, PathRules, PlatformCapabilities, Wake};

/// What this operating system can do; the store declares its own capabilities from it.
pub const CAPABILITIES: PlatformCapabilities = PlatformCapabilities {
    defence: false,
    liveness: false,
    wake_up: false,
};

/// Nothing to replace here, and nothing can fail.
///
/// # Errors
///
/// None.
pub fn install() -> io::Result<()> {
    let _ = fork_generation();
    Ok(())
}

/// Nothing to leave out here.
#[cfg(any(test, feature = "failpoints"))]
pub fn disable_defence_for_tests() {}

/// Ends this process without destructors, which is as close to SIGKILL as it gets here.
#[cfg(feature = "failpoints")]
pub(crate) fn kill_this_process() -> ! {
    process::abort()
}

/// The process id: another number in a forked child.
#[must_use]
pub fn fork_generation() -> u64 {
    // Read from the system each time where it can change.
    static SEEN: AtomicU32 = AtomicU32::new(0);
    SEEN.store(process::id(), Ordering::Relaxed);
    u64::from(SEEN.load(Ordering::Relaxed))
}

/// Whether this process is a forked child of the one in which `generation` was read.
#[must_use]
pub fn process_is_forked_child(generation: u64) -> bool {
    fork_generation() != generation
}

/// Does nothing: no descriptor is closed in a forked child here.
///
/// # Errors
///
/// None.
pub fn register_descriptor(_descriptor: i32) -> io::Result<()> {
    Ok(())
}

/// Does nothing.
pub fn forget_descriptor(_descriptor: i32) {}

/// Does nothing: there is no guard on this system.
#[derive(Debug)]
pub struct Guard(std::path::PathBuf);

impl Guard {
    /// As on Linux, without the lock.
    ///
    /// # Errors
    ///
    /// What reading the file says.
    pub fn acquire_in_wal_mode(path: &Path) -> io::Result<Option<Self>> {
        let header = fs::read(path)?;
        Ok((header.get(18..20) == Some(&[2, 2])).then(|| Self(path.to_path_buf())))
    }

    /// Remembers the path.
    ///
    /// # Errors
    ///
    /// When the file does not exist.
    pub fn acquire(path: &Path) -> io::Result<Self> {
        fs::metadata(path)?;
        Ok(Self(path.to_owned()))
    }

    /// Which file the path names now; `NotFound` when it was deleted.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn identity(&self) -> io::Result<FileIdentity> {
        file_identity(&self.0)
    }

    /// Does nothing.
    ///
    /// # Errors
    ///
    /// None.
    pub fn release(self) -> io::Result<()> {
        Ok(())
    }
}

/// Does nothing: the lease alone tells that a worker is gone.
#[derive(Debug)]
pub struct LivenessFile(());

impl LivenessFile {
    /// Creates nothing.
    ///
    /// # Errors
    ///
    /// None.
    pub fn create(_folder: &Path, _worker_id: &str) -> io::Result<Self> {
        Ok(Self(()))
    }

    /// Does nothing.
    pub fn set(&self, _slot: usize, _token: u64) {}

    /// Does nothing.
    pub fn clear(&self, _slot: usize) {}

    /// Does nothing.
    ///
    /// # Errors
    ///
    /// None.
    pub fn remove(self) -> io::Result<()> {
        Ok(())
    }
}

/// Always [`Liveness::Unknown`].
///
/// # Errors
///
/// None.
pub fn probe(_folder: &Path, _worker_id: &str) -> io::Result<Liveness> {
    Ok(Liveness::Unknown)
}

/// Does nothing.
///
/// # Errors
///
/// None.
pub fn forget(_folder: &Path, _worker_id: &str) -> io::Result<()> {
    Ok(())
}

/// Rings for nobody: other processes poll.
#[derive(Debug)]
pub struct Bell(());

impl Bell {
    /// Opens nothing.
    ///
    /// # Errors
    ///
    /// None.
    pub fn open(_folder: &Path) -> io::Result<Self> {
        Ok(Self(()))
    }

    /// Does nothing.
    ///
    /// # Errors
    ///
    /// None.
    pub fn ring(&self) -> io::Result<()> {
        Ok(())
    }

    /// A waiter that can only be interrupted or time out.
    ///
    /// # Errors
    ///
    /// None.
    pub fn waiter(&self) -> io::Result<BellWaiter> {
        Ok(BellWaiter(Arc::default()))
    }
}

type InterruptFlag = (Mutex<bool>, Condvar);

/// Waits for an interrupt or the end of the time.
#[derive(Debug)]
pub struct BellWaiter(Arc<InterruptFlag>);

/// Ends a wait from another thread.
#[derive(Clone, Debug)]
pub struct InterruptHandle(Arc<InterruptFlag>);

impl InterruptHandle {
    /// Ends the present wait, or the next one if nobody waits.
    ///
    /// # Errors
    ///
    /// None.
    pub fn interrupt(&self) -> io::Result<()> {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
        Ok(())
    }
}

impl BellWaiter {
    /// Does nothing.
    ///
    /// # Errors
    ///
    /// None.
    pub fn also_watch(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// A handle to end a wait from another thread.
    #[must_use]
    pub fn interrupt_handle(&self) -> InterruptHandle {
        InterruptHandle(Arc::clone(&self.0))
    }

    /// Waits until it is interrupted, at most for `timeout`.
    ///
    /// # Errors
    ///
    /// None.
    pub fn wait(&self, timeout: Duration) -> io::Result<Wake> {
        let flag = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut flag, _) = self
            .0
            .1
            .wait_timeout_while(flag, timeout, |interrupted| !*interrupted)
            .unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *flag) {
            Ok(Wake::Interrupted)
        } else {
            Ok(Wake::TimedOut)
        }
    }
}

/// Always the same: this system's boots cannot be told apart, so leases end by time alone.
///
/// # Errors
///
/// None.
pub fn boot_id() -> io::Result<[u8; 16]> {
    Ok([0; 16])
}

/// Milliseconds by the wall clock, the only clock here that all processes share.
#[must_use]
pub fn boottime_ms() -> i64 {
    wall_ms()
}

/// Milliseconds since 1970 by the wall clock.
#[must_use]
pub fn wall_ms() -> i64 {
    let milliseconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()),
        Err(before) => i64::try_from(before.duration().as_millis()).map(|past| -past),
    };
    milliseconds.unwrap_or(i64::MAX)
}

/// Which file a path names at this moment.
///
/// # Errors
///
/// What the file system says.
#[cfg(unix)]
pub fn file_identity(path: &Path) -> io::Result<FileIdentity> {
    use std::os::unix::fs::MetadataExt;
    let facts = fs::metadata(path)?;
    Ok(FileIdentity {
        device: facts.dev(),
        inode: facts.ino(),
        links: facts.nlink(),
    })
}

/// Which file a path names at this moment, told by its full name.
///
/// # Errors
///
/// What the file system says.
#[cfg(not(unix))]
pub fn file_identity(path: &Path) -> io::Result<FileIdentity> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    fs::canonicalize(path)?.hash(&mut hasher);
    Ok(FileIdentity {
        device: 0,
        inode: hasher.finish(),
        links: 1,
    })
}

/// Creates a folder, for its owner alone where the system has such rights.
///
/// # Errors
///
/// `AlreadyExists` when the path is something else; what the file system says otherwise.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "rights are set on unix only"))]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Err(error)
            if error.kind() == io::ErrorKind::AlreadyExists
                && fs::symlink_metadata(path)?.is_dir() =>
        {
            Ok(())
        }
        answer => answer,
    }
}

/// Checks that a database file exists or can be created at a path. Network file systems are not
/// recognised here.
///
/// # Errors
///
/// A [`PathProblem`] that names the path and says what to do.
pub fn check_database_path(path: &Path, rules: PathRules) -> Result<(), PathProblem> {
    let owned = path.to_owned();
    if !rules.allow_symlink && fs::symlink_metadata(path).is_ok_and(|facts| facts.is_symlink()) {
        return Err(PathProblem::Symlink { path: owned });
    }
    match fs::metadata(path) {
        Ok(facts) if facts.is_file() => Ok(()),
        Ok(facts) if facts.is_dir() => Err(PathProblem::Directory {
            path: owned,
            example: path.join("queue.db"),
        }),
        Ok(_) => Err(PathProblem::NotAFile {
            path: owned,
            kind: "device",
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            if folder.is_dir() {
                Ok(())
            } else {
                Err(PathProblem::NoFolder {
                    path: owned,
                    folder: folder.to_owned(),
                })
            }
        }
        Err(source) => Err(PathProblem::Unreadable {
            path: owned,
            source,
        }),
    }
}
