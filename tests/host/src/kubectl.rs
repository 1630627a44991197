//! The real kubectl, run inside a host's namespaces.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::{line, output, run};
use crate::namespaces::enter;
use crate::wait_for;

/// A kubectl for one cluster, seen from one host.
#[derive(Debug, Clone)]
pub struct Kubectl {
    /// Holder of the namespaces it runs in.
    pub holder: i32,
    /// Its kubeconfig.
    pub kubeconfig: PathBuf,
    /// The program: `kubectl` or a path.
    pub program: String,
}

impl Kubectl {
    /// The command, for those who want its streams.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = enter(self.holder, &self.program);
        command.args(args).env("KUBECONFIG", &self.kubeconfig).env("KUBECACHEDIR", self.cache());
        command
    }

    fn cache(&self) -> PathBuf {
        self.kubeconfig.with_file_name("kubectl-cache")
    }

    /// Runs to the end; standard output.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        run(&mut self.command(args))
    }

    /// Runs to the end, expecting a failure; what it printed on standard error.
    pub fn run_failing(&self, args: &[&str]) -> Result<String> {
        let mut command = self.command(args);
        let output = output(&mut command)?;
        anyhow::ensure!(!output.status.success(), "{} succeeded, it should not", line(&command));
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Runs with `-o json` added, parsed.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let text = self.run(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("parse kubectl {args:?}"))
    }

    /// `kubectl apply -f -` of a manifest.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        let output = self.apply_output(manifest)?;
        anyhow::ensure!(
            output.status.success(),
            "kubectl apply: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// As [`Kubectl::apply`], for those who expect it to fail.
    pub fn apply_output(&self, manifest: &str) -> Result<std::process::Output> {
        use std::io::Write;
        let mut child = self
            .command(&["apply", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start kubectl apply")?;
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin.write_all(manifest.as_bytes()).context("give kubectl the manifest")?;
        drop(stdin);
        child.wait_with_output().context("wait for kubectl apply")
    }

    /// Starts it with its output piped.
    pub fn spawn(&self, args: &[&str]) -> Result<Child> {
        self.command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start kubectl {args:?}"))
    }

    /// Waits until `condition` holds on the object or list that `args` get.
    pub fn wait_json<T>(
        &self,
        what: &str,
        bound: Duration,
        args: &[&str],
        mut condition: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        wait_for(what, bound, || {
            let value = self.json(args).map_err(|error| format!("{error:#}"))?;
            condition(&value).ok_or_else(|| {
                let mut text = value.to_string();
                text.truncate(4000);
                text
            })
        })
    }
}
