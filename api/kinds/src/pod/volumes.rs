//! Validation of a pod's volumes.
//!
//! Source of behaviour: kubernetes `pkg/apis/core/validation`, v1.36.

use objects::{FieldErrors, FieldPath, names};
use serde_json::{Value, json};

use super::disks;
use super::projected;
use super::sources::{check_field_ref, check_resource_field_ref};
use crate::check;
use crate::claim;
use crate::read::{Read, quantity};

/// The sources of a volume in the order in which they are checked, and the name a second one is
/// reported under (which upstream misspells twice).
const SOURCES: &[(&str, &str)] = &[
    ("emptyDir", "emptyDir"),
    ("hostPath", "hostPath"),
    ("gitRepo", "gitRepo"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret"),
    ("nfs", "nfs"),
    ("iscsi", "iscsi"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd"),
    ("cinder", "cinder"),
    ("cephfs", "cephFS"),
    ("quobyte", "quobyte"),
    ("downwardAPI", "downwarAPI"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("configMap", "configMap"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("storageos", "storageos"),
    ("projected", "projected"),
    ("scaleIO", "scaleIO"),
    ("csi", "csi"),
    ("ephemeral", "ephemeral"),
    ("image", "image"),
];

/// The well-formed volumes of a pod.
#[derive(Debug, Default)]
pub(crate) struct Volumes<'a>(Vec<&'a Value>);

impl<'a> Volumes<'a> {
    /// A volume by name.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.iter().copied().find(|volume| volume.text("name") == name)
    }
}

/// Checks volumes. `pod_name` is empty in templates, `is_pod` false.
pub(crate) fn check_volumes<'a>(
    volumes: &'a [Value],
    pod_name: &str,
    is_pod: bool,
    path: &FieldPath,
    errors: &mut FieldErrors,
) -> Volumes<'a> {
    let mut good = Volumes::default();
    let made_claims: Vec<String> = volumes
        .iter()
        .filter(|volume| !pod_name.is_empty() && volume.field("ephemeral").is_some())
        .map(|volume| format!("{pod_name}-{}", volume.text("name")))
        .collect();
    for (index, volume) in volumes.iter().enumerate() {
        let here = path.index(index);
        let name = volume.text("name");
        let mut faults = FieldErrors::default();
        check_source(volume, pod_name, is_pod, &here, &mut faults);
        if name.is_empty() {
            faults.required(&here.child("name"), "");
        } else {
            check::label(&mut faults, &here.child("name"), name);
        }
        if good.get(name).is_some() {
            faults.duplicate(&here.child("name"), &json!(name));
        }
        if faults.is_empty() {
            good.0.push(volume);
        }
        errors.0.append(&mut faults.0);
        let claim = crate::read::part(volume, &["persistentVolumeClaim"]).text("claimName");
        if made_claims.iter().any(|made| made == claim) {
            errors.invalid_str(
                &here.child("persistentVolumeClaim").child("claimName"),
                claim,
                "must not reference a PVC that gets created for an ephemeral volume",
            );
        }
    }
    good
}

fn check_source(
    volume: &Value,
    pod_name: &str,
    is_pod: bool,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let mut found = false;
    for (key, reported) in SOURCES {
        let Some(source) = volume.field(key) else { continue };
        if found {
            let detail = "may not specify more than 1 volume type";
            errors.forbidden(&path.child(reported), detail);
            continue;
        }
        found = true;
        let volume_name = volume.text("name");
        match *key {
            "ephemeral" => check_ephemeral(source, pod_name, volume_name, path, errors),
            "image" => check_image(source, is_pod, &path.child("image"), errors),
            "iscsi" => {
                disks::check_iscsi(source, &path.child("iscsi"), errors);
                disks::check_iscsi_name(source, volume_name, &path.child("name"), errors);
            }
            "gcePersistentDisk" => {
                check_one(key, source, &path.child("persistentDisk"), errors);
            }
            key => check_one(key, source, &path.child(key), errors),
        }
    }
    if !found {
        errors.required(path, "must specify a volume type");
    }
}

