//! Validation of network disks and other volume sources that predate CSI, and of CSI itself.

use objects::{FieldErrors, FieldPath, names};
use serde_json::{Value, json};

use crate::check;
use crate::read::Read;

/// Longest `VOLUME:PORTAL` when an initiator name is given: it becomes a kernel name.
const ISCSI_NAME_MAX: usize = 64;

/// Checks a source of a pod's volume other than those that `volumes` checks itself.
pub(crate) fn check(kind: &str, source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let mut need = |keys: &[&str]| {
        for key in keys {
            check::required(errors, source, path, key);
        }
    };
    match kind {
        "gcePersistentDisk" => {
            need(&["pdName"]);
            check_partition(source, path, errors);
        }
        "awsElasticBlockStore" => {
            need(&["volumeID"]);
            check_partition(source, path, errors);
        }
        "gitRepo" => {
            need(&["repository"]);
            let directory = source.text("directory");
            check::descending_path(errors, &path.child("directory"), directory);
        }
        "nfs" => {
            need(&["server", "path"]);
            if !source.text("path").starts_with('/') {
                let detail = "must be an absolute path";
                errors.invalid_str(&path.child("path"), source.text("path"), detail);
            }
        }
        "glusterfs" => need(&["endpoints", "path"]),
        "flocker" => check_flocker(source, path, errors),
        "rbd" => {
            need_list(source, "monitors", path, errors);
            check::required(errors, source, path, "image");
        }
        "cephfs" => need_list(source, "monitors", path, errors),
        "cinder" | "portworxVolume" => {
            need(&["volumeID"]);
            check_secret_name(source, path, errors);
        }
        "quobyte" => check_quobyte(source, path, errors),
        "fc" => check_fibre_channel(source, path, errors),
        "flexVolume" => {
            need(&["driver"]);
            check_flex_options(source, path, errors);
        }
        "azureFile" => need(&["secretName", "shareName"]),
        "azureDisk" => check_azure_disk(source, path, errors),
        "vsphereVolume" => need(&["volumePath"]),
        "photonPersistentDisk" => need(&["pdID"]),
        "scaleIO" => need(&["gateway", "system", "volumeName"]),
        "storageos" => check_storageos(source, path, errors),
        "csi" => check_csi(source, path, errors),
        _ => {}
    }
}

fn need_list(source: &Value, key: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if source.items(key).is_empty() {
        errors.required(&path.child(key), "");
    }
}

fn check_secret_name(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if source.field("secretRef").is_some_and(|secret| secret.text("name").is_empty()) {
        errors.required(&path.child("secretRef").child("name"), "");
    }
}

fn check_partition(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if let Some(number) = source.int("partition").filter(|number| !(0..=255).contains(number)) {
        let detail = "must be between 1 and 255, inclusive";
        errors.invalid(&path.child("partition"), &json!(number), detail);
    }
}

/// What is wrong with an iSCSI name: a text, and whether its prefix is unknown.
fn iscsi_name_fault(name: &str) -> Option<bool> {
    let alphanumeric = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric());
    if let Some(rest) = name.strip_prefix("iqn") {
        return (!is_iqn(rest)).then_some(false);
    }
    for (prefix, length) in [("eui", 16), ("naa", 32)] {
        if let Some(rest) = name.strip_prefix(prefix) {
            let fits = rest.len() == length + 1 && alphanumeric(&rest[1..]);
            return (!fits).then_some(false);
        }
    }
    Some(true)
}

/// `.YYYY-MM.AUTHORITY[:UNIQUE]` after `iqn`; upstream wants the unique part.
fn is_iqn(rest: &str) -> bool {
    let digit = |b: Option<&u8>| b.is_some_and(u8::is_ascii_digit);
    let bytes = rest.as_bytes();
    let dated = bytes.len() > 9
        && bytes[0] == b'.'
        && (1..5).all(|at| digit(bytes.get(at)))
        && bytes[5] == b'-'
        && (6..8).all(|at| digit(bytes.get(at)))
        && bytes[8] == b'.';
    let Some((authority, unique)) = rest.get(9..).and_then(|tail| tail.split_once(':')) else {
        return false;
    };
    let part = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let banned = |c: char| ",;*&$|".contains(c) || c.is_whitespace();
    dated
        && !authority.is_empty()
        && authority.bytes().all(part)
        && !unique.is_empty()
        && !unique.contains(banned)
}

/// Checks an `iscsi` source of a pod.
pub(crate) fn check_iscsi(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let unknown = "must be valid format starting with iqn, eui, or naa";
    let malformed = "must be valid format";
    check::required(errors, source, path, "targetPortal");
    let name = source.text("iqn");
    if check::required(errors, source, path, "iqn")
        && let Some(prefix_unknown) = iscsi_name_fault(name)
    {
        let detail = if prefix_unknown { unknown } else { malformed };
        errors.invalid_str(&path.child("iqn"), name, detail);
    }
    check_lun(source, path, errors);
    check_chap(source, path, errors);
    if let Some(name) = source.text_opt("initiatorName")
        && let Some(prefix_unknown) = iscsi_name_fault(name)
    {
        let detail = if prefix_unknown { unknown } else { malformed };
        errors.invalid_str(&path.child("initiatorname"), name, detail);
    }
}

