//! StatefulSets.

use objects::k8s::jiff::Timestamp;
use objects::names::{self, NameCheck};
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use super::workload::{self, check_nonnegative};
use crate::cells;
use crate::check;
use crate::claim;
use crate::edit::{Edit, restore};
use crate::kind::{Behaviour, Cell, ScalePaths, WriteContext};
use crate::lifecycle;
use crate::pod;
use crate::read::{NOTHING, Read, part, same};

/// The fields of the spec that may change.
const MUTABLE: [&str; 7] = [
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];
const IMMUTABLE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', \
    'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' \
    and 'minReadySeconds' are forbidden";

/// Behaviour of StatefulSets.
pub(crate) struct StatefulSet;

impl Behaviour for StatefulSet {
    fn default(&self, object: &mut Value) {
        let spec = object.map_mut("spec");
        spec.default_zero("podManagementPolicy", "OrderedReady");
        let strategy = spec.map_mut("updateStrategy");
        if strategy.text("type").is_empty() {
            strategy.default_zero("type", "RollingUpdate");
            strategy.default_to("rollingUpdate", json!({}));
        }
        if strategy.text("type") == "RollingUpdate"
            && let Some(rolling) = strategy.field_mut("rollingUpdate")
        {
            rolling.default_to("partition", 0);
        }
        let retention = spec.map_mut("persistentVolumeClaimRetentionPolicy");
        retention.default_zero("whenDeleted", "Retain");
        retention.default_zero("whenScaled", "Retain");
        spec.default_to("replicas", 1);
        spec.default_to("revisionHistoryLimit", 10);
        spec.default_to("serviceName", "");
        pod::defaults::template(spec.map_mut("template"));
        for template in spec.items_mut("volumeClaimTemplates") {
            template.default_zero("apiVersion", "v1");
            template.default_zero("kind", "PersistentVolumeClaim");
            template.default_to("metadata", json!({}));
            claim::default_spec(template.map_mut("spec"));
            template.map_mut("status").default_zero("phase", "Pending");
        }
        let status = object.map_mut("status");
        status.default_to("replicas", 0);
        status.default_to("availableReplicas", 0);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        lifecycle::create(object, json!({"replicas": 0, "availableReplicas": 0}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        lifecycle::update(new, old, context.subresource, false);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        check_spec(part(object, &["spec"]), true, &FieldPath::new("spec"), errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        if context.subresource == "status" {
            let path = FieldPath::new("status");
            check_status(part(new, &["status"]), &path, errors);
            workload::check_collisions(new, old, &path, errors);
            return;
        }
        let path = FieldPath::new("spec");
        let (spec, before) = (part(new, &["spec"]), part(old, &["spec"]));
        check_spec(spec, false, &path, errors);
        let mut allowed = spec.clone();
        for key in MUTABLE {
            restore(&mut allowed, before, &[key]);
        }
        if !same(&allowed, before) {
            errors.forbidden(&path, IMMUTABLE);
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = workload::template_warnings(object, old);
        let spec = part(object, &["spec"]);
        let path = FieldPath::new("spec").child("volumeClaimTemplates");
        for (index, template) in spec.items("volumeClaimTemplates").iter().enumerate() {
            pod::warnings::of_claim(part(template, &["spec"]), &path.index(index), &mut out);
        }
        if spec.int("revisionHistoryLimit").is_some_and(|limit| limit < 0) {
            out.push(
                "spec.revisionHistoryLimit: a negative value retains all historical revisions; a \
                 value >= 0 is recommended"
                    .to_string(),
            );
        }
        out
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let wanted = object.i64_at(&["spec", "replicas"]).unwrap_or(0);
        let ready = object.i64_at(&["status", "readyReplicas"]).unwrap_or(0);
        let [names, images] = cells::containers(part(object, &["spec", "template", "spec"]));
        vec![
            cells::name(object),
            json!(format!("{ready}/{wanted}")),
            cells::age(object, now),
            names,
            images,
        ]
    }

    fn name_check(&self) -> NameCheck {
        names::name_is_dns_label
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }

    fn scale(&self) -> Option<ScalePaths> {
        workload::scale(workload::spec_selector())
    }
}

fn check_spec(spec: &Value, is_new: bool, path: &FieldPath, errors: &mut FieldErrors) {
    let here = path.child("podManagementPolicy");
    match spec.text("podManagementPolicy") {
        "" => errors.required(&here, ""),
        "OrderedReady" | "Parallel" => {}
        other => errors.invalid_str(&here, other, "must be 'OrderedReady' or 'Parallel'"),
    }
    check_strategy(part(spec, &["updateStrategy"]), &path.child("updateStrategy"), errors);
    if let Some(policy) = spec.field("persistentVolumeClaimRetentionPolicy") {
        let here = path.child("persistentVolumeClaimRetentionPolicy");
        for key in ["whenDeleted", "whenScaled"] {
            check::one_of(errors, &here.child(key), policy.text(key), &["Retain", "Delete"]);
        }
    }
    if is_new {
        for (index, template) in spec.items("volumeClaimTemplates").iter().enumerate() {
            let here = path.child("volumeClaimTemplates").index(index).child("spec");
            claim::check_spec(part(template, &["spec"]), &here, errors);
        }
    }
    check_nonnegative(spec, &["replicas", "minReadySeconds"], path, errors);
    if let Some(ordinals) = spec.field("ordinals") {
        check::nonnegative(
            errors,
            &path.child("ordinals.start"),
            ordinals.int("start").unwrap_or(0),
        );
    }
    let service = spec.text("serviceName");
    if is_new && !service.is_empty() {
        check::label(errors, &path.child("serviceName"), service);
    }
    workload::check_selector(spec, "statefulset", path, errors);
    let here = path.child("template");
    let template = spec.field("template").unwrap_or(&NOTHING);
    if workload::is_well_formed(spec.field("selector")) {
        let template = with_claims(spec);
        workload::check_matching_template(spec.field("selector"), &template, &here, errors);
        pod::spec::check_template(&template, &here, errors);
    } else {
        let printed = workload::printed_selector(spec.field("selector").unwrap_or(&NOTHING));
        errors.invalid(&path.child("selector"), &printed, "");
    }
    workload::check_always_restarts(template, "StatefulSet", &here, errors);
}

/// The template as the pods will have it: with a volume for each claim template.
fn with_claims(spec: &Value) -> Value {
    let mut template = spec.field("template").unwrap_or(&NOTHING).clone();
    let claims: Vec<&str> =
        spec.items("volumeClaimTemplates").iter().map(ObjectExt::name).collect();
    let Some(pod_spec) = template.get_mut("spec") else { return template };
    pod_spec.drop_field("subdomain");
    pod_spec.drop_field("hostname");
    if !claims.is_empty() {
        let mut volumes: Vec<Value> = claims
            .iter()
            .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
            .collect();
        let own = pod_spec.items("volumes").iter();
        volumes.extend(own.filter(|volume| !claims.contains(&volume.text("name"))).cloned());
        pod_spec.set_at(&["volumes"], Value::Array(volumes));
    }
    template
}

fn check_strategy(strategy: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let here = path.child("rollingUpdate");
    match (strategy.text("type"), strategy.field("rollingUpdate")) {
        ("", _) => errors.required(path, ""),
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            let partition = rolling.int("partition").unwrap_or(0);
            let printed = json!({
                "MaxUnavailable": rolling.field("maxUnavailable"),
                "Partition": partition,
            });
            errors.invalid(&here, &printed, detail);
            let error = errors.0.last_mut().expect("added above");
            let most = rolling.field("maxUnavailable").unwrap_or(&Value::Null);
            error.value = format!("{{\"Partition\":{partition},\"MaxUnavailable\":{most}}}");
        }
        ("RollingUpdate", Some(rolling)) => check_rolling(rolling, &here, errors),
        ("OnDelete" | "RollingUpdate", None) => {}
        (other, rolling) => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            errors.invalid(path, &Value::Null, detail);
            // Go prints the fields in their order, the type first.
            let update = rolling.map_or("null".to_string(), Value::to_string);
            let error = errors.0.last_mut().expect("added above");
            error.value = format!("{{\"Type\":{},\"RollingUpdate\":{update}}}", json!(other));
        }
    }
}

fn check_rolling(rolling: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check_nonnegative(rolling, &["partition"], path, errors);
    if let Some(most) = rolling.field("maxUnavailable") {
        let here = path.child("maxUnavailable");
        check::positive_int_or_percent(errors, &here, most);
        if workload::rough(most) == 0 {
            errors.invalid(&here, most, "cannot be 0");
        }
        check::at_most_whole(errors, &here, most);
    }
}

fn check_status(status: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let keys = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    check_nonnegative(status, &keys, path, errors);
    let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    let detail = "cannot be greater than status.replicas";
    workload::check_at_most(status, &parts, "replicas", detail, path, errors);
    let detail = "cannot be greater than status.readyReplicas";
    let parts = ["availableReplicas"];
    workload::check_at_most(status, &parts, "readyReplicas", detail, path, errors);
}
