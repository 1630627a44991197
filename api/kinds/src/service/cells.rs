//! The cells of `kubectl get services`.

use std::collections::BTreeSet;

use objects::ObjectExt;
use objects::k8s::jiff::Timestamp;
use serde_json::{Value, json};

use crate::cells::{self, NONE};
use crate::kind::Cell;
use crate::read::{Read, part};

/// The cells of a row.
pub(super) fn cells(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = part(object, &["spec"]);
    let ip = spec.texts("clusterIPs").first().copied().unwrap_or("");
    vec![
        cells::name(object),
        json!(spec.text("type")),
        cells::or_none(ip),
        json!(external(object)),
        cells::or_none(&ports(spec)),
        cells::age(object, now),
        cells::labels(object.map_at(&["spec", "selector"])),
    ]
}

fn ports(spec: &Value) -> String {
    let texts: Vec<String> = spec
        .items("ports")
        .iter()
        .map(|port| {
            let number = port.int("port").unwrap_or(0);
            let protocol = port.text("protocol");
            match port.int("nodePort").filter(|port| *port > 0) {
                Some(node_port) => format!("{number}:{node_port}/{protocol}"),
                None => format!("{number}/{protocol}"),
            }
        })
        .collect();
    texts.join(",")
}

/// The addresses in a load balancer's status, sorted.
pub(crate) fn ingress_addresses(status: &Value) -> Vec<&str> {
    let addresses: BTreeSet<&str> = status
        .items("ingress")
        .iter()
        .map(|entry| if entry.is_set("ip") { entry.text("ip") } else { entry.text("hostname") })
        .filter(|address| !address.is_empty())
        .collect();
    addresses.into_iter().collect()
}

fn external(object: &Value) -> String {
    let spec = part(object, &["spec"]);
    let own = spec.texts("externalIPs");
    match spec.text("type") {
        "ClusterIP" | "NodePort" if own.is_empty() => NONE.to_string(),
        "ClusterIP" | "NodePort" => own.join(","),
        "LoadBalancer" => {
            let mut all = ingress_addresses(part(object, &["status", "loadBalancer"]));
            all.extend(own);
            if all.is_empty() { "<pending>".to_string() } else { all.join(",") }
        }
        "ExternalName" => spec.text("externalName").to_string(),
        _ => cells::UNKNOWN.to_string(),
    }
}
