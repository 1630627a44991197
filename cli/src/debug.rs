//! `skeg debug`: text dumps of a running process, over its local socket.
//!
//! The dumps are the same that tests compare: one code path for both.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::settings::Folders;

/// A part of the process that can show its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    /// Keys, revisions and watchers of the store.
    Store,
    /// BPF map contents in words.
    Services,
    /// The DNS index.
    Dns,
    /// Sandboxes and containers.
    Pods,
}

/// Which part to show.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    folders: Folders,
    /// The part.
    part: Part,
}

/// Makes a dump.
pub(crate) type Dump = Arc<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>;

fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("debug.sock")
}

fn path_of(part: Part) -> String {
    format!("/{part:?}").to_lowercase()
}

/// Serves dumps until shutdown. Only root can connect: the folder is root's.
pub(crate) async fn serve(
    run_dir: PathBuf,
    dumps: BTreeMap<Part, Dump>,
    shutdown: CancellationToken,
) -> Result<()> {
    let path = socket(&run_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("replace {}", path.display()));
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    let dumps = Arc::new(dumps);
    loop {
        let (stream, _) = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted.context("accept a debug connection")?,
        };
        let dumps = Arc::clone(&dumps);
        // One at a time: dumps are for people, and cost time and memory.
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let dumps = Arc::clone(&dumps);
            async move { Ok::<_, Infallible>(answer(&dumps, request.uri().path()).await) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = served.await {
            tracing::debug!("debug connection: {error}");
        }
    }
}

async fn answer(dumps: &BTreeMap<Part, Dump>, path: &str) -> http::Response<Full<Bytes>> {
    match dumps.iter().find(|(part, _)| path_of(**part) == path) {
        Some((_, dump)) => http::Response::new(Full::from(dump().await)),
        None => {
            let mut response =
                http::Response::new(Full::from("this process does not run that part\n"));
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            response
        }
    }
}

/// Asks the running process and prints what it says.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let path = socket(&options.folders.run());
    let stream = UnixStream::connect(&path)
        .await
        .with_context(|| format!("connect to {} (is skeg running?)", path.display()))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("handshake")?;
    let driver = tokio::spawn(connection);
    let request = http::Request::get(path_of(options.part))
        .header(http::header::HOST, "localhost")
        .body(Full::<Bytes>::default())
        .context("make a request")?;
    let response = sender.send_request(request).await.context("ask")?;
    let status = response.status();
    let body = response.into_body().collect().await.context("read the answer")?.to_bytes();
    driver.abort();
    let text = String::from_utf8_lossy(&body);
    if !status.is_success() {
        bail!("{}", text.trim_end());
    }
    crate::print_line(text.trim_end())
}
