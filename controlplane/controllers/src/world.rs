//! The controllers' view of the world: one view per kind, shared by all of them.
//!
//! A kind enters here as one line of the [`world!`] table; the enum of changes, the merged stream
//! of changes and the look-up by resource follow from it.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use informer::{
    Change, Index, OWNER_UID, Object, Progress, ResourcePath, Source, View, ViewWriter, Written,
    by_owner_uid, reflect,
};
use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    ReplicationController, ResourceQuota, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Client;
use objects::ObjectKey;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::everything::{self, AnyChange, Everything};

/// Name of the index of objects without a controller, by namespace.
pub const ORPHANS: &str = "orphans";
/// Name of the index of pods by node.
pub const NODE: &str = "node";
/// Name of the index of endpoint slices by `namespace/service`.
pub const SERVICE: &str = "service";

/// Name of the config map that holds the cluster's root certificates, in each namespace.
pub const ROOT_CA: &str = "kube-root-ca.crt";
/// Namespace of the nodes' leases.
pub const NODE_LEASES: &str = "kube-node-lease";

/// The version before and after a change; at least one is there.
#[derive(Debug, Clone)]
pub struct Versions<K> {
    /// Before; `None` if the object came into being (or at a resync).
    pub old: Option<Arc<K>>,
    /// After; `None` if the object went away.
    pub new: Option<Arc<K>>,
}

impl<K: Object> Versions<K> {
    /// The newest version there is.
    pub fn current(&self) -> &K {
        self.new.as_deref().or(self.old.as_deref()).expect("a change has a version")
    }

    /// Both versions, for keys that either of them concerns.
    pub fn both(&self) -> impl Iterator<Item = &K> {
        self.old.iter().chain(&self.new).map(|object| &**object)
    }

    /// The object's key.
    pub fn key(&self) -> ObjectKey {
        self.current().key()
    }
}

/// What the loop asks of a view without knowing its type.
pub trait Watched: Send + Sync {
    /// How far it has come.
    fn progress(&self) -> watch::Receiver<Progress>;
    /// Whether it shows what a write led to.
    fn has_seen(&self, written: &Written) -> bool;
}

impl<K: Object> Watched for View<K> {
    fn progress(&self) -> watch::Receiver<Progress> {
        Self::progress(self)
    }

    fn has_seen(&self, written: &Written) -> bool {
        if let Some(revision) = written.revision {
            return self.revision() >= revision;
        }
        // The answer to a delete need not hold a revision: then the object has to be going.
        let Some(uid) = &written.deleted_uid else { return true };
        self.get(&written.key).is_none_or(|known| known.uid() != uid || known.is_terminating())
    }
}

fn orphans<K: Object>() -> Index<K> {
    Index::new(ORPHANS, |object| {
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        if object.controller().is_none() { vec![namespace] } else { Vec::new() }
    })
}

fn by_node() -> Index<Pod> {
    Index::new(NODE, |pod| pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect())
}

fn by_service() -> Index<EndpointSlice> {
    Index::new(SERVICE, |slice| {
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
        let namespace = slice.metadata.namespace.as_deref().unwrap_or("");
        service.map(|service| format!("{namespace}/{service}")).into_iter().collect()
    })
}

fn changes<K: Object>(
    view: &View<K>,
    change: fn(Versions<K>) -> Changed,
) -> BoxStream<'static, Announced> {
    stream::unfold(view.changes(), move |mut changes| async move {
        let next = changes.next().await?;
        let announced = match next {
            Change::Resync => Announced::Resync,
            Change::Object { old, new, .. } => Announced::Changed(change(Versions { old, new })),
        };
        Some((announced, changes))
    })
    .boxed()
}

fn changes_of_everything(everything: &Everything) -> BoxStream<'static, Announced> {
    everything
        .changes()
        .map(|announcement| match announcement {
            everything::Announcement::Changed(change) => Announced::Changed(Changed::Any(change)),
            everything::Announcement::Resync => Announced::Resync,
        })
        .boxed()
}

/// One item of the merged stream of changes.
#[derive(Debug)]
pub enum Announced {
    /// One object changed.
    Changed(Changed),
    /// Look at everything again.
    Resync,
}

