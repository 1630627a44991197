//! From a pod to what the runtime is given: sandbox and container specs. PURE.

pub(crate) mod env;
pub(crate) mod expand;
pub(crate) mod fields;
pub(crate) mod files;
pub(crate) mod resources;
pub(crate) mod security;
pub(crate) mod users;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use images::{Image, ImageConfig};
use k8s_openapi::api::core::v1::{Container, Pod};
use runtime::{ContainerSpec, Mount, SandboxSpec};

use crate::config::Config;
use crate::plan::IMAGE_WANTED;
use crate::pod::{Listed, PodExt};
use crate::restart::BACKOFF;
use env::Environment;

/// Annotation of a container: the image's name as the status shows it.
pub(crate) const IMAGE: &str = "skeg.dev/image";
/// Annotation of a container: the image's digest as the status shows it.
pub(crate) const IMAGE_ID: &str = "skeg.dev/image-id";
/// Annotation of a container: the signal that its image wants to be stopped by.
pub(crate) const STOP_SIGNAL: &str = "skeg.dev/stop-signal";
/// Annotation of a container: where its termination message is written on the node.
pub(crate) const MESSAGE_FILE: &str = "skeg.dev/message-file";

/// The sandbox of a pod.
pub(crate) fn sandbox(pod: &Pod, config: &Config, node_hostname: &str) -> SandboxSpec {
    let spec = PodExt::spec(pod);
    let security = pod.security();
    let sysctls = security.sysctls.iter().flatten();
    SandboxSpec {
        pod_uid: pod.uid().to_owned(),
        pod_namespace: pod.namespace().to_owned(),
        pod_name: pod.name().to_owned(),
        hostname: files::uts_hostname(pod, node_hostname, &config.cluster_domain),
        host_network: pod.is_host_network(),
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        share_process_namespace: spec.share_process_namespace == Some(true),
        sysctls: sysctls
            .map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value.clone()))
            .collect(),
        cgroup: resources::pod_cgroup(pod),
        resources: resources::pod_resources(pod, config.pod_pids_max),
    }
}

/// The command line: `command` and `args` of the container stand for the image's entry point and
/// command; a `command` also puts the image's command aside.
pub(crate) fn arguments(
    container: &Container,
    image: &ImageConfig,
    env: &Environment,
) -> Vec<String> {
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        let list = list.iter().flatten();
        list.map(|text| expand::expand(text, |name| env.get(name))).collect()
    };
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    let mut line = if command.is_empty() { image.entrypoint.clone() } else { command };
    let has_own_command = container.command.as_ref().is_some_and(|command| !command.is_empty());
    if !args.is_empty() {
        line.extend(args);
    } else if !has_own_command {
        line.extend(image.cmd.iter().cloned());
    }
    line
}

/// The image's variables, overridden by the container's.
pub(crate) fn merged_env(image: &ImageConfig, env: &Environment) -> Vec<String> {
    let mut merged: Vec<String> = Vec::new();
    for pair in &image.env {
        let name = pair.split('=').next().unwrap_or("");
        if env.get(name).is_none() {
            merged.push(pair.clone());
        }
    }
    merged.extend(env.variables.iter().map(|(name, value)| format!("{name}={value}")));
    merged
}

/// What only the node knows of a container that is about to start.
pub(crate) struct Facts<'a> {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) backoff_secs: i64,
    pub(crate) image: &'a Image,
    pub(crate) rootfs: PathBuf,
    pub(crate) env: &'a Environment,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: Option<String>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) message_file: PathBuf,
    pub(crate) log_path: PathBuf,
    pub(crate) memory_capacity_bytes: i64,
}

