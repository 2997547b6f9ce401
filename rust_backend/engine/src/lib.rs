//! The engine of taskito: storage, scheduling and dispatch, without Python.
//!
//! - [`model`]: the words; plain data that crosses the seam.
//! - [`transitions`]: the one table of legal transitions.
//! - [`retry`], [`id`], [`clock`]: pure rules.
//! - [`schedule`]: when a cron line fires.
//! - [`store`]: the seam as the dispatcher sees it.
//! - [`sqlite`]: the default store.
//! - [`dispatcher`]: one per worker; decides, in a pure state machine, what is claimed, started,
//!   renewed and settled.
//! - [`lock_keeper`]: extends the named locks of a process.
//! - [`platform`]: what differs between operating systems, and all `unsafe` code.

pub mod clock;
pub mod dispatcher;
pub mod error;
mod failpoint;
pub mod id;
pub mod lock_keeper;
pub mod model;
#[doc(hidden)]
pub mod platform;
pub mod rate;
pub mod retry;
pub mod schedule;
pub mod sqlite;
pub mod store;
pub mod transitions;
