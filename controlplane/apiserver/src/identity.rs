//! Who makes a request.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// An authenticated user. A request that carries one as an extension is not authenticated again:
/// that is how clients inside the server's own process identify themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Unique name, such as `system:node:n1`.
    pub name: String,
    /// Unique for all time, or empty.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Other attributes.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Group of everybody who proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group of everybody else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Group that authorization lets do everything.
pub const MASTERS: &str = "system:masters";
/// Name of a user who proved nothing.
pub const ANONYMOUS: &str = "system:anonymous";

impl User {
    /// A user who has been authenticated, so is in [`AUTHENTICATED`].
    pub fn authenticated(name: &str, groups: &[&str]) -> Self {
        let mut user = Self {
            name: name.into(),
            groups: groups.iter().map(|group| (*group).to_string()).collect(),
            ..Self::default()
        };
        user.join(AUTHENTICATED);
        user
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    /// Adds a group once.
    pub fn join(&mut self, group: &str) {
        if !self.is_in(group) {
            self.groups.push(group.into());
        }
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// `authentication.k8s.io/v1 UserInfo`.
    pub fn to_user_info(&self) -> Value {
        let mut info = Map::new();
        if !self.name.is_empty() {
            info.insert("username".into(), json!(self.name));
        }
        if !self.uid.is_empty() {
            info.insert("uid".into(), json!(self.uid));
        }
        if !self.groups.is_empty() {
            info.insert("groups".into(), json!(self.groups));
        }
        if !self.extra.is_empty() {
            info.insert("extra".into(), json!(self.extra));
        }
        Value::Object(info)
    }

    /// Namespace and name if this is a service account.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }
}
