//! Warnings about files of one volume that hide each other.

use serde_json::Value;

use crate::read::{Read, part};

#[derive(Clone, PartialEq, Eq)]
struct File {
    path: String,
    source: String,
}

impl std::fmt::Display for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.path)?;
        if self.source.is_empty() { Ok(()) } else { write!(f, " ({})", self.source) }
    }
}

/// Warnings about the volumes of a pod.
pub(crate) fn warnings(volumes: &[Value]) -> Vec<String> {
    let mut out = Vec::new();
    for volume in volumes {
        let name = volume.text("name");
        for (kind, label, key) in [
            ("configMap", "ConfigMap", "name"),
            ("secret", "Secret", "secretName"),
            ("downwardAPI", "DownwardAPI", ""),
        ] {
            let Some(source) = volume.field(kind) else { continue };
            let what = if key.is_empty() {
                label.to_string()
            } else {
                format!("{label} {:?}", source.text(key))
            };
            let mut known = Vec::new();
            for file in files(source, "") {
                add(&mut known, file, name, &what, &mut out);
            }
        }
        if let Some(projected) = volume.field("projected") {
            of_projected(projected, name, &mut out);
        }
    }
    out
}

fn of_projected(projected: &Value, name: &str, out: &mut Vec<String>) {
    let mut known = Vec::new();
    for source in projected.items("sources") {
        if source.as_object().is_none_or(|map| map.values().all(Value::is_null)) {
            out.push(format!("volume {name:?} (Projected) has no sources provided"));
            continue;
        }
        for file in projected_files(source) {
            add(&mut known, file, name, "Projected", out);
        }
    }
}

fn files(source: &Value, label: &str) -> Vec<File> {
    let items = source.items("items").iter();
    items.map(|item| File { path: item.text("path").into(), source: label.into() }).collect()
}

fn projected_files(source: &Value) -> Vec<File> {
    for (kind, label) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
        if let Some(inner) = source.field(kind).filter(|inner| inner.field("items").is_some()) {
            return files(inner, &format!("{label} {:?}", inner.text("name")));
        }
    }
    if let Some(inner) = source.field("downwardAPI") {
        return files(inner, "DownwardAPI");
    }
    let one = |path: &str, source: String| vec![File { path: path.to_string(), source }];
    if let Some(token) = source.field("serviceAccountToken") {
        return one(token.text("path"), "ServiceAccountToken".into());
    }
    if let Some(bundle) = source.field("clusterTrustBundle") {
        let name = bundle.text_opt("name").unwrap_or(bundle.text("signerName"));
        return one(bundle.text("path"), format!("ClusterTrustBundle {name:?}"));
    }
    let certificate = part(source, &["podCertificate"]);
    [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ]
    .iter()
    .filter(|(key, _)| !certificate.text(key).is_empty())
    .map(|(key, label)| File { path: certificate.text(key).into(), source: (*label).into() })
    .collect()
}

/// Adds a file, with a warning for each other one in its place, above it or below it.
fn add(known: &mut Vec<File>, mut file: File, volume: &str, what: &str, out: &mut Vec<String>) {
    file.path.truncate(file.path.trim_end_matches('/').len());
    if !file.path.is_empty() {
        for other in known.iter().filter(|other| !other.path.is_empty()) {
            let (a, b) = (format!("{}/", other.path), format!("{}/", file.path));
            if a.starts_with(&b) || b.starts_with(&a) {
                out.push(format!(
                    "volume {volume:?} ({what}): overlapping paths: {file} with {other}"
                ));
            }
        }
    }
    known.push(file);
}
