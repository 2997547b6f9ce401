//! Places at which a test can have the process killed; nothing at all in a release build.
//!
//! `TASKITO_FAILPOINT=<place>@<file>` kills the process, as SIGKILL does, when it comes to the place
//! while the file exists.

/// The places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Everything of a group is written, nothing is committed, the write lock is held.
    BeforeCommit,
    /// The group is committed; nobody was told so, and no bell has rung.
    AfterCommit,
}

/// Come to a place.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(place: Place) {
    use std::path::PathBuf;
    use std::sync::LazyLock;

    static WANTED: LazyLock<Option<(String, PathBuf)>> = LazyLock::new(|| {
        let value = std::env::var("TASKITO_FAILPOINT").ok()?;
        let (place, file) = value.split_once('@')?;
        Some((place.to_owned(), PathBuf::from(file)))
    });
    let name = match place {
        Place::BeforeCommit => "before-commit",
        Place::AfterCommit => "after-commit",
    };
    if let Some((wanted, file)) = &*WANTED
        && wanted == name
        && file.exists()
    {
        crate::platform::kill_this_process();
    }
}

/// Come to a place.
#[cfg(not(feature = "failpoints"))]
pub(crate) const fn reach(_place: Place) {}
