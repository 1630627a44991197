//! Runs lifecycle hooks and commands in containers.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use runtime::{ExecSpec, Runtime};
use tokio::io::AsyncReadExt as _;

use super::{http, whole};
use crate::streams::FdStream;

/// Most of a command's output that is kept for messages. Source: pkg/probe/exec, `maxReadLength`.
const OUTPUT_MAX_BYTES: u64 = 10 * 1024;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    /// The beginning of what it wrote to stdout and stderr.
    pub(crate) output: String,
}

/// Runs a command in a container. Dropping the future kills it and all that it started.
pub(crate) async fn run(
    runtime: &Arc<dyn Runtime>,
    container_id: &str,
    command: &[String],
) -> Result<Ran, String> {
    let spec = ExecSpec { args: command.to_vec(), tty: false, stdin: false };
    let session = runtime.exec(container_id, &spec).await.map_err(|error| whole(&error))?;
    let (stdout, stderr) = (session.streams.stdout, session.streams.stderr);
    let (out, err) = tokio::join!(read_all(stdout), read_all(stderr));
    let code = session.exit.await.map_err(|error| whole(&error))?;
    Ok(Ran { code, output: out + &err })
}

/// Reads a pipe to its end and keeps the beginning.
async fn read_all(pipe: Option<OwnedFd>) -> String {
    let Some(Ok(mut pipe)) = pipe.map(FdStream::new) else { return String::new() };
    let mut kept = Vec::new();
    let beginning = (&mut pipe).take(OUTPUT_MAX_BYTES).read_to_end(&mut kept).await;
    if beginning.is_ok() {
        // The rest is thrown away, so that the command does not stop at a full pipe.
        let rest = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
        drop(rest);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Runs a postStart or preStop hook to its end.
pub(crate) async fn hook(
    runtime: &Arc<dyn Runtime>,
    container_id: &str,
    container: &Container,
    handler: &LifecycleHandler,
    pod_ip: &str,
) -> Result<(), String> {
    if let Some(action) = &handler.exec {
        let command = action.command.as_deref().unwrap_or(&[]);
        let ran = run(runtime, container_id, command).await?;
        return match ran.code {
            0 => Ok(()),
            code => Err(format!(
                "command '{}' exited with {code}: {}",
                command.join(" "),
                ran.output.trim_end()
            )),
        };
    }
    if let Some(action) = &handler.http_get {
        let (code, body) = http::get(action, container, pod_ip, "kube-lifecycle/1.36").await?;
        return if code < 400 { Ok(()) } else { Err(format!("HTTP status {code}: {body}")) };
    }
    if let Some(action) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(action.seconds.max(0).unsigned_abs())).await;
        return Ok(());
    }
    if let Some(action) = &handler.tcp_socket {
        let port = http::port_number(&action.port, container)?;
        let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod_ip);
        let connected = tokio::net::TcpStream::connect((host, port)).await;
        return connected.map(drop).map_err(|error| error.to_string());
    }
    Ok(())
}
