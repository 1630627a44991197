//! Validation of job specs, in Jobs and in CronJobs.

use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use crate::check;
use crate::pod;
use crate::read::{NOTHING, Read, part};

/// Most pods at once, and failed indexes, of an indexed job.
const INDEXED_MAX: i64 = 100_000;
/// The same for jobs with more completions than that.
const HIGH_COMPLETIONS_MAX: i64 = 10_000;
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const INDEXES_MAX: usize = 64 * 1024;

/// Whether a job has indexes.
pub(super) fn is_indexed(spec: &Value) -> bool {
    spec.text("completionMode") == "Indexed"
}

/// Checks a spec but for its selector.
pub(super) fn check(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        check::nonnegative(errors, &path.child(key), spec.int(key).unwrap_or(0));
    }
    let per_index = spec.int("backoffLimitPerIndex");
    let failed = spec.int("maxFailedIndexes");
    if failed.is_some() && per_index.is_none() {
        let detail = "when maxFailedIndexes is specified";
        errors.required(&path.child("backoffLimitPerIndex"), detail);
    }
    if let Some(manager) = spec.text_opt("managedBy") {
        let here = path.child("managedBy");
        check::domain_prefixed_path(errors, &here, manager);
        if manager.len() > 63 {
            errors.too_long(&here, 63);
        }
    }
    check_completion_mode(spec, path, errors);
    if !is_indexed(spec) && matches!(spec.text("completionMode"), "" | "NonIndexed") {
        for (key, value) in [("backoffLimitPerIndex", per_index), ("maxFailedIndexes", failed)] {
            if let Some(value) = value {
                let detail = "requires indexed completion mode";
                errors.invalid(&path.child(key), &json!(value), detail);
            }
        }
    }
    check_failure_policy(spec, &path.child("podFailurePolicy"), errors);
    if let Some(policy) = spec.field("successPolicy") {
        let here = path.child("successPolicy");
        if is_indexed(spec) {
            check_success_policy(spec, policy, &here, errors);
        } else {
            errors.invalid(&here, policy, "requires indexed completion mode");
        }
    }
    if let Some(policy) = spec.text_opt("podReplacementPolicy") {
        let supported: &[&str] = if spec.field("podFailurePolicy").is_some() {
            &["Failed"]
        } else {
            &["Failed", "TerminatingOrFailed"]
        };
        check::one_of(errors, &path.child("podReplacementPolicy"), policy, supported);
    }
    check_template(spec, &path.child("template"), errors);
}

fn check_template(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let template = spec.field("template").unwrap_or(&NOTHING);
    pod::spec::check_template(template, path, errors);
    let here = path.child("spec").child("restartPolicy");
    match part(template, &["spec"]).text("restartPolicy") {
        "Always" | "" => errors.required(&here, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" => {
            if spec.field("podFailurePolicy").is_some() {
                let detail = "only \"Never\" is supported when podFailurePolicy is specified";
                errors.invalid_str(&here, "OnFailure", detail);
            }
        }
        other => errors.not_supported(&here, &json!(other), &["OnFailure", "Never"]),
    }
}

