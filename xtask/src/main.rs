//! `cargo xtask`: everything a person does with the project, each as one command.

mod bench;
mod build;
mod demo;
mod dev;
mod progress;
mod setup;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Everything a person does with the project.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs what is missing on this machine: Debian packages, the eBPF toolchain, kubectl.
    Setup,
    /// Sets up, builds, and shows a real cluster at work, from `kubectl apply` to self-healing.
    Demo(demo::Options),
    /// A cluster on this machine to work with: up, exec, down.
    #[command(subcommand)]
    Dev(dev::Command),
    /// Sets up and passes every test.
    Test(test::Options),
    /// Builds the eBPF programs alone and says where the object is.
    Ebpf,
    /// Measures what the project promises, beside its peers.
    Bench(bench::Options),
    /// What continuous integration runs: tidy, formatting, lints, tests.
    Ci,
    /// Checks the rules that no compiler checks; with `--leftovers`, what runs left on the machine.
    Tidy(tidy::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Setup => setup::everything(),
        Command::Demo(options) => demo::run(&options),
        Command::Dev(command) => dev::run(&command),
        Command::Test(options) => test::run(&options),
        Command::Ebpf => build::ebpf(),
        Command::Bench(options) => bench::run(&options),
        Command::Ci => test::run(&test::Options::for_ci()),
        Command::Tidy(options) => tidy::run(&options),
    }
}
