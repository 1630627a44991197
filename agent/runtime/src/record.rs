//! What is kept in a container's folder, so that a shim needs no memory and a new agent finds out.
//!
//! ```text
//! RUN_DIR/containers/ID/container.json   this record, before anything is started
//!                      /ctl              the shim's control socket, while the shim lives
//!                      /exit.json        how it ended, once it has
//! RUN_DIR/sandboxes/UID/sandbox.json     the sandbox's record
//!                      /net /ipc /uts    its namespaces, pinned by bind mounts
//!                      /shm              its /dev/shm
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::files::write_atomically;
use crate::spec::Namespaces;
use crate::{ContainerSpec, Exit, SandboxSpec};

/// Name of the control socket in a container's folder.
pub(crate) const CONTROL: &str = "ctl";
const CONTAINER: &str = "container.json";
const EXIT: &str = "exit.json";
const SANDBOX: &str = "sandbox.json";

/// One container, with everything its shim needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) spec: ContainerSpec,
    pub(crate) namespaces: Namespaces,
    pub(crate) hostname: String,
    pub(crate) shm: PathBuf,
    pub(crate) group: Group,
    /// Compiled system call filter.
    pub(crate) filter: Option<PathBuf>,
    pub(crate) created_at_nanos: i128,
}

impl ContainerRecord {
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        read(&folder.join(CONTAINER))
    }

    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        write(&folder.join(CONTAINER), self)
    }
}

/// One sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) spec: SandboxSpec,
    pub(crate) namespaces: Namespaces,
    pub(crate) shm: PathBuf,
    pub(crate) created_at_nanos: i128,
}

impl SandboxRecord {
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        read(&folder.join(SANDBOX))
    }

    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        write(&folder.join(SANDBOX), self)
    }
}

/// How the container in `folder` ended; `None` if it has not.
pub(crate) fn read_exit(folder: &Path) -> io::Result<Option<Exit>> {
    match read(&folder.join(EXIT)) {
        Ok(exit) => Ok(Some(exit)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn write_exit(folder: &Path, exit: &Exit) -> io::Result<()> {
    write(&folder.join(EXIT), exit)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let bytes = std::fs::read(path)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
    })
}

fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    write_atomically(path, &bytes)
}

/// Unix time in nanoseconds.
pub(crate) fn now_nanos() -> i128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| i128::try_from(elapsed.as_nanos()).unwrap_or(i128::MAX))
}
