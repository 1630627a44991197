//! Makes, connects, disconnects and removes sandboxes.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

use super::{Failure, blocking, whole};
use crate::config::HostPort;
use crate::context::Context;
use crate::pod::PodExt;
use crate::spec;
use crate::spec::security::is_sysctl_allowed;
use crate::volumes::unmount::remove_tree;

fn failed(error: &dyn std::error::Error) -> Failure {
    let message = format!("Failed to create pod sandbox: {}", whole(error));
    Failure { reason: "FailedCreatePodSandBox", message }
}

/// Makes the sandbox and connects it; returns its addresses.
pub(crate) async fn create(context: &Context, pod: &Pod) -> Result<Vec<IpAddr>, Failure> {
    let wanted = spec::sandbox(pod, &context.config, &context.machine.hostname);
    let netns = context.deps.runtime.create_sandbox(&wanted).await.map_err(|e| failed(&e))?;
    let addresses = match netns {
        Some(netns) if !wanted.host_network => {
            let network = &context.deps.network;
            network.attach(pod.uid(), &netns).await.map_err(|e| failed(&e))?
        }
        _ => Vec::new(),
    };
    let own = if wanted.host_network { Vec::new() } else { host_ports(pod, &addresses) };
    context.config.host_ports.set(pod.uid(), own);
    Ok(addresses)
}

/// The host ports of a pod. PURE.
fn host_ports(pod: &Pod, addresses: &[IpAddr]) -> Vec<HostPort> {
    let mut ports = Vec::new();
    for listed in pod.listed() {
        for port in listed.spec.ports.iter().flatten() {
            let numbers = (
                port.host_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
                u16::try_from(port.container_port).ok(),
            );
            let (Some(host_port), Some(container_port)) = numbers else { continue };
            let host_ip: Option<IpAddr> = port.host_ip.as_deref().and_then(|ip| ip.parse().ok());
            ports.push(HostPort {
                host_ip: host_ip.filter(|ip| !ip.is_unspecified()),
                host_port,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                pod_ips: addresses.to_vec(),
                container_port,
            });
        }
    }
    ports
}

/// The first sysctl that the pod may not set. PURE.
pub(crate) fn forbidden_sysctl(pod: &Pod, allowed: &[String]) -> Option<String> {
    let security = pod.security();
    let mut names = security.sysctls.iter().flatten().map(|sysctl| &sysctl.name);
    names.find(|name| !is_sysctl_allowed(name, allowed)).cloned()
}

/// Gives back addresses and host ports.
pub(crate) async fn release(context: &Context, pod_uid: &str) -> Result<(), String> {
    context.config.host_ports.set(pod_uid, Vec::new());
    context.deps.network.detach(pod_uid).await.map_err(|error| whole(&error))
}

/// Removes everything of a pod: sandbox, roots of containers, volumes, files.
pub(crate) async fn remove_all(
    context: &Context,
    pod_uid: &str,
    container_ids: &[String],
) -> Result<(), String> {
    context.deps.runtime.remove_sandbox(pod_uid).await.map_err(|error| whole(&error))?;
    for id in container_ids {
        context.deps.images.unmount(id).await.map_err(|error| whole(&error))?;
    }
    context.tokens.forget(pod_uid);
    let folder = context.pod_dir(pod_uid);
    blocking(move || remove_tree(&folder)).await.map_err(|error| format!("remove files: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_ports_of_the_node_are_served() {
        let pod: Pod =
            serde_json::from_value(json!({"spec": {"containers": [{"name": "a", "ports": [
                {"containerPort": 80},
                {"containerPort": 81, "hostPort": 8081, "hostIP": "0.0.0.0"},
                {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"},
            ]}]}}))
            .unwrap();
        let ports = host_ports(&pod, &["10.1.0.2".parse().unwrap()]);
        assert_eq!(ports.len(), 2);
        assert_eq!((ports[0].host_port, ports[0].host_ip), (8081, None));
        assert_eq!(ports[1].protocol, "UDP");
        assert!(ports[1].host_ip.is_some());
    }
}
