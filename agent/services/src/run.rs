//! Keeps the maps in step with the cluster.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt as _;
use informer::{Backoff, Change, Source, View, reflect};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use network::Network;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::Config;
use crate::act::act;
use crate::dump::dump;
use crate::error::ServicesError;
use crate::facts::{NodeFacts, World};
use crate::host_ports::HostPorts;
use crate::ids::Ids;
use crate::maps::{BpfMaps, Maps};
use crate::plan::plan;
use crate::sockets;
use crate::state::MapSet;

/// First wait after the kernel refused an operation.
const RETRY_FIRST: Duration = Duration::from_millis(20);
/// Longest wait: a full map stays full until the configuration changes, and says so this often.
const RETRY_CAP: Duration = Duration::from_secs(10);

/// How often the programs are looked at: what somebody detaches is back after this.
const LOOK_AT_PROGRAMS_EVERY: Duration = Duration::from_secs(1);

/// What Services are planned from; shared with the process's other components.
#[derive(Debug, Clone)]
pub struct Views {
    /// All Services.
    pub services: View<Service>,
    /// All EndpointSlices.
    pub slices: View<EndpointSlice>,
    /// All nodes.
    pub nodes: View<Node>,
}

impl Views {
    /// Views of their own over `client`.
    pub fn reflect(client: &Client, shutdown: &CancellationToken) -> Self {
        Self {
            services: reflect(
                client.clone(),
                Source::of::<Service>(),
                Vec::new(),
                shutdown.clone(),
            ),
            slices: reflect(
                client.clone(),
                Source::of::<EndpointSlice>(),
                Vec::new(),
                shutdown.clone(),
            ),
            nodes: reflect(client.clone(), Source::of::<Node>(), Vec::new(), shutdown.clone()),
        }
    }
}

/// What is held by the maps, as far as this process has read and written.
struct Held {
    maps: Box<dyn Maps>,
    actual: MapSet,
}

/// The Services of a node. Clones share them.
#[derive(Clone)]
pub struct Services {
    config: Arc<Config>,
    host_ports: HostPorts,
    held: Arc<Mutex<Held>>,
    /// Where pods' sockets are.
    network: Arc<OnceLock<Network>>,
}

impl Services {
    /// Attaches the programs to the node's cgroup and takes over the maps of the last agent, which
    /// serve on unchanged. Blocks for some 50 ms.
    ///
    /// # Errors
    /// If the kernel lacks a feature, or a path in `config` cannot be used.
    pub fn open(config: Config) -> Result<Self, ServicesError> {
        let maps = BpfMaps::open(&config)?;
        Self::with_maps(config, Box::new(maps))
    }

    /// As [`Services::open`], over other maps.
    ///
    /// # Errors
    /// If the maps cannot be read.
    pub fn with_maps(config: Config, mut maps: Box<dyn Maps>) -> Result<Self, ServicesError> {
        let actual = maps.read()?;
        if !actual.frontends.is_empty() {
            info!(frontends = actual.frontends.len(), "took over pinned maps");
        }
        Ok(Self {
            config: Arc::new(config),
            host_ports: HostPorts::new(),
            held: Arc::new(Mutex::new(Held { maps, actual })),
            network: Arc::new(OnceLock::new()),
        })
    }

    /// Says where pods' sockets are: connected UDP sockets of pods are destroyed when their backend
    /// goes. Without it, only those of the node itself are.
    pub fn set_network(&self, network: Network) {
        // A second network would be the same one.
        drop(self.network.set(network));
    }

    /// Where the kubelet says which host ports lead to which pod.
    pub fn host_ports(&self) -> HostPorts {
        self.host_ports.clone()
    }

    /// The maps as text, for `skeg debug services`.
    pub fn dump(&self) -> String {
        dump(&self.held.lock().actual)
    }

    /// Keeps the maps in step with the views until `shutdown`; the programs stay attached after it.
    ///
    /// # Errors
    /// Never: what the kernel refuses is retried.
    pub async fn run(
        &self,
        views: Views,
        shutdown: CancellationToken,
    ) -> Result<(), ServicesError> {
        tokio::select! {
            () = self.follow(views) => {}
            () = shutdown.cancelled() => debug!("stopped"),
        }
        Ok(())
    }

