//! Validation of a Job's status: a finished job stays finished, and its counts fit.

use objects::{FieldErrors, FieldPath, conditions};
use serde_json::{Value, json};

use super::spec::{intervals, is_indexed};
use crate::check;
use crate::read::{NOTHING, Read, part};

/// A Job's status, asked about its conditions.
struct Facts<'a>(&'a Value);

impl Facts<'_> {
    fn is(&self, condition: &str) -> bool {
        conditions::is_true(self.0.items("conditions"), condition)
    }

    fn finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }
}

/// Checks an update of `status`.
pub(super) fn check_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("status");
    let spec = part(new, &["spec"]);
    let (status, before) = (part(new, &["status"]), part(old, &["status"]));
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        check::nonnegative(errors, &path.child(key), status.int(key).unwrap_or(0));
    }
    check_uncounted(status, &path.child("uncountedTerminatedPods"), errors);
    let (is, was) = (Facts(status), Facts(before));
    check_conditions(&is, &was, &path, errors);
    check_times(spec, status, before, &path, errors);
    check_counts(status, before, &path, errors);
    check_indexes(spec, status, before, &path, errors);
    check_success(spec, &is, &was, &path, errors);
    for condition in ["Failed", "Complete", "FailureTarget"] {
        if was.is(condition) && !is.is(condition) {
            let detail = format!("cannot disable the terminal {condition}=True condition");
            bad_conditions(&path, &detail, errors);
        }
    }
    let may_fall = is_indexed(spec) && spec.int("completions") == spec.int("parallelism");
    for key in ["failed", "succeeded"] {
        let (now, then) = (status.int(key).unwrap_or(0), before.int(key).unwrap_or(0));
        if now < then && !(key == "succeeded" && may_fall) {
            let detail = format!("cannot decrease the {key} counter");
            errors.invalid(&path.child(key), &json!(now), &detail);
        }
    }
    check_frozen_times(spec, status, before, &path, errors);
    if was.is("SuccessCriteriaMet") && !is.is("SuccessCriteriaMet") {
        let detail = "cannot disable the SuccessCriteriaMet=True condition";
        bad_conditions(&path, detail, errors);
    }
    if was.is("Complete") && !was.is("SuccessCriteriaMet") && is.is("SuccessCriteriaMet") {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true \
                      conditions";
        bad_conditions(&path, detail, errors);
    }
}

fn bad_conditions(path: &FieldPath, detail: &str, errors: &mut FieldErrors) {
    errors.invalid(&path.child("conditions"), &Value::Null, detail);
    check::print_last_as(errors, String::new());
}

fn check_uncounted(status: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let uncounted = part(status, &["uncountedTerminatedPods"]);
    let mut seen = Vec::new();
    for list in ["succeeded", "failed"] {
        for (index, uid) in uncounted.texts(list).into_iter().enumerate() {
            let here = path.child(list).index(index);
            if uid.is_empty() {
                errors.invalid_str(&here, uid, "must not be empty");
            } else if seen.contains(&uid) {
                errors.duplicate(&here, &json!(uid));
            } else {
                seen.push(uid);
            }
        }
    }
}

fn check_conditions(is: &Facts<'_>, was: &Facts<'_>, path: &FieldPath, errors: &mut FieldErrors) {
    let changed = |condition: &str| is.is(condition) != was.is(condition);
    let (complete, failed) = (is.is("Complete"), is.is("Failed"));
    if (changed("Complete") || changed("Failed")) && complete && failed {
        bad_conditions(path, "cannot set Complete=True and Failed=true conditions", errors);
    }
    if (changed("Complete") || changed("FailureTarget")) && complete && is.is("FailureTarget") {
        bad_conditions(path, "cannot set Complete=True and FailureTarget=true conditions", errors);
    }
    if changed("Failed") && failed && !is.is("FailureTarget") {
        let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
        bad_conditions(path, detail, errors);
    }
    let changed = changed("Complete") || changed("SuccessCriteriaMet");
    if changed && complete && !is.is("SuccessCriteriaMet") {
        let detail =
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        bad_conditions(path, detail, errors);
    }
}

fn check_times(
    spec: &Value,
    status: &Value,
    before: &Value,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let (is, was) = (Facts(status), Facts(before));
    let changed = |key: &str| status.field(key) != before.field(key);
    let here = path.child("completionTime");
    let complete = is.is("Complete");
    let (start, end) = (status.field("startTime"), status.field("completionTime"));
    if complete != was.is("Complete") || changed("completionTime") {
        match end {
            Some(end) if !complete => {
                let detail = "cannot set completionTime when there is no Complete=True condition";
                errors.invalid(&here, end, detail);
            }
            None if complete => {
                errors.required(&here, "completionTime is required for Complete jobs");
            }
            _ => {}
        }
    }
    if let (Some(start), Some(end)) = (start, end) {
        let moved = changed("startTime") || changed("completionTime");
        if moved && end.as_str() < start.as_str() {
            errors.invalid(&here, end, "must be equal to or after `startTime`");
        }
    }
    let idle = spec.flag("suspend") && spec.int("completions") == Some(0);
    let finished_changed = is.finished() != was.finished();
    if is.finished() && start.is_none() && !idle && (finished_changed || changed("startTime")) {
        errors.required(&path.child("startTime"), "startTime is required for finished job");
    }
}

