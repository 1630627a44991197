//! `skeg token`: join tokens for further nodes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleRef, Subject};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use rand::Rng;

use crate::pki::{JoinToken, write_private};
use crate::settings::Folders;

/// The group of those who hold a join token.
pub(crate) const NODE_BOOTSTRAPPERS: &str = "system:bootstrappers:skeg:node";

/// Subcommands of `token`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a token and prints it.
    Create(Create),
    /// Lists the tokens' ids and when they end.
    Ls(Where),
    /// Removes a token by its id. Nodes that have joined stay.
    Rm {
        #[command(flatten)]
        place: Where,
        /// The six characters after the second dot.
        id: String,
    },
}

/// How to make a token.
#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    place: Where,
    /// Hours until it ends; 0 is never.
    #[arg(long, default_value_t = 24)]
    ttl_hours: u32,
}

/// Which server.
#[derive(Debug, Args)]
pub(crate) struct Where {
    #[command(flatten)]
    folders: Folders,
}

impl Where {
    fn pki(&self) -> PathBuf {
        self.folders.data().join("server/pki")
    }

    async fn client(&self) -> Result<kube::Client> {
        crate::status::client(&self.folders.data().join("server/admin.kubeconfig")).await
    }
}

/// Carries out a subcommand on this server.
pub(crate) async fn run(command: &Command) -> Result<()> {
    match command {
        Command::Create(create) => {
            let path = create.place.pki().join("ca.crt");
            let authority = std::fs::read_to_string(&path)
                .with_context(|| format!("read {} (is this a server?)", path.display()))?;
            let (id, secret) = random_token();
            let token = JoinToken::new(&authority, &id, &secret)?;
            let ttl = Duration::from_secs(u64::from(create.ttl_hours) * 60 * 60);
            publish(&create.place.client().await?, &token, ttl).await?;
            crate::print_line(&token.to_string())
        }
        Command::Ls(place) => list(&place.client().await?).await,
        Command::Rm { place, id } => {
            let secrets: Api<Secret> = Api::namespaced(place.client().await?, "kube-system");
            let name = format!("bootstrap-token-{id}");
            secrets
                .delete(&name, &DeleteParams::default())
                .await
                .with_context(|| format!("remove token {id}"))?;
            Ok(())
        }
    }
}

async fn list(client: &kube::Client) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let wanted = ListParams::default().fields("type=bootstrap.kubernetes.io/token");
    for secret in secrets.list(&wanted).await.context("list tokens")? {
        let data = secret.data.unwrap_or_default();
        let text =
            |key: &str| data.get(key).map(|value| String::from_utf8_lossy(&value.0).into_owned());
        let ends = text("expiration").unwrap_or_else(|| "never".into());
        crate::print_line(&format!("{}  {ends}", text("token-id").unwrap_or_default()))?;
    }
    Ok(())
}

/// An id and a secret of a bootstrap token.
pub(crate) fn random_token() -> (String, String) {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    let mut text = |length: usize| -> String {
        (0..length).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
    };
    (text(6), text(16))
}

/// Makes the Secret by which the API knows the token. A token that is there already is kept. A zero
/// `ttl` never ends.
pub(crate) async fn publish(client: &kube::Client, token: &JoinToken, ttl: Duration) -> Result<()> {
    let mut data: BTreeMap<String, String> = [
        ("token-id", token.id.as_str()),
        ("token-secret", &token.secret),
        ("usage-bootstrap-authentication", "true"),
        ("usage-bootstrap-signing", "true"),
        ("auth-extra-groups", NODE_BOOTSTRAPPERS),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_string(), value.to_string()))
    .collect();
    if !ttl.is_zero() {
        let ends = jiff::Timestamp::now() + ttl;
        data.insert("expiration".into(), ends.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    }
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(format!("bootstrap-token-{}", token.id)),
            ..Default::default()
        },
        type_: Some("bootstrap.kubernetes.io/token".into()),
        string_data: Some(data),
        ..Default::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    match secrets.create(&PostParams::default(), &secret).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop).context("publish the join token"),
    }
}

/// Lets holders of a join token ask for a node's certificate. Kept if it is there already.
pub(crate) async fn allow_joining(client: &kube::Client) -> Result<()> {
    let binding = ClusterRoleBinding {
        metadata: ObjectMeta { name: Some("skeg:node-bootstrapper".into()), ..Default::default() },
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: "ClusterRole".into(),
            name: "system:node-bootstrapper".into(),
        },
        subjects: Some(vec![Subject {
            api_group: Some("rbac.authorization.k8s.io".into()),
            kind: "Group".into(),
            name: NODE_BOOTSTRAPPERS.into(),
            namespace: None,
        }]),
    };
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    match bindings.create(&PostParams::default(), &binding).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop).context("let nodes join"),
    }
}

/// The server's own lasting token: kept in `path`, made at the first start.
pub(crate) fn lasting(path: &std::path::Path, authority_pem: &str) -> Result<JoinToken> {
    if let Ok(text) = std::fs::read_to_string(path) {
        return text.parse().with_context(|| format!("read {}", path.display()));
    }
    let (id, secret) = random_token();
    let token = JoinToken::new(authority_pem, &id, &secret)?;
    write_private(path, &format!("{token}\n"))?;
    Ok(token)
}
