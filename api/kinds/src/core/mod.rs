//! Kinds of the core group other than pods, services and workloads.
//!
//! Source of behaviour: kubernetes `pkg/apis/core` and `pkg/registry/core`, v1.36.

mod configmap;
mod endpoints;
mod event;
mod limitrange;
mod namespace;
mod node;
mod persistentvolume;
mod persistentvolumeclaim;
mod podtemplate;
mod resourcequota;
mod secret;
mod serviceaccount;

pub(crate) use configmap::ConfigMap;
pub(crate) use endpoints::Endpoints;
pub(crate) use event::{Event, to_core as event_to_core, to_events as event_to_events};
pub(crate) use limitrange::LimitRange;
pub(crate) use namespace::Namespace;
pub(crate) use node::Node;
pub(crate) use persistentvolume::{PersistentVolume, check_spec as check_volume_spec};
pub(crate) use persistentvolumeclaim::PersistentVolumeClaim;
pub(crate) use podtemplate::PodTemplate;
pub(crate) use resourcequota::ResourceQuota;
pub(crate) use secret::Secret;
pub(crate) use serviceaccount::ServiceAccount;
