//! One database file in this process: its connections, its guard, its bell.
//!
//! A registry by (device, inode) owns these, and closing a store only returns its handle: as long as
//! the file has a name, no descriptor of it is closed, because that would drop the locks that
//! another SQLite library in this process holds on it. After a fork nothing of the parent's is
//! used, and nothing is dropped either.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::changes::Changes;
use super::checkpoint::Checkpointer;
use super::commit::{GroupCommit, Sync};
use super::costs::Costs;
use super::failure::{self, Failure, Outcome};
use super::lanes::Lanes;
use super::opening;
use super::transaction::Transaction;
use super::writer::Writer;
use crate::error::{EngineError, Result};
use crate::platform::{self, Bell, FileIdentity, Guard, PathRules};

/// A reader: a connection of its own and what it knows of the lanes.
pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) lanes: Lanes,
}

/// A database file, or a private store in memory.
pub(super) struct DatabaseFile {
    pub(super) path: PathBuf,
    pub(super) changes: Arc<Changes>,
    group: GroupCommit,
    pub(super) writer: Writer,
    readers: Mutex<Vec<Reader>>,
    disk: Option<Disk>,
    generation: u64,
}

/// What only a file on disk has.
struct Disk {
    identity: FileIdentity,
    folder: PathBuf,
    bell: Bell,
    checkpointer: Checkpointer,
    /// Taken only by the drop.
    guard: Option<Guard>,
}

impl DatabaseFile {
    /// A store in memory; it lives as long as the value.
    pub(super) fn in_memory(busy_timeout: Duration) -> Result<Arc<Self>> {
        let path = PathBuf::from(":memory:");
        let connection =
            opening::open_memory().map_err(|error| failure::describe(&path, &error))?;
        Ok(Arc::new(Self {
            writer: Writer::new(path.clone(), connection, busy_timeout),
            path,
            changes: Arc::default(),
            group: GroupCommit::default(),
            readers: Mutex::default(),
            disk: None,
            generation: platform::fork_generation(),
        }))
    }

    /// The file at `path`, created if there is none; the same value for the same file.
    pub(super) fn on_disk(
        path: &Path,
        rules: PathRules,
        busy_timeout: Duration,
    ) -> Result<Arc<Self>> {
        platform::install().map_err(|error| problem(path, &error))?;
        let mut registry = registry();
        registry.retain(|file| !file.is_abandoned());
        platform::check_database_path(path, rules).map_err(|error| EngineError::Path {
            path: path.to_path_buf(),
            problem: error.to_string(),
        })?;
        if let Ok(identity) = platform::file_identity(path) {
            let same = registry.iter().find(|file| file.is(identity));
            if let Some(file) = same {
                return Ok(Arc::clone(file));
            }
        }
        let file = Arc::new(Self::open(path, busy_timeout)?);
        registry.push(Arc::clone(&file));
        Ok(file)
    }

    fn open(path: &Path, busy_timeout: Duration) -> Result<Self> {
        let path = std::path::absolute(path).map_err(|error| problem(path, &error))?;
        let (guard, connection) = opening::open_writer(&path, busy_timeout)?;
        let identity = platform::file_identity(&path).map_err(|error| problem(&path, &error))?;
        let folder = side_folder(&path);
        platform::create_private_folder(&folder).map_err(|error| problem(&folder, &error))?;
        let bell = Bell::open(&folder).map_err(|error| problem(&folder, &error))?;
        Ok(Self {
            changes: Arc::default(),
            group: GroupCommit::default(),
            writer: Writer::new(path.clone(), connection, busy_timeout),
            readers: Mutex::default(),
            disk: Some(Disk {
                identity,
                folder,
                bell,
                checkpointer: Checkpointer::new(path.clone()),
                guard: Some(guard),
            }),
            generation: platform::fork_generation(),
            path,
        })
    }

    /// Run `work` in a write transaction, together with others who are waiting.
    pub(super) fn write<T, F>(&self, rows: usize, sync: Sync, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Transaction<'_>) -> Outcome<T> + Send + 'static,
    {
        self.refuse_fork()?;
        self.group.submit(self, rows, sync, work)
    }

    /// Run `work` on a consistent snapshot.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection, &mut Lanes) -> Outcome<T>,
    ) -> Result<T> {
        self.refuse_fork()?;
        let answer = if self.disk.is_some() {
            let mut reader = self.take_reader()?;
            let answer = snapshot(&mut reader, work);
            self.lock_readers().push(reader);
            answer
        } else {
            self.writer.with_idle_connection(work)
        };
        answer.map_err(|error| self.explain(error))
    }