macro_rules! world {
    ($($(#[$doc:meta])* $field:ident: $kind:ident, $source:expr, $indexes:expr;)+) => {
        /// The views.
        #[derive(Debug, Clone)]
        pub struct World {
            $($(#[$doc])* pub $field: View<$kind>,)+
            /// Metadata of every object there is.
            pub everything: Everything,
        }

        /// A change of an object of one of the kinds.
        #[derive(Debug, Clone)]
        pub enum Changed {
            $($(#[$doc])* $kind(Versions<$kind>),)+
            /// Metadata of any object. A change of one of the kinds above is announced here too.
            Any(AnyChange),
        }

        /// Writers of a [`World`] that no server feeds.
        #[derive(Debug)]
        pub struct Writers {
            $($(#[$doc])* pub $field: ViewWriter<$kind>,)+
        }

        impl World {
            /// Starts all views. They sync in the background.
            pub fn reflect(client: &Client, shutdown: &CancellationToken) -> Self {
                Self {
                    $($field: reflect(client.clone(), $source, $indexes, shutdown.clone()),)+
                    everything: Everything::reflect(client, shutdown),
                }
            }

            /// Empty views and their writers: for tests of plans.
            pub fn unfed() -> (Self, Writers) {
                $(let $field = View::new($indexes);)+
                let everything = Everything::unfed();
                (Self { $($field: $field.0,)+ everything }, Writers { $($field: $field.1,)+ })
            }

            /// Waits until every view but those of everything is synced: who needs those asks them.
            pub async fn wait_synced(&self) {
                $(self.$field.wait_synced().await;)+
            }

            /// The views that show objects of a resource.
            pub fn watched(&self, resource: &ResourcePath) -> Vec<Box<dyn Watched>> {
                let mut views: Vec<Box<dyn Watched>> = Vec::new();
                $(if *resource == ResourcePath::of::<$kind>() {
                    views.push(Box::new(self.$field.clone()));
                })+
                if let Some(view) = self.everything.view(resource) {
                    views.push(Box::new(view));
                }
                views
            }

            /// Changes of all views from now on.
            pub fn changes(&self) -> stream::SelectAll<BoxStream<'static, Announced>> {
                let mut all = stream::select_all([$(changes(&self.$field, Changed::$kind),)+]);
                all.push(changes_of_everything(&self.everything));
                all
            }

            /// Calls `tell` for every object there is, as if it had just come into being.
            pub fn announce_all(&self, mut tell: impl FnMut(Changed)) {
                $(for object in self.$field.list() {
                    tell(Changed::$kind(Versions { old: None, new: Some(object) }));
                })+
                for (resource, object) in self.everything.all() {
                    let versions = Versions { old: None, new: Some(object) };
                    tell(Changed::Any(AnyChange { resource, versions }));
                }
            }
        }
    };
}

world! {
    /// Pods, by owner uid, orphans by namespace, and by node.
    pods: Pod, Source::of::<Pod>(), vec![by_owner_uid(), orphans(), by_node()];
    /// ReplicaSets, by owner uid, orphans by namespace.
    replica_sets: ReplicaSet, Source::of::<ReplicaSet>(), vec![by_owner_uid(), orphans()];
    /// Deployments.
    deployments: Deployment, Source::of::<Deployment>(), vec![];
    /// ReplicationControllers.
    replication_controllers: ReplicationController, Source::of::<ReplicationController>(), vec![];
    /// DaemonSets.
    daemon_sets: DaemonSet, Source::of::<DaemonSet>(), vec![];
    /// StatefulSets.
    stateful_sets: StatefulSet, Source::of::<StatefulSet>(), vec![];
    /// ControllerRevisions, by owner uid, orphans by namespace.
    controller_revisions: ControllerRevision, Source::of::<ControllerRevision>(),
        vec![by_owner_uid(), orphans()];
    /// Jobs, by owner uid.
    jobs: Job, Source::of::<Job>(), vec![by_owner_uid()];
    /// CronJobs.
    cron_jobs: CronJob, Source::of::<CronJob>(), vec![];
    /// Services.
    services: Service, Source::of::<Service>(), vec![];
    /// Endpoints.
    endpoints: Endpoints, Source::of::<Endpoints>(), vec![];
    /// EndpointSlices, by service.
    endpoint_slices: EndpointSlice, Source::of::<EndpointSlice>(), vec![by_service()];
    /// Nodes.
    nodes: Node, Source::of::<Node>(), vec![];
    /// The nodes' leases only.
    leases: Lease, Source::of::<Lease>().namespace(NODE_LEASES), vec![];
    /// Namespaces.
    namespaces: Namespace, Source::of::<Namespace>(), vec![];
    /// ServiceAccounts.
    service_accounts: ServiceAccount, Source::of::<ServiceAccount>(), vec![];
    /// The config maps with the root certificates only.
    root_ca_maps: ConfigMap,
        Source::of::<ConfigMap>().fields(&format!("metadata.name={ROOT_CA}")), vec![];
    /// CertificateSigningRequests.
    certificate_requests: CertificateSigningRequest,
        Source::of::<CertificateSigningRequest>(), vec![];
    /// PersistentVolumes.
    volumes: PersistentVolume, Source::of::<PersistentVolume>(), vec![];
    /// PersistentVolumeClaims, by owner uid.
    claims: PersistentVolumeClaim, Source::of::<PersistentVolumeClaim>(), vec![by_owner_uid()];
    /// PodDisruptionBudgets.
    disruption_budgets: PodDisruptionBudget, Source::of::<PodDisruptionBudget>(), vec![];
    /// ResourceQuotas.
    quotas: ResourceQuota, Source::of::<ResourceQuota>(), vec![];
    /// ClusterRoles.
    cluster_roles: ClusterRole, Source::of::<ClusterRole>(), vec![];
}

/// The objects that an owner controls or could adopt: those with it among their owners, and those
/// of its namespace that nobody controls.
pub fn owned_or_orphaned<K: Object>(view: &View<K>, namespace: &str, uid: &str) -> Vec<Arc<K>> {
    let mut found = view.by_index(OWNER_UID, uid);
    let owned_too = |object: &Arc<K>| {
        let owners = object.meta().owner_references.as_deref().unwrap_or(&[]);
        owners.iter().any(|owner| owner.uid == uid)
    };
    found.extend(view.by_index(ORPHANS, namespace).into_iter().filter(|o| !owned_too(o)));
    found
}
