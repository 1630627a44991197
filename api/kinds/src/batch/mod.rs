//! Jobs and CronJobs.
//!
//! Source of behaviour: kubernetes `pkg/apis/batch` and `pkg/registry/batch`, v1.36.

mod cron;
mod cronjob;
mod job;
mod spec;
mod status;

pub(crate) use cronjob::CronJob;
pub(crate) use job::Job;
