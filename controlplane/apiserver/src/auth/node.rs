//! What nodes may do: the rules of the `system:node` role, without a binding.
//!
//! Upstream's Node authorizer narrows reads of Secrets, ConfigMaps and volumes to those that the
//! node's own pods refer to.

use super::{Attributes, Decision};
use crate::identity::User;
use crate::server::Server;

/// Group of all nodes.
pub const NODES: &str = "system:nodes";
/// What the user name of a node begins with.
pub const NODE_PREFIX: &str = "system:node:";

/// The name of the node that a user is.
pub fn name(user: &User) -> Option<&str> {
    user.is_in(NODES).then(|| user.name.strip_prefix(NODE_PREFIX)).flatten()
}

/// Decides for nodes; `None` leaves the decision to others.
pub fn decide(server: &Server, user: &User, attributes: &Attributes<'_>) -> Option<Decision> {
    name(user)?;
    // A node of skeg also programs Services and answers DNS: it has the proxier's rules too.
    ["system:node", "system:node-proxier"]
        .into_iter()
        .any(|role| server.rbac.cluster_role_allows(role, attributes))
        .then(|| Decision { allowed: true, reason: String::new() })
}
