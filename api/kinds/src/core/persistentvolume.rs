//! PersistentVolumes.

use objects::k8s::jiff::Timestamp;
use objects::{FieldErrors, FieldPath, ObjectExt};
use serde_json::{Value, json};

use crate::cells;
use crate::check;
use crate::claim::ACCESS_MODES;
use crate::edit::{Edit, default_resources, restore};
use crate::kind::{Behaviour, Cell, WriteContext};
use crate::pod::{
    check_csi_driver_name, check_disk, check_host_path, check_iscsi_pv, check_node_selector,
    defaults::legacy_volume,
};
use crate::read::{NOTHING, Read, part, quantity, same};

/// The sources of a volume in the order in which they are checked, and the name a second one is
/// reported under.
const SOURCES: [(&str, &str); 21] = [
    ("hostPath", "hostPath"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("nfs", "nfs"),
    ("rbd", "rbd"),
    ("quobyte", "quobyte"),
    ("cephfs", "cephFS"),
    ("iscsi", "iscsi"),
    ("cinder", "cinder"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO"),
    ("local", "local"),
    ("storageos", "storageos"),
];

/// Behaviour of PersistentVolumes.
pub(crate) struct PersistentVolume;

impl Behaviour for PersistentVolume {
    fn default(&self, object: &mut Value) {
        let spec = object.map_mut("spec");
        spec.default_zero("persistentVolumeReclaimPolicy", "Retain");
        spec.default_to("volumeMode", "Filesystem");
        default_resources(spec.field_mut("capacity"));
        if let Some(path) = spec.field_mut("hostPath") {
            path.default_to("type", "");
        }
        legacy_volume(spec);
        object.map_mut("status").default_zero("phase", "Pending");
    }

    fn prepare_create(&self, object: &mut Value, context: &WriteContext<'_>) {
        let since = objects::time::format_time(context.now);
        object.set_at(&["status"], json!({"phase": "Pending", "lastPhaseTransitionTime": since}));
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, context: &WriteContext<'_>) {
        if context.subresource != "status" {
            restore(new, old, &["status"]);
            return;
        }
        restore(new, old, &["spec"]);
        let key = "lastPhaseTransitionTime";
        let path = &["status", key];
        let (phase, before) = (new.str_at(&["status", "phase"]), old.str_at(&["status", "phase"]));
        let own = new.at(path).is_some_and(|time| Some(time) != old.at(path));
        if phase != before && !own {
            new.set_at(path, json!(objects::time::format_time(context.now)));
        }
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let path = FieldPath::new("spec");
        check_spec(part(object, &["spec"]), object.name(), false, &path, errors);
    }

    fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        context: &WriteContext<'_>,
        errors: &mut FieldErrors,
    ) {
        if context.subresource == "status" {
            return;
        }
        self.validate(new, errors);
        check_change(part(new, &["spec"]), part(old, &["spec"]), errors);
    }

    fn warnings(&self, object: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings(object)
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("name", object.name().to_string())]
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Cell> {
        let (spec, status) = (part(object, &["spec"]), part(object, &["status"]));
        let claim = spec.field("claimRef").map_or(String::new(), |claim| {
            format!("{}/{}", claim.text("namespace"), claim.text("name"))
        });
        let deleted = !object.deletion_timestamp().is_empty();
        let phase = if deleted { "Terminating" } else { status.text("phase") };
        let size = part(spec, &["capacity"]).field("storage").and_then(quantity);
        let set = |key: &str| json!(spec.text_opt(key).unwrap_or("<unset>"));
        vec![
            cells::name(object),
            json!(size.unwrap_or_default().to_string()),
            json!(access_modes(&spec.texts("accessModes"))),
            json!(spec.text("persistentVolumeReclaimPolicy")),
            json!(phase),
            json!(claim),
            json!(class(object, spec)),
            set("volumeAttributesClassName"),
            json!(status.text("reason")),
            cells::age(object, now),
            set("volumeMode"),
        ]
    }

    fn reset_fields(&self, subresource: &str) -> &'static [&'static str] {
        if subresource == "status" { &["spec"] } else { &["status"] }
    }
}

/// Access modes in short.
pub(super) fn access_modes(modes: &[&str]) -> String {
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let texts: Vec<&str> =
        short.iter().filter(|(long, _)| modes.contains(long)).map(|(_, s)| *s).collect();
    texts.join(",")
}

/// The storage class, which an old annotation may name.
pub(super) fn class<'a>(object: &'a Value, spec: &'a Value) -> &'a str {
    let old = part(object, &["metadata", "annotations"])
        .text_opt("volume.beta.kubernetes.io/storage-class");
    old.unwrap_or(spec.text("storageClassName"))
}