/// A container.
pub(crate) fn container(
    pod: &Pod,
    listed: &Listed<'_>,
    config: &Config,
    facts: Facts<'_>,
) -> ContainerSpec {
    let container = &listed.spec;
    let image = &facts.image.config;
    let own = container.security_context.as_ref();
    let security = pod.security();
    let cwd = container.working_dir.as_deref().filter(|path| !path.is_empty());
    let privileged = own.and_then(|own| own.privileged) == Some(true);
    let mut env = merged_env(image, facts.env);
    if let Some(home) = &facts.home
        && !env.iter().any(|pair| pair.starts_with("HOME="))
    {
        env.push(format!("HOME={home}"));
    }
    ContainerSpec {
        cgroup: format!("{}/{}", resources::pod_cgroup(pod), facts.id),
        annotations: annotations(pod, listed, &facts),
        id: facts.id,
        pod_uid: pod.uid().to_owned(),
        name: container.name.clone(),
        attempt: facts.attempt,
        rootfs: facts.rootfs,
        args: arguments(container, image, facts.env),
        env,
        cwd: PathBuf::from(cwd.unwrap_or(if image.working_dir.is_empty() {
            "/"
        } else {
            &image.working_dir
        })),
        uid: facts.uid,
        gid: facts.gid,
        additional_gids: facts.groups,
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        privileged,
        capabilities: security::capabilities(own),
        read_only_rootfs: own.and_then(|own| own.read_only_root_filesystem) == Some(true),
        no_new_privileges: security::no_new_privileges(own),
        unmasked_proc: privileged
            || own.and_then(|own| own.proc_mount.as_deref()) == Some("Unmasked"),
        seccomp: security::seccomp(&security, own, &config.seccomp_dir),
        mounts: facts.mounts,
        devices: Vec::new(),
        oom_score_adj: resources::oom_score_adj(pod, listed, facts.memory_capacity_bytes),
        resources: resources::container_resources(container),
        log_path: facts.log_path,
        log_max_bytes: config.log_max_bytes,
        log_max_files: config.log_max_files,
    }
}

fn annotations(pod: &Pod, listed: &Listed<'_>, facts: &Facts<'_>) -> BTreeMap<String, String> {
    let image = facts.image;
    let mut annotations = BTreeMap::from([
        (IMAGE_WANTED.to_owned(), listed.image().to_owned()),
        (
            IMAGE.to_owned(),
            image.tags.first().cloned().unwrap_or_else(|| listed.image().to_owned()),
        ),
        (IMAGE_ID.to_owned(), image.digests.first().cloned().unwrap_or_else(|| image.id.clone())),
        (BACKOFF.to_owned(), facts.backoff_secs.to_string()),
        (MESSAGE_FILE.to_owned(), facts.message_file.to_string_lossy().into_owned()),
        ("io.kubernetes.pod.namespace".to_owned(), pod.namespace().to_owned()),
        ("io.kubernetes.pod.name".to_owned(), pod.name().to_owned()),
    ]);
    let own = listed.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone());
    let signal = own.unwrap_or_else(|| image.config.stop_signal.clone());
    if !signal.is_empty() {
        annotations.insert(STOP_SIGNAL.to_owned(), signal);
    }
    annotations
}

/// Where a container's log goes, as `/var/log/pods` has it: `NAME/ATTEMPT.log`.
pub(crate) fn log_path(pod_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_dir.join("logs").join(container).join(format!("{attempt}.log"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn commands_and_arguments_replace_the_images() {
        let image = ImageConfig {
            entrypoint: vec!["entry".into()],
            cmd: vec!["cmd".into()],
            env: vec!["PATH=/bin".into(), "A=image".into()],
            ..ImageConfig::default()
        };
        let env = Environment { variables: vec![("A".into(), "a".into())], skipped: Vec::new() };
        for (spec, wanted) in [
            (json!({}), vec!["entry", "cmd"]),
            (json!({"args": ["x"]}), vec!["entry", "x"]),
            (json!({"command": ["c"]}), vec!["c"]),
            (
                json!({"command": ["c"], "args": ["$(A)", "$$(A)", "$(B)"]}),
                vec!["c", "a", "$(A)", "$(B)"],
            ),
        ] {
            let mut spec = spec;
            spec["name"] = json!("c");
            let container: Container = serde_json::from_value(spec).unwrap();
            assert_eq!(arguments(&container, &image, &env), wanted);
        }
        assert_eq!(merged_env(&image, &env), ["PATH=/bin", "A=a"]);
    }
}