    /// What the writer and the readers have done; a read that goes on just now is left out.
    pub(super) fn costs(&self) -> Result<Costs> {
        self.refuse_fork()?;
        let mut costs = self.writer.costs();
        for reader in self.lock_readers().iter() {
            costs += Costs::of(&reader.connection);
        }
        Ok(costs)
    }

    /// The folder for liveness files, if this is a file.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.disk.as_ref().map(|disk| disk.folder.as_path())
    }

    /// Fail if the file no longer has the name under which it was opened.
    pub(super) fn check_place(&self) -> Result<()> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        match platform::file_identity(&self.path) {
            Ok(found)
                if (found.device, found.inode) == (disk.identity.device, disk.identity.inode) =>
            {
                Ok(())
            }
            _ => Err(EngineError::Moved {
                path: self.path.clone(),
            }),
        }
    }

    /// Block until something changed after `since`, or for `timeout`.
    pub(super) fn wait(&self, since: u64, timeout: Duration) -> Result<u64> {
        self.refuse_fork()?;
        if let Some(disk) = &self.disk {
            self.changes
                .listen(&disk.bell, || opening::open_reader(&self.path))?;
        }
        Ok(self.changes.wait(since, timeout))
    }

    /// Whether the handle was inherited through a fork.
    pub(super) fn refuse_fork(&self) -> Result<()> {
        if platform::process_is_forked_child(self.generation) {
            return Err(EngineError::Forked);
        }
        Ok(())
    }

    /// Tell the waiting, here and in other processes, that something changed.
    pub(super) fn ring(&self) {
        self.changes.bump();
        if let Some(disk) = &self.disk {
            // A bell that cannot be rung (the disk is full) delays the others to their backstop.
            let _ = disk.bell.ring();
        }
    }

    /// Note how long the write-ahead log has become.
    pub(super) fn note_log_pages(&self, pages: i64) {
        if let Some(disk) = &self.disk {
            disk.checkpointer.note(pages);
        }
    }

    fn explain(&self, failure: Failure) -> EngineError {
        match failure {
            Failure::Refused(error) => error,
            Failure::Sqlite(error) => failure::describe(&self.path, &error),
        }
    }

    fn take_reader(&self) -> Result<Reader> {
        if let Some(reader) = self.lock_readers().pop() {
            return Ok(reader);
        }
        Ok(Reader {
            connection: opening::open_reader(&self.path)?,
            lanes: Lanes::default(),
        })
    }

    fn lock_readers(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, identity: FileIdentity) -> bool {
        self.disk.as_ref().is_some_and(|disk| {
            (disk.identity.device, disk.identity.inode) == (identity.device, identity.inode)
                && self.check_place().is_ok()
        })
    }

    /// Whether nobody uses the file any more and it has no name: then it may really be closed.
    fn is_abandoned(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1
            && self
                .disk
                .as_ref()
                .and_then(|disk| disk.guard.as_ref())
                .and_then(|guard| guard.identity().ok())
                .is_some_and(|identity| identity.links == 0)
    }
}

impl Drop for DatabaseFile {
    fn drop(&mut self) {
        self.changes.stop();
        if let Some(disk) = &mut self.disk {
            disk.checkpointer.stop();
            // The registry lets go of a file only when it has no name; then the descriptor is closed.
            if let Some(guard) = disk.guard.take() {
                let _ = guard.release();
            }
        }
    }
}

fn snapshot<T>(
    reader: &mut Reader,
    work: impl FnOnce(&Connection, &mut Lanes) -> Outcome<T>,
) -> Outcome<T> {
    let transaction = reader.connection.unchecked_transaction()?;
    reader.lanes.refresh(&transaction)?;
    work(&transaction, &mut reader.lanes)
}

fn side_folder(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-live");
    PathBuf::from(name)
}

fn problem(path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::Path {
        path: path.to_path_buf(),
        problem: error.to_string(),
    }
}

/// The registry of this process. A forked child uses another one than its parent, whose lock may
/// have been held by a thread that the child does not have.
fn registry() -> MutexGuard<'static, Vec<Arc<DatabaseFile>>> {
    const DEPTH: usize = 64;
    static REGISTRIES: [Mutex<Vec<Arc<DatabaseFile>>>; DEPTH] =
        [const { Mutex::new(Vec::new()) }; DEPTH];
    let depth = usize::try_from(platform::fork_generation()).unwrap_or_default();
    REGISTRIES[depth % DEPTH]
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}