/// Checks an `iscsi` source of a PersistentVolume.
pub(crate) fn check_iscsi_pv(
    source: &Value,
    volume_name: &str,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    check::required(errors, source, path, "targetPortal");
    let portal = source.text("targetPortal");
    if source.field("initiatorName").is_some()
        && volume_name.len() + 1 + portal.len() > ISCSI_NAME_MAX
    {
        errors.invalid_str(&path.child("targetportal"), portal, ISCSI_NAME_TOO_LONG);
    }
    if check::required(errors, source, path, "iqn")
        && iscsi_name_fault(source.text("iqn")).is_some()
    {
        errors.invalid_str(&path.child("iqn"), source.text("iqn"), "must be valid format");
    }
    check_lun(source, path, errors);
    check_chap(source, path, errors);
    check_secret_name(source, path, errors);
    if let Some(name) = source.text_opt("initiatorName")
        && iscsi_name_fault(name).is_some()
    {
        errors.invalid_str(&path.child("initiatorname"), name, "must be valid format");
    }
}

const ISCSI_NAME_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be \
    under 64 characters if iscsi.initiatorName is specified.";

/// Checks that the kernel name of an iSCSI device fits.
pub(crate) fn check_iscsi_name(
    source: &Value,
    volume_name: &str,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let length = volume_name.len() + 1 + source.text("targetPortal").len();
    if source.field("initiatorName").is_some() && length > ISCSI_NAME_MAX {
        errors.invalid_str(path, volume_name, ISCSI_NAME_TOO_LONG);
    }
}

fn check_lun(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check::range(errors, &path.child("lun"), source.int("lun").unwrap_or(0), 0, 255);
}

fn check_chap(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let wanted = source.flag("chapAuthDiscovery") || source.flag("chapAuthSession");
    if wanted && source.field("secretRef").is_none() {
        errors.required(&path.child("secretRef"), "");
    }
}

fn check_flocker(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let (name, uuid) = (source.text("datasetName"), source.text("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.required(path, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        errors.invalid_str(path, "resource", detail);
    }
    if name.contains('/') {
        errors.invalid_str(&path.child("datasetName"), name, "must not contain '/'");
    }
}

fn check_quobyte(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let detail = "must be a host:port pair or multiple pairs separated by commas";
    let registry = source.text("registry");
    if registry.is_empty() {
        errors.required(&path.child("registry"), detail);
    } else if source.text("tenant").len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.required(&path.child("tenant"), detail);
    } else {
        for _ in registry.split(',').filter(|pair| !pair.contains(':')) {
            errors.invalid_str(&path.child("registry"), registry, detail);
        }
    }
    check::required(errors, source, path, "volume");
}

fn check_fibre_channel(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let (ports, disks) = (source.items("targetWWNs"), source.items("wwids"));
    let here = path.child("targetWWNs");
    if ports.is_empty() && disks.is_empty() {
        errors.required(&here, "must specify either targetWWNs or wwids, but not both");
    }
    if !ports.is_empty() && !disks.is_empty() {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        errors.invalid(&here, &json!(ports), detail);
    }
    if !ports.is_empty() {
        match source.int("lun") {
            None => {
                let detail = "lun is required if targetWWNs is specified";
                errors.required(&path.child("lun"), detail);
            }
            Some(lun) => check::range(errors, &path.child("lun"), lun, 0, 255),
        }
    }
}

fn check_flex_options(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for (key, _) in source.entries("options") {
        let domain = key.split('/').next().unwrap_or(key).to_lowercase();
        let reserved = ["kubernetes.io", "k8s.io"]
            .iter()
            .any(|name| domain == *name || domain.ends_with(&format!(".{name}")));
        if reserved {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid_str(&path.child("options").key(key), key, detail);
        }
    }
}

fn check_azure_disk(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check::required(errors, source, path, "diskName");
    check::required(errors, source, path, "diskURI");
    if let Some(mode) = source.text_opt("cachingMode") {
        let supported = ["None", "ReadOnly", "ReadWrite"];
        check::one_of(errors, &path.child("cachingMode"), mode, &supported);
    }
    let Some(kind) = source.text_opt("kind") else { return };
    check::one_of(errors, &path.child("kind"), kind, &["Dedicated", "Managed", "Shared"]);
    let uri = source.text("diskURI");
    let (prefix, form) = if kind == "Managed" {
        (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/\
             disks/{disk-id}",
        )
    } else {
        (
            "https://",
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        )
    };
    if !uri.starts_with(prefix) {
        errors.not_supported(&path.child("diskURI"), &json!(uri), &[form]);
    }
}

fn check_storageos(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if check::required(errors, source, path, "volumeName") {
        check::label(errors, &path.child("volumeName"), source.text("volumeName"));
    }
    let namespace = source.text("volumeNamespace");
    if !namespace.is_empty() {
        check::label(errors, &path.child("volumeNamespace"), namespace);
    }
    check_secret_name(source, path, errors);
}

fn check_csi(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check_csi_driver_name(source.text("driver"), &path.child("driver"), errors);
    if let Some(secret) = source.field("nodePublishSecretRef") {
        let name = secret.text("name");
        if name.is_empty() {
            errors.required(&path.child("nodePublishSecretRef").child("name"), "");
        } else {
            check::subdomain(errors, &path.child("name"), name);
        }
    }
}

/// Checks the name of a CSI driver.
pub(crate) fn check_csi_driver_name(name: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if name.is_empty() {
        errors.required(path, "");
        return;
    }
    if name.len() > 63 {
        errors.too_long(path, 63);
    }
    check::faults(errors, path, name, names::dns1123_subdomain(&name.to_lowercase()));
}
