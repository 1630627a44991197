//! Ingresses, network policies, and the cluster's own addresses.
//!
//! Source of behaviour: kubernetes `pkg/apis/networking` and `pkg/registry/networking`, v1.36.

mod address;
mod ingress;
mod ingressclass;
mod policy;

pub(crate) use address::{IPAddress, ServiceCIDR};
pub(crate) use ingress::Ingress;
pub(crate) use ingressclass::IngressClass;
pub(crate) use policy::NetworkPolicy;
