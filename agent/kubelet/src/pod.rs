//! Short paths into a Pod, and its containers in one list. PURE.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, EphemeralContainer, Pod, PodSecurityContext, PodSpec, PodStatus,
};
use objects::ObjectKey;

/// Annotation that tells a mirror pod from an ordinary one.
pub(crate) const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// Annotation that says where a pod came from: `file` for static pods.
pub(crate) const CONFIG_SOURCE: &str = "kubernetes.io/config.source";

/// Upstream's grace period for pods that name none.
const GRACE_DEFAULT_SECS: i64 = 30;

/// What part of a pod a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Runs to its end before the next.
    Init,
    /// An init container that keeps running (`restartPolicy: Always`).
    Sidecar,
    /// An ordinary container.
    Main,
    /// Added to a running pod, for debugging.
    Ephemeral,
}

/// A container of a pod.
#[derive(Debug, Clone)]
pub(crate) struct Listed<'a> {
    /// What part it is.
    pub(crate) kind: Kind,
    /// Its spec.
    pub(crate) spec: Cow<'a, Container>,
    /// Path in the pod, as Events name it: `spec.containers{web}`.
    pub(crate) field_path: String,
}

impl Listed<'_> {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its image as asked for.
    pub(crate) fn image(&self) -> &str {
        self.spec.image.as_deref().unwrap_or("")
    }

    /// `Always`, `IfNotPresent` or `Never`.
    pub(crate) fn pull_policy(&self) -> &str {
        self.spec.image_pull_policy.as_deref().unwrap_or("IfNotPresent")
    }
}

/// Short paths into a Pod.
pub(crate) trait PodExt {
    fn uid(&self) -> &str;
    fn name(&self) -> &str;
    fn namespace(&self) -> &str;
    fn key(&self) -> ObjectKey;
    fn spec(&self) -> &PodSpec;
    fn status(&self) -> Option<&PodStatus>;
    fn annotation(&self, name: &str) -> Option<&str>;
    fn restart_policy(&self) -> &str;
    fn is_host_network(&self) -> bool;
    fn is_static(&self) -> bool;
    fn is_mirror(&self) -> bool;
    fn is_deleted(&self) -> bool;
    fn grace_secs(&self) -> i64;
    fn generation(&self) -> Option<i64>;
    fn start_time(&self) -> Option<Timestamp>;
    fn security(&self) -> Cow<'_, PodSecurityContext>;
    /// Every container: init containers and sidecars in order, then main, then ephemeral ones.
    fn listed(&self) -> Vec<Listed<'_>>;
    /// The container of that name.
    fn find(&self, name: &str) -> Option<Listed<'_>> {
        self.listed().into_iter().find(|container| container.name() == name)
    }
}

/// A spec for pods that have none, which the API does not let happen.
fn no_spec() -> &'static PodSpec {
    static EMPTY: std::sync::OnceLock<PodSpec> = std::sync::OnceLock::new();
    EMPTY.get_or_init(PodSpec::default)
}

impl PodExt for Pod {
    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or("")
    }

    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or("")
    }

    fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or("")
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::new(self.namespace(), self.name())
    }

    fn spec(&self) -> &PodSpec {
        self.spec.as_ref().unwrap_or_else(|| no_spec())
    }

    fn status(&self) -> Option<&PodStatus> {
        self.status.as_ref()
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    fn restart_policy(&self) -> &str {
        PodExt::spec(self).restart_policy.as_deref().unwrap_or("Always")
    }

    fn is_host_network(&self) -> bool {
        PodExt::spec(self).host_network == Some(true)
    }

    fn is_static(&self) -> bool {
        self.annotation(CONFIG_SOURCE).is_some_and(|source| source != "api")
            && !PodExt::is_mirror(self)
    }

    fn is_mirror(&self) -> bool {
        self.annotation(CONFIG_MIRROR).is_some()
    }

    fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// The grace period of its deletion, else of its spec.
    fn grace_secs(&self) -> i64 {
        let asked = self.metadata.deletion_grace_period_seconds;
        let own = PodExt::spec(self).termination_grace_period_seconds;
        asked.or(own).unwrap_or(GRACE_DEFAULT_SECS).max(0)
    }

    fn generation(&self) -> Option<i64> {
        self.metadata.generation
    }

    fn start_time(&self) -> Option<Timestamp> {
        Some(self.status.as_ref()?.start_time.as_ref()?.0)
    }

    fn security(&self) -> Cow<'_, PodSecurityContext> {
        match &PodExt::spec(self).security_context {
            Some(context) => Cow::Borrowed(context),
            None => Cow::Owned(PodSecurityContext::default()),
        }
    }

    fn listed(&self) -> Vec<Listed<'_>> {
        let spec = PodExt::spec(self);
        let init = spec.init_containers.iter().flatten().map(|container| {
            let sidecar = container.restart_policy.as_deref() == Some("Always");
            Listed {
                kind: if sidecar { Kind::Sidecar } else { Kind::Init },
                field_path: format!("spec.initContainers{{{}}}", container.name),
                spec: Cow::Borrowed(container),
            }
        });
        let main = spec.containers.iter().map(|container| Listed {
            kind: Kind::Main,
            field_path: format!("spec.containers{{{}}}", container.name),
            spec: Cow::Borrowed(container),
        });
        let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| Listed {
            kind: Kind::Ephemeral,
            field_path: format!("spec.ephemeralContainers{{{}}}", container.name),
            spec: Cow::Owned(as_container(container)),
        });
        init.chain(main).chain(ephemeral).collect()
    }
}

/// An ephemeral container has the fields of a container that it may set.
fn as_container(from: &EphemeralContainer) -> Container {
    Container {
        args: from.args.clone(),
        command: from.command.clone(),
        env: from.env.clone(),
        env_from: from.env_from.clone(),
        image: from.image.clone(),
        image_pull_policy: from.image_pull_policy.clone(),
        name: from.name.clone(),
        security_context: from.security_context.clone(),
        stdin: from.stdin,
        stdin_once: from.stdin_once,
        termination_message_path: from.termination_message_path.clone(),
        termination_message_policy: from.termination_message_policy.clone(),
        tty: from.tty,
        volume_devices: from.volume_devices.clone(),
        volume_mounts: from.volume_mounts.clone(),
        working_dir: from.working_dir.clone(),
        ..Container::default()
    }
}

/// Unix nanoseconds, as the runtime counts, as a time. 0 and what is out of range have none.
pub(crate) fn timestamp(nanos: i128) -> Option<Timestamp> {
    if nanos == 0 { None } else { Timestamp::from_nanosecond(nanos).ok() }
}
