//! Validation of updates of a pod's status.
//!
//! Source of behaviour: kubernetes `pkg/apis/core/validation`, v1.36.

use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use super::update::check_annotation_changes;
use crate::check;
use crate::read::{Read, part};

/// Checks an update of `status`.
pub(crate) fn check_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    check_annotation_changes(new, old, errors);
    let path = FieldPath::new("status");
    let (status, before) = (part(new, &["status"]), part(old, &["status"]));
    check_conditions(status, &path.child("conditions"), errors);
    if new.str_at(&["spec", "nodeName"]) != old.str_at(&["spec", "nodeName"]) {
        errors.forbidden(&path.child("nodeName"), "may not be changed directly");
    }
    check_nomination(old, status, before, &path.child("nominatedNodeName"), errors);
    let observed = status.int("observedGeneration").unwrap_or(0);
    if observed < 0 {
        let detail = "must be a non-negative integer";
        errors.invalid(&path.child("observedGeneration"), &json!(observed), detail);
    }
    let here = path.child("qosClass");
    check::immutable(errors, &here, status.field("qosClass"), before.field("qosClass"));
    for (list, specs) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", ""),
    ] {
        check_transitions(old, (status, before), (list, specs), &path.child(list), errors);
    }
    check_claim_statuses(new, status, &path.child("resourceClaimStatuses"), errors);
    check_addresses(status, before, "podIPs", &path, errors);
    let host_ips = status.items("hostIPs");
    if let Some(first) = host_ips.first().map(|ip| ip.text("ip"))
        && first != status.text("hostIP")
    {
        let here = path.child("hostIPs").index(0).child("ip");
        errors.invalid_str(&here, first, "must be equal to `hostIP`");
    }
    check_addresses(status, before, "hostIPs", &path, errors);
}

fn check_conditions(status: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for (index, condition) in status.items("conditions").iter().enumerate() {
        let here = path.index(index);
        let observed = condition.int("observedGeneration").unwrap_or(0);
        if observed < 0 {
            let detail = "must be a non-negative integer";
            errors.invalid(&here.child("observedGeneration"), &json!(observed), detail);
        }
        let kind = condition.text("type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            check::qualified_name(errors, &here.child("Type"), kind);
        }
    }
}

fn check_nomination(
    old: &Value,
    status: &Value,
    before: &Value,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let name = status.text("nominatedNodeName");
    if name.is_empty() || name == before.text("nominatedNodeName") {
        return;
    }
    check::subdomain(errors, path, name);
    if !old.str_at(&["spec", "nodeName"]).is_empty() {
        errors.forbidden(path, "may not be set on pods that are already bound to a node");
    }
}

/// Checks that containers which have ended for good are not said to run again.
fn check_transitions(
    old: &Value,
    (status, before): (&Value, &Value),
    (list, specs): (&str, &str),
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let spec = part(old, &["spec"]);
    let restarts_all = ["initContainers", "containers"]
        .iter()
        .flat_map(|list| spec.items(list))
        .flat_map(|container| container.items("restartPolicyRules"))
        .any(|rule| rule.text("action") == "RestartAllContainers");
    if restarts_all && !specs.is_empty() {
        return;
    }
    for (index, was) in before.items(list).iter().enumerate() {
        let Some(end) = was.at(&["state", "terminated"]).filter(|end| !end.is_null()) else {
            continue;
        };
        let name = was.text("name");
        let revived = status
            .items(list)
            .iter()
            .find(|now| now.text("name") == name)
            .is_some_and(|now| part(now, &["state"]).field("terminated").is_none());
        let exit_code = end.int("exitCode").unwrap_or(0);
        let container = spec.items(specs).iter().find(|spec| spec.text("name") == name);
        let allowed = container.is_some_and(|container| restarts(container, spec, exit_code));
        if revived && !allowed {
            let detail = "may not be transitioned to non-terminated state";
            errors.forbidden(&path.index(index).child("state"), detail);
        }
    }
}

/// Whether a container is started again after it ended with an exit code.
fn restarts(container: &Value, spec: &Value, exit_code: i64) -> bool {
    let own = container.text("restartPolicy");
    let matches = |rule: &Value| {
        let codes = part(rule, &["exitCodes"]);
        let listed = codes.items("values").iter().any(|code| code.as_i64() == Some(exit_code));
        match codes.text("operator") {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    };
    if !own.is_empty() && container.items("restartPolicyRules").iter().any(matches) {
        return true;
    }
    let policy = if own.is_empty() { spec.text("restartPolicy") } else { own };
    match policy {
        "OnFailure" => exit_code != 0,
        "Never" => false,
        _ => true,
    }
}

fn check_claim_statuses(pod: &Value, status: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let claims = part(pod, &["spec"]).items("resourceClaims");
    let mut seen = Vec::new();
    for (index, entry) in status.items("resourceClaimStatuses").iter().enumerate() {
        let here = path.index(index);
        let name = entry.text("name");
        if !claims.iter().any(|claim| claim.text("name") == name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.invalid_str(&here.child("name"), name, detail);
        }
        if seen.contains(&name) {
            errors.duplicate(&here.child("name"), &json!(name));
        }
        seen.push(name);
        if let Some(claim) = entry.text_opt("resourceClaimName") {
            check::subdomain(errors, &here.child("resourceClaimName"), claim);
        }
    }
}

fn check_addresses(
    status: &Value,
    before: &Value,
    list: &str,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let here = path.child(list);
    let texts = |status: &Value| -> Vec<String> {
        status.items(list).iter().map(|ip| ip.text("ip").to_string()).collect()
    };
    let (ips, known) = (texts(status), texts(before));
    for (index, ip) in ips.iter().enumerate().filter(|(_, ip)| !known.contains(ip)) {
        check::ip(errors, &here.index(index), ip);
    }
    let v6 = ips.iter().filter(|ip| check::sloppy_ip(ip).is_some_and(|ip| ip.is_ipv6())).count();
    if ips.len() > 2 || (ips.len() == 2 && v6 != 1) {
        let printed: Vec<Value> = ips.iter().map(|ip| json!({"IP": ip})).collect();
        let detail = "may specify no more than one IP for each IP family";
        errors.invalid(&here, &json!(printed), detail);
    }
}