    async fn follow(&self, views: Views) {
        // Nothing is planned from a part of the cluster: it would delete what works.
        views.services.wait_synced().await;
        views.slices.wait_synced().await;
        views.nodes.wait_synced().await;
        let mut ids = Ids::recover(&self.held.lock().actual);
        let mut observer = Observer::new(views, self.host_ports.clone());
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_CAP);
        observer.take_in_waiting();
        loop {
            let node = observer.node(&self.config);
            let desired = plan(&observer.world, &node, &mut ids);
            match self.write(desired.clone()).await {
                Ok(operations) => {
                    if operations > 0 {
                        debug!(operations, "wrote maps");
                    }
                    ids.keep(&desired);
                    backoff.reset();
                    self.wait(&mut observer).await;
                }
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "maps are behind the cluster");
                    tokio::select! {
                        () = tokio::time::sleep(backoff.next_wait()) => {}
                        () = observer.wait() => {}
                    }
                }
            }
            observer.take_in_waiting();
        }
    }

    /// Waits for a change in the cluster, or for the programs to have been detached and attached
    /// again: then everything is compared with what the maps hold.
    async fn wait(&self, observer: &mut Observer) {
        loop {
            tokio::select! {
                () = observer.wait() => return,
                () = tokio::time::sleep(LOOK_AT_PROGRAMS_EVERY) => {}
            }
            let Held { maps, actual } = &mut *self.held.lock();
            if maps.is_attached() {
                continue;
            }
            warn!("the programs that serve Services were detached; attaching them again");
            match maps.attach_again().and_then(|()| maps.read()) {
                Ok(read) => *actual = read,
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "Services are not served");
                }
            }
            return;
        }
    }

    /// Writing a map takes a microsecond, but a large change has thousands of writes.
    async fn write(&self, desired: MapSet) -> Result<usize, ServicesError> {
        let held = Arc::clone(&self.held);
        let network = Arc::clone(&self.network);
        let written = tokio::task::spawn_blocking(move || {
            let (operations, orphans) = {
                let Held { maps, actual } = &mut *held.lock();
                let operations = act(&mut **maps, actual, &desired)?;
                let orphans = if operations > 0 { maps.take_orphans(actual)? } else { Vec::new() };
                (operations, orphans)
            };
            let namespaces = network.get().map(Network::namespaces).unwrap_or_default();
            if let Err(error) = sockets::destroy(&orphans, &namespaces) {
                // What is written is right; the socket's owner finds out by itself, but later.
                warn!(
                    error = &error as &dyn std::error::Error,
                    "sockets keep a backend that is gone"
                );
            }
            Ok(operations)
        });
        written.await.expect("writing maps neither panics nor is it cancelled")
    }
}

/// Follows the views and the host ports, and keeps a [`World`] of them.
struct Observer {
    world: World,
    views: Views,
    services: informer::Changes<Service>,
    slices: informer::Changes<EndpointSlice>,
    nodes: informer::Changes<Node>,
    host_ports:
        tokio::sync::watch::Receiver<std::collections::BTreeMap<String, Vec<crate::HostPort>>>,
}

impl Observer {
    fn new(views: Views, host_ports: HostPorts) -> Self {
        Self {
            world: World::default(),
            services: views.services.changes(),
            slices: views.slices.changes(),
            nodes: views.nodes.changes(),
            host_ports: host_ports.subscribe(),
            views,
        }
    }

    fn node(&self, config: &Config) -> NodeFacts {
        let nodes = self.views.nodes.list();
        NodeFacts::of(config, nodes.iter().map(|node| &**node))
    }

    /// Waits for the next change and takes it in.
    async fn wait(&mut self) {
        tokio::select! {
            change = self.services.next() => self.service(change),
            change = self.slices.next() => self.slice(change),
            _ = self.nodes.next() => {}
            changed = self.host_ports.changed() => {
                if changed.is_ok() {
                    self.world.host_ports = self.host_ports.borrow_and_update().clone();
                }
            }
        }
    }

    /// Takes in everything that has come meanwhile, so that it is planned at once.
    fn take_in_waiting(&mut self) {
        while self.wait().now_or_never().is_some() {}
    }

    fn service(&mut self, change: Option<Change<Service>>) {
        match change {
            Some(Change::Object { key, new, .. }) => self.world.set_service(&key, new.as_deref()),
            Some(Change::Resync) => {
                self.world.services.clear();
                for service in self.views.services.list() {
                    self.world.set_service(&informer::Object::key(&*service), Some(&service));
                }
            }
            None => {}
        }
    }

    fn slice(&mut self, change: Option<Change<EndpointSlice>>) {
        match change {
            Some(Change::Object { key, old, new }) => {
                self.world.set_slice(&key, old.as_deref(), new.as_deref());
            }
            Some(Change::Resync) => {
                self.world.slices.clear();
                for slice in self.views.slices.list() {
                    self.world.set_slice(&informer::Object::key(&*slice), None, Some(&slice));
                }
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
