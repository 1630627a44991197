//! Starts a container: environment, root, mounts, files, then the runtime.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use images::Image;
use informer::EventType;
use k8s_openapi::api::core::v1::Pod;
use runtime::{Mount, RuntimeError};

use super::{Failure, blocking, whole};
use crate::context::{Context, NamespaceSources};
use crate::pod::{Listed, PodExt};
use crate::record::replace_file;
use crate::references::references;
use crate::spec::env::{Environment, environment};
use crate::spec::{self, Facts, files, users};
use crate::volumes;

/// What is started, and with what.
pub(crate) struct Start {
    pub(crate) container: String,
    pub(crate) attempt: u32,
    pub(crate) backoff_secs: i64,
    pub(crate) image: Image,
    /// Places of the pod's volumes.
    pub(crate) places: BTreeMap<String, PathBuf>,
    pub(crate) addresses: Vec<IpAddr>,
}

fn config_error(message: impl ToString) -> Failure {
    Failure { reason: "CreateContainerConfigError", message: message.to_string() }
}

fn create_error(message: impl ToString) -> Failure {
    Failure { reason: "CreateContainerError", message: message.to_string() }
}

/// A fresh identity: 64 hex digits, as clients expect.
fn fresh_id() -> String {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Starts a container and returns its id.
pub(crate) async fn start(
    context: &Context,
    pod: &Arc<Pod>,
    start: Start,
) -> Result<String, Failure> {
    let listed = pod.find(&start.container);
    let listed = listed.ok_or_else(|| config_error("the container left the pod"))?;
    let outcome = make(context, pod, &listed, &start).await;
    if let Err(failure) = &outcome {
        let text = format!("Error: {}", failure.message);
        context.event(pod, Some(&listed), EventType::Warning, "Failed", text);
    }
    outcome
}

async fn make(
    context: &Context,
    pod: &Arc<Pod>,
    listed: &Listed<'_>,
    start: &Start,
) -> Result<String, Failure> {
    let env = container_env(context, pod, listed, &start.addresses).await?;
    let own = listed.spec.security_context.as_ref();
    let security = pod.security();
    let asked = users::asked(&security, own, &start.image.config.user).map_err(config_error)?;
    let id = fresh_id();
    let images = &context.deps.images;
    let snapshot = images.mount(&start.image.id, &id).await;
    let snapshot = snapshot.map_err(|error| create_error(whole(&error)))?;
    let rootfs = snapshot.rootfs.clone();
    let made = async {
        let user = blocking(move || images::user::resolve(&rootfs, &asked.user)).await;
        let user = user.map_err(|error| create_error(whole(&error)))?;
        let gid = asked.gid.unwrap_or(user.gid);
        let (mounts, message_file) = mounts(context, pod, listed, start, &id, &env).await?;
        let facts = Facts {
            id: id.clone(),
            attempt: start.attempt,
            backoff_secs: start.backoff_secs,
            image: &start.image,
            rootfs: snapshot.rootfs,
            env: &env,
            uid: user.uid,
            gid,
            groups: users::groups(&security, gid, &user.additional_gids),
            home: Some(user.home),
            mounts,
            message_file,
            log_path: spec::log_path(&context.pod_dir(pod.uid()), listed.name(), start.attempt),
            memory_capacity_bytes: context.machine.memory_bytes,
        };
        let spec = spec::container(pod, listed, &context.config, facts);
        if spec.args.is_empty() {
            return Err(create_error("no command specified"));
        }
        let text = format!("Created container: {}", listed.name());
        context.event(pod, Some(listed), EventType::Normal, "Created", text);
        context.deps.runtime.start_container(&spec).await.map_err(|error| match error {
            RuntimeError::Start { reason, .. } => {
                Failure { reason: "RunContainerError", message: reason }
            }
            other => create_error(whole(&other)),
        })
    };
    let outcome = made.await;
    if let Err(failure) = outcome {
        // A container that could not start stays, with its root, until it is removed.
        if failure.reason != "RunContainerError"
            && let Err(error) = images.unmount(&id).await
        {
            tracing::warn!(container = id, error = whole(&error), "root left behind");
        }
        return Err(failure);
    }
    let text = format!("Started container {}", listed.name());
    context.event(pod, Some(listed), EventType::Normal, "Started", text);
    Ok(id)
}

/// The environment, once all that it refers to has been looked at.
async fn container_env(
    context: &Context,
    pod: &Arc<Pod>,
    listed: &Listed<'_>,
    addresses: &[IpAddr],
) -> Result<Environment, Failure> {
    let needed = references(pod);
    for key in &needed.config_maps {
        context.config_maps.get(key).await.map_err(config_error)?;
    }
    for key in &needed.secrets {
        context.secrets.get(key).await.map_err(config_error)?;
    }
    let links = PodExt::spec(&**pod).enable_service_links.unwrap_or(true);
    let services = &context.deps.services;
    services.wait_synced().await;
    let mut services_seen = services.list_in("default");
    if links && pod.namespace() != "default" {
        services_seen.extend(services.list_in(pod.namespace()));
    }
    let sources = NamespaceSources { context, namespace: pod.namespace() };
    let shown = context.shown(pod, addresses);
    let env = environment(pod, &listed.spec, &services_seen, &sources, &shown);
    let env = env.map_err(config_error)?;
    for text in &env.skipped {
        let reason = "InvalidEnvironmentVariableNames";
        context.event(pod, Some(listed), EventType::Warning, reason, text);
    }
    Ok(env)
}

/// The mounts of a container, and the file for its last words.
async fn mounts(
    context: &Context,
    pod: &Arc<Pod>,
    listed: &Listed<'_>,
    start: &Start,
    id: &str,
    env: &Environment,
) -> Result<(Vec<Mount>, PathBuf), Failure> {
    let pod_dir = context.pod_dir(pod.uid());
    let node_hosts =
        pod.is_host_network().then(|| fs::read_to_string("/etc/hosts").unwrap_or_default());
    let domain = &context.config.cluster_domain;
    let hosts = files::hosts(pod, &start.addresses, node_hosts.as_deref(), domain);
    let node_resolver = fs::read_to_string(&context.config.resolv_conf).unwrap_or_default();
    let node_resolver = files::parse_resolver(&node_resolver);
    let resolver = files::resolver(pod, &node_resolver, &context.config.cluster_dns, domain);
    let hostname = files::uts_hostname(pod, &context.machine.hostname, domain);
    let own = own_files(&pod_dir, &hosts, &files::print_resolver(&resolver), &hostname);
    let own = own.map_err(|error| create_error(format!("write the pod's files: {error}")))?;
    let (pod_copy, name, places) = (Arc::clone(pod), start.container.clone(), start.places.clone());
    let env = Environment { variables: env.variables.clone(), skipped: Vec::new() };
    let folder = pod_dir.clone();
    let mounts = blocking(move || {
        let listed = pod_copy.find(&name).expect("the container was found in the same pod");
        volumes::mounts(&folder, &listed, &places, &env)
    });
    let mut mounts = mounts.await.map_err(config_error)?;
    let message_file = message_file(&pod_dir, listed.name(), id)
        .map_err(|error| create_error(format!("make the file for its last words: {error}")))?;
    let path = listed.spec.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    let mut extra = own;
    extra.push((message_file.clone(), PathBuf::from(path)));
    for (source, destination) in extra {
        if !mounts.iter().any(|mount| mount.destination == destination) {
            mounts.push(Mount {
                source,
                destination,
                read_only: false,
                recursive_read_only: false,
                propagation: "private".into(),
            });
        }
    }
    Ok((mounts, message_file))
}

/// Writes the files that all containers of the pod share. They are small and in the page cache.
fn own_files(
    pod_dir: &Path,
    hosts: &str,
    resolver: &str,
    hostname: &str,
) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let folder = pod_dir.join("etc");
    fs::create_dir_all(&folder)?;
    let hostname = format!("{hostname}\n");
    let mut mounts = Vec::new();
    for (name, content) in [("hosts", hosts), ("resolv.conf", resolver), ("hostname", &hostname)] {
        let path = folder.join(name);
        // Running containers have this very file mounted: it is not touched if it is right.
        if fs::read_to_string(&path).ok().as_deref() != Some(content) {
            replace_file(&path, content.as_bytes())?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        mounts.push((path, Path::new("/etc").join(name)));
    }
    Ok(mounts)
}

/// An empty file that any user of the container may write.
fn message_file(pod_dir: &Path, container: &str, id: &str) -> io::Result<PathBuf> {
    let folder = pod_dir.join("containers").join(container);
    fs::create_dir_all(&folder)?;
    let path = folder.join(&id[..8]);
    fs::File::create(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    Ok(path)
}
