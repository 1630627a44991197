//! Role-based access control: rules and bindings indexed by subject, kept up to date by a watch.
//!
//! Source of behaviour: kubernetes `plugin/pkg/auth/authorizer/rbac`, v1.36.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use objects::ObjectExt;
use parking_lot::RwLock;
use serde_json::Value;

use super::{Attributes, Decision};
use crate::identity::User;

/// One rule of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// Verbs, `*` for all.
    pub verbs: Vec<String>,
    /// API groups, `*` for all.
    pub groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    pub resources: Vec<String>,
    /// Names; empty for all.
    pub names: Vec<String>,
    /// Paths, with `*` at the end for a prefix.
    pub paths: Vec<String>,
}

fn holds(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl Rule {
    /// Reads a `PolicyRule`.
    pub fn parse(rule: &Value) -> Self {
        let list = |key: &str| {
            rule.list_at(&[key]).iter().filter_map(Value::as_str).map(str::to_string).collect()
        };
        Self {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            paths: list("nonResourceURLs"),
        }
    }

    /// Whether the rule allows something.
    pub fn allows(&self, want: &Attributes<'_>) -> bool {
        if !holds(&self.verbs, want.verb) {
            return false;
        }
        if want.resource.is_empty() {
            return self.paths.iter().any(|path| path_matches(path, want.path));
        }
        holds(&self.groups, want.group)
            && self.resources.iter().any(|resource| resource_matches(resource, want))
            && (self.names.is_empty() || self.names.iter().any(|name| name == want.name))
    }
}

fn path_matches(rule: &str, path: &str) -> bool {
    match rule.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => rule == path,
    }
}

fn resource_matches(rule: &str, want: &Attributes<'_>) -> bool {
    if rule == "*" {
        return true;
    }
    match rule.split_once('/') {
        None => want.subresource.is_empty() && rule == want.resource,
        Some(("*", subresource)) => subresource == want.subresource,
        Some((resource, subresource)) => {
            resource == want.resource && subresource == want.subresource
        }
    }
}

/// What a binding is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct RoleKey {
    /// Empty for a ClusterRole.
    namespace: String,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

#[derive(Debug, Clone)]
struct Binding {
    /// Empty for a ClusterRoleBinding.
    namespace: String,
    name: String,
    role: RoleKey,
    subjects: Vec<Subject>,
}

#[derive(Debug, Default)]
struct Index {
    roles: HashMap<RoleKey, Arc<Vec<Rule>>>,
    /// By store key, so that a change replaces what was there.
    bindings: BTreeMap<String, Arc<Binding>>,
    by_subject: HashMap<Subject, Vec<Arc<Binding>>>,
}

/// The index. Readers see one state at a time.
#[derive(Debug, Default)]
pub struct Rbac(RwLock<Index>);

impl Rbac {
    /// Takes in an object of `rbac.authorization.k8s.io` by its store key; `None` for one that is
    /// gone. Other keys are ignored.
    pub fn apply(&self, key: &str, object: Option<&Value>) {
        let mut parts = key.split('/');
        let (Some(_), Some(resource), Some(namespace), Some(name)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        let mut index = self.0.write();
        match resource {
            "roles" | "clusterroles" => {
                let role = RoleKey { namespace: namespace.into(), name: name.into() };
                match object {
                    Some(object) => {
                        let rules = object.list_at(&["rules"]).iter().map(Rule::parse).collect();
                        index.roles.insert(role, Arc::new(rules));
                    }
                    None => {
                        index.roles.remove(&role);
                    }
                }
            }
            "rolebindings" | "clusterrolebindings" => {
                index.unbind(key);
                if let Some(object) = object {
                    index.bind(key, binding(namespace, name, object));
                }
            }
            _ => {}
        }
    }

    /// Decides for a user.
    pub fn decide(&self, user: &User, want: &Attributes<'_>) -> Decision {
        let index = self.0.read();
        let mut missing: Vec<String> = Vec::new();
        for (subject, binding) in index.bindings_of(user, want.namespace) {
            let Some(rules) = index.roles.get(&binding.role) else {
                missing.push(missing_role(&binding.role));
                continue;
            };
            if rules.iter().any(|rule| rule.allows(want)) {
                return Decision { allowed: true, reason: allowed_by(binding, subject, user) };
            }
        }
        missing.sort();
        missing.dedup();
        let reason = match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        };
        Decision { allowed: false, reason }
    }

    /// Whether a ClusterRole's rules allow something.
    pub fn cluster_role_allows(&self, name: &str, want: &Attributes<'_>) -> bool {
        let role = RoleKey { namespace: String::new(), name: name.into() };
        let index = self.0.read();
        index.roles.get(&role).is_some_and(|rules| rules.iter().any(|rule| rule.allows(want)))
    }

