//! The objects that every cluster has from the beginning.
//!
//! Facts (names, rules, figures) are those of kube-apiserver 1.36.2; they are in `data/`.

use std::sync::Arc;

use futures::StreamExt;
use objects::{ApiError, GroupVersionKind, ObjectExt};
use serde_json::{Value, json};

use crate::call::Call;
use crate::codec::{self, Decoded};
use crate::encode::View;
use crate::identity::{MASTERS, User};
use crate::options::{FieldValidation, WriteOptions};
use crate::pipeline::{self, Change, Ownership, Produced, Stored};
use crate::query::Query;
use crate::route::{ResourcePath, Verb};
use crate::server::{Server, StartError};

const RBAC: &str = include_str!("bootstrap/data/rbac.jsonl");
const FLOW_CONTROL: &str = include_str!("bootstrap/data/flowcontrol.jsonl");
const PRIORITY_CLASSES: &str = include_str!("bootstrap/data/priorityclasses.jsonl");
const API_SERVICES: &str = include_str!("bootstrap/data/apiservices.tsv");

/// Objects made at once, so that the store commits them together.
const AT_ONCE: usize = 64;

/// Makes what is missing. What is there already is left as it is.
///
/// # Errors
/// [`StartError::Bootstrap`].
pub(crate) async fn run(server: &Arc<Server>) -> Result<(), StartError> {
    create_all(server, namespaces()).await?;
    let mut rest = lines(RBAC).map(rbac).collect::<Vec<_>>();
    rest.extend(lines(PRIORITY_CLASSES).map(|mut class| {
        class["apiVersion"] = json!("scheduling.k8s.io/v1");
        class
    }));
    rest.extend(lines(FLOW_CONTROL).map(|mut object| {
        object["apiVersion"] = json!("flowcontrol.apiserver.k8s.io/v1");
        object["metadata"]["annotations"] = json!({"apf.kubernetes.io/autoupdate-spec": "true"});
        object
    }));
    rest.extend(api_services());
    rest.extend(network(server));
    rest.push(client_ca(server));
    create_all(server, rest).await
}

fn lines(text: &'static str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("the data in this crate is JSON"))
}

fn namespaces() -> Vec<Value> {
    ["default", "kube-node-lease", "kube-public", "kube-system"]
        .iter()
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        .collect()
}

fn rbac(mut object: Value) -> Value {
    object["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
    let metadata = &mut object["metadata"];
    metadata["annotations"] = json!({"rbac.authorization.kubernetes.io/autoupdate": "true"});
    if !metadata["labels"].is_object() {
        metadata["labels"] = json!({});
    }
    metadata["labels"]["kubernetes.io/bootstrapping"] = json!("rbac-defaults");
    object
}

fn api_services() -> Vec<Value> {
    API_SERVICES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [group, version, group_priority, version_priority] = fields[..] else {
                return None;
            };
            let mut spec = json!({
                "version": version,
                "groupPriorityMinimum": group_priority.parse::<i64>().ok()?,
                "versionPriority": version_priority.parse::<i64>().ok()?,
            });
            if !group.is_empty() {
                spec["group"] = json!(group);
            }
            Some(json!({
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {
                    "name": format!("{version}.{group}"),
                    "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"},
                },
                "spec": spec,
            }))
        })
        .collect()
}

/// The `kubernetes` Service, where it leads, and the service ranges.
fn network(server: &Server) -> Vec<Value> {
    let config = &server.config;
    let address = config.advertise_address;
    let port = config.advertise_port;
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let cidrs: Vec<String> = config.service_cidrs.iter().map(ToString::to_string).collect();
    vec![
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": cidrs},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": config.kubernetes_service_ip().to_string(),
                "clusterIPs": [config.kubernetes_service_ip().to_string()],
                "ipFamilies": [family],
                "ipFamilyPolicy": "SingleStack",
                "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}],
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
            },
            "subsets": [{
                "addresses": [{"ip": address.to_string()}],
                "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
            }],
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": family,
            "endpoints": [{
                "addresses": [address.to_string()], "conditions": {"ready": true},
            }],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }),
    ]
}

/// What extension servers authenticate clients by.
fn client_ca(server: &Server) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {"client-ca-file": server.config.cluster_ca_pem},
    })
}

async fn create_all(server: &Arc<Server>, objects: Vec<Value>) -> Result<(), StartError> {
    let mut results = futures::stream::iter(objects)
        .map(|object| {
            let server = server.clone();
            async move {
                let name = format!("{} {}", object.kind(), object.name());
                match create(&server, object).await {
                    Ok(()) => Ok(()),
                    Err(error) if error.reason == "AlreadyExists" => Ok(()),
                    // One object that does not fit must not keep the whole cluster down.
                    Err(error) if error.code < 500 => {
                        tracing::error!(%error, object = name, "bootstrap object refused");
                        Ok(())
                    }
                    Err(error) => Err(StartError::Bootstrap { object: name, error }),
                }
            }
        })
        .buffer_unordered(AT_ONCE);
    while let Some(result) = results.next().await {
        result?;
    }
    Ok(())
}

struct Given(Decoded);

impl Change for Given {
    fn produce(&self, _call: &Call, _old: Option<&Stored>) -> Result<Produced, ApiError> {
        let object = self.0.object.clone();
        Ok(Produced { object, ownership: Ownership::Keep, warnings: Vec::new() })
    }
}

async fn create(server: &Arc<Server>, object: Value) -> Result<(), ApiError> {
    let Some(call) = call_for(server, &object) else {
        return Err(ApiError::no_such_path());
    };
    if server.store.get(&call.key(object.name())).is_some() {
        return Ok(());
    }
    let options = WriteOptions {
        dry_run: false,
        field_manager: String::new(),
        field_validation: FieldValidation::Strict,
        force: false,
    };
    let body = crate::encode::encode(&object);
    let decoded = codec::decode_body(server, &call, &body, &options)?;
    pipeline::write(server, &call, &options, &Given(decoded)).await.map(drop)
}

/// A call that the server itself makes to create an object.
fn call_for(server: &Server, object: &Value) -> Option<Call> {
    let registry = (**server.registry.load()).clone();
    let version = objects::GroupVersion::parse(object.api_version())?;
    let gvk = GroupVersionKind::new(&version.group, &version.version, object.kind());
    let kind = registry.kind(&gvk)?.clone();
    Some(Call {
        verb: Verb::Create,
        path: ResourcePath {
            group: version.group,
            version: version.version,
            namespace: object.namespace().to_string(),
            resource: kind.names.plural.clone(),
            ..ResourcePath::default()
        },
        query: Query::default(),
        headers: http::HeaderMap::new(),
        user: User::authenticated("system:apiserver", &[MASTERS]),
        view: View::new(&kind),
        kind,
        registry,
        now: jiff::Timestamp::now(),
        notes: crate::audit::Notes::default(),
    })
}
