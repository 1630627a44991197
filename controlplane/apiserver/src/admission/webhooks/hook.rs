//! Configured webhooks, read once per change of their configurations.

use std::sync::Arc;
use std::time::Duration;

use objects::ObjectExt as _;
use objects::selector::Selector;
use parking_lot::Mutex;
use serde_json::Value;
use store::Record;

use crate::encode;
use crate::webhook::Target;

/// Upstream's default, in seconds.
const TIMEOUT_SECS: u64 = 10;

/// Whether webhooks change or only judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Mutating,
    Validating,
}

impl Way {
    /// The resource of their configurations.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Mutating => "mutatingwebhookconfigurations",
            Self::Validating => "validatingwebhookconfigurations",
        }
    }

    /// The prefix of their annotations in the audit log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Mutating => "mutating",
            Self::Validating => "validating",
        }
    }
}

/// One webhook of a configuration.
#[derive(Debug)]
pub(super) struct Hook {
    /// The configuration's name.
    pub(super) configuration: String,
    /// Its own name.
    pub(super) name: String,
    /// The webhook as configured.
    pub(super) spec: Value,
    pub(super) namespaces: Selector,
    pub(super) objects: Selector,
    /// Where it is, or why that is nowhere.
    pub(super) target: Result<Target, String>,
    /// `v1` or `v1beta1`.
    pub(super) review_version: &'static str,
    pub(super) timeout: Duration,
    /// Whether requests go on without its answer.
    pub(super) fails_open: bool,
    /// Whether it wants to see later changes.
    pub(super) reinvoked: bool,
}

impl Hook {
    fn read(configuration: &str, spec: &Value) -> Self {
        // A selector that is wrong is refused when it is configured.
        let selector = |field: &str| match spec.at(&[field]) {
            None => Selector::everything(),
            some => Selector::from_label_selector(some).unwrap_or_else(|_| Selector::nothing()),
        };
        let versions = spec.list_at(&["admissionReviewVersions"]).iter();
        let first = versions.filter_map(Value::as_str).find(|one| matches!(*one, "v1" | "v1beta1"));
        let secs = spec.i64_at(&["timeoutSeconds"]).and_then(|secs| u64::try_from(secs).ok());
        let none = Value::Null;
        let client = spec.at(&["clientConfig"]).unwrap_or(&none);
        Self {
            configuration: configuration.to_owned(),
            name: spec.str_at(&["name"]).to_owned(),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            target: Target::from_client_config(client).map_err(|error| error.to_string()),
            review_version: if first == Some("v1beta1") { "v1beta1" } else { "v1" },
            timeout: Duration::from_secs(secs.unwrap_or(TIMEOUT_SECS)),
            fails_open: spec.str_at(&["failurePolicy"]) == "Ignore",
            reinvoked: spec.str_at(&["reinvocationPolicy"]) == "IfNeeded",
            spec: spec.clone(),
        }
    }
}

/// The webhooks of all configurations as last read.
#[derive(Debug, Default)]
pub(crate) struct Configured {
    mutating: Mutex<Cached>,
    validating: Mutex<Cached>,
}

#[derive(Debug, Default)]
struct Cached {
    /// What they were read from: revisions are the store's, so no two configurations share one.
    revisions: Vec<u64>,
    hooks: Arc<Vec<Hook>>,
}

impl Configured {
    /// The webhooks of these configurations, in the order in which they are called.
    pub(super) fn of(&self, way: Way, records: &[Arc<Record>]) -> Arc<Vec<Hook>> {
        let mut cached = match way {
            Way::Mutating => self.mutating.lock(),
            Way::Validating => self.validating.lock(),
        };
        if !cached.revisions.iter().eq(records.iter().map(|record| &record.revision)) {
            let mut hooks = Vec::new();
            for record in records {
                let object = encode::parse(record);
                let name = object.name();
                let list = object.list_at(&["webhooks"]).iter();
                hooks.extend(list.map(|spec| Hook::read(name, spec)));
            }
            cached.hooks = Arc::new(hooks);
            cached.revisions = records.iter().map(|record| record.revision).collect();
        }
        Arc::clone(&cached.hooks)
    }
}
