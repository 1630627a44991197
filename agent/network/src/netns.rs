//! Doing something inside a network namespace.
//!
//! A thread enters the namespace and ends there. The runtime's own threads never change theirs: a
//! thread that failed to come back would carry other tasks' work into a pod.

use std::fs::File;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns};
use tokio::sync::oneshot;

use crate::NetworkError;

/// Runs `body` in the network namespace at `path`, on a thread and an executor of its own.
///
/// # Errors
/// If the namespace cannot be entered, or `body` fails.
pub(crate) async fn in_namespace<T, F>(
    path: &Path,
    body: impl FnOnce() -> F + Send + 'static,
) -> Result<T, NetworkError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, NetworkError>>,
{
    let (done, result) = oneshot::channel();
    let namespace = path.to_owned();
    let spawned = thread::Builder::new().name("netns".to_owned()).spawn(move || {
        // Nobody waits any more if the caller was cancelled; then the result does not matter.
        drop(done.send(enter_and_run(&namespace, body)));
    });
    spawned.map_err(|source| io_error("start a thread for namespace", path, source))?;
    result.await.unwrap_or_else(|_| {
        let source = io::Error::other("the thread panicked");
        Err(io_error("work in namespace", path, source))
    })
}

/// Runs `body` in the network namespace at `path`, on a thread of its own, and waits for it.
///
/// # Errors
/// If the namespace cannot be entered, or `body` fails.
pub fn enter<T: Send>(
    path: &Path,
    body: impl FnOnce() -> io::Result<T> + Send,
) -> Result<T, NetworkError> {
    let entered = || {
        let namespace = File::open(path).map_err(|e| io_error("open namespace", path, e))?;
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|e| io_error("enter namespace", path, e.into()))?;
        body().map_err(|e| io_error("work in namespace", path, e))
    };
    thread::scope(|scope| {
        let panicked = || io_error("work in namespace", path, io::Error::other("it panicked"));
        scope.spawn(entered).join().unwrap_or_else(|_| Err(panicked()))
    })
}

fn enter_and_run<T, F>(path: &PathBuf, body: impl FnOnce() -> F) -> Result<T, NetworkError>
where
    F: Future<Output = Result<T, NetworkError>>,
{
    let namespace = File::open(path).map_err(|e| io_error("open namespace", path, e))?;
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .map_err(|e| io_error("enter namespace", path, e.into()))?;
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| io_error("start an executor for namespace", path, e))?;
    executor.block_on(body())
}

pub(crate) fn io_error(operation: &'static str, path: &Path, source: io::Error) -> NetworkError {
    NetworkError::Io { operation, path: path.to_owned(), source }
}
