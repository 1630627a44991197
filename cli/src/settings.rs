//! Flags and the configuration file: one structure, in which the flags win.
//!
//! This is the only place with default values. Unknown keys of the file are refused.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

/// What may be said on the command line or in the file, key for key.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// TOML file with any of these settings (keys as the flags are named).
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// What must outlive a reboot [default: /var/lib/skeg].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// What need not: sockets, pinned namespaces [default: /run/skeg].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) run_dir: Option<PathBuf>,
    /// Name of this node [default: the host name].
    #[arg(long)]
    pub(crate) node_name: Option<String>,
    /// Address of this node [default: that of the interface with the default route].
    #[arg(long)]
    pub(crate) node_ip: Option<IpAddr>,
    /// Labels of this node: KEY=VALUE.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) node_label: Vec<String>,
    /// Cgroup below which pods run, in each hierarchy [default: /skeg].
    #[arg(long)]
    pub(crate) cgroup_root: Option<PathBuf>,
    /// Folder of the cgroup v2 hierarchy in which Services work [default: its root].
    #[arg(long)]
    pub(crate) service_cgroup: Option<PathBuf>,
    /// Registries spoken to by plain HTTP: HOST[:PORT].
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) plain_http_registry: Vec<String>,
    /// Most pods on this node [default: 250].
    #[arg(long)]
    pub(crate) max_pods: Option<u32>,
    /// Below what the node is under pressure: SIGNAL<AMOUNT, several with commas between
    /// [default: memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,pid.available<1000].
    #[arg(long, value_name = "SIGNAL<AMOUNT")]
    pub(crate) eviction_hard: Option<String>,
    /// Address of cluster DNS [default: 10.96.0.10].
    #[arg(long)]
    pub(crate) cluster_dns: Option<IpAddr>,
    /// DNS domain of the cluster [default: cluster.local].
    #[arg(long)]
    pub(crate) cluster_domain: Option<String>,
    /// Range of pod addresses [default: 10.244.0.0/16].
    #[arg(long)]
    pub(crate) cluster_cidr: Option<String>,
    /// Range of Service addresses [default: 10.96.0.0/16].
    #[arg(long)]
    pub(crate) service_cidr: Option<String>,
    /// Port of the API [default: 6443].
    #[arg(long)]
    pub(crate) api_port: Option<u16>,
    /// Further names and addresses in the API's certificate.
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_san: Vec<String>,
    /// Where the administrator's kubeconfig goes [default: DATA_DIR/server/admin.kubeconfig].
    #[arg(long, value_name = "FILE")]
    pub(crate) write_kubeconfig: Option<PathBuf>,
    /// Kubernetes `EncryptionConfiguration` (aesgcm, identity) of values on disk [default: none].
    /// Read again every minute; what is stored is then encrypted anew.
    #[arg(long, value_name = "FILE")]
    pub(crate) encryption_provider_config: Option<PathBuf>,
    /// Members of the etcd cluster that keeps the state: http[s]://HOST:PORT
    /// [default: none, the state is in DATA_DIR].
    #[arg(long, value_name = "URL")]
    pub(crate) datastore_endpoint: Vec<String>,
    /// PEM file with the authority of etcd's certificates.
    #[arg(long, value_name = "FILE")]
    pub(crate) datastore_cafile: Option<PathBuf>,
    /// PEM file with this server's certificate for etcd.
    #[arg(long, value_name = "FILE", requires = "datastore_keyfile")]
    pub(crate) datastore_certfile: Option<PathBuf>,
    /// PEM file with its key.
    #[arg(long, value_name = "FILE", requires = "datastore_certfile")]
    pub(crate) datastore_keyfile: Option<PathBuf>,
    /// Kubernetes audit `Policy`: how much of which request is recorded [default: none].
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_policy_file: Option<PathBuf>,
    /// Where audit events go, one a line; `-` is standard output
    /// [default: DATA_DIR/server/audit.log].
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log_path: Option<PathBuf>,
    /// Days that rotated audit logs are kept [default: for ever].
    #[arg(long, value_name = "DAYS")]
    pub(crate) audit_log_maxage: Option<u32>,
    /// Rotated audit logs that are kept [default: all].
    #[arg(long, value_name = "FILES")]
    pub(crate) audit_log_maxbackup: Option<usize>,
    /// Size in MiB at which the audit log is rotated [default: 100].
    #[arg(long, value_name = "MIB")]
    pub(crate) audit_log_maxsize: Option<u32>,
    /// Admission rules that are off by default: AlwaysPullImages, DenyServiceExternalIPs,
    /// ExtendedResourceToleration, OwnerReferencesPermissionEnforcement.
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub(crate) enable_admission_plugins: Vec<String>,
    /// Does not run pods on this server.
    #[arg(long)]
    #[serde(default)]
    pub(crate) disable_node: bool,
}

