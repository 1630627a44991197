//! PURE: what a name in the cluster's domain asks for.
//!
//! Under the domain, from the right (source: the specification of DNS for Kubernetes, 1.1.0):
//! ```text
//! dns-version                              the version of the specification
//! SERVICE.NAMESPACE.svc                    a Service
//! HOSTNAME.SERVICE.NAMESPACE.svc           an endpoint of a headless Service
//! _PROTOCOL.SERVICE.NAMESPACE.svc          exists, if something is below it
//! _PORT._PROTOCOL.SERVICE.NAMESPACE.svc    a named port
//! A-B-C-D.NAMESPACE.pod                    a pod's address, with dashes
//! ns.dns                                   this server
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is asked for. All texts are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The domain itself.
    Domain,
    /// `dns-version`.
    Version,
    /// `ns.dns`, the name in NS and SOA records.
    Server,
    /// `svc`, `pod` or `dns`: nothing by itself, with names below.
    Branch,
    /// A namespace below `svc` or `pod`.
    Namespace(String),
    /// A Service.
    Service(Service),
    /// An endpoint by its host name.
    Endpoint(Service, String),
    /// A protocol of a Service.
    Protocol(Service, String),
    /// A named port of a Service.
    Port(Service, String, String),
    /// A pod by its address, whatever its namespace.
    Pod(IpAddr),
    /// Nothing that can exist.
    Nothing,
}

/// A Service by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Service {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

/// Reads a name, given its labels before the cluster's domain.
pub(crate) fn subject(labels: &[&[u8]]) -> Subject {
    let mut texts = Vec::with_capacity(labels.len());
    for label in labels.iter().rev() {
        match std::str::from_utf8(label) {
            Ok(text) => texts.push(text.to_ascii_lowercase()),
            Err(_) => return Subject::Nothing,
        }
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    match texts[..] {
        [] => Subject::Domain,
        ["dns-version"] => Subject::Version,
        ["svc" | "pod" | "dns"] => Subject::Branch,
        ["dns", "ns"] => Subject::Server,
        ["svc" | "pod", namespace] => Subject::Namespace(namespace.to_owned()),
        ["svc", namespace, name, ref below @ ..] => below_service(service(namespace, name), below),
        ["pod", _, pod] => dashed_ip(pod).map_or(Subject::Nothing, Subject::Pod),
        _ => Subject::Nothing,
    }
}

fn service(namespace: &str, name: &str) -> Service {
    Service { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn below_service(service: Service, below: &[&str]) -> Subject {
    let special = |label: &str| label.strip_prefix('_').map(str::to_owned);
    match below {
        [] => Subject::Service(service),
        [label] => match special(label) {
            Some(protocol) => Subject::Protocol(service, protocol),
            None => Subject::Endpoint(service, (*label).to_owned()),
        },
        [protocol, port] => match (special(protocol), special(port)) {
            (Some(protocol), Some(port)) => Subject::Port(service, protocol, port),
            _ => Subject::Nothing,
        },
        _ => Subject::Nothing,
    }
}

/// Reads `10-1-2-3` or `fd00--1`.
fn dashed_ip(text: &str) -> Option<IpAddr> {
    let v4 = text.replace('-', ".").parse::<Ipv4Addr>();
    v4.map(IpAddr::V4).or_else(|_| text.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}

/// Writes an address as a label.
pub(crate) fn dashed(ip: IpAddr) -> String {
    let mut label = ip.to_string().replace(['.', ':'], "-");
    // A label neither begins nor ends with a dash.
    if label.starts_with('-') {
        label.insert(0, '0');
    }
    if label.ends_with('-') {
        label.push('0');
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str) -> Subject {
        let labels: Vec<&[u8]> =
            name.split('.').filter(|label| !label.is_empty()).map(str::as_bytes).collect();
        subject(&labels)
    }

    #[test]
    fn the_grammar() {
        let web = || service("ns1", "web");
        for (name, expected) in [
            ("", Subject::Domain),
            ("dns-version", Subject::Version),
            ("ns.dns", Subject::Server),
            ("svc", Subject::Branch),
            ("ns1.svc", Subject::Namespace("ns1".to_owned())),
            ("ns1.pod", Subject::Namespace("ns1".to_owned())),
            ("web.ns1.svc", Subject::Service(web())),
            ("WEB.Ns1.sVc", Subject::Service(web())),
            ("web-0.web.ns1.svc", Subject::Endpoint(web(), "web-0".to_owned())),
            ("_tcp.web.ns1.svc", Subject::Protocol(web(), "tcp".to_owned())),
            ("_http._tcp.web.ns1.svc", Subject::Port(web(), "tcp".to_owned(), "http".to_owned())),
            ("http.tcp.web.ns1.svc", Subject::Nothing),
            ("x._http._tcp.web.ns1.svc", Subject::Nothing),
            ("10-244-0-2.ns1.pod", Subject::Pod([10, 244, 0, 2].into())),
            ("fd00--2.ns1.pod", Subject::Pod("fd00::2".parse().unwrap())),
            ("web.ns1.pod", Subject::Nothing),
            ("web.ns1", Subject::Nothing),
            ("example", Subject::Nothing),
        ] {
            assert_eq!(read(name), expected, "{name}");
        }
    }

    #[test]
    fn addresses_as_labels_are_read_back() {
        for ip in ["10.244.0.2", "fd00::2", "::1", "fd00::"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(dashed_ip(&dashed(ip)), Some(ip), "{}", dashed(ip));
        }
    }
}
