//! The plain data of the platform layer, the same on every system.

use std::io;
use std::path::PathBuf;

/// How many executor slots the start log of one worker has.
///
/// The largest `concurrency` a worker may have, therefore.
pub const START_LOG_SLOTS: usize = 4096;

/// What an operating system can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformCapabilities {
    /// Another SQLite library in the same process may open and close the database file.
    pub defence: bool,
    /// The death of a worker on this host is seen at once, not only when its lease ends.
    pub liveness: bool,
    /// A commit of another process wakes a waiter; without it, waiters only poll.
    pub wake_up: bool,
}

/// What is known about a worker process of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// The process exists; it may be stopped (SIGSTOP), but it is not gone.
    Alive,
    /// The process is gone and did not unregister.
    Dead {
        /// The tokens of the runs that had been handed to task code and had not ended.
        started: Vec<u64>,
    },
    /// There is no liveness file: the worker unregistered, was already rescued, or never
    /// lived on this host. Only its lease can tell.
    Unknown,
}

/// Why a wait on the bell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Someone rang the bell. Everything committed before the ring is visible now.
    Rung,
    /// A file added with `also_watch` was written to. The write precedes the visibility of a
    /// commit: look again a few times.
    FileChanged,
    /// The interrupt handle was used.
    Interrupted,
    /// Nothing happened for as long as was asked.
    TimedOut,
}

/// Which file a path names at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// The number of the device that holds the file.
    pub device: u64,
    /// The number of the file on its device.
    pub inode: u64,
    /// How many names the file has; zero when it was deleted while open.
    pub links: u64,
}

/// What a database path may be beyond an ordinary file on a local disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathRules {
    /// The file may live on a network file system.
    pub allow_network: bool,
    /// The path may be a symbolic link.
    pub allow_symlink: bool,
}

/// Why a path cannot hold a database.
#[derive(Debug, thiserror::Error)]
pub enum PathProblem {
    /// The folder that would hold the file is not there.
    #[error("database path {path:?}: the folder {folder:?} does not exist; create it first")]
    NoFolder {
        /// The refused path.
        path: PathBuf,
        /// The missing folder.
        folder: PathBuf,
    },
    /// The path names a folder.
    #[error("database path {path:?} is a folder; name a file inside it, for example {example:?}")]
    Directory {
        /// The refused path.
        path: PathBuf,
        /// A path that would do.
        example: PathBuf,
    },
    /// The path is a symbolic link, which someone else could point elsewhere.
    #[error(
        "database path {path:?} is a symbolic link; give the path of the file itself, \
         or allow symbolic links"
    )]
    Symlink {
        /// The refused path.
        path: PathBuf,
    },
    /// The path names a device, a pipe or a socket.
    #[error("database path {path:?} is a {kind}, not an ordinary file; choose another path")]
    NotAFile {
        /// The refused path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The file would live on a file system whose locks cannot be trusted.
    #[error(
        "database path {path:?} is on a network file system ({file_system}), where locks between \
         hosts cannot be trusted; put the file on a local disk, use a server backend, \
         or allow network file systems if a single host uses it"
    )]
    Network {
        /// The refused path.
        path: PathBuf,
        /// The name of the file system.
        file_system: &'static str,
    },
    /// The operating system did not answer.
    #[error("database path {path:?} cannot be examined: {source}; check the path and its rights")]
    Unreadable {
        /// The refused path.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}
