//! What the kubelet keeps of a pod on disk, so that a new agent goes on where the last one stopped.
//!
//! One small file per pod, replaced atomically, only when something in it changes. The pod's object
//! is in it too: a pod that was removed from the API while no agent ran is still stopped with its
//! own grace period and hooks.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

/// Why a pod was ended before its time; written into its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// CamelCase reason, such as `DeadlineExceeded`.
    pub(crate) reason: String,
    /// Text for people.
    pub(crate) message: String,
    /// It was refused before anything ran.
    pub(crate) rejected: bool,
    /// Seconds its containers get to end; `None` for the pod's own grace period.
    pub(crate) grace_secs: Option<i64>,
}

/// What probes last found of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probed {
    /// Last verdict of the readiness probe.
    pub(crate) ready: Option<bool>,
    /// The startup probe has succeeded.
    pub(crate) started: Option<bool>,
}

/// A pod's record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    /// The pod as last seen.
    pub(crate) pod: Option<Pod>,
    /// When its containers began to be stopped.
    pub(crate) stopping_since: Option<Timestamp>,
    /// It was ended before its time.
    pub(crate) ended: Option<Ended>,
    /// Its addresses, kept for the status once they are free again.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its addresses were given back.
    pub(crate) released: bool,
    /// Probe results by container id.
    pub(crate) probed: BTreeMap<String, Probed>,
}

const FILE: &str = "record.json";

/// The folder of all pods.
pub(crate) fn pods_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("pods")
}

/// The folder of a pod.
pub(crate) fn pod_dir(data_dir: &Path, uid: &str) -> PathBuf {
    pods_dir(data_dir).join(uid)
}

impl PodRecord {
    /// Reads a pod's record. One that is absent or damaged is empty: everything in it can be found
    /// out again, if less precisely.
    pub(crate) fn load(data_dir: &Path, uid: &str) -> Self {
        let text = fs::read(pod_dir(data_dir, uid).join(FILE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes a pod's record.
    pub(crate) fn save(&self, data_dir: &Path, uid: &str) -> io::Result<()> {
        let folder = pod_dir(data_dir, uid);
        fs::create_dir_all(&folder)?;
        let text = serde_json::to_vec(self).expect("a record serialises");
        replace_file(&folder.join(FILE), &text)
    }
}

/// Writes a file so that readers see all of it or none.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut file = fs::File::create(&fresh)?;
    file.write_all(content)?;
    drop(file);
    fs::rename(&fresh, path)
}

/// UIDs that have a folder.
pub(crate) fn recorded_uids(data_dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(pods_dir(data_dir)) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut uids: Vec<String> = names.collect();
    uids.sort();
    uids
}
