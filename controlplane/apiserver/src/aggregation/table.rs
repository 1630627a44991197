//! The index of APIServices that lead to other servers.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use objects::ObjectExt;
use parking_lot::RwLock;
use serde_json::Value;

/// An APIService with a Service behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Of the APIService.
    pub(super) name: String,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) port: u16,
    /// Certificates that the server's own must lead to, PEM.
    pub(super) ca_bundle: Vec<u8>,
    pub(super) is_unverified: bool,
    pub(super) group_priority: i64,
    pub(super) version_priority: i64,
    /// As its condition says.
    pub(super) is_available: bool,
}

impl Target {
    /// Reads an APIService. `None` for one that this server answers itself. PURE.
    pub(super) fn parse(object: &Value) -> Option<Self> {
        let service = object.at(&["spec", "service"]).filter(|service| !service.is_null())?;
        let port = service.i64_at(&["port"]).and_then(|port| u16::try_from(port).ok());
        Some(Self {
            name: object.name().to_string(),
            group: object.str_at(&["spec", "group"]).to_string(),
            version: object.str_at(&["spec", "version"]).to_string(),
            namespace: service.str_at(&["namespace"]).to_string(),
            service: service.str_at(&["name"]).to_string(),
            port: port.unwrap_or(443),
            ca_bundle: STANDARD.decode(object.str_at(&["spec", "caBundle"])).unwrap_or_default(),
            is_unverified: object.at(&["spec", "insecureSkipTLSVerify"])
                == Some(&Value::Bool(true)),
            group_priority: object.i64_at(&["spec", "groupPriorityMinimum"]).unwrap_or(0),
            version_priority: object.i64_at(&["spec", "versionPriority"]).unwrap_or(0),
            is_available: available(object).is_some_and(|condition| condition["status"] == "True"),
        })
    }

    /// The name that the server's certificate must be for.
    pub(super) fn server_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }

    /// `/apis/GROUP/VERSION`.
    pub(super) fn path(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }
}

/// The condition `Available`. PURE.
pub(super) fn available(object: &Value) -> Option<&Value> {
    object.list_at(&["status", "conditions"]).iter().find(|one| one["type"] == "Available")
}

#[derive(Debug, Default)]
struct Entries {
    targets: BTreeMap<String, Arc<Target>>,
    /// What the servers said they serve (`APIResourceList`), by APIService.
    resources: BTreeMap<String, Arc<Value>>,
}

/// Targets by the name of their APIService.
#[derive(Debug, Default)]
pub(super) struct Table(RwLock<Entries>);

impl Table {
    pub(super) fn apply(&self, name: &str, object: Option<&Value>) {
        let mut entries = self.0.write();
        match object.and_then(Target::parse) {
            Some(target) => {
                entries.targets.insert(name.to_string(), Arc::new(target));
            }
            None => {
                entries.targets.remove(name);
                entries.resources.remove(name);
            }
        }
    }

    pub(super) fn find(&self, group: &str, version: &str) -> Option<Arc<Target>> {
        let entries = self.0.read();
        // The name is bound to group and version by validation.
        entries.targets.get(&format!("{version}.{group}")).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Target>> {
        self.0.read().targets.values().cloned().collect()
    }

    /// Keeps what a server said it serves.
    pub(super) fn learn(&self, name: &str, resources: Value) {
        let mut entries = self.0.write();
        if entries.targets.contains_key(name) {
            entries.resources.insert(name.to_string(), Arc::new(resources));
        }
    }

    pub(super) fn resources(&self, name: &str) -> Option<Arc<Value>> {
        self.0.read().resources.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_apiservices_with_a_service_lead_elsewhere() {
        let table = Table::default();
        let local =
            json!({"metadata": {"name": "v1.apps"}, "spec": {"group": "apps", "version": "v1"}});
        table.apply("v1.apps", Some(&local));
        assert!(table.find("apps", "v1").is_none());
        let remote = json!({
            "metadata": {"name": "v1.wardle.example"},
            "spec": {"group": "wardle.example", "version": "v1", "caBundle": "YWJj",
                "service": {"namespace": "n", "name": "s"}, "groupPriorityMinimum": 2000},
            "status": {"conditions": [{"type": "Available", "status": "True"}]},
        });
        table.apply("v1.wardle.example", Some(&remote));
        let target = table.find("wardle.example", "v1").expect("a target");
        assert_eq!((target.port, target.is_available, target.is_unverified), (443, true, false));
        assert_eq!(target.ca_bundle, b"abc");
        assert_eq!(target.server_name(), "s.n.svc");
        table.learn("v1.wardle.example", json!({}));
        assert!(table.resources("v1.wardle.example").is_some());
        table.apply("v1.wardle.example", None);
        assert!(table.all().is_empty() && table.resources("v1.wardle.example").is_none());
    }
}
