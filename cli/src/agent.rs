//! `skeg agent`: a further node, joined by a token.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::pki::{Identity, JoinToken, Leaf, Serving, certificates, enroll, fetch_ca};
use crate::supervisor::Supervisor;
use crate::{check, debug, node};

/// Certificates are looked at this often while running.
const LOOK_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// What an agent is told besides a node's settings.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// URL of a server: https://ADDRESS:6443.
    #[arg(long, value_name = "URL")]
    server: String,
    /// Join token of the cluster; needed at the first start only.
    #[arg(long, env = "SKEG_TOKEN", hide_env_values = true)]
    token: Option<String>,
    #[command(flatten)]
    pub(crate) settings: crate::settings::Settings,
}

/// Joins if this node has not joined yet, then runs the node.
pub(crate) async fn run(options: Options) -> Result<()> {
    let config = options.settings.clone().decide()?;
    check::require()?;
    for folder in [config.data_dir.join("agent"), config.run_dir.clone()] {
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let mut supervisor = Supervisor::new()?;
    let joining = Joining {
        folder: config.data_dir.join("agent/pki"),
        server: options.server.trim_end_matches('/').to_string(),
        token: options.token.clone(),
        node_name: config.node_name.clone(),
        node_ip: config.node_ip.to_string(),
    };
    let authority_pem = joining.authority().await?;
    let client = joining.node_client(&authority_pem).await?;
    let serving = Serving::new(&joining.serving_identity(&client).await?)?;
    let trust = node::Trust { authority_pem, serving: Arc::clone(&serving) };
    let dumps = node::start(&config, client.clone(), trust, &mut supervisor).await?;
    let shutdown = supervisor.shutdown();
    supervisor.start("debug socket", debug::serve(config.run_dir.clone(), dumps, shutdown));
    let shutdown = supervisor.shutdown();
    supervisor.start("certificates", async move {
        joining.keep_current(&client, &serving, shutdown).await;
        Ok(())
    });
    supervisor.wait().await
}

/// What joining needs to know.
struct Joining {
    folder: PathBuf,
    server: String,
    token: Option<String>,
    node_name: String,
    node_ip: String,
}

impl Joining {
    /// The cluster's authority: kept from before, else asked of the server and checked against the
    /// token.
    async fn authority(&self) -> Result<String> {
        let path = self.folder.join("ca.crt");
        if let Ok(text) = fs::read_to_string(&path) {
            return Ok(text);
        }
        let token = self.join_token()?;
        let address = self
            .server
            .strip_prefix("https://")
            .with_context(|| format!("--server {:?}: give an https URL", self.server))?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_matches(['[', ']']);
        let text = fetch_ca(address, host, &token).await?;
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("make {}", self.folder.display()))?;
        fs::write(&path, &text).with_context(|| format!("write {}", path.display()))?;
        info!(server = self.server, "the server belongs to the cluster of the token");
        Ok(text)
    }

    fn join_token(&self) -> Result<JoinToken> {
        let text = self.token.as_deref();
        text.context(
            "this node has not joined yet: give --token (`skeg token create` on a server)",
        )?
        .parse()
    }

    fn client_leaf(&self) -> Leaf {
        Leaf {
            common_name: format!("system:node:{}", self.node_name),
            organizations: vec!["system:nodes".into()],
            names: Vec::new(),
        }
    }

    fn serving_leaf(&self) -> Leaf {
        Leaf { names: vec![self.node_name.clone(), self.node_ip.clone()], ..self.client_leaf() }
    }

    fn config(&self, authority_pem: &str) -> Result<kube::Config> {
        let url = self.server.parse().with_context(|| format!("--server {:?}", self.server))?;
        let mut config = kube::Config::new(url);
        let authority = certificates(authority_pem)?;
        config.root_cert = Some(authority.iter().map(|one| one.as_ref().to_vec()).collect());
        Ok(config)
    }

    /// A client as this node, whose certificate is asked for by the join token if need be.
    async fn node_client(&self, authority_pem: &str) -> Result<kube::Client> {
        let leaf = self.client_leaf();
        let identity = match enroll::kept(&self.folder, "client", &leaf, SystemTime::now()) {
            Some(identity) => identity,
            None => {
                let mut config = self.config(authority_pem)?;
                config.auth_info.token = Some(self.join_token()?.bearer().into());
                let joining = kube::Client::try_from(config).context("make a client")?;
                let signer = enroll::CLIENT_SIGNER;
                let made = enroll::request(&joining, &self.folder, "client", &leaf, signer).await?;
                info!(node = self.node_name, "joined");
                made
            }
        };
        let mut config = self.config(authority_pem)?;
        let encode = |text: &str| STANDARD.encode(text);
        config.auth_info.client_certificate_data = Some(encode(&identity.certificate_pem));
        config.auth_info.client_key_data = Some(encode(&identity.key_pem).into());
        kube::Client::try_from(config).context("make this node's client")
    }

    async fn serving_identity(&self, client: &kube::Client) -> Result<Identity> {
        let leaf = self.serving_leaf();
        if let Some(identity) = enroll::kept(&self.folder, "serving", &leaf, SystemTime::now()) {
            return Ok(identity);
        }
        enroll::request(client, &self.folder, "serving", &leaf, enroll::SERVING_SIGNER).await
    }

    /// Exchanges the serving certificate before it ends. A client certificate that nears its end
    /// is asked for as well, and used from the next start.
    async fn keep_current(
        &self,
        client: &kube::Client,
        serving: &Arc<Serving>,
        shutdown: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if let Err(error) = self.renew(client, serving).await {
                warn!("failed to renew this node's certificates: {error:#}");
            }
        }
    }

    async fn renew(&self, client: &kube::Client, serving: &Arc<Serving>) -> Result<()> {
        serving.exchange(&self.serving_identity(client).await?)?;
        let leaf = self.client_leaf();
        if enroll::kept(&self.folder, "client", &leaf, SystemTime::now()).is_none() {
            let signer = enroll::CLIENT_SIGNER;
            let made = enroll::request(client, &self.folder, "client", &leaf, signer).await?;
            ensure!(!made.certificate_pem.is_empty(), "an empty certificate was signed");
        }
        Ok(())
    }
}
