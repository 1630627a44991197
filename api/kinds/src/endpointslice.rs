//! EndpointSlices.
//!
//! Source of behaviour: kubernetes `pkg/apis/discovery` and
//! `pkg/registry/discovery/endpointslice`, v1.36.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt, names};
use serde_json::{Value, json};

use crate::cells::{self, UNSET};
use crate::check;
use crate::edit::{Edit, set_generation};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::lifecycle;
use crate::read::{Read, part, same};
use crate::service::check_endpoint_ip;

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_HINTS: usize = 8;
const MAX_TOPOLOGY_LABELS: usize = 16;
/// Ports and endpoints shown before the rest is only counted.
const SHOWN: usize = 3;
/// Controllers whose slices hold addresses that others are answerable for.
const MANAGERS: [&str; 2] =
    ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];

/// Behaviour of EndpointSlices.
pub(crate) struct EndpointSlice;

impl Behaviour for EndpointSlice {
    fn default(&self, object: &mut Value) {
        for port in object.items_mut("ports") {
            port.default_to("name", "");
            port.default_to("protocol", "TCP");
        }
        for endpoint in object.items_mut("endpoints") {
            endpoint.map_mut("conditions");
        }
        object.default_to("endpoints", Value::Null);
        object.default_to("ports", Value::Null);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        set_generation(object, 1);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _context: &WriteContext<'_>) {
        lifecycle::update_whole(new, old);
        let labels = |object: &Value| part(object, &["metadata", "labels"]).clone();
        if new.generation() == old.generation() && !same(&labels(new), &labels(old)) {
            set_generation(new, old.generation() + 1);
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        check_frame(object, errors);
        check_endpoints(object, errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        check_frame(new, errors);
        if !same(part(new, &["endpoints"]), part(old, &["endpoints"])) {
            check_endpoints(new, errors);
        }
        let path = FieldPath::new("addressType");
        check::immutable(errors, &path, new.field("addressType"), old.field("addressType"));
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if old.is_none() && object.text("addressType") == "FQDN" {
            out.push("spec.addressType: FQDN endpoints are deprecated".to_string());
        }
        let labels = part(object, &["metadata", "labels"]);
        if MANAGERS.contains(&labels.text("endpointslice.kubernetes.io/managed-by")) {
            return out;
        }
        for (index, endpoint) in object.items("endpoints").iter().enumerate() {
            let path = FieldPath::new("endpoints").index(index).child("addresses");
            for (at, address) in endpoint.texts("addresses").into_iter().enumerate() {
                out.extend(check::ip_warning(&path.index(at), address));
            }
        }
        out
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let ports: Vec<String> = object.items("ports").iter().map(shown_port).collect();
        let endpoints = object.items("endpoints").iter();
        let addresses: Vec<String> =
            endpoints.flat_map(|endpoint| endpoint.texts("addresses")).map(String::from).collect();
        vec![
            cells::name(object),
            json!(object.text("addressType")),
            json!(first_few(&ports)),
            json!(first_few(&addresses)),
            cells::age(object, now),
        ]
    }
}

fn shown_port(port: &Value) -> String {
    match (port.int("port"), port.text_opt("name")) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) => name.to_string(),
        (None, None) => "*".to_string(),
    }
}

/// The first items and how many more there are, `<unset>` for an empty list.
fn first_few(items: &[String]) -> String {
    if items.is_empty() {
        return UNSET.to_string();
    }
    let shown = items[..items.len().min(SHOWN)].join(",");
    match items.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

/// Address type and ports.
fn check_frame(object: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("addressType");
    let kinds = ["FQDN", "IPv4", "IPv6"];
    check::required_one_of(errors, &path, object.text("addressType"), &kinds);
    let (ports, path) = (object.items("ports"), FieldPath::new("ports"));
    if ports.len() > MAX_PORTS {
        errors.too_many(&path, ports.len(), MAX_PORTS);
        return;
    }
    for (index, port) in ports.iter().enumerate() {
        let here = path.index(index);
        let name = port.text("name");
        if !name.is_empty() {
            check::label(errors, &here.child("name"), name);
        }
        if ports[..index].iter().any(|earlier| earlier.text("name") == name) {
            errors.duplicate(&here.child("name"), &json!(name));
        }
        let protocols = ["SCTP", "TCP", "UDP"];
        check::one_of(errors, &here.child("protocol"), port.text("protocol"), &protocols);
        if let Some(protocol) = port.text_opt("appProtocol") {
            check::qualified_name(errors, &here.child("appProtocol"), protocol);
        }
    }
}

fn check_endpoints(object: &Value, errors: &mut FieldErrors) {
    let (endpoints, path) = (object.items("endpoints"), FieldPath::new("endpoints"));
    if endpoints.len() > MAX_ENDPOINTS {
        errors.too_many(&path, endpoints.len(), MAX_ENDPOINTS);
        return;
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let here = path.index(index);
        check_addresses(endpoint, object.text("addressType"), &here.child("addresses"), errors);
        if let Some(node) = endpoint.text_opt("nodeName") {
            check::subdomain(errors, &here.child("nodeName"), node);
        }
        let topology = here.child("deprecatedTopology");
        let labels = endpoint.map("deprecatedTopology").map_or(0, serde_json::Map::len);
        if labels > MAX_TOPOLOGY_LABELS {
            errors.too_many(&topology, labels, MAX_TOPOLOGY_LABELS);
        }
        check::labels(errors, &topology, endpoint, "deprecatedTopology");
        if let Some(hostname) = endpoint.text_opt("hostname") {
            check::label(errors, &here.child("hostname"), hostname);
        }
        if let Some(hints) = endpoint.field("hints") {
            let path = here.child("hints");
            check_hints(hints, "forZones", &path.child("forZones"), errors);
            check_hints(hints, "forNodes", &path.child("forNodes"), errors);
        }
    }
}

fn check_addresses(endpoint: &Value, kind: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let addresses = endpoint.texts("addresses");
    if addresses.is_empty() {
        errors.required(path, "must contain at least 1 address");
    } else if addresses.len() > MAX_ADDRESSES {
        errors.too_many(path, addresses.len(), MAX_ADDRESSES);
    }
    for (index, address) in addresses.into_iter().enumerate() {
        let here = path.index(index);
        if kind == "FQDN" {
            check::domain_name(errors, &here, address);
            continue;
        }
        if !["IPv4", "IPv6"].contains(&kind) {
            continue;
        }
        let before = errors.0.len();
        match kind {
            "IPv4" => check::ip(errors, &here, address),
            _ => check::canonical_ip(errors, &here, address),
        }
        if errors.0.len() > before {
            continue;
        }
        if address.contains(':') != (kind == "IPv6") {
            errors.invalid_str(path, address, &format!("must be an {kind} address"));
        }
        check_endpoint_ip(address, &here, errors);
    }
}

fn check_hints(hints: &Value, key: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let list = hints.items(key);
    if list.len() > MAX_HINTS {
        errors.too_many(path, list.len(), MAX_HINTS);
        return;
    }
    for (index, hint) in list.iter().enumerate() {
        let (name, here) = (hint.text("name"), path.index(index).child("name"));
        if list[..index].iter().any(|earlier| earlier.text("name") == name) {
            errors.duplicate(&here, &json!(name));
        }
        let texts = match key {
            "forZones" => names::label_value(name),
            _ => names::dns1123_subdomain(name),
        };
        check::faults(errors, &here, name, texts);
    }
}
