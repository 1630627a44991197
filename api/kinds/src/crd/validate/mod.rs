//! What is wrong with a CustomResourceDefinition.
//!
//! Upstream checks a form of its own, in which what all versions have alike stands once, at the
//! top; the paths of its messages are those of that form.
//!
//! Source of behaviour: apiextensions-apiserver `pkg/apis/apiextensions/validation`, v1.36.

mod schema;
mod spec;
mod structural;

use objects::{FieldErrors, FieldPath, ObjectExt, names};
use serde_json::{Value, json};

use super::behaviour::same_spec;
use crate::read::{Read, part};

pub(crate) use spec::Internal;

/// The names of versions, for `status.storedVersions`.
fn stored_versions(object: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("status").child("storedVersions");
    let stored = part(object, &["status"]).texts("storedVersions");
    if stored.is_empty() {
        let none = part(object, &["status"]).get("storedVersions").cloned().unwrap_or_default();
        errors.invalid(&path, &none, "must have at least one stored version");
        return;
    }
    let versions = part(object, &["spec"]).items("versions");
    for version in versions.iter().filter(|version| version.flag("storage")) {
        let name = version.text("name");
        if !stored.contains(&name) {
            errors.invalid(&path, &json!(stored), &format!("must have the storage version {name}"));
        }
    }
    for (index, name) in stored.iter().enumerate() {
        if versions.iter().all(|version| version.text("name") != *name) {
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must \
                 remain in spec.versions until a storage migration ensures no data remains \
                 persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.invalid_str(&path.index(index), name, &why);
        }
    }
}

/// Reports what is wrong with a new definition.
pub(super) fn create(object: &Value, errors: &mut FieldErrors) {
    let spec = part(object, &["spec"]);
    let wanted = format!("{}.{}", part(spec, &["names"]).text("plural"), spec.text("group"));
    if !object.name().is_empty() && object.name() != wanted {
        errors.invalid_str(
            &FieldPath::new("metadata").child("name"),
            object.name(),
            "must be spec.names.plural+\".\"+spec.group",
        );
    }
    spec::check(&Internal::of(spec), None, errors);
    status(object, errors);
    stored_versions(object, errors);
    approval(object, None, errors);
    preserve_unknown(object, None, errors);
}

/// Reports what is wrong with a changed definition.
pub(super) fn update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (spec, old_spec) = (part(new, &["spec"]), part(old, &["spec"]));
    if !same_spec(new, old) {
        spec::check(&Internal::of(spec), Some(old), errors);
        let path = FieldPath::new("spec");
        let mut fixed = |parts: &[&str]| {
            let of = |spec: &Value| part(spec, parts).clone();
            if of(spec) != of(old_spec) {
                let path = parts.iter().fold(path.clone(), |path, name| path.child(name));
                errors.invalid(&path, &of(spec), "field is immutable");
            }
        };
        let conditions = part(old, &["status"]).items("conditions");
        if objects::conditions::is_true(conditions, "Established") {
            fixed(&["scope"]);
            fixed(&["names", "kind"]);
        }
        fixed(&["group"]);
        fixed(&["names", "plural"]);
    }
    status(new, errors);
    stored_versions(new, errors);
    approval(new, Some(old), errors);
    preserve_unknown(new, Some(old), errors);
}

/// Reports what is wrong with the accepted names.
pub(super) fn status(object: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("status").child("acceptedNames");
    check_names(part(object, &["status", "acceptedNames"]), &path, errors);
}

/// Reports malformed names.
fn check_names(value: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let mut label = |path: FieldPath, text: &str, mixed: bool| {
        let lower = text.to_lowercase();
        let faults = names::dns1035_label(if mixed { &lower } else { text });
        if !text.is_empty() && !faults.is_empty() {
            let faults = faults.join(",");
            let why = match mixed {
                true => format!("may have mixed case, but should otherwise match: {faults}"),
                false => faults,
            };
            errors.invalid_str(&path, text, &why);
        }
    };
    label(path.child("plural"), value.text("plural"), false);
    label(path.child("singular"), value.text("singular"), false);
    label(path.child("kind"), value.text("kind"), true);
    label(path.child("listKind"), value.text("listKind"), true);
    for (index, name) in value.texts("shortNames").into_iter().enumerate() {
        label(path.child("shortNames").index(index), name, false);
    }
    for (index, name) in value.texts("categories").into_iter().enumerate() {
        label(path.child("categories").index(index), name, false);
    }
    let kind = value.text("kind");
    if !kind.is_empty() && kind == value.text("listKind") {
        let why = "kind and listKind may not be the same";
        errors.invalid_str(&path.child("listKind"), kind, why);
    }
}

