//! The metadata of every object there is, of built-in and custom kinds alike.
//!
//! Discovery says what is served; each resource that can be listed, watched and deleted gets a
//! metadata-only view. When custom resources come or go, discovery is asked again. The garbage
//! collector and namespace deletion plan from these.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use informer::{
    Announcer, Backoff, Change, Heard, Index, OWNER_UID, Object, Partial, ResourcePath,
    ServedResource, Source, View, by_owner_uid, discover, reflect_metadata,
};
use kube::Client;
use objects::ObjectKey;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use crate::world::Versions;

/// Index of objects by their own uid.
const UID: &str = "uid";
/// Changes that a reader may lag behind before it is told to look at everything again.
const CHANGES_MAX: usize = 16_384;
/// Discovery is asked again this long after custom resources changed: they come in bunches, and
/// the server needs a moment to serve a new one.
const SETTLE: Duration = Duration::from_millis(100);
/// And again after this time whatever happens, for what changes without a sign.
const REFRESH: Duration = Duration::from_secs(300);

/// Resources that are never looked at: Events come in masses, own nothing and expire by
/// themselves.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];

/// A change of an object of some resource.
#[derive(Debug, Clone)]
pub struct AnyChange {
    /// The resource.
    pub resource: Arc<ServedResource>,
    /// Before and after.
    pub versions: Versions<Partial>,
}

/// One announcement.
#[derive(Debug, Clone)]
pub(crate) enum Announcement {
    Changed(AnyChange),
    Resync,
}

#[derive(Debug, Clone)]
struct Known {
    resource: Arc<ServedResource>,
    view: View<Partial>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    known: RwLock<BTreeMap<ResourcePath, Known>>,
    /// Every resource that has objects which can be deleted, watched or not.
    served: RwLock<Vec<Arc<ServedResource>>>,
    changes: Arc<Announcer<Announcement>>,
}

/// The views; clones share them.
#[derive(Debug, Clone)]
pub struct Everything {
    shared: Arc<Shared>,
}

/// An object with its resource.
pub type Found = (Arc<ServedResource>, Arc<Partial>);