    /// Every rule that a user has in a namespace (empty: cluster-wide only).
    pub fn rules_of(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let index = self.0.read();
        index
            .bindings_of(user, namespace)
            .filter_map(|(_, binding)| index.roles.get(&binding.role))
            .flat_map(|rules| rules.iter().cloned())
            .collect()
    }

    /// The rules of a role; `None` if there is no such role. An empty namespace means a
    /// ClusterRole.
    pub fn role_rules(&self, namespace: &str, name: &str) -> Option<Arc<Vec<Rule>>> {
        let role = RoleKey { namespace: namespace.into(), name: name.into() };
        self.0.read().roles.get(&role).cloned()
    }
}

impl Index {
    fn bind(&mut self, key: &str, binding: Binding) {
        let binding = Arc::new(binding);
        for subject in &binding.subjects {
            self.by_subject.entry(subject.clone()).or_default().push(binding.clone());
        }
        self.bindings.insert(key.to_string(), binding);
    }

    fn unbind(&mut self, key: &str) {
        let Some(old) = self.bindings.remove(key) else { return };
        for subject in &old.subjects {
            if let Some(list) = self.by_subject.get_mut(subject) {
                list.retain(|binding| !Arc::ptr_eq(binding, &old));
                if list.is_empty() {
                    self.by_subject.remove(subject);
                }
            }
        }
    }

    /// Bindings that name the user or a group of theirs: cluster-wide ones first, then those of
    /// the namespace.
    fn bindings_of<'a>(
        &'a self,
        user: &User,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Subject, &'a Arc<Binding>)> {
        let mut found: Vec<(&Subject, &Arc<Binding>)> = Vec::new();
        let subjects = std::iter::once(Subject::User(user.name.clone()))
            .chain(user.groups.iter().cloned().map(Subject::Group));
        for subject in subjects {
            if let Some((subject, list)) = self.by_subject.get_key_value(&subject) {
                found.extend(list.iter().map(|binding| (subject, binding)));
            }
        }
        found.retain(|(_, binding)| binding.namespace.is_empty() || binding.namespace == namespace);
        found.sort_by(|(_, a), (_, b)| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        found.into_iter()
    }
}

fn binding(namespace: &str, name: &str, object: &Value) -> Binding {
    let role = object.get("roleRef").cloned().unwrap_or_default();
    let role_namespace = if role.str_at(&["kind"]) == "Role" { namespace } else { "" };
    Binding {
        namespace: namespace.into(),
        name: name.into(),
        role: RoleKey { namespace: role_namespace.into(), name: role.str_at(&["name"]).into() },
        subjects: object
            .list_at(&["subjects"])
            .iter()
            .filter_map(|subject| subject_of(subject, namespace))
            .collect(),
    }
}

fn subject_of(subject: &Value, binding_namespace: &str) -> Option<Subject> {
    let name = subject.str_at(&["name"]);
    match subject.str_at(&["kind"]) {
        "User" => Some(Subject::User(name.into())),
        "Group" => Some(Subject::Group(name.into())),
        "ServiceAccount" => {
            let given = subject.str_at(&["namespace"]);
            let namespace = if given.is_empty() { binding_namespace } else { given };
            Some(Subject::User(format!("system:serviceaccount:{namespace}:{name}")))
        }
        _ => None,
    }
}

fn missing_role(role: &RoleKey) -> String {
    let kind = if role.namespace.is_empty() { "clusterrole" } else { "role" };
    format!("{kind}.rbac.authorization.k8s.io {:?} not found", role.name)
}

fn allowed_by(binding: &Binding, subject: &Subject, user: &User) -> String {
    let Binding { namespace, name, role, .. } = binding;
    let (binding_kind, binding_name) = match namespace.is_empty() {
        true => ("ClusterRoleBinding", name.clone()),
        false => ("RoleBinding", format!("{name}/{namespace}")),
    };
    let role_kind = if role.namespace.is_empty() { "ClusterRole" } else { "Role" };
    let subject = match (subject, user.service_account()) {
        (Subject::Group(group), _) => format!("Group {group:?}"),
        (Subject::User(_), Some((namespace, name))) => {
            format!("ServiceAccount {:?}", format!("{name}/{namespace}"))
        }
        (Subject::User(name), None) => format!("User {name:?}"),
    };
    format!(
        "RBAC: allowed by {binding_kind} {binding_name:?} of {role_kind} {:?} to {subject}",
        role.name
    )
}

#[cfg(test)]
mod tests;
