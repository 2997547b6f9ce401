//! What differs between operating systems, and all of the engine's `unsafe` code.
//!
//! | module | subject |
//! | --- | --- |
//! | `descriptors` | every descriptor that must not survive a fork, and the fork handlers |
//! | `syscalls` | the system calls of our SQLite that are replaced ([`install`]) |
//! | `locks` | open-file-description locks and the [`Guard`] of a database file |
//! | `liveness` | the lock and the start log by which others see that a worker died |
//! | `bell` | wake-ups between processes |
//! | `boot` | boot id and clocks |
//! | `paths` | what a path is, and whether a database may live there |
//!
//! On every other system `other` takes the place of all of them: the same names, with the parts
//! that the system cannot do declared off in [`CAPABILITIES`].
//!
//! # Rules for callers
//!
//! 1. Call [`install`] before anything opens a database with our SQLite.
//! 2. Take a [`Guard`] right after the file is in WAL mode, and keep it.
//! 3. Never close a connection or a descriptor of a database file while the process lives and
//!    the file has a name: the `close()` would drop the locks of another SQLite library in this
//!    process.
//! 4. Remember [`fork_generation`] beside everything opened. Where
//!    [`process_is_forked_child`] says yes, use no connection of it and do not drop it either:
//!    leak it and open anew. The shared memory of a parent's connection is not mapped in the
//!    child, so its use ends in a crash and not in a damaged file. The types of this layer may be
//!    dropped there; their methods answer an error.

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod bell;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod boot;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod descriptors;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod liveness;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod locks;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod paths;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod syscalls;

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
mod other;

mod facts;

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub use self::{
    bell::{Bell, BellWaiter, InterruptHandle},
    boot::{boot_id, boottime_ms, wall_ms},
    descriptors::{
        forget_descriptor, fork_generation, process_is_forked_child, register_descriptor,
    },
    liveness::{LivenessFile, forget, probe},
    locks::Guard,
    paths::{check_database_path, create_private_folder, file_identity},
    syscalls::install,
};

#[cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(test, feature = "failpoints")
))]
pub use self::syscalls::disable_defence_for_tests;

#[cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    feature = "failpoints"
))]
pub(crate) use self::boot::kill_this_process;

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub use self::other::*;

pub use self::facts::{
    FileIdentity, Liveness, PathProblem, PathRules, PlatformCapabilities, START_LOG_SLOTS, Wake,
};

/// What this operating system can do; the store declares its own capabilities from it.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub const CAPABILITIES: PlatformCapabilities = PlatformCapabilities {
    defence: true,
    liveness: true,
    wake_up: true,
};
