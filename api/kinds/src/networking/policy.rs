//! NetworkPolicies.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, names};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::{Edit, set_generation, step_generation};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::lifecycle::spec_changed;
use crate::read::{Read, part};

/// Both directions: the list of rules, and the list of peers in each rule.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

/// Behaviour of NetworkPolicies.
pub(crate) struct NetworkPolicy;

impl Behaviour for NetworkPolicy {
    fn default(&self, object: &mut Value) {
        let spec = object.map_mut("spec");
        spec.map_mut("podSelector");
        for (list, _) in DIRECTIONS {
            for rule in spec.items_mut(list) {
                for port in rule.items_mut("ports") {
                    port.default_to("protocol", "TCP");
                }
            }
        }
        if spec.items("policyTypes").is_empty() {
            let types = match spec.items("egress").is_empty() {
                true => json!(["Ingress"]),
                false => json!(["Ingress", "Egress"]),
            };
            spec["policyTypes"] = types;
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        set_generation(object, 1);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _context: &WriteContext<'_>) {
        step_generation(new, old, spec_changed(new, old));
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        check_spec(part(object, &["spec"]), &[], errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        let before: Vec<String> = blocks(old)
            .into_iter()
            .flat_map(|(_, block)| {
                let mut networks = block.texts("except");
                networks.push(block.text("cidr"));
                networks.into_iter().map(String::from).collect::<Vec<_>>()
            })
            .collect();
        check_spec(part(new, &["spec"]), &before, errors);
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        for (path, block) in blocks(object) {
            out.extend(check::cidr_warnings(&path.child("cidr"), block.text("cidr")));
            for (index, network) in block.texts("except").into_iter().enumerate() {
                out.extend(check::cidr_warnings(&path.child("except").index(index), network));
            }
        }
        out
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let selector = part(object, &["spec"]).field("podSelector");
        vec![cells::name(object), cells::selector(selector), cells::age(object, now)]
    }
}

/// Every address block of the policy and where it is.
fn blocks(object: &Value) -> Vec<(FieldPath, &Value)> {
    let mut out = Vec::new();
    for (list, peers) in DIRECTIONS {
        for (at, rule) in part(object, &["spec"]).items(list).iter().enumerate() {
            for (index, peer) in rule.items(peers).iter().enumerate() {
                let path = FieldPath::new("spec").child(list).index(at).child(peers).index(index);
                out.extend(peer.field("ipBlock").map(|block| (path.child("ipBlock"), block)));
            }
        }
    }
    out
}

fn check_spec(spec: &Value, before: &[String], errors: &mut FieldErrors) {
    let path = FieldPath::new("spec");
    check::selector(errors, &path.child("podSelector"), spec.field("podSelector"));
    for (list, peers) in DIRECTIONS {
        for (index, rule) in spec.items(list).iter().enumerate() {
            let here = path.child(list).index(index);
            for (at, port) in rule.items("ports").iter().enumerate() {
                check_port(port, &here.child("ports").index(at), errors);
            }
            for (at, peer) in rule.items(peers).iter().enumerate() {
                check_peer(peer, before, &here.child(peers).index(at), errors);
            }
        }
    }
    let (types, path) = (spec.texts("policyTypes"), path.child("policyTypes"));
    if types.len() > DIRECTIONS.len() {
        let detail = "may not specify more than two policyTypes";
        errors.invalid(&path, &json!(types), detail);
        return;
    }
    for (index, kind) in types.into_iter().enumerate() {
        check::one_of(errors, &path.index(index), kind, &["Ingress", "Egress"]);
    }
}

fn check_port(port: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if let Some(protocol) = port.text_opt("protocol") {
        check::one_of(errors, &path.child("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
    }
    let (end, here) = (port.int("endPort"), path.child("endPort"));
    match port.field("port") {
        Some(Value::String(name)) => {
            if let Some(end) = end {
                let detail = "may not be specified when `port` is non-numeric";
                errors.invalid(&here, &json!(end), detail);
            }
            check::faults(errors, &path.child("port"), name, names::port_name(name));
        }
        Some(start) => {
            let start = start.as_i64().unwrap_or(0);
            check::port_number(errors, &path.child("port"), start);
            let Some(end) = end else { return };
            if end < start {
                let detail = "must be greater than or equal to `port`";
                errors.invalid(&here, &json!(start), detail);
            }
            check::port_number(errors, &here, end);
        }
        None => {
            if let Some(end) = end {
                let detail = "may not be specified when `port` is not specified";
                errors.invalid(&here, &json!(end), detail);
            }
        }
    }
}

fn check_peer(peer: &Value, before: &[String], path: &FieldPath, errors: &mut FieldErrors) {
    let selectors = ["podSelector", "namespaceSelector"];
    for key in selectors {
        check::selector(errors, &path.child(key), peer.field(key));
    }
    let selected = selectors.iter().any(|key| peer.field(key).is_some());
    let block = peer.field("ipBlock");
    if let Some(block) = block {
        check_block(block, before, &path.child("ipBlock"), errors);
    }
    match (selected, block) {
        (false, None) => errors.required(path, "must specify a peer"),
        (true, Some(_)) => {
            errors.forbidden(path, "may not specify both ipBlock and another peer");
        }
        _ => {}
    }
}

fn check_block(block: &Value, before: &[String], path: &FieldPath, errors: &mut FieldErrors) {
    if !check::required(errors, block, path, "cidr") {
        return;
    }
    let check_network = |text: &str, path: &FieldPath, errors: &mut FieldErrors| {
        if !before.iter().any(|known| known == text) {
            check::cidr(errors, path, text, false);
        }
        check::sloppy_network(text)
    };
    let Some(whole) = check_network(block.text("cidr"), &path.child("cidr"), errors) else {
        return;
    };
    for (index, text) in block.texts("except").into_iter().enumerate() {
        let here = path.child("except").index(index);
        let Some(hole) = check_network(text, &here, errors) else { continue };
        if !whole.contains(&hole.trunc().network()) || whole.prefix_len() >= hole.prefix_len() {
            errors.invalid_str(&here, text, "must be a strict subset of `cidr`");
        }
    }
}
