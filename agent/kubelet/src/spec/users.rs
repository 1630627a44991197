//! Who a container runs as. PURE: names are looked up in the image by `images::user`.
//!
//! Source of behaviour: kubernetes pkg/kubelet/kuberuntime/security_context_others.go
//! `verifyRunAsNonRoot`, v1.36, and containerd's `oci.WithUser`, `WithAdditionalGIDs`.

use k8s_openapi::api::core::v1::{PodSecurityContext, SecurityContext};

/// Who is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// `USER[:GROUP]`, names or ids, to be looked up in the image; empty is root.
    pub(crate) user: String,
    /// The group instead of the one found.
    pub(crate) gid: Option<u32>,
}

/// Why a container cannot run as its user. The texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("container's runAsUser breaks non-root policy")]
    AskedForRoot,
    #[error("container has runAsNonRoot and image will run as root")]
    ImageIsRoot,
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({0}), cannot verify user is \
         non-root"
    )]
    NotNumeric(String),
}

/// The API server refuses ids beyond 32 bits.
fn id(value: i64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX - 1)
}

/// Decides whom the container is to run as: its own context goes before the pod's, and both before
/// the image.
pub(crate) fn asked(
    pod: &PodSecurityContext,
    container: Option<&SecurityContext>,
    image_user: &str,
) -> Result<Asked, UserError> {
    let run_as_user = container.and_then(|context| context.run_as_user).or(pod.run_as_user);
    let run_as_group = container.and_then(|context| context.run_as_group).or(pod.run_as_group);
    let non_root = container.and_then(|context| context.run_as_non_root).or(pod.run_as_non_root);
    if non_root == Some(true) {
        check_non_root(run_as_user, image_user)?;
    }
    // The image's group belongs to the image's user only.
    let user = run_as_user.map_or_else(|| image_user.to_owned(), |uid| id(uid).to_string());
    Ok(Asked { user, gid: run_as_group.map(id) })
}

fn check_non_root(run_as_user: Option<i64>, image_user: &str) -> Result<(), UserError> {
    let name = image_user.split(':').next().unwrap_or("");
    match run_as_user {
        Some(0) => Err(UserError::AskedForRoot),
        Some(_) => Ok(()),
        None if name.is_empty() => Err(UserError::ImageIsRoot),
        None => match name.parse::<u32>() {
            Ok(0) => Err(UserError::ImageIsRoot),
            Ok(_) => Ok(()),
            Err(_) => Err(UserError::NotNumeric(name.to_owned())),
        },
    }
}

/// Supplementary groups, sorted. `of_image` are those that the image puts the user in.
pub(crate) fn groups(pod: &PodSecurityContext, gid: u32, of_image: &[u32]) -> Vec<u32> {
    let mut all = vec![gid];
    if pod.supplemental_groups_policy.as_deref() != Some("Strict") {
        all.extend_from_slice(of_image);
    }
    all.extend(pod.supplemental_groups.iter().flatten().map(|gid| id(*gid)));
    all.extend(pod.fs_group.map(id));
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn decided(pod: Value, container: Value, image_user: &str) -> Result<Asked, UserError> {
        let pod: PodSecurityContext = serde_json::from_value(pod).unwrap();
        let container: SecurityContext = serde_json::from_value(container).unwrap();
        asked(&pod, Some(&container), image_user)
    }

    #[test]
    fn users_and_groups() {
        for (pod, container, image, user, gid) in [
            (json!({}), json!({}), "", "", None),
            (json!({}), json!({}), "web:data", "web:data", None),
            (json!({"runAsUser": 100}), json!({}), "web:data", "100", None),
            (json!({"runAsUser": 1}), json!({"runAsUser": 7, "runAsGroup": 8}), "", "7", Some(8)),
        ] {
            let wanted = Asked { user: user.to_owned(), gid };
            assert_eq!(decided(pod, container, image), Ok(wanted), "{image}");
        }
        let pod = json!({"fsGroup": 9, "supplementalGroups": [3, 9]});
        let mut pod: PodSecurityContext = serde_json::from_value(pod).unwrap();
        assert_eq!(groups(&pod, 101, &[500]), [3, 9, 101, 500]);
        pod.supplemental_groups_policy = Some("Strict".into());
        assert_eq!(groups(&pod, 101, &[500]), [3, 9, 101]);
    }

    #[test]
    fn refusals() {
        let non_root = || json!({"runAsNonRoot": true});
        for (container, image, wanted) in [
            (json!({"runAsUser": 0}), "", UserError::AskedForRoot),
            (json!({}), "", UserError::ImageIsRoot),
            (json!({}), "0:5", UserError::ImageIsRoot),
            (json!({}), "web", UserError::NotNumeric("web".into())),
        ] {
            assert_eq!(decided(non_root(), container, image), Err(wanted));
        }
        assert!(decided(non_root(), json!({"runAsNonRoot": false}), "").is_ok());
        assert!(decided(non_root(), json!({"runAsUser": 5}), "").is_ok());
    }
}
