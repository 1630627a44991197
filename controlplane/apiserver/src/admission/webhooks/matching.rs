//! Which webhooks a request concerns. PURE.
//!
//! Source of behaviour: k8s.io/apiserver `pkg/admission/plugin/webhook/predicates`, v1.36.

use objects::ObjectExt as _;
use objects::selector::Selector;
use serde_json::Value;

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// It comes into being.
    Create,
    /// It changes.
    Update,
    /// It goes away.
    Delete,
    /// Somebody connects to it.
    Connect,
}

impl Operation {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// A form in which a resource is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
}

/// What rules look at.
#[derive(Debug, Clone)]
pub(super) struct Asked<'a> {
    pub(super) operation: Operation,
    pub(super) form: Form,
    /// The other forms of the same resource.
    pub(super) equivalents: Vec<Form>,
    pub(super) subresource: &'a str,
    pub(super) namespaced: bool,
}

/// The form of a request that a webhook's rules choose: `Some(None)` is the request's own, else it
/// is the position among the equivalent ones.
pub(super) fn matching_form(webhook: &Value, asked: &Asked<'_>) -> Option<Option<usize>> {
    let by = |form: &Form| {
        webhook.list_at(&["rules"]).iter().any(|rule| rule_matches(rule, asked, form))
    };
    if by(&asked.form) {
        return Some(None);
    }
    if webhook.str_at(&["matchPolicy"]) == "Exact" {
        return None;
    }
    asked.equivalents.iter().position(by).map(Some)
}

fn contains(list: &[Value], text: &str) -> bool {
    list.iter().any(|one| one == "*" || one == text)
}

fn rule_matches(rule: &Value, asked: &Asked<'_>, form: &Form) -> bool {
    let scope_fits = match rule.str_at(&["scope"]) {
        "Namespaced" => asked.namespaced,
        "Cluster" => !asked.namespaced,
        _ => true,
    };
    scope_fits
        && contains(rule.list_at(&["operations"]), asked.operation.as_str())
        && contains(rule.list_at(&["apiGroups"]), &form.group)
        && contains(rule.list_at(&["apiVersions"]), &form.version)
        && rule.list_at(&["resources"]).iter().filter_map(Value::as_str).any(|pattern| {
            let (resource, subresource) = pattern.split_once('/').unwrap_or((pattern, ""));
            (resource == "*" || resource == form.resource)
                && (subresource == asked.subresource || subresource == "*")
        })
}

/// Whether one of the objects fits a selector; none at all fits only an empty one.
pub(super) fn selects(selector: &Selector, objects: &[Option<&Value>]) -> bool {
    let none = serde_json::Map::new();
    selector.is_everything()
        || objects.iter().flatten().any(|object| selector.matches(object.labels().unwrap_or(&none)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(subresource: &str) -> Asked<'_> {
        let form = |version: &str| Form {
            group: "apps".into(),
            version: version.into(),
            resource: "deployments".into(),
        };
        Asked {
            operation: Operation::Update,
            form: form("v1"),
            equivalents: vec![form("v2")],
            subresource,
            namespaced: true,
        }
    }

    fn webhook(rule: Value, policy: &str) -> Value {
        let mut whole = json!({"operations": ["UPDATE"], "apiGroups": ["apps"],
            "apiVersions": ["v1"], "resources": ["deployments"], "scope": "*"});
        for (key, value) in rule.as_object().unwrap() {
            whole[key] = value.clone();
        }
        json!({"rules": [whole], "matchPolicy": policy})
    }

    #[test]
    fn rules_choose_by_every_part() {
        for (rule, subresource, fits) in [
            (json!({}), "", true),
            (json!({}), "scale", false),
            (json!({"resources": ["deployments/*"]}), "scale", true),
            (json!({"resources": ["*/scale"]}), "scale", true),
            (json!({"resources": ["*"]}), "scale", false),
            (json!({"resources": ["*/*"]}), "scale", true),
            (json!({"resources": ["*/*"]}), "", true),
            (json!({"operations": ["CREATE"]}), "", false),
            (json!({"apiGroups": ["*"]}), "", true),
            (json!({"scope": "Cluster"}), "", false),
        ] {
            let found =
                matching_form(&webhook(rule.clone(), "Exact"), &asked(subresource)).is_some();
            assert_eq!(found, fits, "{rule} {subresource:?}");
        }
        let other = json!({"apiVersions": ["v2"]});
        let equivalent = webhook(other.clone(), "Equivalent");
        assert_eq!(matching_form(&equivalent, &asked("")), Some(Some(0)));
        assert_eq!(matching_form(&webhook(other, "Exact"), &asked("")), None);
    }

    #[test]
    fn either_object_may_be_selected() {
        let selector = json!({"matchLabels": {"a": "b"}});
        let selector = Selector::from_label_selector(Some(&selector)).unwrap();
        let labelled = json!({"metadata": {"labels": {"a": "b"}}});
        let plain = json!({"metadata": {}});
        assert!(selects(&selector, &[Some(&plain), Some(&labelled)]));
        assert!(!selects(&selector, &[Some(&plain), None]));
        assert!(selects(&Selector::everything(), &[None]));
    }
}