fn check_completion_mode(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(mode) = spec.text_opt("completionMode") else { return };
    check::one_of(errors, &path.child("completionMode"), mode, &["NonIndexed", "Indexed"]);
    if mode != "Indexed" {
        return;
    }
    let completions = spec.int("completions");
    let parallelism = spec.int("parallelism").unwrap_or(0);
    let failed = spec.int("maxFailedIndexes");
    if completions.is_none() {
        errors.required(&path.child("completions"), "when completion mode is Indexed");
    }
    if parallelism > INDEXED_MAX {
        let detail =
            format!("must be less than or equal to {INDEXED_MAX} when completion mode is Indexed");
        errors.invalid(&path.child("parallelism"), &json!(parallelism), &detail);
    }
    let here = path.child("maxFailedIndexes");
    if let (Some(failed), Some(completions)) = (failed, completions)
        && failed > completions
    {
        let detail = "must be less than or equal to completions";
        errors.invalid(&here, &json!(failed), detail);
    }
    if let Some(failed) = failed.filter(|failed| *failed > INDEXED_MAX) {
        let detail = format!("must be less than or equal to {INDEXED_MAX}");
        errors.invalid(&here, &json!(failed), &detail);
    }
    let many = completions.is_some_and(|count| count > INDEXED_MAX);
    if !many || spec.field("backoffLimitPerIndex").is_none() {
        return;
    }
    if failed.is_none() {
        let detail = format!("must be specified when completions is above {INDEXED_MAX}");
        errors.required(&here, &detail);
    }
    for (key, value) in [("parallelism", parallelism), ("maxFailedIndexes", failed.unwrap_or(0))] {
        if value > HIGH_COMPLETIONS_MAX {
            let detail = format!(
                "must be less than or equal to {HIGH_COMPLETIONS_MAX} when completions are above \
                 {INDEXED_MAX} and used with backoff limit per index"
            );
            errors.invalid(&path.child(key), &json!(value), &detail);
        }
    }
}

fn check_failure_policy(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(policy) = spec.field("podFailurePolicy") else { return };
    let path = path.child("rules");
    let rules = policy.items("rules");
    if rules.len() > RULES_MAX {
        errors.too_many(&path, rules.len(), RULES_MAX);
    }
    let template = part(spec, &["template", "spec"]);
    let names: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| template.items(list))
        .map(|container| container.text("name"))
        .collect();
    for (index, rule) in rules.iter().enumerate() {
        let here = path.index(index);
        let action = rule.text("action");
        let at_action = here.child("action");
        let actions = ["Count", "FailIndex", "FailJob", "Ignore"];
        match action {
            "" => errors.required(&at_action, &format!("valid values: {}", quoted(&actions))),
            "FailIndex" => {
                if spec.field("backoffLimitPerIndex").is_none() {
                    let detail = "requires the backoffLimitPerIndex to be set";
                    errors.invalid_str(&at_action, action, detail);
                }
            }
            other => check::one_of(errors, &at_action, other, &actions),
        }
        let codes = rule.field("onExitCodes");
        let conditions = rule.items("onPodConditions");
        if let Some(codes) = codes {
            check_exit_codes(codes, &names, &here.child("onExitCodes"), errors);
        }
        check_conditions(conditions, &here.child("onPodConditions"), errors);
        let detail = match (codes.is_some(), conditions.is_empty()) {
            (true, false) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, true) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.invalid(&here, &Value::Null, detail);
        check::print_last_as(errors, String::new());
    }
}

/// A list as Go prints it with quotes.
fn quoted(items: &[&str]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", items.join(" "))
}

fn check_exit_codes(codes: &Value, names: &[&str], path: &FieldPath, errors: &mut FieldErrors) {
    let here = path.child("operator");
    let operator = codes.text("operator");
    match operator {
        "" => errors.required(&here, &format!("valid values: {}", quoted(&["In", "NotIn"]))),
        other => check::one_of(errors, &here, other, &["In", "NotIn"]),
    }
    if let Some(name) = codes.text_opt("containerName").filter(|name| !names.contains(name)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.invalid_str(&path.child("containerName"), name, detail);
    }
    let here = path.child("values");
    let values: Vec<i64> = codes.items("values").iter().filter_map(Value::as_i64).collect();
    if values.is_empty() {
        errors.invalid(&here, &Value::Null, "at least one value is required");
    } else if values.len() > EXIT_CODES_MAX {
        errors.too_many(&here, values.len(), EXIT_CODES_MAX);
    }
    for (index, value) in values.iter().enumerate() {
        let at = here.index(index);
        if operator == "In" && *value == 0 {
            errors.invalid(&at, &json!(value), "must not be 0 for the In operator");
        }
        if values[..index].contains(value) {
            errors.duplicate(&at, &json!(value));
        }
    }
    if values.windows(2).any(|pair| pair[0] > pair[1]) {
        errors.invalid(&here, &json!(values), "must be ordered");
    }
}

