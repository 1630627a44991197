//! The environment of a container. PURE.
//!
//! Source of behaviour: kubernetes pkg/kubelet/kubelet_pods.go `makeEnvironmentVariables` and
//! pkg/kubelet/envvars, v1.36: service variables first, overridden by `envFrom`, overridden by
//! `env`; each value is expanded with what came before it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret, Service,
};

use super::expand::expand;
use super::fields::{self, Context};
use crate::pod::PodExt;

/// The objects that an environment is made from.
pub(crate) trait Sources {
    /// A config map of the pod's namespace.
    fn config_map(&self, name: &str) -> Option<std::sync::Arc<ConfigMap>>;
    /// A secret of the pod's namespace.
    fn secret(&self, name: &str) -> Option<std::sync::Arc<Secret>>;
}

/// Why an environment cannot be made. The texts are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(clippy::enum_variant_names, reason = "each names what is missing")]
pub(crate) enum EnvError {
    #[error("{kind} \"{name}\" not found")]
    NoObject { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { kind: &'static str, namespace: String, name: String, key: String },
    #[error("unsupported fieldPath: {0}")]
    NoField(String),
    #[error("unsupported container resource: {0}")]
    NoResource(String),
}

/// Variables in the order in which they were first set.
#[derive(Debug, Default)]
struct Variables {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Variables {
    fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.order.push(name.to_owned());
        }
    }
}

/// An environment, and the keys that cannot be names of variables and were left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// Names and values, in order.
    pub(crate) variables: Vec<(String, String)>,
    /// Texts for an Event.
    pub(crate) skipped: Vec<String>,
}

impl Environment {
    /// The value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The environment of a container, without what its image sets.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    services: &[std::sync::Arc<Service>],
    sources: &dyn Sources,
    context: &Context,
) -> Result<Environment, EnvError> {
    let mut variables = Variables::default();
    let mut skipped = Vec::new();
    let links = PodExt::spec(pod).enable_service_links.unwrap_or(true);
    let service_env = service_variables(services, pod.namespace(), links);
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or("");
        let mut invalid = Vec::new();
        let (kind, name) = if let Some(reference) = &from.config_map_ref {
            let found = sources.config_map(&reference.name);
            let Some(map) = found else {
                missing("configmap", &reference.name, reference.optional)?;
                continue;
            };
            for (key, value) in map.data.iter().flatten() {
                set_prefixed(&mut variables, prefix, key, value.clone(), &mut invalid);
            }
            ("ConfigMap", &reference.name)
        } else if let Some(reference) = &from.secret_ref {
            let found = sources.secret(&reference.name);
            let Some(secret) = found else {
                missing("secret", &reference.name, reference.optional)?;
                continue;
            };
            for (key, value) in secret.data.iter().flatten() {
                set_prefixed(&mut variables, prefix, key, text(value), &mut invalid);
            }
            ("Secret", &reference.name)
        } else {
            continue;
        };
        if !invalid.is_empty() {
            skipped.push(format!(
                "Keys [{}] from the EnvFrom {kind} {}/{name} were skipped since they are considered \
                 invalid environment variable names.",
                invalid.join(", "),
                pod.namespace(),
            ));
        }
    }
    for variable in container.env.iter().flatten() {
        let known = |name: &str| {
            let own = variables.values.get(name).or_else(|| service_env.get(name));
            own.map(String::as_str)
        };
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) if variable.value.as_deref().unwrap_or("").is_empty() => {
                let found = referenced(pod, container, variable, source, sources, context)?;
                let Some(value) = found else { continue };
                value
            }
            (Some(value), _) => expand(value, known),
            (None, _) => String::new(),
        };
        variables.set(&variable.name, value);
    }
    for (name, value) in service_env {
        if !variables.values.contains_key(&name) {
            variables.set(&name, value);
        }
    }
    let Variables { order, mut values } = variables;
    let variables = order.into_iter().map(|name| {
        let value = values.remove(&name).expect("every name in the order has a value");
        (name, value)
    });
    Ok(Environment { variables: variables.collect(), skipped })
}

/// Kubernetes lets names of variables hold any printable ASCII but `=`.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=')
}

fn set_prefixed(
    variables: &mut Variables,
    prefix: &str,
    key: &str,
    value: String,
    invalid: &mut Vec<String>,
) {
    let name = format!("{prefix}{key}");
    if is_name(&name) {
        variables.set(&name, value);
    } else {
        invalid.push(key.to_owned());
    }
}

