//! What is on disk of each attached pod: the truth about addresses in use.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::NetworkError;
use crate::netns::io_error;

/// An attached pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The pod.
    pub(crate) pod_uid: String,
    /// Its network namespace.
    pub(crate) netns: PathBuf,
    /// Its addresses, the primary family first.
    pub(crate) addresses: Vec<IpAddr>,
}

/// The folder of records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    dir: PathBuf,
}

impl Records {
    /// Opens the folder and reads what is there. A record that does not parse was cut short by a
    /// crash before its pod was connected: it is removed.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Vec<Record>), NetworkError> {
        fs::create_dir_all(dir).map_err(|e| io_error("create folder", dir, e))?;
        let entries = fs::read_dir(dir).map_err(|e| io_error("list", dir, e))?;
        let mut records = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| io_error("list", dir, e))?.path();
            let bytes = fs::read(&path).map_err(|e| io_error("read", &path, e))?;
            match serde_json::from_slice(&bytes) {
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "removing an unusable record");
                    remove(&path)?;
                }
            }
        }
        Ok((Self { dir: dir.to_owned() }, records))
    }

    /// Writes a record, whole or not at all.
    pub(crate) fn put(&self, record: &Record) -> Result<(), NetworkError> {
        let path = self.path(&record.pod_uid);
        let fresh = path.with_extension("new");
        let bytes = serde_json::to_vec(record).expect("a record is plain data");
        fs::write(&fresh, bytes).map_err(|e| io_error("write", &fresh, e))?;
        fs::rename(&fresh, &path).map_err(|e| io_error("rename", &fresh, e))
    }

    /// Removes a record.
    pub(crate) fn delete(&self, pod_uid: &str) -> Result<(), NetworkError> {
        remove(&self.path(pod_uid))
    }

    fn path(&self, pod_uid: &str) -> PathBuf {
        self.dir.join(format!("{pod_uid}.json"))
    }
}

fn remove(path: &Path) -> Result<(), NetworkError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path, error))
        }
        _ => Ok(()),
    }
}