fn check_counts(status: &Value, before: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let (is, was) = (Facts(status), Facts(before));
    let count = |key: &str| status.int(key).unwrap_or(0);
    let changed = |key: &str| status.field(key) != before.field(key);
    let just_finished = is.finished() != was.finished();
    for key in ["active", "terminating"] {
        if is.finished() && count(key) > 0 && (just_finished || changed(key)) {
            let detail = format!("{key}>0 is invalid for finished job");
            errors.invalid(&path.child(key), &json!(count(key)), &detail);
        }
    }
    let uncounted = part(status, &["uncountedTerminatedPods"]);
    let left = uncounted.items("succeeded").len() + uncounted.items("failed").len();
    let relevant = just_finished || changed("uncountedTerminatedPods");
    if is.finished() && left > 0 && relevant {
        let here = path.child("uncountedTerminatedPods");
        errors.invalid(&here, uncounted, "must be empty for finished job");
    }
    let relevant = changed("ready") || changed("active");
    if relevant && count("ready") > count("active") {
        let detail = "cannot set more ready pods than active";
        errors.invalid(&path.child("ready"), &json!(count("ready")), detail);
    }
}

fn check_indexes(
    spec: &Value,
    status: &Value,
    before: &Value,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let changed = |key: &str| status.field(key) != before.field(key);
    let completions = spec.int("completions");
    let per_index = spec.field("backoffLimitPerIndex").is_some();
    let (done, failed) = (status.text("completedIndexes"), status.text_opt("failedIndexes"));
    for (key, text) in [("completedIndexes", Some(done)), ("failedIndexes", failed)] {
        let (Some(text), Some(completions)) = (text, completions) else { continue };
        let relevant = changed(key) && (key == "completedIndexes" || per_index);
        if let Err(fault) = intervals(text, completions)
            && relevant
        {
            let detail = format!("error parsing {key}: {fault}");
            errors.invalid_str(&path.child(key), text, &detail);
        }
    }
    if changed("completedIndexes") && !done.is_empty() && !is_indexed(spec) {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.invalid_str(&path.child("completedIndexes"), done, detail);
    }
    let here = path.child("failedIndexes");
    let Some(failed) = failed else { return };
    if changed("failedIndexes") && !per_index {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.invalid_str(&here, failed, detail);
    }
    let most = completions.unwrap_or(0);
    let both = (intervals(done, most), intervals(failed, most));
    if let (Ok(done), Ok(failed_list)) = both {
        let overlap = done.iter().find_map(|(a, b)| {
            failed_list.iter().find(|(x, y)| a <= y && x <= b).map(|(x, _)| *a.max(x))
        });
        if let Some(index) = overlap {
            let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
            errors.invalid_str(&here, failed, &detail);
        }
    }
}

fn check_success(
    spec: &Value,
    is: &Facts<'_>,
    _was: &Facts<'_>,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let met = is.is("SuccessCriteriaMet");
    for condition in ["Failed", "FailureTarget"] {
        if met && is.is(condition) {
            let detail =
                format!("cannot set SuccessCriteriaMet=True and {condition}=true conditions");
            bad_conditions(path, &detail, errors);
        }
    }
    if spec.field("successPolicy").is_some() && !met && is.is("Complete") {
        let detail = "cannot set Complete=True for Job with SuccessPolicy unless \
                      SuccessCriteriaMet=True";
        bad_conditions(path, detail, errors);
    }
}

fn check_frozen_times(
    spec: &Value,
    status: &Value,
    before: &Value,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let (now, then) = (status.field("completionTime"), before.field("completionTime"));
    if let (Some(now), Some(then)) = (now, then)
        && now != then
    {
        errors.invalid(&path.child("completionTime"), now, "field is immutable");
    }
    let (now, then) = (status.field("startTime"), before.field("startTime"));
    let suspended =
        |status: &Value| conditions::status(status.items("conditions"), "Suspended").to_string();
    let resuming = suspended(before) == "True" && suspended(status) == "False";
    if then.is_some() && now != then && !spec.flag("suspend") && !resuming {
        let detail = "field is immutable for unsuspended job once set";
        errors.invalid(&path.child("startTime"), now.unwrap_or(&NOTHING), detail);
    }
}
