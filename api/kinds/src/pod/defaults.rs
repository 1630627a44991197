//! Defaults of pods and pod templates.
//!
//! Source of behaviour: kubernetes `pkg/apis/core/v1/defaults.go`, v1.36.

use objects::ObjectExt;
use serde_json::{Value, json};

use super::resources::{self, CONTAINER_LISTS};
use crate::claim;
use crate::edit::{Edit, default_quantity, default_resources};
use crate::read::{Read, amount};

/// Mode of files in volumes made of ConfigMaps, Secrets and the like: 0644.
const FILE_MODE: i32 = 0o644;
/// Default grace period of a pod's termination.
const GRACE_SECS: i64 = 30;
/// Default lifetime of a projected service account token.
const TOKEN_SECS: i64 = 3600;

/// Defaults of a Pod.
pub(crate) fn pod(pod: &mut Value) {
    let spec = pod.map_mut("spec");
    requests_from_limits(spec);
    if spec.field("resources").is_some() {
        pod_level_limits(spec);
        pod_level_requests(spec);
    }
    spec.default_to("enableServiceLinks", true);
    if spec.flag("hostNetwork") {
        for list in ["containers", "initContainers"] {
            for container in spec.items_mut(list) {
                host_ports(container);
            }
        }
    }
    pod_spec(spec);
    pod.default_to("status", json!({}));
}

/// Defaults of a PodTemplateSpec.
pub(crate) fn template(template: &mut Value) {
    template.default_to("metadata", json!({}));
    pod_spec(template.map_mut("spec"));
}

/// Defaults that pods and templates share.
fn pod_spec(spec: &mut Value) {
    spec.default_zero("dnsPolicy", "ClusterFirst");
    spec.default_zero("restartPolicy", "Always");
    spec.default_to("securityContext", json!({}));
    spec.default_to("terminationGracePeriodSeconds", GRACE_SECS);
    spec.default_zero("schedulerName", "default-scheduler");
    spec.default_to("containers", Value::Null);
    service_account_alias(spec);
    for volume in spec.items_mut("volumes") {
        volume_defaults(volume);
    }
    for list in CONTAINER_LISTS {
        for container in spec.items_mut(list) {
            container_defaults(container);
        }
    }
    if let Some(resources) = spec.field_mut("resources") {
        default_resources(resources.field_mut("limits"));
        default_resources(resources.field_mut("requests"));
    }
    default_resources(spec.field_mut("overhead"));
}

/// `serviceAccount` is an old name of `serviceAccountName`: each is set from the other, and the
/// new name wins.
fn service_account_alias(spec: &mut Value) {
    if !spec.is_set("serviceAccountName") && spec.is_set("serviceAccount") {
        let old = spec["serviceAccount"].clone();
        spec.set_at(&["serviceAccountName"], old);
    }
    if spec.is_set("serviceAccountName") {
        let name = spec["serviceAccountName"].clone();
        spec.set_at(&["serviceAccount"], name);
    }
}

/// Of a container with limits, the requests that are missing are the limits. Only in pods, not in
/// templates.
fn requests_from_limits(spec: &mut Value) {
    for list in ["containers", "initContainers"] {
        for container in spec.items_mut(list) {
            let Some(limits) = container.at(&["resources", "limits"]).and_then(Value::as_object)
            else {
                continue;
            };
            for (name, limit) in limits.clone() {
                container.map_mut("resources").map_mut("requests").default_to(&name, limit);
            }
        }
    }
}

/// Pod-level limits of huge pages that containers have and the pod has not.
fn pod_level_limits(spec: &mut Value) {
    let resources = &spec["resources"];
    if !resources.is_set("limits") && !resources.is_set("requests") {
        return;
    }
    for (name, total) in resources::container_totals(spec, "limits") {
        let missing = amount(spec["resources"].field("limits"), &name).is_none();
        if missing && resources::is_huge_page(&name) && !total.is_zero() {
            let limits = spec.map_mut("resources").map_mut("limits");
            limits.default_to(&name, total.to_string());
        }
    }
}