/// Checks a volume's spec. Inline ones stand in a VolumeAttachment and say less.
pub(crate) fn check_spec(
    spec: &Value,
    name: &str,
    inline: bool,
    path: &FieldPath,
    errors: &mut FieldErrors,
) {
    let no_inline = "may not be specified in the context of inline volumes";
    if inline {
        for key in ["claimRef", "capacity"].iter().filter(|key| spec.is_set(key)) {
            errors.forbidden(&path.child(key), no_inline);
        }
        if spec.field("csi").is_none() {
            let detail = "has to be specified in the context of inline volumes";
            errors.required(&path.child("csi"), detail);
        }
    }
    check_access_modes(spec, path, errors);
    if !inline {
        check_capacity(spec, path, errors);
    }
    let here = path.child("persistentVolumeReclaimPolicy");
    let policy = spec.text("persistentVolumeReclaimPolicy");
    if inline && !matches!(policy, "" | "Retain") {
        errors.forbidden(&here, "may only be Retain in the context of inline volumes");
    } else if !inline && !policy.is_empty() {
        check::one_of(errors, &here, policy, &["Delete", "Recycle", "Retain"]);
    }
    let here = path.child("nodeAffinity");
    match spec.field("nodeAffinity") {
        Some(_) if inline => errors.forbidden(&here, no_inline),
        Some(affinity) => match affinity.field("required") {
            Some(required) => check_node_selector(required, &here.child("required"), errors),
            None => {
                errors.required(&here.child("required"), "must specify required node constraints");
            }
        },
        None => {}
    }
    check_sources(spec, name, path, errors);
    let root = part(spec, &["hostPath"]).text("path").trim_end_matches('/');
    if spec.field("hostPath").is_some() && root.is_empty() && policy == "Recycle" {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.forbidden(&path.child("persistentVolumeReclaimPolicy"), detail);
    }
    check_classes(spec, inline, path, errors);
}

fn check_access_modes(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let here = path.child("accessModes");
    let modes = spec.texts("accessModes");
    if modes.is_empty() {
        errors.required(&here, "");
    }
    for mode in &modes {
        check::one_of(errors, &here, mode, &ACCESS_MODES);
    }
    let known = modes.iter().filter(|mode| ACCESS_MODES.contains(mode));
    let (single, shared): (Vec<&str>, Vec<&str>) =
        known.copied().partition(|mode| *mode == "ReadWriteOncePod");
    if !single.is_empty() && !shared.is_empty() {
        errors.forbidden(&here, "may not use ReadWriteOncePod with other access modes");
    }
}

fn check_capacity(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let here = path.child("capacity");
    let capacity = spec.entries("capacity");
    if capacity.is_empty() {
        errors.required(&here, "");
    }
    if !capacity.iter().any(|(name, _)| *name == "storage") || capacity.len() > 1 {
        let printed = spec.field("capacity").unwrap_or(&NOTHING);
        errors.not_supported(&here, printed, &["storage"]);
    }
    for (name, value) in capacity {
        let Some(amount) = quantity(value) else { continue };
        if amount.sign() < 0 {
            let detail = "must be a valid resource quantity";
            errors.invalid(&here.key(name), &json!(amount.value()), detail);
        }
        if amount.sign() <= 0 {
            let detail = "must be greater than zero";
            errors.invalid_str(&here.key(name), &amount.to_string(), detail);
        }
    }
}

fn check_sources(spec: &Value, name: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let mut count = 0;
    for (key, reported) in SOURCES.iter().chain(&[("csi", "csi")]) {
        let Some(source) = spec.field(key) else { continue };
        if count > 0 && *key != "flexVolume" {
            let detail = "may not specify more than 1 volume type";
            errors.forbidden(&path.child(reported), detail);
            continue;
        }
        count += 1;
        let here = path.child(key);
        match *key {
            "hostPath" => check_host_path(source, &here, errors),
            "gcePersistentDisk" => check_disk(key, source, &path.child("persistentDisk"), errors),
            "iscsi" => check_iscsi_pv(source, name, &here, errors),
            "csi" => check_csi(source, &here, errors),
            "local" => {
                if check::required(errors, source, &here, "path") {
                    check::no_backsteps(errors, &here.child("path"), source.text("path"));
                }
                if spec.field("nodeAffinity").is_none() {
                    let detail = "Local volume requires node affinity";
                    errors.required(&path.child("nodeAffinity"), detail);
                }
            }
            key => {
                check_disk(key, source, &here, errors);
                check_namespaces(key, source, &here, errors);
            }
        }
    }
    if count == 0 {
        errors.required(path, "must specify a volume type");
    }
}

/// Checks the namespaces that the sources of a PersistentVolume name, and those of a pod do not.
fn check_namespaces(key: &str, source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    match key {
        "cinder" | "storageos" => {
            let secret = source.field("secretRef");
            if secret.is_some_and(|secret| secret.text("namespace").is_empty()) {
                errors.required(&path.child("secretRef").child("namespace"), "");
            }
        }
        "azureFile" if source.text_opt("secretNamespace") == Some("") => {
            errors.required(&path.child("secretNamespace"), "");
        }
        "glusterfs" => {
            let here = path.child("endpointsNamespace");
            match source.text_opt("endpointsNamespace") {
                Some("") => {
                    let detail = "if the endpointnamespace is set, it must be a valid namespace \
                                  name";
                    errors.invalid_str(&here, "", detail);
                }
                Some(namespace) => check::label(errors, &here, namespace),
                None => {}
            }
        }
        _ => {}
    }
}

