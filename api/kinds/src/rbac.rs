//! Roles and their bindings.
//!
//! Source of behaviour: kubernetes `pkg/apis/rbac` and `pkg/registry/rbac`, v1.36, without the
//! checks against privilege escalation, which are the API server's.

use objects::k8s::jiff::Timestamp;
use objects::names::{self, NameCheck};
use objects::{FieldErrors, FieldPath};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::edit::Edit;
use crate::kind::{Behaviour, Cell, Scope, WriteContext};
use crate::read::{Read, part, same};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Behaviour of Roles and ClusterRoles.
pub(crate) struct Role(pub(crate) Scope);

impl Behaviour for Role {
    fn default(&self, object: &mut Value) {
        object.default_to("rules", Value::Null);
        // An empty list is not kept apart from none.
        if object.items("rules").is_empty() {
            object["rules"] = Value::Null;
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        for (index, rule) in object.items("rules").iter().enumerate() {
            check_rule(rule, self.0, &FieldPath::new("rules").index(index), errors);
        }
        let Some(aggregation) = object.field("aggregationRule") else { return };
        let path = FieldPath::new("aggregationRule").child("clusterRoleSelectors");
        let selectors = aggregation.items("clusterRoleSelectors");
        if selectors.is_empty() {
            let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.required(&path, detail);
        }
        for (index, selector) in selectors.iter().enumerate() {
            check::selector(errors, &path.index(index), Some(selector));
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        cells::name_and_created(object, now)
    }

    fn name_check(&self) -> NameCheck {
        names::name_is_path_segment
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}

fn check_rule(rule: &Value, scope: Scope, path: &FieldPath, errors: &mut FieldErrors) {
    if rule.items("verbs").is_empty() {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    let urls = path.child("nonResourceURLs");
    if !rule.items("nonResourceURLs").is_empty() {
        let printed = &rule["nonResourceURLs"];
        if scope == Scope::Namespaced {
            let detail = "namespaced rules cannot apply to non-resource URLs";
            errors.invalid(&urls, printed, detail);
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|key| rule.is_set(key)) {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(&urls, printed, detail);
        }
        return;
    }
    if rule.items("apiGroups").is_empty() {
        let detail = "resource rules must supply at least one api group";
        errors.required(&path.child("apiGroups"), detail);
    }
    if rule.items("resources").is_empty() {
        let detail = "resource rules must supply at least one resource";
        errors.required(&path.child("resources"), detail);
    }
}

/// Behaviour of RoleBindings and ClusterRoleBindings.
pub(crate) struct RoleBinding(pub(crate) Scope);

impl Behaviour for RoleBinding {
    fn default(&self, object: &mut Value) {
        object.map_mut("roleRef").default_zero("apiGroup", GROUP);
        for subject in object.items_mut("subjects") {
            if ["User", "Group"].contains(&subject.text("kind")) {
                subject.default_zero("apiGroup", GROUP);
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let (role, path) = (part(object, &["roleRef"]), FieldPath::new("roleRef"));
        check::one_of(errors, &path.child("apiGroup"), role.text("apiGroup"), &[GROUP]);
        let kinds: &[&str] = match self.0 {
            Scope::Namespaced => &["Role", "ClusterRole"],
            Scope::Cluster => &["ClusterRole"],
        };
        check::one_of(errors, &path.child("kind"), role.text("kind"), kinds);
        check::required_segment(errors, role, &path, "name");
        for (index, subject) in object.items("subjects").iter().enumerate() {
            check_subject(subject, self.0, &FieldPath::new("subjects").index(index), errors);
        }
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        _context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        self.validate(new, errors);
        let role = part(new, &["roleRef"]);
        if !same(role, part(old, &["roleRef"])) {
            let printed = format!(
                "{{\"APIGroup\":{},\"Kind\":{},\"Name\":{}}}",
                json!(role.text("apiGroup")),
                json!(role.text("kind")),
                json!(role.text("name"))
            );
            errors.invalid_printed(&FieldPath::new("roleRef"), printed, "cannot change roleRef");
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let role = part(object, &["roleRef"]);
        let [users, groups, accounts] =
            ["User", "Group", "ServiceAccount"].map(|kind| shown_subjects(object, kind));
        vec![
            cells::name(object),
            json!(format!("{}/{}", role.text("kind"), role.text("name"))),
            cells::age(object, now),
            users,
            groups,
            accounts,
        ]
    }

    fn name_check(&self) -> NameCheck {
        names::name_is_path_segment
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}

fn shown_subjects(object: &Value, kind: &str) -> Cell {
    let subjects = object.items("subjects").iter().filter(|subject| subject.text("kind") == kind);
    let shown: Vec<String> = subjects
        .map(|subject| match kind {
            "ServiceAccount" => format!("{}/{}", subject.text("namespace"), subject.text("name")),
            _ => subject.text("name").to_string(),
        })
        .collect();
    json!(shown.join(", "))
}

fn check_subject(subject: &Value, scope: Scope, path: &FieldPath, errors: &mut FieldErrors) {
    let named = check::required(errors, subject, path, "name");
    let group = subject.text("apiGroup");
    match subject.text("kind") {
        "ServiceAccount" => {
            if named {
                check::subdomain(errors, &path.child("name"), subject.text("name"));
            }
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), &json!(group), &[""]);
            }
            if scope == Scope::Cluster {
                check::required(errors, subject, path, "namespace");
            }
        }
        "User" | "Group" => check::one_of(errors, &path.child("apiGroup"), group, &[GROUP]),
        kind => {
            let kinds = ["ServiceAccount", "User", "Group"];
            errors.not_supported(&path.child("kind"), &json!(kind), &kinds);
        }
    }
}
