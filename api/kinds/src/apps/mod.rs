//! Workloads: kinds that keep pods running.
//!
//! Source of behaviour: kubernetes `pkg/apis/apps` and `pkg/registry/apps`, v1.36.

mod controllerrevision;
mod daemonset;
mod deployment;
mod replicaset;
mod replicationcontroller;
mod statefulset;
mod workload;

pub(crate) use controllerrevision::ControllerRevision;
pub(crate) use daemonset::DaemonSet;
pub(crate) use deployment::Deployment;
pub(crate) use replicaset::ReplicaSet;
pub(crate) use replicationcontroller::ReplicationController;
pub(crate) use statefulset::StatefulSet;
pub(crate) use workload::{check_matching_template, name_warning};