const APPROVED: &str = "api-approved.kubernetes.io";

/// What the approval annotation of a definition says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Approval {
    Missing,
    Bypassed,
    Approved,
    Invalid,
}

impl Approval {
    fn of(object: &Value) -> Self {
        let text = part(object, &["metadata", "annotations"]).text(APPROVED);
        let host = text.split_once("://").map(|(scheme, rest)| (scheme, rest.split('/').next()));
        match host {
            _ if text.is_empty() => Self::Missing,
            _ if text.starts_with("unapproved") => Self::Bypassed,
            Some((scheme, Some(host))) if !scheme.is_empty() && !host.is_empty() => Self::Approved,
            _ => Self::Invalid,
        }
    }

    /// The status, reason and message of the condition that shows it.
    fn words(self, object: &Value) -> (&'static str, &'static str, String) {
        const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
        let text = part(object, &["metadata", "annotations"]).text(APPROVED);
        let must = format!("protected groups must have approval annotation {APPROVED:?}");
        match self {
            Self::Missing => ("False", "MissingAnnotation", format!("{must}, {SEE}")),
            Self::Bypassed => ("False", "UnapprovedAnnotation", format!("not approved: {text:?}")),
            Self::Approved => ("True", "ApprovedAnnotation", format!("approved in {text}")),
            Self::Invalid => {
                let how = "with either a URL or a reason starting with \"unapproved\"";
                ("False", "InvalidAnnotation", format!("{must} {how}, {SEE}"))
            }
        }
    }
}

fn is_protected(object: &Value) -> bool {
    let group = part(object, &["spec"]).text("group");
    let below = |own: &&str| group == *own || group.ends_with(&format!(".{own}"));
    ["k8s.io", "kubernetes.io"].iter().any(below)
}

/// The status, reason and message of `KubernetesAPIApprovalPolicyConformant`, for definitions of
/// the community's groups.
pub(super) fn approval_condition(object: &Value) -> Option<(&'static str, &'static str, String)> {
    is_protected(object).then(|| Approval::of(object).words(object))
}

fn approval(new: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let state = Approval::of(new);
    if !is_protected(new) || old.is_some_and(|old| Approval::of(old) == state) {
        return;
    }
    let path = FieldPath::new("metadata").child("annotations").key(APPROVED);
    let (_, _, why) = state.words(new);
    match state {
        Approval::Approved | Approval::Bypassed => {}
        Approval::Missing => errors.required(&path, &why),
        Approval::Invalid => {
            let text = part(new, &["metadata", "annotations"]).text(APPROVED);
            errors.invalid_str(&path, text, &why);
        }
    }
}

fn preserve_unknown(new: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let set = |object: &Value| part(object, &["spec"]).flag("preserveUnknownFields");
    if set(new) && !old.is_some_and(set) {
        errors.invalid(
            &FieldPath::new("spec").child("preserveUnknownFields"),
            &json!(true),
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
             spec.versions[*].schema instead",
        );
    }
}

/// Warnings about formats that nothing checks and sets that nothing merges; those that were there
/// before are not repeated.
pub(super) fn warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    let known = old.map(all_warnings).unwrap_or_default();
    all_warnings(object).into_iter().filter(|text| !known.contains(text)).collect()
}

fn all_warnings(object: &Value) -> Vec<String> {
    let mut formats = Vec::new();
    let mut sets = std::collections::BTreeSet::new();
    for version in part(object, &["spec"]).items("versions") {
        schema::visit(part(version, &["schema", "openAPIV3Schema"]), &mut |schema| {
            let (format, kind) = (schema.text("format"), schema.text("type"));
            let checked = super::schema::Format::parse(format, kind).is_some();
            if !format.is_empty()
                && !checked
                && matches!(kind, "" | "string" | "integer" | "number")
            {
                formats.push(format!("unrecognized format {format:?}"));
            }
            let item = part(schema, &["items"]).text("type");
            if schema.text("x-kubernetes-list-type") == "set" && matches!(item, "object" | "array")
            {
                sets.insert(format!(
                    "x-kubernetes-list-type: set for items of type {item:?} is not supported by \
                     server-side apply or CEL validation rules"
                ));
            }
        });
    }
    formats.extend(sets);
    formats
}
