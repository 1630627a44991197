//! The audit log: who did what, when, to which object, and what came of it.
//!
//! `policy.rs` says how much is recorded of a request; a [`Trail`] collects it while the request is
//! handled; `log.rs` writes it down. Without a policy none of this costs anything.
//!
//! Source of behaviour: kubernetes apiserver `pkg/audit` and `pkg/endpoints/filters/audit.go`,
//! v1.36. Different: bodies in forms other than JSON, YAML and Kubernetes' protobuf are left out.

mod log;
mod policy;
mod trail;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

pub use log::LogConfig;
pub use policy::{Policy, PolicyError};
pub(crate) use trail::Trail;

/// What is recorded, and where.
#[derive(Debug, Clone)]
pub struct AuditConfig {
    /// How much of which request.
    pub policy: Policy,
    /// The file.
    pub log: LogConfig,
}

/// A running audit log.
#[derive(Debug)]
pub struct Audit {
    policy: Policy,
    log: log::Log,
}

impl Audit {
    /// Opens the log.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn open(config: AuditConfig) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { policy: config.policy, log: log::Log::open(config.log)? }))
    }
}

/// What handlers have to say about a request for its audit event: `annotations`. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    annotations: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Notes {
    /// Adds an annotation. Keys are qualified, such as `pod-security.kubernetes.io/enforce-policy`;
    /// the first value of a key stays, as upstream.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        self.annotations.lock().entry(key.into()).or_insert_with(|| value.into());
    }

    fn all(&self) -> BTreeMap<String, String> {
        self.annotations.lock().clone()
    }
}
