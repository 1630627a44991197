//! Ingresses.

use std::collections::BTreeSet;

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt, names};
use serde_json::{Value, json};

use super::ingressclass::check_reference;
use crate::cells;
use crate::check;
use crate::edit::Edit;
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::lifecycle;
use crate::read::{Read, part};

/// Names the class in the old way.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
/// Hosts shown before the rest is only counted.
const SHOWN_HOSTS: usize = 3;

/// Behaviour of Ingresses.
pub(crate) struct Ingress;

impl Behaviour for Ingress {
    fn default(&self, object: &mut Value) {
        object.map_mut("spec");
        object.map_mut("status").map_mut("loadBalancer");
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        lifecycle::create(object, json!({"loadBalancer": {}}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        lifecycle::update(new, old, context.subresource, false);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        check_spec(object, errors);
        let annotation = part(object, &["metadata", "annotations", CLASS_ANNOTATION]).as_str();
        let class = part(object, &["spec", "ingressClassName"]).as_str();
        if let (Some(annotation), Some(class)) = (annotation, class)
            && annotation != class
        {
            let path = FieldPath::new("annotations").child(CLASS_ANNOTATION);
            let detail = "must match `ingressClassName` when both are specified";
            errors.invalid_str(&path, annotation, detail);
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        if context.subresource == "status" {
            check_status(new, old, errors);
        } else {
            check_spec(new, errors);
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let annotated = part(object, &["metadata", "annotations"]).get(CLASS_ANNOTATION).is_some();
        let classless = part(object, &["spec", "ingressClassName"]).is_null();
        if old.is_some() || !annotated || !classless {
            return Vec::new();
        }
        vec![format!(
            "annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' \
             instead"
        )]
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let spec = part(object, &["spec"]);
        let class = spec.text_opt("ingressClassName").unwrap_or(cells::NONE);
        let ports = if spec.items("tls").is_empty() { "80" } else { "80, 443" };
        vec![
            cells::name(object),
            json!(class),
            json!(shown_hosts(spec.items("rules"))),
            json!(shown_addresses(object)),
            json!(ports),
            cells::age(object, now),
        ]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }
}

fn shown_hosts(rules: &[Value]) -> String {
    let mut hosts: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= hosts.len() == SHOWN_HOSTS;
        if !more && !rule.text("host").is_empty() {
            hosts.push(rule.text("host"));
        }
    }
    match (hosts.is_empty(), more) {
        (true, _) => "*".to_string(),
        (false, false) => hosts.join(","),
        (false, true) => format!("{} + {} more...", hosts.join(","), rules.len() - SHOWN_HOSTS),
    }
}

fn shown_addresses(object: &Value) -> String {
    let points = object.list_at(&["status", "loadBalancer", "ingress"]).iter();
    let addresses: BTreeSet<&str> = points
        .map(|point| match point.text("ip") {
            "" => point.text("hostname"),
            ip => ip,
        })
        .filter(|address| !address.is_empty())
        .collect();
    addresses.into_iter().collect::<Vec<_>>().join(",")
}

fn check_spec(object: &Value, errors: &mut FieldErrors) {
    let (spec, path) = (part(object, &["spec"]), FieldPath::new("spec"));
    let rules = spec.items("rules");
    if rules.is_empty() && spec.field("defaultBackend").is_none() {
        let printed = spec.field("rules").unwrap_or(&Value::Null);
        errors.invalid(&path, printed, "either `defaultBackend` or `rules` must be specified");
    }
    if let Some(backend) = spec.field("defaultBackend") {
        check_backend(backend, &path.child("defaultBackend"), errors);
    }
    for (index, rule) in rules.iter().enumerate() {
        check_rule(rule, &path.child("rules").index(index), errors);
    }
    for (index, tls) in spec.items("tls").iter().enumerate() {
        let here = path.child("tls").index(index);
        for (at, host) in tls.texts("hosts").into_iter().enumerate() {
            check_host(host, &here.child("hosts").index(at), errors);
        }
        let secret = tls.text("secretName");
        if !secret.is_empty() {
            check::subdomain(errors, &here.child("secretName"), secret);
        }
    }
    if let Some(class) = spec.text_opt("ingressClassName") {
        check::subdomain(errors, &path.child("ingressClassName"), class);
    }
}

fn check_host(host: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let texts = match host.contains('*') {
        true => names::wildcard_dns1123_subdomain(host),
        false => names::dns1123_subdomain(host),
    };
    check::faults(errors, path, host, texts);
}

fn check_rule(rule: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let host = rule.text("host");
    if !host.is_empty() {
        check_no_address(host, &path.child("host"), errors);
        check_host(host, &path.child("host"), errors);
    }
    let Some(http) = rule.field("http") else { return };
    let path = path.child("http").child("paths");
    let paths = http.items("paths");
    if paths.is_empty() {
        errors.required(&path, "");
    }
    for (index, item) in paths.iter().enumerate() {
        check_path(item, &path.index(index), errors);
    }
}

fn check_no_address(host: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if check::sloppy_ip(host).is_some() {
        errors.invalid_str(path, host, "must be a DNS name, not an IP address");
    }
}

fn check_path(item: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(kind) = item.text_opt("pathType") else {
        errors.required(&path.child("pathType"), "pathType must be specified");
        return;
    };
    let (text, here) = (item.text("path"), path.child("path"));
    let relative = !text.starts_with('/');
    match kind {
        "Exact" | "Prefix" => {
            if relative {
                errors.invalid_str(&here, text, "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(part) {
                    errors.invalid_str(&here, text, &format!("must not contain '{part}'"));
                }
            }
            for end in ["/..", "/."] {
                if text.ends_with(end) {
                    errors.invalid_str(&here, text, &format!("cannot end with '{end}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && relative {
                errors.invalid_str(&here, text, "must be an absolute path");
            }
        }
        _ => {
            let kinds = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.not_supported(&path.child("pathType"), &json!(kind), &kinds);
        }
    }
    check_backend(part(item, &["backend"]), &path.child("backend"), errors);
}

fn check_backend(backend: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    match (backend.field("resource"), backend.field("service")) {
        (Some(_), Some(_)) => {
            errors.invalid_str(path, "", "cannot set both resource and service backends");
        }
        (Some(resource), None) => check_reference(resource, &path.child("resource"), errors),
        (None, Some(service)) => check_service(service, path, errors),
        (None, None) => errors.invalid_str(path, "", "resource or service backend is required"),
    }
}

fn check_service(service: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let here = path.child("service");
    if check::required(errors, service, &here, "name") {
        let name = service.text("name");
        check::faults(errors, &here.child("name"), name, names::dns1123_label(name));
    }
    let port = part(service, &["port"]);
    match (port.text("name"), port.int("number").unwrap_or(0)) {
        ("", 0) => errors.required(path, "port name or number is required"),
        ("", number) => {
            check::port_number(errors, &here.child("port").child("number"), number);
        }
        (name, 0) => {
            let path = here.child("port").child("name");
            check::faults(errors, &path, name, names::port_name(name));
        }
        _ => errors.invalid_str(path, "", "cannot set both port name & port number"),
    }
}

fn check_status(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let points = |object: &Value| object.list_at(&["status", "loadBalancer", "ingress"]).to_vec();
    let before = points(old);
    let path = FieldPath::new("status").child("loadBalancer").child("ingress");
    for (index, point) in points(new).iter().enumerate() {
        let (ip, here) = (point.text("ip"), path.index(index));
        if !ip.is_empty() && !before.iter().any(|point| point.text("ip") == ip) {
            check::ip(errors, &here.child("ip"), ip);
        }
        let hostname = point.text("hostname");
        if !hostname.is_empty() {
            check::subdomain(errors, &here.child("hostname"), hostname);
            check_no_address(hostname, &here.child("hostname"), errors);
        }
    }
}