/// Where things are kept, for subcommands that talk to a node's files.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Folders {
    /// What must outlive a reboot [default: /var/lib/skeg].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// What need not: sockets, pinned namespaces [default: /run/skeg].
    #[arg(long, value_name = "FOLDER")]
    pub(crate) run_dir: Option<PathBuf>,
}

impl Folders {
    /// The data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| "/var/lib/skeg".into())
    }
    /// The run folder.
    pub(crate) fn run(&self) -> PathBuf {
        self.run_dir.clone().unwrap_or_else(|| "/run/skeg".into())
    }
}

/// What is recorded of requests, and where.
#[derive(Debug, Clone)]
pub(crate) struct AuditSettings {
    pub(crate) policy: PathBuf,
    pub(crate) log: apiserver::audit::LogConfig,
}

/// Settings with everything decided.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) node_name: String,
    pub(crate) node_ip: IpAddr,
    pub(crate) node_labels: Vec<(String, String)>,
    pub(crate) cgroup_root: PathBuf,
    pub(crate) service_cgroup: Option<PathBuf>,
    pub(crate) plain_http_registries: Vec<String>,
    pub(crate) max_pods: u32,
    pub(crate) eviction_hard: kubelet::EvictionThresholds,
    pub(crate) cluster_dns: IpAddr,
    pub(crate) cluster_domain: String,
    pub(crate) cluster_cidr: String,
    pub(crate) service_cidr: String,
    pub(crate) api_port: u16,
    pub(crate) tls_san: Vec<String>,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) encryption_config: Option<PathBuf>,
    pub(crate) admission_rules: Vec<apiserver::admission::optional::Rule>,
    pub(crate) audit: Option<AuditSettings>,
    pub(crate) etcd: Option<store::EtcdConfig>,
    pub(crate) disable_node: bool,
}

impl Settings {
    fn etcd_config(&self, file: &Self) -> Option<store::EtcdConfig> {
        let endpoints = [&self.datastore_endpoint[..], &file.datastore_endpoint].concat();
        let path = |own: &Option<PathBuf>, other: &Option<PathBuf>| own.clone().or(other.clone());
        let certificate = path(&self.datastore_certfile, &file.datastore_certfile);
        let key = path(&self.datastore_keyfile, &file.datastore_keyfile);
        (!endpoints.is_empty()).then(|| store::EtcdConfig {
            endpoints,
            prefix: "/skeg".into(),
            ca_file: path(&self.datastore_cafile, &file.datastore_cafile),
            identity_files: certificate.zip(key),
        })
    }

    fn audit_settings(&self, file: &Self, folders: &Folders, policy: PathBuf) -> AuditSettings {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let path = self.audit_log_path.clone().or(file.audit_log_path.clone());
        let max_size = self.audit_log_maxsize.or(file.audit_log_maxsize).unwrap_or(100);
        let max_age_days = self.audit_log_maxage.or(file.audit_log_maxage).unwrap_or(0);
        AuditSettings {
            policy,
            log: apiserver::audit::LogConfig {
                path: path.unwrap_or_else(|| folders.data().join("server/audit.log")),
                max_size_bytes: u64::from(max_size) << 20,
                max_backups: self.audit_log_maxbackup.or(file.audit_log_maxbackup).unwrap_or(0),
                max_age: DAY * max_age_days,
            },
        }
    }

