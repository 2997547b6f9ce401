//! What the connections of a file have done so far. SQLite counts it anyway, so asking is all it costs; tests
//! compare these numbers instead of times.

#![expect(unsafe_code, reason = "SQLite's counters have no safe interface")]

use std::ffi::c_int;
use std::ops::AddAssign;

use rusqlite::{Connection, ffi};

/// Totals since the connections of a file were opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Costs {
    /// Statements that were run.
    pub statements: u64,
    /// Instructions of SQLite's virtual machine.
    pub instructions: u64,
    /// Rows that were passed by a scan of a whole table.
    pub scanned: u64,
    /// Sorts that no index made superfluous.
    pub sorts: u64,
    /// Pages that were looked at, in the cache or in the file.
    pub pages_read: u64,
    /// Pages that were written to the log.
    pub pages_written: u64,
}

impl Costs {
    /// What one connection has done; only prepared statements that are kept are counted.
    pub(super) fn of(connection: &Connection) -> Self {
        // SAFETY: the handle is used only here, while the connection is borrowed and so stays open.
        let handle = unsafe { connection.handle() };
        let mut costs = Self {
            pages_read: connection_counter(handle, ffi::SQLITE_DBSTATUS_CACHE_HIT)
                + connection_counter(handle, ffi::SQLITE_DBSTATUS_CACHE_MISS),
            pages_written: connection_counter(handle, ffi::SQLITE_DBSTATUS_CACHE_WRITE),
            ..Self::default()
        };
        let mut statement = std::ptr::null_mut();
        loop {
            // SAFETY: the handle is open, and `statement` is null or came from the call before.
            // Nobody finalises a statement meanwhile: `connection` is not shared between threads.
            statement = unsafe { ffi::sqlite3_next_stmt(handle, statement) };
            if statement.is_null() {
                return costs;
            }
            costs.statements += statement_counter(statement, ffi::SQLITE_STMTSTATUS_RUN);
            costs.instructions += statement_counter(statement, ffi::SQLITE_STMTSTATUS_VM_STEP);
            costs.scanned += statement_counter(statement, ffi::SQLITE_STMTSTATUS_FULLSCAN_STEP);
            costs.sorts += statement_counter(statement, ffi::SQLITE_STMTSTATUS_SORT);
        }
    }

    /// Each number with its name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("statements", self.statements),
            ("instructions", self.instructions),
            ("scanned", self.scanned),
            ("sorts", self.sorts),
            ("pages_read", self.pages_read),
            ("pages_written", self.pages_written),
        ]
    }
}

impl AddAssign for Costs {
    fn add_assign(&mut self, other: Self) {
        self.statements += other.statements;
        self.instructions += other.instructions;
        self.scanned += other.scanned;
        self.sorts += other.sorts;
        self.pages_read += other.pages_read;
        self.pages_written += other.pages_written;
    }
}

fn connection_counter(handle: *mut ffi::sqlite3, counter: c_int) -> u64 {
    let (mut current, mut highest) = (0, 0);
    // SAFETY: the caller's handle is open, and both places outlive the call; nothing is reset.
    unsafe { ffi::sqlite3_db_status(handle, counter, &raw mut current, &raw mut highest, 0) };
    u64::from(current.cast_unsigned())
}

fn statement_counter(statement: *mut ffi::sqlite3_stmt, counter: c_int) -> u64 {
    // SAFETY: the caller has just got the statement from its connection; nothing is reset.
    u64::from(unsafe { ffi::sqlite3_stmt_status(statement, counter, 0) }.cast_unsigned())
}
