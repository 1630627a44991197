//! Endpoints, which EndpointSlices have replaced.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use crate::cells::{self, NONE};
use crate::check;
use crate::edit::Edit;
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::read::{Read, same};
use crate::service::check_endpoint_ip;

/// Addresses shown before the rest is only counted.
const SHOWN: usize = 3;

/// Behaviour of Endpoints.
pub(crate) struct Endpoints;

impl Behaviour for Endpoints {
    fn deprecation(&self) -> Option<&'static str> {
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
    }

    fn default(&self, object: &mut Value) {
        for subset in object.items_mut("subsets") {
            for port in subset.items_mut("ports") {
                port.default_zero("protocol", "TCP");
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        for (index, subset) in object.items("subsets").iter().enumerate() {
            check_subset(subset, &FieldPath::new("subsets").index(index), errors);
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        let subsets = |object: &Value| Value::Array(object.items("subsets").to_vec());
        if !same(&subsets(new), &subsets(old)) {
            self.validate(new, errors);
        }
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        for (index, subset) in object.items("subsets").iter().enumerate() {
            for list in ["addresses", "notReadyAddresses"] {
                for (at, address) in subset.items(list).iter().enumerate() {
                    let path = FieldPath::new("subsets").index(index).child(list).index(at);
                    out.extend(check::ip_warning(&path.child("ip"), address.text("ip")));
                }
            }
        }
        out
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        vec![cells::name(object), json!(summary(object)), cells::age(object, now)]
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}

fn check_subset(subset: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let (ready, rest) = (subset.items("addresses"), subset.items("notReadyAddresses"));
    if ready.is_empty() && rest.is_empty() {
        errors.required(path, "must specify `addresses` or `notReadyAddresses`");
    }
    for (list, addresses) in [("addresses", ready), ("notReadyAddresses", rest)] {
        for (index, address) in addresses.iter().enumerate() {
            check_address(address, &path.child(list).index(index), errors);
        }
    }
    let ports = subset.items("ports");
    for (index, port) in ports.iter().enumerate() {
        let here = path.child("ports").index(index);
        let name = port.text("name");
        if !name.is_empty() {
            check::label(errors, &here.child("name"), name);
        } else if ports.len() > 1 {
            errors.required(&here.child("name"), "");
        }
        check::port_number(errors, &here.child("port"), port.int("port").unwrap_or(0));
        let protocols = ["SCTP", "TCP", "UDP"];
        let protocol = port.text("protocol");
        check::required_one_of(errors, &here.child("protocol"), protocol, &protocols);
        if let Some(protocol) = port.text_opt("appProtocol") {
            check::qualified_name(errors, &here.child("appProtocol"), protocol);
        }
    }
}

fn check_address(address: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let ip = address.text("ip");
    check::ip(errors, &path.child("ip"), ip);
    let hostname = address.text("hostname");
    if !hostname.is_empty() {
        check::label(errors, &path.child("hostname"), hostname);
    }
    if let Some(node) = address.text_opt("nodeName") {
        check::subdomain(errors, &path.child("nodeName"), node);
    }
    check_endpoint_ip(ip, &path.child("ip"), errors);
}

/// The first few ready addresses with their ports.
fn summary(object: &Value) -> String {
    let subsets = object.list_at(&["subsets"]);
    if subsets.is_empty() {
        return NONE.to_string();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let ips = subset.items("addresses").iter().map(|address| address.text("ip"));
        let ports = subset.items("ports");
        if ports.is_empty() {
            all.extend(ips.map(String::from));
            continue;
        }
        for port in ports.iter().map(|port| port.int("port").unwrap_or(0)) {
            all.extend(ips.clone().map(|ip| {
                if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
            }));
        }
    }
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(",");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}
