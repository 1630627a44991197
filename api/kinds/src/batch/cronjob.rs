//! CronJobs.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use super::cron;
use super::job::{default_shared, spec_warnings};
use super::spec;
use crate::apps::name_warning;
use crate::cells;
use crate::check;
use crate::edit::Edit;
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::lifecycle;
use crate::read::{Read, part};

/// Longest name: a job's name has eleven characters more, and is a label's value.
const NAME_MAX: usize = 52;

/// Behaviour of CronJobs.
pub(crate) struct CronJob;

impl Behaviour for CronJob {
    fn default(&self, object: &mut Value) {
        let spec = object.map_mut("spec");
        spec.default_zero("concurrencyPolicy", "Allow");
        spec.default_to("suspend", false);
        spec.default_to("successfulJobsHistoryLimit", 3);
        spec.default_to("failedJobsHistoryLimit", 1);
        spec.default_to("schedule", "");
        let template = spec.map_mut("jobTemplate");
        template.default_to("metadata", json!({}));
        default_shared(template.map_mut("spec"));
        lifecycle::default_status(object);
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        lifecycle::create(object, json!({}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        lifecycle::update(new, old, context.subresource, false);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        check_spec(part(object, &["spec"]), None, errors);
        if object.name().len() > NAME_MAX {
            let path = FieldPath::new("metadata").child("name");
            errors.invalid_str(&path, object.name(), "must be no more than 52 characters");
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        if context.subresource != "status" {
            check_spec(part(new, &["spec"]), Some(part(old, &["spec"])), errors);
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out: Vec<String> =
            old.is_none().then(|| name_warning(object)).flatten().into_iter().collect();
        if old.is_none_or(|old| old.generation() != object.generation()) {
            let path = FieldPath::new("spec").child("jobTemplate").child("spec");
            out.extend(spec_warnings(part(object, &["spec", "jobTemplate", "spec"]), &path));
        }
        if old.is_some() && object.str_at(&["spec", "schedule"]).contains("TZ") {
            out.push(
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more \
                 details"
                    .to_string(),
            );
        }
        out
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let (spec, status) = (part(object, &["spec"]), part(object, &["status"]));
        let last = match status.text("lastScheduleTime") {
            "" => cells::NONE.to_string(),
            time => cells::since(time, now),
        };
        let suspend = match spec.flag_opt("suspend") {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        let job = part(spec, &["jobTemplate", "spec"]);
        let [names, images] = cells::containers(part(job, &["template", "spec"]));
        vec![
            cells::name(object),
            json!(spec.text("schedule")),
            json!(spec.text_opt("timeZone").unwrap_or(cells::NONE)),
            json!(suspend),
            json!(status.items("active").len()),
            json!(last),
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

fn check_spec(spec: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let path = FieldPath::new("spec");
    let schedule = spec.text("schedule");
    let here = path.child("schedule");
    if schedule.is_empty() {
        errors.required(&here, "");
    } else {
        let zone_allowed = old.is_some_and(|old| old.text("schedule").contains("TZ"));
        check_schedule(schedule, zone_allowed, spec.text_opt("timeZone"), &here, errors);
    }
    if let Some(secs) = spec.int("startingDeadlineSeconds") {
        check::nonnegative(errors, &path.child("startingDeadlineSeconds"), secs);
    }
    if old.is_none_or(|old| old.field("timeZone") != spec.field("timeZone")) {
        check_time_zone(spec.text_opt("timeZone"), &path.child("timeZone"), errors);
    }
    let policy = spec.text("concurrencyPolicy");
    let policies = ["Allow", "Forbid", "Replace"];
    check::required_one_of(errors, &path.child("concurrencyPolicy"), policy, &policies);
    check_template(part(spec, &["jobTemplate", "spec"]), &path, errors);
    for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        check::nonnegative(errors, &path.child(key), spec.int(key).unwrap_or(0));
    }
}

fn check_template(job: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let here = path.child("jobTemplate").child("spec");
    spec::check(job, &here, errors);
    if let Some(selector) = job.field("selector") {
        let detail = "`selector` will be auto-generated";
        errors.invalid(&here.child("selector"), selector, detail);
    }
    if job.flag("manualSelector") {
        errors.not_supported(&here.child("manualSelector"), &json!(true), &["nil", "false"]);
    }
}

fn check_schedule(
    schedule: &str,
    zone_allowed: bool,
    zone: Option<&str>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    if let Some(fault) = cron::fault(schedule) {
        errors.invalid_str(path, schedule, &fault);
    }
    if !schedule.contains("TZ") {
        return;
    }
    if !zone_allowed {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.invalid_str(path, schedule, detail);
    } else if zone.is_some() {
        let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.invalid_str(path, schedule, detail);
    }
}

fn check_time_zone(zone: Option<&str>, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(zone) = zone else { return };
    if zone.is_empty() {
        errors.invalid_str(path, zone, "timeZone must be nil or non-empty string");
        return;
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_+".contains(&b);
    let well_formed = zone.split('/').all(|part| {
        !matches!(part, "." | "..")
            && !part.starts_with('-')
            && (1..=14).contains(&part.len())
            && part.bytes().all(allowed)
    });
    if !well_formed {
        errors.invalid_str(path, zone, &format!("unknown time zone {zone}"));
    } else if zone.eq_ignore_ascii_case("Local") {
        let detail = "timeZone must be an explicit time zone as defined in \
                      https://www.iana.org/time-zones";
        errors.invalid_str(path, zone, detail);
    }
}
