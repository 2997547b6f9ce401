//! `NewSchedule` and `ScheduleRecord`, and the fire that a job came from.

use pyo3::prelude::*;
use taskito_engine::id::JobId;
use taskito_engine::model::{Fire, NewSchedule, ScheduleRecord};

use super::build::ToPython;
use super::field::{self, Place};
use super::new_job;

/// Read what code declares.
pub(crate) fn read_batch(schedules: &Bound<'_, PyAny>) -> PyResult<Vec<NewSchedule>> {
    let wanted = "a sequence of NewSchedule";
    field::items(schedules)
        .map_err(|error| field::refused(schedules, "schedules", Place::Whole, wanted, error))?
        .iter()
        .enumerate()
        .map(|(index, schedule)| read(schedule, Place::Item("schedule", index)))
        .collect()
}

fn read(schedule: &Bound<'_, PyAny>, place: Place) -> PyResult<NewSchedule> {
    Ok(NewSchedule {
        name: field!(schedule, name, place),
        line: field!(schedule, line, place),
        timezone: field!(schedule, timezone, place),
        catch_up: field!(schedule, catch_up, place),
        overlap: field!(schedule, overlap, place),
        job: new_job::read(&attribute!(schedule, job, place), place)?,
    })
}

/// Read the two fields of a job that tell which fire made it.
pub(crate) fn read_fire(job: &Bound<'_, PyAny>, place: Place) -> PyResult<Option<Fire>> {
    let schedule: Option<String> = field!(job, schedule, place);
    let at_ms: Option<i64> = field!(job, fire_ms, place);
    Ok(schedule
        .zip(at_ms)
        .map(|(schedule, at_ms)| Fire { schedule, at_ms }))
}

impl ToPython for ScheduleRecord {
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        build!(
            py,
            schedule_record {
                name: &self.name,
                line: &self.line,
                timezone: &self.timezone,
                catch_up: self.catch_up.to_python(py)?,
                overlap: self.overlap.to_python(py)?,
                task: &self.task,
                queue: &self.queue,
                paused: self.paused,
                declared: self.declared,
                next_ms: self.next_ms,
                last_ms: self.last_ms,
                last_job: self.last_job.as_ref().map(JobId::to_string),
                fired: self.fired,
                skipped: self.skipped,
                waiting: self.waiting,
            }
        )
    }
}
