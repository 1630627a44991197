//! The audit policy: how much is recorded of a request. PURE.
//!
//! Source of behaviour: kubernetes apiserver `pkg/audit/policy/checker.go` and `reader.go`, v1.36.

use serde::Deserialize;

use crate::auth::Attributes;
use crate::identity::User;

/// How much is recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who did what to what, and what came of it.
    Metadata,
    /// The body of the request too.
    Request,
    /// The body of the answer too.
    RequestResponse,
}

/// When an event is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Stage {
    /// Before anything is done.
    RequestReceived,
    /// A long-running answer has begun.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// A handler failed in an unforeseen way.
    Panic,
}

impl Stage {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// A policy that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PolicyError {
    /// The text is not a policy.
    #[error("audit policy: {0}")]
    Syntax(String),
    /// A field has a value that does not do.
    #[error("audit policy, {path}: {reason}")]
    Field {
        /// The field.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// `audit.k8s.io/v1 Policy`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde::de::IgnoredAny,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Resources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What the policy says of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) level: Level,
    pub(crate) omit_stages: Vec<Stage>,
    pub(crate) omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy (YAML or JSON).
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Self =
            serde_saphyr::from_str(text).map_err(|error| PolicyError::Syntax(error.to_string()))?;
        if policy.kind != "Policy" || policy.api_version != "audit.k8s.io/v1" {
            return Err(field("kind", "must be Policy of audit.k8s.io/v1"));
        }
        if policy.rules.is_empty() {
            return Err(field("rules", "at least one rule is required: none would record nothing"));
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            rule.check(&format!("rules[{index}]"))?;
        }
        Ok(policy)
    }

    /// The verdict on a request: that of the first rule that fits.
    pub(crate) fn verdict(&self, user: &User, request: &Attributes<'_>) -> Verdict {
        let Some(rule) = self.rules.iter().find(|rule| rule.fits(user, request)) else {
            return Verdict::default();
        };
        let mut omit_stages = self.omit_stages.clone();
        omit_stages.extend(&rule.omit_stages);
        let omit_managed_fields = rule.omit_managed_fields.unwrap_or(self.omit_managed_fields);
        Verdict { level: rule.level, omit_stages, omit_managed_fields }
    }
}

impl Rule {
    fn check(&self, path: &str) -> Result<(), PolicyError> {
        let of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if of_resources && !self.non_resource_urls.is_empty() {
            let reason = "rules cannot apply to both regular resources and non-resource URLs";
            return Err(field(&format!("{path}.nonResourceURLs"), reason));
        }
        for (index, url) in self.non_resource_urls.iter().enumerate() {
            let rest = url.strip_suffix('*').unwrap_or(url);
            if url != "*" && (!url.starts_with('/') || rest.contains('*')) {
                let reason = "must begin with a '/' and may have one '*' at its end";
                return Err(field(&format!("{path}.nonResourceURLs[{index}]"), reason));
            }
        }
        for (index, resources) in self.resources.iter().enumerate() {
            if resources.group.contains('/') {
                let reason = "must be a group without its version";
                return Err(field(&format!("{path}.resources[{index}].group"), reason));
            }
            if !resources.resource_names.is_empty() && resources.resources.is_empty() {
                let reason = "using resourceNames requires at least one resource";
                return Err(field(&format!("{path}.resources[{index}].resourceNames"), reason));
            }
        }
        Ok(())
    }

    fn fits(&self, user: &User, request: &Attributes<'_>) -> bool {
        let any_or = |list: &[String], fits: &dyn Fn(&String) -> bool| {
            list.is_empty() || list.iter().any(fits)
        };
        if !any_or(&self.users, &|name| *name == user.name)
            || !any_or(&self.user_groups, &|group| user.is_in(group))
            || !any_or(&self.verbs, &|verb| verb == request.verb)
        {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return !request.resource.is_empty()
                && any_or(&self.namespaces, &|namespace| namespace == request.namespace)
                && (self.resources.is_empty()
                    || self.resources.iter().any(|one| one.contain(request)));
        }
        if !self.non_resource_urls.is_empty() {
            return request.resource.is_empty()
                && self.non_resource_urls.iter().any(|url| match url.strip_suffix('*') {
                    Some(start) => request.path.starts_with(start),
                    None => request.path == url,
                });
        }
        true
    }
}

impl Resources {
    fn contain(&self, request: &Attributes<'_>) -> bool {
        if self.group != request.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named = self.resource_names.is_empty()
            || self.resource_names.iter().any(|name| name == request.name);
        named
            && self.resources.iter().any(|pattern| match pattern.split_once('/') {
                None => {
                    pattern == "*"
                        || (pattern == request.resource && request.subresource.is_empty())
                }
                Some(("*", subresource)) => {
                    !subresource.is_empty() && subresource == request.subresource
                }
                // With its subresources or without.
                Some((resource, "*")) => resource == request.resource,
                Some((resource, subresource)) => {
                    resource == request.resource && subresource == request.subresource
                }
            })
    }
}

fn field(path: &str, reason: &str) -> PolicyError {
    PolicyError::Field { path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
