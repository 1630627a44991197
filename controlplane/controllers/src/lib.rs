//! The controllers: "when this changes, make that true", each a pure plan in a folder of its own,
//! all run by one loop over one set of views.
//!
//! Adding one: a folder with `plan.rs` and its tests, an `impl Controller` in its `mod.rs`, and a
//! line in [`all`].

pub mod controller;
mod deployment;
mod disruption;
mod endpoints;
mod endpointslice;
pub mod everything;
mod garbage;
mod namespace;
mod nodeipam;
mod nodelifecycle;
pub mod owner;
mod podgc;
pub mod pods;
mod quota;
mod replicaset;
mod rootca;
mod run;
mod serviceaccount;
pub mod world;

use std::time::Duration;

use ipnet::IpNet;
use kube::Client;
use tokio_util::sync::CancellationToken;

pub use controller::Controller;
pub use world::World;

/// What the controllers have to be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster's root certificates as PEM, for `kube-root-ca.crt` in every namespace.
    pub root_ca_pem: String,
    /// Address ranges of pods: one, or an IPv4 and an IPv6 one. Nodes get their share from these.
    pub pod_cidrs: Vec<IpNet>,
    /// Prefix length of a node's share of an IPv4 range.
    pub node_prefix_v4: u8,
    /// Prefix length of a node's share of an IPv6 range.
    pub node_prefix_v6: u8,
    /// How long a node may stay silent before it counts as unreachable.
    pub node_grace: Duration,
    /// Finished pods beyond this number are deleted, oldest first.
    pub finished_pods_max: usize,
}

/// Every controller.
fn all(config: &Config) -> Vec<Box<dyn Controller>> {
    let ranges = config.pod_cidrs.iter().map(|range| match range {
        IpNet::V4(_) => (*range, config.node_prefix_v4),
        IpNet::V6(_) => (*range, config.node_prefix_v6),
    });
    vec![
        Box::new(deployment::Deployments),
        Box::new(replicaset::REPLICA_SETS),
        Box::new(replicaset::REPLICATION_CONTROLLERS),
        Box::new(endpointslice::EndpointSlices),
        Box::new(endpointslice::EndpointSliceMirroring),
        Box::new(endpoints::EndpointsOfServices),
        Box::new(serviceaccount::ServiceAccounts),
        Box::new(rootca::RootCaMaps { pem: config.root_ca_pem.clone() }),
        Box::new(nodeipam::NodeIpam { ranges: ranges.collect() }),
        Box::new(nodelifecycle::NodeLifecycle::new(config.node_grace)),
        Box::new(disruption::DisruptionBudgets),
        Box::new(quota::ResourceQuotas),
        Box::new(podgc::OrphanedPods::default()),
        Box::new(podgc::FinishedPods { max: config.finished_pods_max }),
        Box::new(namespace::Namespaces),
        Box::new(garbage::Garbage),
    ]
}

/// Runs every controller until `shutdown`, over views made by [`World::reflect`] with the same
/// client.
pub async fn run(config: Config, client: Client, world: World, shutdown: CancellationToken) {
    run::run_all(all(&config), client, world, shutdown).await;
}
