//! Puts the kubelet together and runs it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use informer::{EventRecorder, Source, View, reflect};
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::config::{Config, Deps};
use crate::context::Context;
use crate::machine::Machine;
use crate::observe::Observer;
use crate::pods::{Pods, Registry};
use crate::record::pods_dir;
use crate::volumes::Tokens;
use crate::watched::{OnChange, Watched};
use crate::{node, server};

/// Why the kubelet cannot run. Everything later is retried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder cannot be made.
    #[error("make folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The server's address is taken or not this node's.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// This node's pods, as the API has them.
pub(crate) fn pods_of(
    client: &kube::Client,
    node: &str,
    shutdown: &CancellationToken,
) -> View<Pod> {
    let source = Source::of::<Pod>().fields(&format!("spec.nodeName={node}"));
    reflect(client.clone(), source, Vec::new(), shutdown.clone())
}

/// Runs a node's pods until shutdown. Containers go on running after that; the next call, in this
/// process or another, takes them over.
///
/// # Errors
/// Only if it cannot begin: see [`Error`].
pub async fn run(config: Config, deps: Deps, shutdown: CancellationToken) -> Result<(), Error> {
    let folder = pods_dir(&config.data_dir);
    std::fs::create_dir_all(&folder)
        .map_err(|source| Error::Folder { path: folder.clone(), source })?;
    let address = config.server.listen;
    let listener = TcpListener::bind(address)
        .await
        .and_then(|listener| Ok((listener.local_addr()?.port(), listener)))
        .map_err(|source| Error::Listen { address, source })?;
    let (port, listener) = listener;
    let registry = Arc::new(Registry::default());
    let context = context(config, deps, &registry, shutdown.clone());
    let view = pods_of(&context.deps.client, &context.config.node_name, &shutdown);
    let pods = Pods::new(Arc::clone(&context), Arc::clone(&registry), view);
    let server = server::serve(listener, Arc::clone(&context), registry);
    tokio::join!(
        pods.run().instrument(tracing::info_span!("pods")),
        node::run(Arc::clone(&context), port).instrument(tracing::info_span!("node")),
        server.instrument(tracing::info_span!("server")),
    );
    Ok(())
}

fn context(
    config: Config,
    deps: Deps,
    registry: &Arc<Registry>,
    shutdown: CancellationToken,
) -> Arc<Context> {
    let waker = Arc::clone(registry);
    let on_change: OnChange = Arc::new(move |uid| {
        if let Some(handle) = waker.get(uid) {
            handle.source_changed();
        }
    });
    let client = &deps.client;
    let node = Source::of::<Node>().fields(&format!("metadata.name={}", config.node_name));
    let node = reflect(client.clone(), node, Vec::new(), shutdown.clone());
    let events =
        EventRecorder::new(client.clone(), "kubelet", Some(&config.node_name), shutdown.clone());
    Arc::new(Context {
        observer: Observer::new(Arc::clone(&deps.runtime)),
        events,
        config_maps: Watched::new(client.clone(), shutdown.clone(), Arc::clone(&on_change)),
        secrets: Watched::new(client.clone(), shutdown.clone(), on_change),
        tokens: Tokens::default(),
        machine: Machine::look(&config.data_dir),
        node,
        config,
        deps,
        shutdown,
    })
}

/// A process-wide start time, for answers that need one.
pub(crate) fn started_at() -> jiff::Timestamp {
    static STARTED: OnceLock<jiff::Timestamp> = OnceLock::new();
    *STARTED.get_or_init(jiff::Timestamp::now)
}
