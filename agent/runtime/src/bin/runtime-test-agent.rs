//! The agent of this crate's tests: a binary that can be a zygote, and be killed.
//!
//! `runtime-test-agent agent RUN_DIR CGROUP SANDBOX.json CONTAINER.json…` makes the sandbox, starts
//! the containers, prints `ready` and waits to be killed.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use runtime::{Config, LinuxRuntime, Runtime, maybe_run_shim};

fn main() -> ExitCode {
    if let Some(code) = maybe_run_shim(std::env::args_os()) {
        return code;
    }
    match agent(std::env::args().skip(2).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The tests read it; there is nobody else.
            let _unheard = writeln!(std::io::stdout(), "{error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn agent(args: Vec<String>) -> Result<(), Box<dyn Error>> {
    let [run_dir, cgroup, sandbox, containers @ ..] = args.as_slice() else {
        return Err("wrong arguments".into());
    };
    let config = Config {
        run_dir: PathBuf::from(run_dir),
        cgroup_root: PathBuf::from(cgroup),
        cgroup2_root: None,
        executable: PathBuf::from("/proc/self/exe"),
        parallel_starts_max: 4,
    };
    let runtime = LinuxRuntime::open(config).await?;
    runtime.create_sandbox(&serde_json::from_slice(&std::fs::read(sandbox)?)?).await?;
    for container in containers {
        runtime.start_container(&serde_json::from_slice(&std::fs::read(container)?)?).await?;
    }
    writeln!(std::io::stdout(), "ready")?;
    std::future::pending().await
}
