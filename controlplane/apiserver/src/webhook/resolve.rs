//! From a target to the addresses at which it may be reached.

use std::net::{IpAddr, SocketAddr};

use objects::ObjectExt;
use rand::seq::SliceRandom as _;
use serde_json::Value;
use store::{List, Store};

use super::target::{Place, Target};
use crate::encode;

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Addresses to try, in a random order for a Service: each of its endpoints takes its share.
pub(super) async fn places(store: &Store, target: &Target) -> Result<Vec<SocketAddr>, String> {
    match &target.place {
        Place::Host { host, port } => lookup(host, *port).await,
        Place::Service { namespace, name, port } => {
            let missing = || format!("service {name:?} not found");
            let record = store.get(&format!("/services/{namespace}/{name}")).ok_or_else(missing)?;
            let service = encode::parse(&record);
            if service.str_at(&["spec", "type"]) == "ExternalName" {
                return lookup(service.str_at(&["spec", "externalName"]), *port).await;
            }
            let mut places = of_service(store, &service, *port)?;
            places.shuffle(&mut rand::rng());
            Ok(places)
        }
    }
}

async fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    match tokio::net::lookup_host((host, port)).await {
        Ok(found) => Ok(found.collect()),
        Err(_) => Err(format!("dial tcp: lookup {host}: no such host")),
    }
}

fn of_service(store: &Store, service: &Value, port: u16) -> Result<Vec<SocketAddr>, String> {
    let (namespace, name) = (service.namespace(), service.name());
    let ports = service.list_at(&["spec", "ports"]);
    let asked = i64::from(port);
    let Some(port) = ports.iter().find(|one| one.i64_at(&["port"]) == Some(asked)) else {
        return Err(format!("no service port {asked} found for service {name:?}"));
    };
    let scope = format!("discovery.k8s.io/endpointslices/{namespace}/");
    let page = store.list(&List { scope: &scope, ..List::default() });
    let slices = page.map(|page| page.records).unwrap_or_default();
    let mut found = Vec::new();
    for slice in slices.iter().map(|record| encode::parse(record)) {
        let own = slice.labels().and_then(|labels| labels.get(SERVICE_NAME_LABEL));
        if own.is_some_and(|own| own == name) {
            found.extend(endpoints(&slice, port.str_at(&["name"])));
        }
    }
    if found.is_empty() {
        return Err(format!("no endpoints available for service {name:?}"));
    }
    Ok(found)
}

/// The ready addresses of a slice at its port of a name. Pure.
pub(super) fn endpoints(slice: &Value, port_name: &str) -> Vec<SocketAddr> {
    let ports = slice.list_at(&["ports"]);
    let port = ports.iter().find(|port| port.str_at(&["name"]) == port_name);
    let number = port.and_then(|port| port.i64_at(&["port"]));
    let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else {
        return Vec::new();
    };
    let ready = slice.list_at(&["endpoints"]).iter().filter(|endpoint| {
        // Nothing said is ready.
        endpoint.bool_at(&["conditions", "ready"]) != Some(false)
    });
    ready
        .flat_map(|endpoint| endpoint.list_at(&["addresses"]))
        .filter_map(|address| address.as_str()?.parse().ok())
        .map(|address: IpAddr| SocketAddr::new(address, number))
        .collect()
}