/// Pod-level requests: what the containers ask for, else the pod-level limit.
fn pod_level_requests(spec: &mut Value) {
    let limits = spec["resources"].map("limits").cloned().unwrap_or_default();
    if limits.is_empty() {
        return;
    }
    let mut wanted: Vec<(String, Value)> = resources::container_totals(spec, "requests")
        .into_iter()
        .filter(|(name, _)| resources::is_pod_level(name) && resources::may_overcommit(name))
        .map(|(name, total)| (name, json!(total.to_string())))
        .collect();
    wanted.extend(limits.into_iter().filter(|(name, _)| resources::is_pod_level(name)));
    for (name, value) in wanted {
        spec.map_mut("resources").map_mut("requests").default_to(&name, value);
    }
}

fn host_ports(container: &mut Value) {
    for port in container.items_mut("ports") {
        let number = port.int("containerPort").unwrap_or(0);
        if number != 0 {
            port.default_zero("hostPort", number);
        }
    }
}

fn container_defaults(container: &mut Value) {
    let policy = pull_policy(container.text("image"));
    container.default_zero("imagePullPolicy", policy);
    container.default_zero("terminationMessagePath", "/dev/termination-log");
    container.default_zero("terminationMessagePolicy", "File");
    container.default_to("resources", json!({}));
    for port in container.items_mut("ports") {
        port.default_zero("protocol", "TCP");
    }
    for variable in container.items_mut("env") {
        if let Some(source) = variable.field_mut("valueFrom") {
            env_source(source);
        }
    }
    let resources = container.map_mut("resources");
    default_resources(resources.field_mut("limits"));
    default_resources(resources.field_mut("requests"));
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.field_mut(probe) {
            probe_defaults(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(get) = container.at_mut(&["lifecycle", hook, "httpGet"]) {
            http_get(get);
        }
    }
}

fn env_source(source: &mut Value) {
    if let Some(field) = source.field_mut("fieldRef") {
        field.default_zero("apiVersion", "v1");
    }
    if let Some(resource) = source.field_mut("resourceFieldRef") {
        divisor(resource);
    }
    if let Some(file) = source.field_mut("fileKeyRef") {
        file.default_to("optional", false);
    }
}

/// A divisor is a plain quantity, so it is always printed.
fn divisor(selector: &mut Value) {
    selector.default_to("divisor", "0");
    if let Some(value) = selector.field_mut("divisor") {
        default_quantity(value, false);
    }
}

fn probe_defaults(probe: &mut Value) {
    probe.default_zero("timeoutSeconds", 1);
    probe.default_zero("periodSeconds", 10);
    probe.default_zero("successThreshold", 1);
    probe.default_zero("failureThreshold", 3);
    if let Some(get) = probe.field_mut("httpGet") {
        http_get(get);
    }
    if let Some(grpc) = probe.field_mut("grpc") {
        grpc.default_to("service", "");
    }
}

fn http_get(get: &mut Value) {
    get.default_zero("path", "/");
    get.default_zero("scheme", "HTTP");
}

fn volume_defaults(volume: &mut Value) {
    let has_source = volume
        .as_object()
        .is_some_and(|map| map.iter().any(|(key, value)| key != "name" && !value.is_null()));
    if !has_source {
        volume.default_to("emptyDir", json!({}));
    }
    if let Some(image) = volume.field_mut("image") {
        let policy = pull_policy(image.text("reference"));
        image.default_zero("pullPolicy", policy);
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.field_mut(source) {
            source.default_to("defaultMode", FILE_MODE);
        }
    }
    if let Some(path) = volume.field_mut("hostPath") {
        path.default_to("type", "");
    }
    if let Some(downward) = volume.field_mut("downwardAPI") {
        downward_items(downward);
    }
    if let Some(projected) = volume.field_mut("projected") {
        projected_defaults(projected);
    }
    if let Some(size) = volume.at_mut(&["emptyDir", "sizeLimit"]) {
        default_quantity(size, false);
    }
    if let Some(spec) = volume.at_mut(&["ephemeral", "volumeClaimTemplate", "spec"]) {
        claim::default_spec(spec);
    }
    if volume.at(&["ephemeral", "volumeClaimTemplate"]).is_some() {
        volume
            .map_mut("ephemeral")
            .map_mut("volumeClaimTemplate")
            .default_to("metadata", json!({}));
    }
    legacy_volume(volume);
}

/// Defaults of network disks that predate CSI; PersistentVolumes share them.
pub(crate) fn legacy_volume(volume: &mut Value) {
    if let Some(iscsi) = volume.field_mut("iscsi") {
        iscsi.default_zero("iscsiInterface", "default");
    }
    if let Some(rbd) = volume.field_mut("rbd") {
        rbd.default_zero("pool", "rbd");
        rbd.default_zero("user", "admin");
        rbd.default_zero("keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = volume.field_mut("azureDisk") {
        disk.default_to("cachingMode", "ReadWrite");
        disk.default_to("fsType", "ext4");
        disk.default_to("readOnly", false);
        disk.default_to("kind", "Shared");
    }
    if let Some(scale) = volume.field_mut("scaleIO") {
        scale.default_zero("storageMode", "ThinProvisioned");
        scale.default_zero("fsType", "xfs");
    }
}

fn downward_items(source: &mut Value) {
    for item in source.items_mut("items") {
        if let Some(field) = item.field_mut("fieldRef") {
            field.default_zero("apiVersion", "v1");
        }
        if let Some(resource) = item.field_mut("resourceFieldRef") {
            divisor(resource);
        }
    }
}

fn projected_defaults(projected: &mut Value) {
    for source in projected.items_mut("sources") {
        if let Some(downward) = source.field_mut("downwardAPI") {
            downward_items(downward);
        }
        if let Some(token) = source.field_mut("serviceAccountToken") {
            token.default_to("expirationSeconds", TOKEN_SECS);
        }
    }
}

/// `Always` for an image whose tag may move, else `IfNotPresent`.
fn pull_policy(image: &str) -> &'static str {
    if is_latest(image) { "Always" } else { "IfNotPresent" }
}

/// Whether a well-formed image reference has the tag `latest`, or neither tag nor digest.
fn is_latest(image: &str) -> bool {
    let Some(parts) = ImageName::parse(image) else { return false };
    match (parts.tag, parts.digest) {
        (Some(tag), _) => tag == "latest",
        (None, digest) => digest.is_none(),
    }
}

struct ImageName<'a> {
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> ImageName<'a> {
    /// Splits `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`; `None` if it is malformed.
    fn parse(image: &'a str) -> Option<Self> {
        let (rest, digest) = match image.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (image, None),
        };
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (path, tag) = match rest[last..].split_once(':') {
            Some((name, tag)) => (&rest[..last + name.len()], Some(tag)),
            None => (rest, None),
        };
        let repository = match path.split_once('/') {
            Some((host, rest)) if is_host(host) => rest,
            _ => path,
        };
        let is_bare_id = tag.is_none()
            && digest.is_none()
            && path.len() == 64
            && path.bytes().all(|b| b.is_ascii_hexdigit());
        let tag_fits = tag.is_none_or(is_tag);
        let digest_fits = digest.is_none_or(is_digest);
        let path_fits = !repository.is_empty() && repository.split('/').all(is_path_part);
        (tag_fits && digest_fits && path_fits && !is_bare_id).then_some(Self { tag, digest })
    }
}

fn is_host(text: &str) -> bool {
    text.contains(['.', ':']) || text == "localhost" || text.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_path_part(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    edge(text.bytes().next()) && edge(text.bytes().last()) && text.bytes().all(inner)
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().next().is_some_and(word)
        && text.len() <= 128
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}
