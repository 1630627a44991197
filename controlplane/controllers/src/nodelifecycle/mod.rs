//! Nodes: notices the silent ones, taints by condition, and makes pods leave by taint.

mod evict;
mod plan;
mod taints;

use std::collections::BTreeMap;

use informer::Object;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use objects::ObjectKey;
use parking_lot::Mutex;

use crate::controller::{Context, Controller, Plan};
use crate::pods;
use crate::world::{Changed, NODE, NODE_LEASES, World};

/// The last sign of life of a node, and when it was seen here.
///
/// The node's clock may be wrong, so only the arrival of a new sign counts, not the time in it.
/// A restart of the controllers gives every node a fresh period of grace, which errs on the safe
/// side.
#[derive(Debug, Clone, PartialEq)]
struct Heard {
    sign: plan::Sign,
    at: Timestamp,
}

/// The controller; its keys are nodes.
#[derive(Debug)]
pub(crate) struct NodeLifecycle {
    /// How long a node may be silent.
    pub(crate) grace: std::time::Duration,
    heard: Mutex<BTreeMap<String, Heard>>,
}

impl NodeLifecycle {
    pub(crate) fn new(grace: std::time::Duration) -> Self {
        Self { grace, heard: Mutex::default() }
    }

    /// When the node was last heard of: now, if its sign of life is a new one.
    fn last_heard(&self, name: &str, sign: plan::Sign, now: Timestamp) -> Timestamp {
        let mut heard = self.heard.lock();
        let known = heard.get(name).filter(|known| known.sign == sign).map(|known| known.at);
        known.unwrap_or_else(|| {
            heard.insert(name.to_string(), Heard { sign, at: now });
            now
        })
    }
}

impl Controller for NodeLifecycle {
    fn name(&self) -> &'static str {
        "nodelifecycle"
    }

    fn component(&self) -> &'static str {
        "node-controller"
    }

    fn wakes(&self, world: &World, changed: &Changed) -> Vec<ObjectKey> {
        match changed {
            Changed::Node(versions) => vec![versions.key()],
            Changed::Lease(versions) => vec![ObjectKey::new("", &versions.key().name)],
            // Pods matter only where a taint may make them leave.
            Changed::Pod(versions) => {
                let node = versions.new.as_deref().map(pods::node_name).unwrap_or("");
                let key = ObjectKey::new("", node);
                let tainted = world.nodes.get(&key).is_some_and(|node| taints::evicts(&node));
                if tainted { vec![key] } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }

    fn plan(&self, world: &World, key: &ObjectKey, context: &Context) -> Plan {
        let Some(node) = world.nodes.get(key) else {
            self.heard.lock().remove(&key.name);
            return Plan::nothing();
        };
        let lease = world.leases.get(&ObjectKey::new(NODE_LEASES, &key.name));
        let sign = plan::sign_of_life(&node, lease.as_deref());
        let heard = self.last_heard(&key.name, sign, context.now);
        let pods = world.pods.by_index(NODE, &key.name);
        plan::plan(&node, &pods, heard, self.grace, context.now)
    }
}

/// A condition of a node.
fn condition<'a>(
    node: &'a Node,
    kind: &str,
) -> Option<&'a k8s_openapi::api::core::v1::NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// A node's name.
fn name(node: &Node) -> String {
    node.key().name
}