fn check_csi(source: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    check_csi_driver_name(source.text("driver"), &path.child("driver"), errors);
    check::required(errors, source, path, "volumeHandle");
    for key in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let Some(secret) = source.field(key) else { continue };
        let here = path.child(key);
        if check::required(errors, secret, &here, "name") {
            check::subdomain(errors, &here.child("name"), secret.text("name"));
        }
        if check::required(errors, secret, &here, "namespace") {
            check::label(errors, &here.child("namespace"), secret.text("namespace"));
        }
    }
}

fn check_classes(spec: &Value, inline: bool, path: &FieldPath, errors: &mut FieldErrors) {
    let no_inline = "may not be specified in the context of inline volumes";
    let class = spec.text("storageClassName");
    let here = path.child("storageClassName");
    if !class.is_empty() && inline {
        errors.forbidden(&here, no_inline);
    } else if !class.is_empty() {
        check::subdomain(errors, &here, class);
    }
    let here = path.child("volumeMode");
    match spec.text_opt("volumeMode") {
        Some(mode) if inline && mode != "Filesystem" => {
            let detail = "may not specify volumeMode other than Filesystem in the context of \
                          inline volumes";
            errors.forbidden(&here, detail);
        }
        Some(mode) if !inline => check::one_of(errors, &here, mode, &["Block", "Filesystem"]),
        _ => {}
    }
    if let Some(class) = spec.text_opt("volumeAttributesClassName") {
        let here = path.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.required(&here, "an empty string is disallowed");
        } else {
            check::subdomain(errors, &here, class);
        }
        if spec.field("csi").is_none() {
            let detail = "has to be specified when using volumeAttributesClassName";
            errors.required(&path.child("csi"), detail);
        }
    }
}

fn check_change(spec: &Value, before: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("spec");
    let sources = |spec: &Value| {
        let mut out = json!({});
        for (key, _) in SOURCES.iter().chain(&[("csi", "csi")]) {
            if let Some(source) = spec.field(key) {
                out.set_at(&[key], source.clone());
            }
        }
        out
    };
    let (mut now, was) = (sources(spec), sources(before));
    let secret = &["csi", "controllerExpandSecretRef"];
    if was.field("csi").is_some() && was.at(secret).is_none() {
        now.remove_at(secret);
    }
    if !same(&now, &was) {
        let detail = "spec.persistentvolumesource is immutable after creation\n";
        errors.forbidden(&path.child("persistentvolumesource"), detail);
    }
    let mode = FieldPath::new("volumeMode");
    check::immutable(errors, &mode, spec.field("volumeMode"), before.field("volumeMode"));
    if let Some(affinity) = before.field("nodeAffinity") {
        let now = spec.field("nodeAffinity").unwrap_or(&NOTHING);
        if !same(now, affinity) {
            let detail = "field is immutable, except for updating from beta label to GA";
            errors.invalid(&FieldPath::new("nodeAffinity"), now, detail);
        }
    }
    let class = "volumeAttributesClassName";
    if before.field(class).is_some() && spec.field(class).is_none() {
        let detail = "update from non-nil value to nil is forbidden";
        errors.forbidden(&path.child(class), detail);
    }
}

fn warnings(object: &Value) -> Vec<String> {
    let spec = part(object, &["spec"]);
    let path = FieldPath::new("spec");
    let mut out = Vec::new();
    let old_class = "volume.beta.kubernetes.io/storage-class";
    let annotations = part(object, &["metadata", "annotations"]);
    if annotations.field(old_class).is_some() {
        let here = FieldPath::new("metadata").child("annotations").key(old_class);
        let text = "deprecated since v1.8; use \"storageClassName\" attribute instead";
        out.push(format!("{here}: {text}"));
    }
    if spec.text("persistentVolumeReclaimPolicy") == "Recycle" {
        let text = "The Recycle reclaim policy is deprecated. Instead, the recommended approach \
                    is to use dynamic provisioning.";
        out.push(format!("{}: {text}", path.child("persistentVolumeReclaimPolicy")));
    }
    let required = part(spec, &["nodeAffinity", "required"]);
    let here = path.child("nodeAffinity").child("required").child("nodeSelectorTerms");
    for (index, term) in required.items("nodeSelectorTerms").iter().enumerate() {
        crate::pod::warnings::of_node_term(term, false, &here.index(index), &mut out);
    }
    for (key, since) in [
        ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ] {
        if spec.field(key).is_some() {
            let reported = if key == "storageos" { "storageOS" } else { key };
            out.push(format!("{}: {since}", path.child(reported)));
        }
    }
    out
}
