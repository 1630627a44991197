//! What each verb does: a file per verb. Writes go through [`crate::pipeline`].

pub mod create;
pub mod delete;
pub mod deletecollection;
pub mod get;
pub mod list;
pub mod patch;
pub mod update;
pub mod watch;
