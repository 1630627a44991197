//! Jobs.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt, conditions, names, time};
use serde_json::{Value, json};

use super::spec::{self, is_indexed};
use super::status;
use crate::apps::{check_matching_template, name_warning};
use crate::cells;
use crate::check;
use crate::edit::{Edit, restore};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::lifecycle;
use crate::pod;
use crate::read::{NOTHING, Read, part, same};

const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const JOB_NAME: &str = "batch.kubernetes.io/job-name";
const OLD_CONTROLLER_UID: &str = "controller-uid";
const OLD_JOB_NAME: &str = "job-name";

/// Behaviour of Jobs.
pub(crate) struct Job;

impl Behaviour for Job {
    fn default(&self, object: &mut Value) {
        default_spec(object.map_mut("spec"));
        let spec = part(object, &["spec"]);
        if spec.flag("manualSelector") || spec.field("selector").is_some() {
            default_labels(object);
        }
        lifecycle::default_status(object);
    }

    fn prepare_create(&self, object: &mut Value, context: &WriteContext<'_>) {
        let uid = match object.uid() {
            "" => context.fresh_uid.to_string(),
            uid => uid.to_string(),
        };
        if object.bool_at(&["spec", "manualSelector"]) != Some(true) {
            generate_selector(object, &uid);
        }
        default_labels(object);
        lifecycle::create(object, json!({}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        lifecycle::update(new, old, context.subresource, false);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let job = part(object, &["spec"]);
        check_generated(object, job, errors);
        check_spec(job, errors);
        let completions = job.int("completions").unwrap_or(0);
        if is_indexed(job) && completions > 0 {
            let hostname = format!("{}-{}", object.name(), completions - 1);
            if !names::dns1123_label(&hostname).is_empty() {
                let path = FieldPath::new("metadata").child("name");
                let detail =
                    format!("will not able to create pod with invalid DNS label: {hostname}");
                errors.invalid_str(&path, object.name(), &detail);
            }
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
            status::check_update(new, old, errors);
            return;
        }
        self.validate(new, errors);
        check_change(new, old, errors);
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out: Vec<String> =
            old.is_none().then(|| name_warning(object)).flatten().into_iter().collect();
        if old.is_none_or(|old| old.generation() != object.generation()) {
            out.extend(spec_warnings(part(object, &["spec"]), &FieldPath::new("spec")));
        }
        out
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        let count = object.i64_at(&["status", "succeeded"]).unwrap_or(0);
        vec![("status.successful", count.to_string())]
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let (job, state) = (part(object, &["spec"]), part(object, &["status"]));
        let [names, images] = cells::containers(part(job, &["template", "spec"]));
        vec![
            cells::name(object),
            json!(condition(object)),
            json!(completions(job, state.int("succeeded").unwrap_or(0))),
            json!(duration(state, now)),
            cells::age(object, now),
            names,
            images,
            cells::selector(job.field("selector")),
        ]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }
}

/// Defaults of the spec; only Jobs have them, not the templates of CronJobs.
fn default_spec(spec: &mut Value) {
    if spec.field("completions").is_none() && spec.field("parallelism").is_none() {
        spec.default_to("completions", 1);
    }
    spec.default_to("parallelism", 1);
    let per_index = spec.field("backoffLimitPerIndex").is_some();
    spec.default_to("backoffLimit", if per_index { i32::MAX } else { 6 });
    spec.default_to("completionMode", "NonIndexed");
    spec.default_to("suspend", false);
    let with_policy = spec.field("podFailurePolicy").is_some();
    let replacement = if with_policy { "Failed" } else { "TerminatingOrFailed" };
    spec.default_to("podReplacementPolicy", replacement);
    spec.default_to("manualSelector", false);
    default_shared(spec);
}

/// Defaults that the job templates of CronJobs have too.
pub(super) fn default_shared(spec: &mut Value) {
    pod::defaults::template(spec.map_mut("template"));
    let Some(policy) = spec.field_mut("podFailurePolicy") else { return };
    for rule in policy.items_mut("rules") {
        for pattern in rule.items_mut("onPodConditions") {
            pattern.default_zero("status", "True");
        }
    }
}

/// A job without labels has those of its pods, the generated ones included; which is why a new
/// job's labels wait until its selector is generated.
fn default_labels(object: &mut Value) {
    let labels = part(object, &["spec", "template", "metadata", "labels"]).clone();
    if !labels.is_null() {
        object.map_mut("metadata").default_zero("labels", labels);
    }
}

fn generate_selector(object: &mut Value, uid: &str) {
    let name = object.name().to_string();
    let spec = object.map_mut("spec");
    let labels = spec.map_mut("template").map_mut("metadata").map_mut("labels");
    for key in [OLD_JOB_NAME, JOB_NAME] {
        labels.default_to(key, name.as_str());
    }
    for key in [OLD_CONTROLLER_UID, CONTROLLER_UID] {
        labels.default_to(key, uid);
    }
    spec.map_mut("selector").map_mut("matchLabels").default_to(CONTROLLER_UID, uid);
}

/// Checks that the generated labels are those of this job.
fn check_generated(object: &Value, spec: &Value, errors: &mut FieldErrors) {
    let Some(selector) = spec.field("selector").filter(|_| !spec.flag("manualSelector")) else {
        return;
    };
    let meta = part(spec, &["template", "metadata"]);
    let labels = part(meta, &["labels"]);
    let path = FieldPath::new("spec").child("template").child("metadata").child("labels");
    let selected = part(selector, &["matchLabels"]).text(CONTROLLER_UID);
    // Until the API server has given it one, the uid is whatever the selector says.
    let uid = if object.uid().is_empty() { selected } else { object.uid() };
    for (key, wanted) in [
        (OLD_CONTROLLER_UID, uid),
        (OLD_JOB_NAME, object.name()),
        (CONTROLLER_UID, uid),
        (JOB_NAME, object.name()),
    ] {
        let detail = format!("must be '{wanted}'");
        match labels.text_opt(key) {
            None => errors.required(&path.key(key), &detail),
            Some(value) if value != wanted => errors.invalid(&path.key(key), labels, &detail),
            Some(_) => {}
        }
    }
    if selected != uid {
        let here = FieldPath::new("spec").child("selector");
        errors.invalid(&here, selector, "`selector` not auto-generated");
    }
}

fn check_spec(job: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("spec");
    spec::check(job, &path, errors);
    let selector = job.field("selector");
    if selector.is_none() {
        errors.required(&path.child("selector"), "");
    }
    check::selector(errors, &path.child("selector"), selector);
    let template = job.field("template").unwrap_or(&NOTHING);
    check_matching_template(selector, template, &path.child("template"), errors);
}

fn check_change(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("spec");
    let (job, before) = (part(new, &["spec"]), part(old, &["spec"]));
    check_spec(job, errors);
    let here = path.child("completions");
    let (now, was) = (job.field("completions"), before.field("completions"));
    if !is_indexed(job) {
        check::immutable(errors, &here, now, was);
    } else if now != was
        && let Some(count) = now.filter(|count| Some(*count) != job.field("parallelism"))
    {
        errors.invalid(&here, count, "can only be modified in tandem with spec.parallelism");
    }
    check::immutable_fields(errors, &path, (job, before), &["selector"]);
    check_template_change(new, old, errors);
    let keys = [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ];
    check::immutable_fields(errors, &path, (job, before), &keys);
}

/// While a job is suspended and idle, resources and where its pods may run can still change.
fn check_template_change(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let state = part(old, &["status"]);
    let suspended = part(old, &["spec"]).flag("suspend");
    let idle = state.field("startTime").is_none()
        || conditions::is_true(state.items("conditions"), "Suspended");
    let adjustable = suspended && idle && state.int("active").unwrap_or(0) == 0;
    let (template, before) = (part(new, &["spec", "template"]), part(old, &["spec", "template"]));
    let mut allowed = before.clone();
    if adjustable {
        let paths: [&[&str]; 6] = [
            &["spec", "affinity", "nodeAffinity"],
            &["spec", "nodeSelector"],
            &["spec", "tolerations"],
            &["spec", "schedulingGates"],
            &["metadata", "annotations"],
            &["metadata", "labels"],
        ];
        for path in paths {
            restore(&mut allowed, template, path);
        }
        for list in ["containers", "initContainers"] {
            let wanted = part(template, &["spec"]).items(list).to_vec();
            let Some(spec) = allowed.get_mut("spec") else { continue };
            for (container, wanted) in spec.items_mut(list).iter_mut().zip(&wanted) {
                if container.text("name") == wanted.text("name") {
                    restore(container, wanted, &["resources"]);
                }
            }
        }
    }
    let path = FieldPath::new("spec").child("template");
    if same(template, &allowed) {
        return;
    }
    let printed = pod::printed::pod_spec(part(template, &["spec"]));
    if suspended && adjustable {
        errors.invalid(&path.child("spec"), template, "field is immutable");
        check::print_last_as(errors, printed);
    } else if same(part(template, &["metadata"]), part(&allowed, &["metadata"])) {
        // Upstream names the differing half of the template where only one differs.
        errors.invalid(&path.child("spec"), template, "field is immutable");
        check::print_last_as(errors, printed);
    } else {
        errors.invalid(&path, template, "field is immutable");
    }
}

/// Warnings about a job's spec, at its path.
pub(super) fn spec_warnings(job: &Value, path: &FieldPath) -> Vec<String> {
    let count = |key: &str| job.int(key).unwrap_or(0);
    let mut out = Vec::new();
    if is_indexed(job) && count("completions") > 100_000 && count("parallelism") > 10_000 {
        out.push(format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a \
             parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes \
             when a big number of indexes fail"
        ));
    }
    out.extend(pod::warnings::of(part(job, &["template"]), &path.child("template")));
    out
}

fn condition(object: &Value) -> &'static str {
    let known = object.list_at(&["status", "conditions"]);
    let is = |kind: &str| conditions::is_true(known, kind);
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if !object.deletion_timestamp().is_empty() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(job: &Value, succeeded: i64) -> String {
    match (job.int("completions"), job.int("parallelism").unwrap_or(0)) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, many) if many > 1 => format!("{succeeded}/1 of {many}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(state: &Value, now: Timestamp) -> String {
    let Ok(start) = time::parse_time(state.text("startTime")) else { return String::new() };
    let end = time::parse_time(state.text("completionTime")).unwrap_or(now);
    time::human_duration(time::seconds_between(start, end))
}