    /// Reads the file, if one is named, and decides everything.
    pub(crate) fn decide(self) -> Result<Config> {
        let file = match &self.config {
            Some(path) => read_file(path)?,
            None => Self::default(),
        };
        let data_dir = self.data_dir.clone().or_else(|| file.data_dir.clone());
        let run_dir = self.run_dir.clone().or_else(|| file.run_dir.clone());
        let folders = Folders { data_dir, run_dir };
        let audit = self.audit_policy_file.clone().or_else(|| file.audit_policy_file.clone());
        let audit = audit.map(|policy| self.audit_settings(&file, &folders, policy));
        let etcd = self.etcd_config(&file);
        let node_ip = match self.node_ip.or(file.node_ip) {
            Some(address) => address,
            None => crate::uplink::address()
                .context("find this node's address (name it with --node-ip)")?,
        };
        let node_name = match self.node_name.or(file.node_name) {
            Some(name) => name,
            None => host_name()?,
        };
        let labels = [self.node_label, file.node_label].concat();
        let eviction_hard = match self.eviction_hard.or(file.eviction_hard) {
            Some(text) => text.parse().context("--eviction-hard")?,
            None => kubelet::EvictionThresholds::default(),
        };
        let rules = [self.enable_admission_plugins, file.enable_admission_plugins].concat();
        Ok(Config {
            kubeconfig: self
                .write_kubeconfig
                .or(file.write_kubeconfig)
                .unwrap_or_else(|| folders.data().join("server/admin.kubeconfig")),
            admission_rules: rules
                .iter()
                .map(|rule| rule.parse().map_err(anyhow::Error::msg))
                .collect::<Result<_>>()
                .context("--enable-admission-plugins")?,
            audit,
            etcd,
            encryption_config: self.encryption_provider_config.or(file.encryption_provider_config),
            data_dir: folders.data(),
            run_dir: folders.run(),
            node_name,
            node_ip,
            node_labels: labels.iter().map(|label| parse_label(label)).collect::<Result<_>>()?,
            cgroup_root: self.cgroup_root.or(file.cgroup_root).unwrap_or_else(|| "/skeg".into()),
            service_cgroup: self.service_cgroup.or(file.service_cgroup),
            plain_http_registries: [self.plain_http_registry, file.plain_http_registry].concat(),
            // Upstream's 110 is too few for a large node; a /24 holds 254 addresses.
            max_pods: self.max_pods.or(file.max_pods).unwrap_or(250),
            eviction_hard,
            cluster_dns: self
                .cluster_dns
                .or(file.cluster_dns)
                .unwrap_or(IpAddr::from([10, 96, 0, 10])),
            cluster_domain: self
                .cluster_domain
                .or(file.cluster_domain)
                .unwrap_or_else(|| "cluster.local".into()),
            cluster_cidr: self
                .cluster_cidr
                .or(file.cluster_cidr)
                .unwrap_or_else(|| "10.244.0.0/16".into()),
            service_cidr: self
                .service_cidr
                .or(file.service_cidr)
                .unwrap_or_else(|| "10.96.0.0/16".into()),
            api_port: self.api_port.or(file.api_port).unwrap_or(6443),
            tls_san: [self.tls_san, file.tls_san].concat(),
            disable_node: self.disable_node || file.disable_node,
        })
    }
}

fn read_file(path: &Path) -> Result<Settings> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("ask for the host name")?;
    // Node names are DNS-1123 subdomains: lower case.
    Ok(name.to_string_lossy().to_lowercase())
}

fn parse_label(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => bail!("node label {text:?}: give KEY=VALUE"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("skeg.toml");
        std::fs::write(&path, "node-name = \"file\"\nmax-pods = 7\nnode-ip = \"10.0.0.1\"\n")
            .expect("written");
        let settings =
            Settings { config: Some(path), node_name: Some("flag".into()), ..Settings::default() };
        let config = settings.decide().expect("decided");
        assert_eq!((config.node_name.as_str(), config.max_pods), ("flag", 7));
        assert_eq!(config.node_ip, IpAddr::from([10, 0, 0, 1]));
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = toml::from_str::<Settings>("nod-name = \"x\"\n").expect_err("a typing error");
        assert!(error.to_string().contains("nod-name"), "{error}");
    }

    #[test]
    fn labels_have_a_key() {
        assert!(parse_label("a=b").is_ok());
        assert!(parse_label("=b").is_err());
        assert!(parse_label("a").is_err());
    }
}
