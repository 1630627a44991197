//! Keeps the routes between nodes in step with the Node objects.

use std::collections::BTreeMap;
use std::time::Duration;

use informer::{Source, View, reflect};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::NetworkError;
use crate::nodes::{Hop, NodeFacts, routes};
use crate::pods::Network;

/// How often routes are looked at without a change in the cluster: links that come back from a
/// cable pull have lost theirs.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// A view of all nodes, for [`Network::run`].
pub fn reflect_nodes(client: &Client, shutdown: &CancellationToken) -> View<Node> {
    reflect(client.clone(), Source::of::<Node>(), Vec::new(), shutdown.clone())
}

impl Network {
    /// Takes this node's ranges from its Node object, and keeps the routes to the pods of the
    /// others, until `shutdown`; routes stay after it.
    ///
    /// # Errors
    /// Never: what the kernel refuses is retried.
    pub async fn run(
        &self,
        nodes: View<Node>,
        shutdown: CancellationToken,
    ) -> Result<(), NetworkError> {
        tokio::select! {
            () = self.follow(nodes) => {}
            () = shutdown.cancelled() => debug!("stopped"),
        }
        Ok(())
    }

    async fn follow(&self, nodes: View<Node>) {
        nodes.wait_synced().await;
        let mut changes = nodes.changes();
        loop {
            let facts: Vec<NodeFacts> =
                nodes.list().iter().map(|node| NodeFacts::of(node)).collect();
            let own_name = &self.inner.config.node_name;
            if let Some(own) = facts.iter().find(|node| node.name == *own_name)
                && !own.pod_cidrs.is_empty()
            {
                self.set_pod_cidrs(&own.pod_cidrs);
            }
            let wanted = routes(&facts, own_name, &self.inner.config.service_cidrs);
            self.write_routes(&wanted).await;
            tokio::select! {
                _ = changes.next() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// One refused route does not keep the others from being written.
    async fn write_routes(&self, wanted: &BTreeMap<IpNet, Hop>) {
        let netlink = &self.inner.netlink;
        let seen = match netlink.routes().await {
            Ok(seen) => seen,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "cannot see routes");
                return;
            }
        };
        for (net, hop) in wanted.iter().filter(|(net, hop)| !seen.contains(&(**net, **hop))) {
            if let Err(error) = netlink.add_route(*net, *hop).await {
                warn!(error = &error as &dyn std::error::Error, ?hop, "no route to a node's pods");
            }
        }
        for (net, hop) in seen.iter().filter(|(net, _)| !wanted.contains_key(net)) {
            if let Err(error) = netlink.delete_route(*net, *hop).await {
                warn!(error = &error as &dyn std::error::Error, "an old route stays");
            }
        }
    }
}