impl Everything {
    /// Views that nothing feeds: for tests.
    pub fn unfed() -> Self {
        let shared = Shared {
            known: RwLock::default(),
            served: RwLock::default(),
            changes: Arc::new(Announcer::new(CHANGES_MAX)),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Starts the views. Resources appear as discovery finds them.
    pub fn reflect(client: &Client, shutdown: &CancellationToken) -> Self {
        let everything = Self::unfed();
        let follow = follow(everything.clone(), client.clone(), shutdown.clone());
        let stop = shutdown.clone();
        let task = async move {
            tokio::select! {
                () = follow => {}
                () = stop.cancelled() => {}
            }
        };
        tokio::spawn(task.instrument(info_span!("everything")));
        everything
    }

    /// Puts a view in by hand: for tests.
    pub fn put(&self, resource: ServedResource, view: View<Partial>) {
        let resource = Arc::new(resource);
        let stop = CancellationToken::new();
        self.shared.served.write().push(Arc::clone(&resource));
        let known = Known { resource: Arc::clone(&resource), view, stop };
        self.shared.known.write().insert(resource.path.clone(), known);
    }

    /// Whether discovery has been asked and every view is synced.
    pub fn synced(&self) -> bool {
        let known = self.shared.known.read();
        !known.is_empty() && known.values().all(|known| known.view.synced())
    }

    /// The view of a resource.
    pub fn view(&self, path: &ResourcePath) -> Option<View<Partial>> {
        self.shared.known.read().get(path).map(|known| known.view.clone())
    }

    /// The resource that serves a kind, in whichever version its view watches.
    pub fn resource_of(&self, group: &str, kind: &str) -> Option<Arc<ServedResource>> {
        let known = self.shared.known.read();
        let fits =
            |known: &&Known| known.resource.path.group == group && known.resource.kind == kind;
        known.values().find(fits).map(|known| Arc::clone(&known.resource))
    }

    /// Every served resource whose objects live in namespaces and can be deleted, watched or not.
    pub fn namespaced(&self) -> Vec<Arc<ServedResource>> {
        let served = self.shared.served.read();
        served.iter().filter(|resource| resource.namespaced).cloned().collect()
    }

    /// The object with this uid.
    pub fn find(&self, uid: &str) -> Option<Found> {
        self.collect(|view| view.by_index(UID, uid)).pop()
    }

    /// The objects that name an owner with this uid.
    pub fn dependents(&self, uid: &str) -> Vec<Found> {
        self.collect(|view| view.by_index(OWNER_UID, uid))
    }

    /// The objects of a namespace.
    pub fn contents(&self, namespace: &str) -> Vec<Found> {
        self.collect(|view| view.list_in(namespace))
    }

    /// Every object.
    pub(crate) fn all(&self) -> Vec<Found> {
        self.collect(View::list)
    }

    fn collect(&self, pick: impl Fn(&View<Partial>) -> Vec<Arc<Partial>>) -> Vec<Found> {
        let known = self.shared.known.read();
        let of = |known: &Known| {
            let resource = Arc::clone(&known.resource);
            let picked = pick(&known.view);
            picked.into_iter().map(move |object| (Arc::clone(&resource), object))
        };
        known.values().flat_map(of).collect()
    }

    /// Changes from now on.
    pub(crate) fn changes(&self) -> BoxStream<'static, Announcement> {
        let announcements = self.shared.changes.subscribe();
        stream::unfold(announcements, |mut announcements| async move {
            let announcement = match announcements.next().await? {
                Heard::Item(announcement) => announcement,
                Heard::Missed => Announcement::Resync,
            };
            Some((announcement, announcements))
        })
        .boxed()
    }

    /// Starts views of what is new and ends those of what is no longer served.
    fn apply(&self, client: &Client, found: Vec<ServedResource>, shutdown: &CancellationToken) {
        let deletable = found.into_iter().filter(|resource| resource.can(&["list", "delete"]));
        let served: Vec<_> = deletable.map(Arc::new).collect();
        let mut known = self.shared.known.write();
        known.retain(|path, old| {
            let stays = served.iter().any(|resource| resource.path == *path);
            if !stays {
                debug!(%path, "no longer served");
                old.stop.cancel();
            }
            stays
        });
        for resource in &served {
            let name = (&*resource.path.group, &*resource.path.plural);
            let is_wanted = resource.can(&["watch"]) && !IGNORED.contains(&name);
            if !is_wanted || known.contains_key(&resource.path) {
                continue;
            }
            let stop = shutdown.child_token();
            let uid = Index::new(UID, |object: &Partial| vec![object.uid().to_string()]);
            let source = Source::all(resource.path.clone());
            let indexes = vec![by_owner_uid(), uid];
            let view = reflect_metadata(client.clone(), source, indexes, stop.clone());
            self.forward(Arc::clone(resource), &view, stop.clone());
            let entry = Known { resource: Arc::clone(resource), view, stop };
            known.insert(resource.path.clone(), entry);
        }
        drop(known);
        *self.shared.served.write() = served;
    }

    /// Passes a view's changes on.
    fn forward(
        &self,
        resource: Arc<ServedResource>,
        view: &View<Partial>,
        stop: CancellationToken,
    ) {
        let (mut changes, announcer) = (view.changes(), Arc::clone(&self.shared.changes));
        let pass_on = async move {
            // The first item asks for a look at a view that is still empty: its first list comes
            // as changes.
            changes.next().await;
            while let Some(change) = changes.next().await {
                let announcement = match change {
                    Change::Resync => Announcement::Resync,
                    Change::Object { old, new, .. } => {
                        let (resource, versions) = (Arc::clone(&resource), Versions { old, new });
                        Announcement::Changed(AnyChange { resource, versions })
                    }
                };
                announcer.announce(&announcement);
            }
        };
        let task = async move {
            tokio::select! {
                () = pass_on => {}
                () = stop.cancelled() => {}
            }
        };
        tokio::spawn(task.in_current_span());
    }
}

/// Asks discovery at the start, and whenever what defines custom resources changes.
async fn follow(everything: Everything, client: Client, shutdown: CancellationToken) {
    let definitions = ResourcePath::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let source = Source::all(definitions);
    let view = reflect_metadata(client.clone(), source, Vec::new(), shutdown.clone());
    let mut changes = view.changes();
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
    loop {
        let next_look = match discover(&client).await {
            Ok(found) => {
                let is_whole = found.failed.is_empty();
                everything.apply(&client, found.resources, &shutdown);
                if is_whole {
                    backoff.reset();
                    REFRESH
                } else {
                    backoff.next_wait()
                }
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "no discovery");
                backoff.next_wait()
            }
        };
        tokio::select! {
            changed = changes.next() => {
                if changed.is_none() {
                    return;
                }
                tokio::time::sleep(SETTLE).await;
                while futures::FutureExt::now_or_never(changes.next()).flatten().is_some() {}
            }
            () = tokio::time::sleep(next_look) => {}
        }
    }
}

/// The reference by which actions name an object.
pub(crate) fn action(
    resource: &ServedResource,
    key: ObjectKey,
    verb: informer::Verb,
) -> informer::Action {
    informer::Action { resource: resource.path.clone(), key, verb }
}
