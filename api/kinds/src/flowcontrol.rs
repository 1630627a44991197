//! FlowSchemas and PriorityLevelConfigurations.
//!
//! Source of behaviour: kubernetes `pkg/apis/flowcontrol` and `pkg/registry/flowcontrol`, v1.36.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::Edit;
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::lifecycle;
use crate::read::{Read, part};

const PRECEDENCE: i64 = 1000;
const PRECEDENCE_MAX: i64 = 10_000;
const QUEUES_MAX: i64 = 10_000_000;
/// Level types, and the level that alone may be exempt.
const LEVELS: [&str; 2] = ["Exempt", "Limited"];
const EXEMPT: &str = "exempt";

/// Behaviour of FlowSchemas.
pub(crate) struct FlowSchema;

impl Behaviour for FlowSchema {
    fn default(&self, object: &mut Value) {
        let spec = object.map_mut("spec");
        spec.default_zero("matchingPrecedence", PRECEDENCE);
        spec.map_mut("priorityLevelConfiguration").default_to("name", "");
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        lifecycle::create(object, json!({}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        lifecycle::update(new, old, context.subresource, true);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("spec");
        let spec = part(object, &["spec"]);
        let precedence = spec.int("matchingPrecedence").unwrap_or(0);
        let here = path.child("matchingPrecedence");
        if precedence <= 0 {
            errors.invalid(&here, &json!(precedence), "must be a positive value");
        }
        if precedence > PRECEDENCE_MAX {
            let detail = format!("must not be greater than {PRECEDENCE_MAX}");
            errors.invalid(&here, &json!(precedence), &detail);
        }
        if precedence == 1 && object.name() != EXEMPT {
            let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
            errors.invalid(&here, &json!(precedence), detail);
        }
        if let Some(method) = spec.field("distinguisherMethod") {
            let kind = method.text("type");
            let supported = ["ByNamespace", "ByUser"];
            if !supported.contains(&kind) {
                // Upstream prints the whole method.
                let here = path.child("distinguisherMethod").child("type");
                errors.not_supported(&here, &json!(kind), &supported);
                check::print_last_as(errors, format!("{{\"Type\":{kind:?}}}"));
            }
        }
        let level = part(spec, &["priorityLevelConfiguration"]).text("name");
        let here = path.child("priorityLevelConfiguration").child("name");
        if level.is_empty() {
            errors.required(&here, "must reference a priority level");
        } else {
            check::subdomain(errors, &here, level);
        }
        for (index, rule) in spec.items("rules").iter().enumerate() {
            check_rule(rule, &path.child("rules").index(index), errors);
        }
        let conditions = object.list_at(&["status", "conditions"]);
        check_conditions(conditions, errors);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let spec = part(object, &["spec"]);
        let conditions = object.list_at(&["status", "conditions"]);
        let dangling = objects::conditions::get(conditions, "Dangling");
        let dangling = dangling.map_or("?", |condition| condition.str_at(&["status"]));
        let method = part(spec, &["distinguisherMethod"]).text_opt("type").unwrap_or("<none>");
        vec![
            cells::name(object),
            json!(part(spec, &["priorityLevelConfiguration"]).text("name")),
            json!(spec.int("matchingPrecedence").unwrap_or(0)),
            json!(method),
            cells::age(object, now),
            json!(dangling),
        ]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec", "metadata"] } else { &["status"] }
    }
}

fn check_conditions(conditions: &[Value], errors: &mut FieldErrors) {
    let path = FieldPath::new("status").child("conditions");
    let mut seen = Vec::new();
    for (index, condition) in conditions.iter().enumerate() {
        let here = path.index(index);
        let kind = condition.text("type");
        check::required(errors, condition, &here, "type");
        if seen.contains(&kind) {
            errors.duplicate(&here.child("type"), &json!(kind));
        }
        seen.push(kind);
    }
}

fn check_rule(rule: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let subjects = rule.items("subjects");
    if subjects.is_empty() {
        errors.required(&path.child("subjects"), "subjects must contain at least one value");
    }
    for (index, subject) in subjects.iter().enumerate() {
        check_subject(subject, &path.child("subjects").index(index), errors);
    }
    let (resources, urls) = (rule.items("resourceRules"), rule.items("nonResourceRules"));
    if resources.is_empty() && urls.is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.required(path, detail);
    }
    for (index, rule) in resources.iter().enumerate() {
        check_resource_rule(rule, &path.child("resourceRules").index(index), errors);
    }
    for (index, rule) in urls.iter().enumerate() {
        check_url_rule(rule, &path.child("nonResourceRules").index(index), errors);
    }
}

fn check_subject(subject: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    const FORMS: [(&str, &str); 3] =
        [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];
    let kind = subject.text("kind");
    let Some((_, field)) = FORMS.iter().find(|(known, _)| *known == kind) else {
        let names = FORMS.map(|(name, _)| name);
        return errors.not_supported(&path.child("kind"), &json!(kind), &names);
    };
    for (other, key) in FORMS.iter().filter(|(known, _)| *known != kind) {
        if subject.field(key).is_some() {
            let detail = format!("{key} is forbidden when subject kind is not '{other}'");
            errors.forbidden(&path.child(key), &detail);
        }
    }
    let here = path.child(field);
    let Some(named) = subject.field(field) else {
        let detail = format!("{field} is required when subject kind is '{kind}'");
        return errors.required(&here, &detail);
    };
    if kind == "ServiceAccount" {
        let namespace = named.text("namespace");
        if namespace.is_empty() {
            errors.required(&here.child("namespace"), "must specify namespace for service account");
        } else {
            check::label(errors, &here.child("namespace"), namespace);
        }
    }
    let name = named.text("name");
    if name.is_empty() {
        errors.required(&here.child("name"), "");
    } else if kind == "ServiceAccount" && name != "*" {
        check::subdomain(errors, &here.child("name"), name);
    }
}

/// A list in which `*` stands alone.
fn check_words(
    rule: &Value,
    path: &FieldPath,
    (key, what): (&str, &str),
    errors: &mut FieldErrors,
) {
    let words = rule.texts(key);
    let here = path.child(key);
    if words.is_empty() {
        let detail = format!("{key} must contain at least one value");
        errors.required(&here, &detail);
    } else if words.len() > 1 && words.contains(&"*") {
        let detail = format!("if '*' is present, must not specify other {what}");
        errors.invalid(&here, &rule[key], &detail);
    }
}

const VERBS: [&str; 9] =
    ["*", "create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

fn check_resource_rule(rule: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check_words(rule, path, ("verbs", "verbs"), errors);
    for (index, verb) in rule.texts("verbs").into_iter().enumerate() {
        if !VERBS.contains(&verb) && !["proxy", "connect"].contains(&verb) {
            check::one_of(errors, &path.child("verbs").index(index), verb, &VERBS);
        }
    }
    check_words(rule, path, ("apiGroups", "api groups"), errors);
    check_words(rule, path, ("resources", "resources"), errors);
    let namespaces = rule.texts("namespaces");
    let here = path.child("namespaces");
    if namespaces.is_empty() && !rule.flag("clusterScope") {
        let detail =
            "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(&here, detail);
    } else if namespaces.len() > 1 && namespaces.contains(&"*") {
        let detail = "if '*' is present, must not specify other namespaces";
        errors.invalid(&here, &rule["namespaces"], detail);
    }
    for (index, namespace) in namespaces.into_iter().enumerate().filter(|(_, name)| *name != "*") {
        check::label(errors, &here.index(index), namespace);
    }
}

fn check_url_rule(rule: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check_words(rule, path, ("verbs", "verbs"), errors);
    let here = path.child("nonResourceURLs");
    let urls = rule.texts("nonResourceURLs");
    if urls.is_empty() {
        errors.required(&here, "nonResourceURLs must contain at least one value");
    }
    if urls.len() > 1 && urls.contains(&"*") {
        let detail = "if '*' is present, must not specify other non-resource URLs";
        errors.invalid(&here, &rule["nonResourceURLs"], detail);
    }
    for (index, url) in urls.into_iter().enumerate().filter(|(_, url)| *url != "*") {
        let here = here.index(index);
        let fault = if !url.starts_with('/') {
            "must start with slash"
        } else if url.contains(' ') {
            "must not contain white-space"
        } else if url.contains("//") {
            "must not contain double slash"
        } else if url.strip_suffix("/*").unwrap_or(url).contains('*') {
            "wildcard can only do suffix matching"
        } else {
            continue;
        };
        errors.invalid_str(&here, url, fault);
    }
}

/// Behaviour of PriorityLevelConfigurations.
pub(crate) struct PriorityLevel;

impl Behaviour for PriorityLevel {
    fn default(&self, object: &mut Value) {
        let spec = object.map_mut("spec");
        spec.default_to("type", "");
        if let Some(exempt) = spec.field_mut("exempt") {
            exempt.default_to("nominalConcurrencyShares", 0);
            exempt.default_to("lendablePercent", 0);
        }
        let Some(limited) = spec.field_mut("limited") else { return };
        limited.default_to("nominalConcurrencyShares", 30);
        limited.default_to("lendablePercent", 0);
        let response = limited.map_mut("limitResponse");
        response.default_to("type", "");
        if let Some(queuing) = response.field_mut("queuing") {
            queuing.default_zero("handSize", 8);
            queuing.default_zero("queues", 64);
            queuing.default_zero("queueLengthLimit", 50);
        }
    }

    fn prepare_create(&self, object: &mut Value, _context: &WriteContext<'_>) {
        lifecycle::create(object, json!({}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        lifecycle::update(new, old, context.subresource, true);
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("spec");
        let spec = part(object, &["spec"]);
        let kind = spec.text("type");
        let here = path.child("type");
        if (kind == "Exempt") != (object.name() == EXEMPT) && LEVELS.contains(&kind) {
            let detail = "must be 'Exempt' if and only if `name` is 'exempt'";
            errors.invalid_str(&here, kind, detail);
        }
        match kind {
            "Exempt" => {
                if spec.field("limited").is_some() {
                    let detail = "must be nil if the type is not Limited";
                    errors.forbidden(&path.child("limited"), detail);
                }
                if let Some(exempt) = spec.field("exempt") {
                    check_shares(exempt, &path.child("exempt"), errors);
                }
            }
            "Limited" => {
                if spec.field("exempt").is_some() {
                    let detail = "must be nil if the type is Limited";
                    errors.forbidden(&path.child("exempt"), detail);
                }
                match spec.field("limited") {
                    None => errors
                        .required(&path.child("limited"), "must not be empty when type is Limited"),
                    Some(limited) => check_limited(limited, &path.child("limited"), errors),
                }
            }
            _ => check::one_of(errors, &here, kind, &LEVELS),
        }
        let conditions = object.list_at(&["status", "conditions"]);
        check_conditions(conditions, errors);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let spec = part(object, &["spec"]);
        let limited = part(spec, &["limited"]);
        let shares = match spec.text("type") {
            "Exempt" => part(spec, &["exempt"]).int("nominalConcurrencyShares"),
            _ => limited.int("nominalConcurrencyShares"),
        };
        let queuing = part(limited, &["limitResponse", "queuing"]);
        let number = |value: Option<i64>| {
            json!(value.map_or_else(|| "<none>".to_owned(), |number| number.to_string()))
        };
        vec![
            cells::name(object),
            json!(spec.text("type")),
            number(shares),
            number(queuing.int("queues")),
            number(queuing.int("handSize")),
            number(queuing.int("queueLengthLimit")),
            cells::age(object, now),
        ]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec", "metadata"] } else { &["status"] }
    }
}

fn check_shares(level: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if let Some(shares) = level.int("nominalConcurrencyShares").filter(|shares| *shares < 0) {
        let here = path.child("nominalConcurrencyShares");
        errors.invalid(&here, &json!(shares), "must be a non-negative integer");
    }
    if let Some(percent) = level.int("lendablePercent").filter(|p| !(0..=100).contains(p)) {
        let detail = "must be between 0 and 100, inclusive";
        errors.invalid(&path.child("lendablePercent"), &json!(percent), detail);
    }
}

fn check_limited(limited: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check_shares(limited, path, errors);
    let response = part(limited, &["limitResponse"]);
    let here = path.child("limitResponse");
    match response.text("type") {
        "Reject" => {
            if response.field("queuing").is_some() {
                let detail = "must be nil if limited.limitResponse.type is not Limited";
                errors.forbidden(&here.child("queuing"), detail);
            }
        }
        "Queue" => match response.field("queuing") {
            None => {
                let detail = "must not be empty if limited.limitResponse.type is Limited";
                errors.required(&here.child("queuing"), detail);
            }
            Some(queuing) => check_queuing(queuing, &here.child("queuing"), errors),
        },
        other => check::one_of(errors, &here.child("type"), other, &["Queue", "Reject"]),
    }
    if let Some(percent) = limited.int("borrowingLimitPercent").filter(|percent| *percent < 0) {
        let here = path.child("borrowingLimitPercent");
        let detail = "if specified, must be a non-negative integer";
        errors.invalid(&here, &json!(percent), detail);
    }
}

fn check_queuing(queuing: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let number = |key: &str| queuing.int(key).unwrap_or(0);
    let (queues, hand) = (number("queues"), number("handSize"));
    if number("queueLengthLimit") <= 0 {
        let here = path.child("queueLengthLimit");
        errors.invalid(&here, &json!(number("queueLengthLimit")), "must be positive");
    }
    if queues <= 0 {
        errors.invalid(&path.child("queues"), &json!(queues), "must be positive");
    } else if queues > QUEUES_MAX {
        let detail = format!("must not be greater than {QUEUES_MAX}");
        errors.invalid(&path.child("queues"), &json!(queues), &detail);
    }
    let here = path.child("handSize");
    if hand <= 0 {
        errors.invalid(&here, &json!(hand), "must be positive");
    } else if hand > queues {
        let detail = format!("should not be greater than queues ({queues})");
        errors.invalid(&here, &json!(hand), &detail);
    } else if entropy_bits(queues, hand) > 60.0 {
        let bits = entropy_bits(queues, hand);
        let detail = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater \
             than 60, but {bits:.0}"
        );
        errors.invalid(&here, &json!(hand), &detail);
    }
}

/// Whole bits that dealing a hand from a deck takes, as upstream estimates them.
#[expect(clippy::cast_precision_loss, reason = "both are far below 2^52")]
fn entropy_bits(deck: i64, hand: i64) -> f64 {
    ((deck as f64).log2() * hand as f64).ceil()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(behaviour: &dyn Behaviour, mut object: Value) -> Vec<String> {
        behaviour.default(&mut object);
        let mut errors = FieldErrors::default();
        behaviour.validate(&object, &mut errors);
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn levels_are_completed_and_checked() {
        let level = |queuing: Value| {
            json!({"metadata": {"name": "l"}, "spec": {"type": "Limited",
                "limited": {"limitResponse": {"type": "Queue", "queuing": queuing}}}})
        };
        assert_eq!(faults(&PriorityLevel, level(json!({}))), [""; 0]);
        for (queuing, said) in [
            (json!({"queues": 3, "handSize": 4}), "should not be greater than queues (3)"),
            (json!({"queues": 4096, "handSize": 8}), "entropy bits"),
            (json!({"queues": -1}), "must be positive"),
        ] {
            let found = faults(&PriorityLevel, level(queuing));
            assert!(found.iter().any(|fault| fault.contains(said)), "{said}: {found:?}");
        }
    }

    #[test]
    fn schemas_are_checked() {
        let found = faults(
            &FlowSchema,
            json!({"metadata": {"name": "s"}, "spec": {"matchingPrecedence": 1,
                "priorityLevelConfiguration": {"name": "l"},
                "rules": [{"subjects": [{"kind": "User", "group": {"name": "g"}}],
                    "resourceRules": [{"verbs": ["*", "get"], "apiGroups": [""],
                        "resources": ["pods"]}]}]}}),
        )
        .join("\n");
        for said in [
            "only the schema named 'exempt'",
            "spec.rules[0].subjects[0].group: Forbidden",
            "spec.rules[0].subjects[0].user: Required value",
            "spec.rules[0].resourceRules[0].verbs: Invalid value",
            "must supply at least one namespace",
        ] {
            assert!(found.contains(said), "{said} is not in\n{found}");
        }
    }
}
