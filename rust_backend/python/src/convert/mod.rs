//! Between the frozen dataclasses of `taskito.backends.params` and the engine's model.
//!
//! Reading names the field in every error; building looks classes and keyword names up once.

#[macro_use]
pub(crate) mod field;
#[macro_use]
pub(crate) mod build;

pub(crate) mod claimed_job;
pub(crate) mod exchange_reply;
pub(crate) mod exchange_request;
pub(crate) mod ids;
pub(crate) mod job_record;
pub(crate) mod lease;
pub(crate) mod limits;
pub(crate) mod locks;
pub(crate) mod maintain_reply;
pub(crate) mod members;
pub(crate) mod new_job;
pub(crate) mod outcome;
pub(crate) mod requests;
pub(crate) mod schedule;
pub(crate) mod worker;
pub(crate) mod workflow;