fn missing(kind: &'static str, name: &str, optional: Option<bool>) -> Result<(), EnvError> {
    if optional == Some(true) {
        return Ok(());
    }
    Err(EnvError::NoObject { kind, name: name.to_owned() })
}

/// What is not UTF-8 cannot be in an environment made of Rust's strings; it is replaced.
fn text(value: &ByteString) -> String {
    String::from_utf8_lossy(&value.0).into_owned()
}

/// The value of a variable's source; `None` if it is optional and absent.
fn referenced(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    source: &EnvVarSource,
    sources: &dyn Sources,
    context: &Context,
) -> Result<Option<String>, EnvError> {
    if let Some(reference) = &source.field_ref {
        let value = fields::field(pod, &reference.field_path, context);
        return value.map(Some).ok_or_else(|| EnvError::NoField(reference.field_path.clone()));
    }
    if let Some(selector) = &source.resource_field_ref {
        let other = selector.container_name.as_deref().filter(|name| *name != container.name);
        let listed = other.and_then(|name| pod.find(name));
        let target = listed.as_ref().map_or(container, |listed| listed.spec.as_ref());
        let value = fields::resource(target, selector, context);
        return value.map(Some).ok_or_else(|| EnvError::NoResource(selector.resource.clone()));
    }
    let (kind, name, key, optional, object, value) = if let Some(r) = &source.config_map_key_ref {
        let object = sources.config_map(&r.name);
        let value = object.as_ref().and_then(|map| map.data.as_ref()?.get(&r.key).cloned());
        ("ConfigMap", &r.name, &r.key, r.optional, object.is_some(), value)
    } else if let Some(r) = &source.secret_key_ref {
        let object = sources.secret(&r.name);
        let value = object.as_ref().and_then(|secret| secret.data.as_ref()?.get(&r.key).map(text));
        ("Secret", &r.name, &r.key, r.optional, object.is_some(), value)
    } else {
        return Err(EnvError::NoField(format!("the source of variable {}", variable.name)));
    };
    if value.is_some() || optional == Some(true) {
        return Ok(value);
    }
    let name = name.clone();
    if !object {
        let kind = if kind == "Secret" { "secret" } else { "configmap" };
        return Err(EnvError::NoObject { kind, name });
    }
    let namespace = pod.namespace().to_owned();
    Err(EnvError::NoKey { kind, namespace, name, key: key.clone() })
}

/// `NAME_SERVICE_HOST` and the docker-link variables of every Service with an address: those of the
/// pod's namespace if it wants links, and always that of the API itself.
fn service_variables(
    services: &[std::sync::Arc<Service>],
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let own = service.metadata.namespace.as_deref() == Some(namespace);
        let name = service.metadata.name.as_deref().unwrap_or("");
        let master =
            service.metadata.namespace.as_deref() == Some("default") && name == "kubernetes";
        if own && (links || master) {
            chosen.insert(name, service);
        } else if master {
            chosen.entry(name).or_insert(service);
        }
    }
    let mut variables = BTreeMap::new();
    for (name, service) in chosen {
        add_service(name, service, &mut variables);
    }
    variables
}

fn add_service(name: &str, service: &Service, variables: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else {
        return;
    };
    let Some(first) = spec.ports.iter().flatten().next() else { return };
    let prefix = screaming(name);
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let url = |protocol: &str, port: i32| format!("{}://{host}:{port}", protocol.to_lowercase());
    variables.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    variables.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    let protocol = |given: &Option<String>| given.clone().unwrap_or_else(|| "TCP".into());
    variables.insert(format!("{prefix}_PORT"), url(&protocol(&first.protocol), first.port));
    for port in spec.ports.iter().flatten() {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            variables.insert(
                format!("{prefix}_SERVICE_PORT_{}", screaming(name)),
                port.port.to_string(),
            );
        }
        let kind = protocol(&port.protocol);
        let link = format!("{prefix}_PORT_{}_{}", port.port, kind.to_uppercase());
        variables.insert(format!("{link}_PROTO"), kind.to_lowercase());
        variables.insert(format!("{link}_PORT"), port.port.to_string());
        variables.insert(format!("{link}_ADDR"), ip.to_owned());
        variables.insert(link, url(&kind, port.port));
    }
}

fn screaming(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests;