fn check_conditions(conditions: &[Value], path: &FieldPath, errors: &mut FieldErrors) {
    if conditions.len() > RULES_MAX {
        errors.too_many(path, conditions.len(), RULES_MAX);
    }
    let statuses = ["False", "True", "Unknown"];
    for (index, pattern) in conditions.iter().enumerate() {
        let here = path.index(index);
        check::qualified_name(errors, &here.child("type"), pattern.text("type"));
        match pattern.text("status") {
            "" => {
                let detail = format!("valid values: {}", quoted(&statuses));
                errors.required(&here.child("status"), &detail);
            }
            other => check::one_of(errors, &here.child("status"), other, &statuses),
        }
    }
}

fn check_success_policy(spec: &Value, policy: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let path = path.child("rules");
    let rules = policy.items("rules");
    let completions = spec.int("completions").unwrap_or(0);
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.required(&path, detail);
    }
    if rules.len() > RULES_MAX {
        errors.too_many(&path, rules.len(), RULES_MAX);
    }
    for (index, rule) in rules.iter().enumerate() {
        let here = path.index(index);
        let (count, indexes) = (rule.int("succeededCount"), rule.text_opt("succeededIndexes"));
        if count.is_none() && indexes.is_none() {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            errors.required(&here, detail);
        }
        let mut total = 0;
        if let Some(indexes) = indexes {
            let here = here.child("succeededIndexes");
            if indexes.len() > INDEXES_MAX {
                errors.too_long(&here, INDEXES_MAX);
            }
            match count_indexes(indexes, completions) {
                Ok(count) => total = count,
                Err(fault) => {
                    let detail = format!("error parsing succeededIndexes: {fault}");
                    errors.invalid_str(&here, indexes, &detail);
                }
            }
        }
        let Some(count) = count else { continue };
        let here = here.child("succeededCount");
        check::nonnegative(errors, &here, count);
        if count > completions {
            let detail = format!(
                "must be less than or equal to {completions} (the number of specified completions)"
            );
            errors.invalid(&here, &json!(count), &detail);
        }
        if indexes.is_some() && count > total {
            let detail = format!(
                "must be less than or equal to {total} (the number of indexes in the specified \
                 succeededIndexes field)"
            );
            errors.invalid(&here, &json!(count), &detail);
        }
    }
}

/// The intervals of a text such as `1,3-5`, which must rise and stay below `completions`.
pub(super) fn intervals(text: &str, completions: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut out: Vec<(i64, i64)> = Vec::new();
    if text.is_empty() {
        return Ok(out);
    }
    let parse = |part: &str| -> Result<i64, String> {
        let number = part
            .parse::<i64>()
            .map_err(|_| format!("cannot convert string to integer for index: {part:?}"))?;
        if number >= completions {
            return Err(format!("too large index: {part:?}"));
        }
        Ok(number)
    };
    for fragment in text.split(',') {
        let ends: Vec<&str> = fragment.split('-').collect();
        if ends.len() > 2 {
            return Err(format!(
                "the fragment {fragment:?} violates the requirement that an index interval can \
                 have at most two parts separated by '-'"
            ));
        }
        let first = parse(ends[0])?;
        let last = match ends.get(1) {
            None => first,
            Some(end) => {
                let last = parse(end)?;
                if first >= last {
                    return Err(format!(
                        "non-increasing order, previous: {first}, current: {last}"
                    ));
                }
                last
            }
        };
        if let Some((_, previous)) = out.last().filter(|(_, previous)| *previous >= first) {
            return Err(format!("non-increasing order, previous: {previous}, current: {first}"));
        }
        out.push((first, last));
    }
    Ok(out)
}

fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    Ok(intervals(text, completions)?.iter().map(|(first, last)| last - first + 1).sum())
}
