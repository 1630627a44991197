//! Carries out the steps of a plan. Every one can be repeated.

pub(crate) mod hook;
pub(crate) mod http;
pub(crate) mod image;
pub(crate) mod sandbox;
pub(crate) mod start;
pub(crate) mod stop;

/// A step that failed, as the status reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Reason, such as `ErrImagePull`.
    pub(crate) reason: &'static str,
    /// Text for people.
    pub(crate) message: String,
}

/// An error and all its causes, on one line.
pub(crate) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Runs what blocks away from the threads that must not.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
