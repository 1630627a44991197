//! Finds or pulls the image of a container.
//!
//! Source of the texts: kubernetes pkg/kubelet/images/image_manager.go, v1.36.

use std::time::Duration;

use images::{Credentials, Image, ImageError, Keyring, Reference};
use informer::EventType;
use k8s_openapi::api::core::v1::Pod;
use objects::ObjectKey;
use tokio::time::Instant;

use super::{Failure, whole};
use crate::context::Context;
use crate::pod::{Listed, PodExt};

/// The image of a container, from the store or from its registry as the pull policy says.
pub(crate) async fn find_or_pull(
    context: &Context,
    pod: &Pod,
    listed: &Listed<'_>,
) -> Result<Image, Failure> {
    let wanted = listed.image();
    let images = &context.deps.images;
    let policy = listed.pull_policy();
    if policy != "Always" {
        match images.find(wanted).await {
            Ok(Some(image)) => {
                let message = format!("Container image \"{wanted}\" already present on machine");
                context.event(pod, Some(listed), EventType::Normal, "Pulled", message);
                return Ok(image);
            }
            Ok(None) if policy == "Never" => {
                let message = format!(
                    "Container image \"{wanted}\" is not present with pull policy of Never"
                );
                context.event(pod, Some(listed), EventType::Warning, "ErrImageNeverPull", &message);
                return Err(Failure { reason: "ErrImageNeverPull", message });
            }
            Ok(None) => {}
            Err(error) => return Err(refused(context, pod, listed, &error)),
        }
    }
    let message = format!("Pulling image \"{wanted}\"");
    context.event(pod, Some(listed), EventType::Normal, "Pulling", message);
    let began = Instant::now();
    let credentials = credentials(context, pod, wanted).await;
    match images.pull(wanted, &credentials).await {
        Ok(image) => {
            let took = go_seconds(began.elapsed());
            let message = format!(
                "Successfully pulled image \"{wanted}\" in {took} ({took} including waiting). Image \
                 size: {} bytes.",
                image.size_bytes
            );
            context.event(pod, Some(listed), EventType::Normal, "Pulled", message);
            Ok(image)
        }
        Err(error) => Err(refused(context, pod, listed, &error)),
    }
}

fn refused(context: &Context, pod: &Pod, listed: &Listed<'_>, error: &ImageError) -> Failure {
    let wanted = listed.image();
    let reason = match error {
        ImageError::InvalidReference { .. } => "InvalidImageName",
        _ => "ErrImagePull",
    };
    let text = whole(error);
    let message = if reason == "InvalidImageName" {
        format!("Failed to apply default image tag \"{wanted}\": {text}")
    } else {
        text
    };
    let shown = match reason {
        "InvalidImageName" => message.clone(),
        _ => format!("Failed to pull image \"{wanted}\": {message}"),
    };
    let event = if reason == "InvalidImageName" { "InspectFailed" } else { "Failed" };
    context.event(pod, Some(listed), EventType::Warning, event, shown);
    context.event(pod, Some(listed), EventType::Warning, "Failed", format!("Error: {reason}"));
    Failure { reason, message }
}

fn go_seconds(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{}ms", time.as_millis())
    } else {
        format!("{:.3}s", time.as_secs_f64())
    }
}

/// What the pod's pull secrets and the node's own configuration hold for the image's registry.
async fn credentials(context: &Context, pod: &Pod, image: &str) -> Vec<Credentials> {
    let Ok(reference) = image.parse::<Reference>() else { return Vec::new() };
    let mut keyring = Keyring::default();
    for secret in PodExt::spec(pod).image_pull_secrets.iter().flatten() {
        let key = ObjectKey::new(pod.namespace(), &secret.name);
        // Without its secret a pull is tried all the same, as upstream does.
        let Ok(Some(found)) = context.secrets.get(&key).await else { continue };
        let data = |name: &str| found.data.as_ref().and_then(|data| data.get(name));
        let added = match (data(".dockerconfigjson"), data(".dockercfg")) {
            (Some(json), _) => keyring.add_config_json(&json.0),
            (None, Some(json)) => keyring.add_dockercfg(&json.0),
            (None, None) => Ok(()),
        };
        if let Err(reason) = added {
            tracing::warn!(pod = %pod.key(), secret = secret.name, reason, "pull secret not usable");
        }
    }
    let mut all = keyring.lookup(&reference);
    let own = context.config.registry_credentials.iter();
    all.extend(own.filter(|(host, _)| image.starts_with(host.as_str())).map(|(_, c)| c.clone()));
    all
}
