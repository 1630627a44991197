//! Keeps the index in step with the API, and serves.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::Name;
use informer::{Change, Index, Object as _, Source, View, reflect};
use k8s_openapi::api::core::v1::Service as ServiceObject;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use objects::ObjectKey;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::answer::Zone;
use crate::dump::dump;
use crate::forward::Forwarder;
use crate::query::Service;
use crate::records::{Records, record};
use crate::server::{Answerer, Sockets};
use crate::{Config, DnsError};

/// How long questions wait for the first look at the API: resolvers ask again after 5 s, and an
/// agent that cannot reach the API shall still pass on questions about other names.
const SYNC_WAIT: Duration = Duration::from_secs(2);
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What DNS is answered from; shared with the process's other components. `slices` needs the index
/// that [`Views::by_service`] makes.
#[derive(Debug, Clone)]
pub struct Views {
    /// All Services.
    pub services: View<ServiceObject>,
    /// All EndpointSlices.
    pub slices: View<EndpointSlice>,
}

impl Views {
    /// The name of the index of slices by Service, `NAMESPACE/NAME`.
    pub const BY_SERVICE: &'static str = "service";

    /// The index of slices by Service.
    pub const fn by_service() -> Index<EndpointSlice> {
        Index::new(Self::BY_SERVICE, |slice| {
            service_of(slice).map(|service| service.to_string()).into_iter().collect()
        })
    }

    async fn wait_synced(&self) {
        self.services.wait_synced().await;
        self.slices.wait_synced().await;
    }

    /// Views of their own over `client`.
    pub fn reflect(client: &Client, shutdown: &CancellationToken) -> Self {
        Self {
            services: reflect(
                client.clone(),
                Source::of::<ServiceObject>(),
                Vec::new(),
                shutdown.clone(),
            ),
            slices: reflect(
                client.clone(),
                Source::of::<EndpointSlice>(),
                vec![Self::by_service()],
                shutdown.clone(),
            ),
        }
    }
}

fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(ObjectKey::new(slice.metadata.namespace.as_deref()?, name))
}

/// The cluster's DNS on this node. Clones share it.
#[derive(Debug, Clone)]
pub struct Dns {
    config: Arc<Config>,
    answerer: Arc<Answerer>,
}

impl Dns {
    /// Readies the server; [`Dns::run`] listens.
    ///
    /// # Errors
    /// If a domain in `config` is none.
    pub fn new(config: Config) -> Result<Self, DnsError> {
        let zone = Zone {
            domain: domain(&config.domain)?,
            server_ips: config.addresses.iter().map(std::net::SocketAddr::ip).collect(),
        };
        let answerer = Answerer {
            zone,
            records: RwLock::new(Records::default()),
            forwarder: Forwarder::new(&config)?,
        };
        Ok(Self { config: Arc::new(config), answerer: Arc::new(answerer) })
    }

    /// The index as text, for `skeg debug dns`.
    pub fn dump(&self) -> String {
        dump(&self.answerer.records.read())
    }

    /// Listens and answers until `shutdown`. Names that exist are answered as soon as they have
    /// been seen; that a name does not exist is only said once everything has.
    ///
    /// # Errors
    /// If an address cannot be listened on.
    pub async fn run(&self, views: Views, shutdown: CancellationToken) -> Result<(), DnsError> {
        let sockets = Sockets::bind(&self.config).await?;
        info!(addresses = ?self.config.addresses, domain = self.config.domain, "serving DNS");
        let serving = async {
            // What is asked in the first moments can wait for the index to be complete.
            drop(tokio::time::timeout(SYNC_WAIT, views.wait_synced()).await);
            sockets.serve(Arc::clone(&self.answerer)).await;
        };
        tokio::select! {
            () = serving => {}
            () = self.follow(&views) => {}
            () = shutdown.cancelled() => debug!("stopped"),
        }
        Ok(())
    }

    async fn follow(&self, views: &Views) {
        let mut services = views.services.changes();
        let mut slices = views.slices.changes();
        let all_synced = views.wait_synced();
        tokio::pin!(all_synced);
        let mut synced = false;
        loop {
            tokio::select! {
                // Changes first: what had been seen when the views were synced is in the index
                // before absence is believed.
                biased;
                change = services.next() => match change {
                    Some(Change::Object { key, .. }) => self.set(views, &key),
                    Some(Change::Resync) => self.set_all(views),
                    None => return,
                },
                change = slices.next() => match change {
                    Some(Change::Object { old, new, .. }) => {
                        let touched = [old, new].into_iter().flatten();
                        for service in touched.filter_map(|slice| service_of(&slice)) {
                            self.set(views, &service);
                        }
                    }
                    Some(Change::Resync) => self.set_all(views),
                    None => return,
                },
                () = &mut all_synced, if !synced => {
                    synced = true;
                    self.answerer.records.write().synced = true;
                }
            }
        }
    }

    fn set(&self, views: &Views, key: &ObjectKey) {
        let service = views.services.get(key);
        let slices = views.slices.by_index(Views::BY_SERVICE, &key.to_string());
        let slices: Vec<&EndpointSlice> = slices.iter().map(|slice| &**slice).collect();
        let record = service.and_then(|service| record(&service, &slices));
        let name = Service { namespace: key.namespace.clone(), name: key.name.clone() };
        self.answerer.records.write().set_service(&name, record);
    }

    fn set_all(&self, views: &Views) {
        let gone: Vec<ObjectKey> = {
            let records = self.answerer.records.read();
            let known = records.all();
            let keys =
                known.iter().map(|(service, _)| ObjectKey::new(&service.namespace, &service.name));
            keys.filter(|key| views.services.get(key).is_none()).collect()
        };
        let there = views.services.list().into_iter().map(|service| service.key());
        for key in gone.into_iter().chain(there) {
            self.set(views, &key);
        }
    }
}

/// Reads a domain of the configuration, with or without the final dot.
pub(crate) fn domain(text: &str) -> Result<Name, DnsError> {
    let mut name = Name::from_ascii(text)
        .map_err(|source| DnsError::Domain { domain: text.to_owned(), source: Box::new(source) })?;
    name.set_fqdn(true);
    Ok(name)
}

#[cfg(test)]
mod tests;