fn check_one(key: &str, source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    match key {
        "emptyDir" => {
            let size = source.field("sizeLimit").and_then(quantity);
            if size.is_some_and(|size| size.sign() < 0) {
                let detail = "SizeLimit field must be a valid resource quantity";
                errors.forbidden(&path.child("sizeLimit"), detail);
            }
        }
        "hostPath" => check_host_path(source, path, errors),
        "secret" => check_files(source, "secretName", path, errors),
        "configMap" => check_files(source, "name", path, errors),
        "persistentVolumeClaim" => {
            check::required(errors, source, path, "claimName");
        }
        "downwardAPI" => {
            check::file_mode(errors, path, source, "defaultMode");
            for item in source.items("items") {
                check_downward_file(item, path, errors);
            }
        }
        "projected" => projected::check(source, path, errors),
        _ => disks::check(key, source, path, errors),
    }
}

/// Checks a `hostPath`; PersistentVolumes have one too.
pub(crate) fn check_host_path(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if !check::required(errors, source, path, "path") {
        return;
    }
    check::no_backsteps(errors, &path.child("path"), source.text("path"));
    let supported = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    check::one_of(errors, &path.child("type"), source.text("type"), &supported);
}

fn check_files(source: &Value, name: &str, path: &FieldPath, errors: &mut FieldErrors) {
    check::required(errors, source, path, name);
    check::file_mode(errors, path, source, "defaultMode");
    for (index, item) in source.items("items").iter().enumerate() {
        check_key_to_path(item, &path.child("items").index(index), errors);
    }
}

/// Checks an item that puts a key into a file.
pub(crate) fn check_key_to_path(item: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check::required(errors, item, path, "key");
    check::required(errors, item, path, "path");
    check::unreserved_path(errors, &path.child("path"), item.text("path"));
    check::file_mode(errors, path, item, "mode");
}

/// Checks an item of a `downwardAPI`; upstream reports it at the source, without its index.
pub(crate) fn check_downward_file(item: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check::required(errors, item, path, "path");
    check::unreserved_path(errors, &path.child("path"), item.text("path"));
    let resource = item.field("resourceFieldRef");
    if let Some(field) = item.field("fieldRef") {
        let supported = [
            "metadata.annotations",
            "metadata.labels",
            "metadata.name",
            "metadata.namespace",
            "metadata.uid",
        ];
        check_field_ref(field, &supported, &path.child("fieldRef"), errors);
        if resource.is_some() {
            let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.invalid_str(path, "resource", detail);
        }
    } else if let Some(resource) = resource {
        check_resource_field_ref(resource, true, &path.child("resourceFieldRef"), errors);
    } else {
        errors.required(path, "one of fieldRef and resourceFieldRef is required");
    }
    check::file_mode(errors, path, item, "mode");
}

fn check_ephemeral(
    source: &Value,
    pod_name: &str,
    volume_name: &str,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let here = path.child("ephemeral").child("volumeClaimTemplate");
    match source.field("volumeClaimTemplate") {
        None => errors.required(&here, ""),
        Some(template) => claim::check_template(template, &here, errors),
    }
    if !pod_name.is_empty() && !volume_name.is_empty() {
        let claim = format!("{pod_name}-{volume_name}");
        for text in names::dns1123_subdomain(&claim) {
            let detail = format!("PVC name {claim:?}: {text}");
            errors.invalid_str(&path.child("name"), volume_name, &detail);
        }
    }
}

fn check_image(source: &Value, is_pod: bool, path: &FieldPath, errors: &mut FieldErrors) {
    if is_pod && source.text("reference").is_empty() {
        errors.required(&path.child("reference"), "");
    }
    let policy = source.text("pullPolicy");
    let supported = ["Always", "IfNotPresent", "Never"];
    check::required_one_of(errors, &path.child("pullPolicy"), policy, &supported);
}
