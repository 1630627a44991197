//! Address ranges for the pods of each node, cut from the cluster's.

mod plan;

use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use objects::ObjectKey;

use crate::controller::{Context, Controller, Plan};
use crate::world::{Changed, World};

/// The controller. It has one key only: ranges are handed out one after the other, each after the
/// view shows the one before.
#[derive(Debug)]
pub(crate) struct NodeIpam {
    /// The cluster's ranges, one per family, each with the prefix length of a node's share.
    pub(crate) ranges: Vec<(IpNet, u8)>,
}

impl Controller for NodeIpam {
    fn name(&self) -> &'static str {
        "nodeipam"
    }

    fn component(&self) -> &'static str {
        "cidrAllocator"
    }

    fn wakes(&self, _world: &World, changed: &Changed) -> Vec<ObjectKey> {
        match changed {
            Changed::Node(versions) => {
                let has_none = |node: &Arc<Node>| plan::cidrs(node).is_empty();
                if versions.new.as_ref().is_none_or(has_none) {
                    vec![ObjectKey::new("", "all")]
                } else {
                    Vec::new()
                }
            }
            _ => Vec::new(),
        }
    }

    fn plan(&self, world: &World, _key: &ObjectKey, _context: &Context) -> Plan {
        plan::plan(&self.ranges, &world.nodes.list())
    }

    fn workers(&self) -> usize {
        1
    }
}
