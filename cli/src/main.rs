//! The binary `skeg`: the composition root, the only crate that sees both halves.
//!
//! It reads the configuration, makes keys and certificates, opens the store, and hands each
//! component what it needs. It decides nothing that Kubernetes decides.

mod agent;
mod check;
mod debug;
mod encryption;
mod identities;
mod image;
mod kubeconfig;
mod logging;
mod node;
mod pki;
mod pods_dump;
mod server;
mod settings;
mod signer;
mod status;
mod supervisor;
mod token;
mod uplink;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Kubernetes in one binary.
#[derive(Debug, Parser)]
#[command(name = "skeg", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the control plane and, unless told otherwise, a node.
    Server(settings::Settings),
    /// Runs a further node, joined by a token.
    Agent(agent::Options),
    /// Shows whether the API answers and the nodes are Ready.
    Status(status::Options),
    /// Shows what this machine lacks for running pods, and how to get it.
    Check,
    /// Imports, pulls, lists and removes this node's images.
    #[command(subcommand)]
    Image(image::Command),
    /// Makes, lists and removes join tokens.
    #[command(subcommand)]
    Token(token::Command),
    /// Shows the state of a part of the running process.
    Debug(debug::Options),
}

fn main() -> ExitCode {
    // A zygote or a shim: before anything else is on the heap or any thread runs.
    if let Some(code) = runtime::maybe_run_shim(std::env::args_os()) {
        return code;
    }
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The last place where an error can be handled: tell the person.
            let mut stderr = std::io::stderr().lock();
            // Nobody is left to tell if this fails.
            let _unheard = writeln!(stderr, "skeg: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    logging::start();
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    runtime.block_on(async {
        match arguments.command {
            Command::Server(settings) => server::run(settings.decide()?).await,
            Command::Agent(options) => agent::run(options).await,
            Command::Status(options) => status::run(&options).await,
            Command::Check => check::run(),
            Command::Image(command) => image::run(&command).await,
            Command::Token(command) => token::run(&command).await,
            Command::Debug(options) => debug::run(&options).await,
        }
    })
}

/// Prints a line on standard output.
fn print_line(text: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("write to standard output")
}
