//! Taking over what an earlier agent has left.
//!
//! A container's folder says it all: with `exit.json` it has ended; else its shim answers on the
//! control socket and goes on telling; else the shim is gone, and the container with it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::connect::{Connection, connect, send};
use super::memory::Container;
use super::{LinuxRuntime, Shared, at, blocking};
use crate::record::{self, ContainerRecord, SandboxRecord};
use crate::shim::failed_start;
use crate::shim::protocol::Request;
use crate::{ContainerState, RuntimeError, sandbox};

/// What was found in a container's folder.
enum Found {
    /// The shim is there.
    Alive(ContainerRecord, OwnedFd),
    /// It has ended.
    Over(ContainerRecord, crate::Exit),
}

impl LinuxRuntime {
    pub(super) async fn adopt(&self) -> Result<(), RuntimeError> {
        let shared = self.shared.clone();
        let (sandboxes, containers) = blocking(move || -> Result<_, RuntimeError> {
            let sandboxes = shared.find_sandboxes()?;
            let containers = shared.find_containers()?;
            Ok((sandboxes, containers))
        })
        .await?;
        for sandbox in sandboxes {
            self.shared.memory().sandboxes.insert(sandbox.spec.pod_uid.clone(), Arc::new(sandbox));
        }
        for found in containers {
            match found {
                Found::Over(record, exit) => {
                    let container = Container::new(record, ContainerState::Exited(exit));
                    self.shared.memory().insert(container);
                }
                Found::Alive(record, fd) => {
                    let id = record.spec.id.clone();
                    let container = Container::new(record, ContainerState::Created);
                    self.shared.memory().insert(container.clone());
                    let connection = Connection::new(fd)
                        .map_err(|error| RuntimeError::Shim { id, reason: error.to_string() })?;
                    self.adopt_state(&container, &connection).await;
                    self.watch(container, connection);
                }
            }
        }
        Ok(())
    }

    /// Waits for the first word of the shim, so that the first observation is right already.
    async fn adopt_state(&self, container: &Container, connection: &Connection) {
        if let Ok(Some((reply, _))) = connection.reply().await
            && let Some(state) = super::containers::state(reply)
        {
            self.shared.enter(container, state);
        }
    }
}

impl Shared {
    fn find_sandboxes(&self) -> Result<Vec<SandboxRecord>, RuntimeError> {
        let mut sandboxes = Vec::new();
        for folder in folders(&self.config.run_dir.join("sandboxes"))? {
            match SandboxRecord::read(&folder) {
                Ok(record) if is_whole(&record) => sandboxes.push(record),
                Ok(record) => {
                    tracing::info!(pod = %record.spec.pod_name, "namespaces are gone");
                    self.clear_sandbox(&record)?;
                }
                Err(error) => {
                    tracing::info!(%error, folder = %folder.display(), "half-made sandbox");
                    sandbox::remove(&folder)?;
                }
            }
        }
        Ok(sandboxes)
    }

    fn find_containers(&self) -> Result<Vec<Found>, RuntimeError> {
        let mut containers = Vec::new();
        for folder in folders(&self.config.run_dir.join("containers"))? {
            let record = match ContainerRecord::read(&folder) {
                Ok(record) => record,
                Err(error) => {
                    tracing::info!(%error, folder = %folder.display(), "half-made container");
                    fs::remove_dir_all(&folder).map_err(at("remove", folder))?;
                    continue;
                }
            };
            containers.push(self.find_container(&folder, record));
        }
        Ok(containers)
    }

    fn find_container(&self, folder: &Path, record: ContainerRecord) -> Found {
        if let Ok(Some(exit)) = record::read_exit(folder) {
            return Found::Over(record, exit);
        }
        let connected = connect(folder).and_then(|fd| {
            send(&fd, &Request::Watch, &[])?;
            Ok(fd)
        });
        match connected {
            Ok(fd) => Found::Alive(record, fd),
            Err(error) if is_unstarted(&error, &record) => {
                let exit = failed_start("the agent was stopped before the start".to_owned());
                if let Err(error) = record::write_exit(folder, &exit) {
                    tracing::warn!(%error, folder = %folder.display(), "failed to write exit.json");
                }
                Found::Over(record, exit)
            }
            Err(_) => {
                let exit = self.bury(&record);
                Found::Over(record, exit)
            }
        }
    }
}

/// No socket and no process: the zygote was never asked.
fn is_unstarted(error: &io::Error, record: &ContainerRecord) -> bool {
    error.kind() == io::ErrorKind::NotFound && record.group.processes().is_empty()
}

fn is_whole(record: &SandboxRecord) -> bool {
    let namespaces = &record.namespaces;
    [&namespaces.network, &namespaces.ipc, &namespaces.uts]
        .into_iter()
        .flatten()
        .all(|path| sandbox::is_pinned(path))
}

fn folders(parent: &Path) -> Result<Vec<PathBuf>, RuntimeError> {
    let entries = fs::read_dir(parent).map_err(at("list", parent))?;
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    Ok(folders)
}
