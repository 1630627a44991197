//! Which flow a request belongs to. PURE.
//!
//! Source of behaviour: kubernetes apiserver `pkg/util/flowcontrol/rule.go`, v1.36.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use k8s_openapi::api::flowcontrol::v1::{
    FlowSchema, NonResourcePolicyRule, ResourcePolicyRule, Subject,
};

use crate::auth::Attributes;
use crate::identity::User;

/// Precedence of a schema that names none.
const DEFAULT_PRECEDENCE: i32 = 1000;

/// A FlowSchema as requests are matched against it.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) level: String,
    precedence: i32,
    distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distinguisher {
    None,
    ByUser,
    ByNamespace,
}

#[derive(Debug, Clone)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourcePolicyRule>,
    paths: Vec<NonResourcePolicyRule>,
}

impl Schema {
    pub(super) fn of(schema: FlowSchema) -> Self {
        let spec = schema.spec.unwrap_or_default();
        let method = spec.distinguisher_method.map(|method| method.type_);
        let rules = spec.rules.unwrap_or_default().into_iter().map(|rule| Rule {
            subjects: rule.subjects,
            resources: rule.resource_rules.unwrap_or_default(),
            paths: rule.non_resource_rules.unwrap_or_default(),
        });
        Self {
            name: schema.metadata.name.unwrap_or_default(),
            uid: schema.metadata.uid.unwrap_or_default(),
            level: spec.priority_level_configuration.name,
            precedence: spec.matching_precedence.unwrap_or(DEFAULT_PRECEDENCE),
            distinguisher: match method.as_deref() {
                Some("ByUser") => Distinguisher::ByUser,
                Some("ByNamespace") => Distinguisher::ByNamespace,
                Some(_) | None => Distinguisher::None,
            },
            rules: rules.collect(),
        }
    }

    /// The order in which schemas are tried.
    pub(super) fn order(&self) -> (i32, &str) {
        (self.precedence, &self.name)
    }

    pub(super) fn fits(&self, user: &User, request: &Attributes<'_>) -> bool {
        self.rules.iter().any(|rule| {
            rule.subjects.iter().any(|subject| is_subject(subject, user))
                && match request.resource.is_empty() {
                    true => rule.paths.iter().any(|one| fits_path(one, request)),
                    false => rule.resources.iter().any(|one| fits_resource(one, request)),
                }
        })
    }

    /// A number for the flow of a request: equal for requests that shall share.
    pub(super) fn flow(&self, user: &User, request: &Attributes<'_>) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        match self.distinguisher {
            Distinguisher::None => {}
            Distinguisher::ByUser => user.name.hash(&mut hasher),
            Distinguisher::ByNamespace => request.namespace.hash(&mut hasher),
        }
        hasher.finish()
    }
}

fn is_subject(subject: &Subject, user: &User) -> bool {
    match subject.kind.as_str() {
        "User" => subject.user.as_ref().is_some_and(|one| one.name == "*" || one.name == user.name),
        "Group" => {
            subject.group.as_ref().is_some_and(|one| one.name == "*" || user.is_in(&one.name))
        }
        "ServiceAccount" => subject.service_account.as_ref().is_some_and(|one| {
            user.service_account().is_some_and(|(namespace, name)| {
                one.namespace == namespace && (one.name == "*" || one.name == name)
            })
        }),
        _ => false,
    }
}

fn contains(list: &[String], text: &str) -> bool {
    list.iter().any(|one| one == "*" || one == text)
}

fn fits_resource(rule: &ResourcePolicyRule, request: &Attributes<'_>) -> bool {
    let is_resource = |one: &String| {
        one == "*"
            || match one.split_once('/') {
                None => one == request.resource && request.subresource.is_empty(),
                Some((resource, subresource)) => {
                    resource == request.resource && subresource == request.subresource
                }
            }
    };
    let in_scope = match request.namespace.is_empty() {
        true => rule.cluster_scope == Some(true),
        false => contains(rule.namespaces.as_deref().unwrap_or_default(), request.namespace),
    };
    in_scope
        && contains(&rule.verbs, request.verb)
        && contains(&rule.api_groups, request.group)
        && rule.resources.iter().any(is_resource)
}

fn fits_path(rule: &NonResourcePolicyRule, request: &Attributes<'_>) -> bool {
    contains(&rule.verbs, request.verb)
        && rule.non_resource_urls.iter().any(|url| match url.strip_suffix('*') {
            Some(start) => request.path.starts_with(start),
            None => request.path == url,
        })
}
