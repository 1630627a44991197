//! For tests against the real kernel: a process in namespaces and a cgroup of its own, and threads
//! in further network namespaces that play pods.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Names the cgroup of the process that carries out a test.
const CGROUP: &str = "SKEG_TEST_CGROUP";

/// Removes a test's cgroup, and whatever still runs in it.
struct Cgroup(String);

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = crate::cgroup::remove(&self.0) {
            eprintln!("cgroup {} stays: {error:#}", self.0);
        }
    }
}

/// Runs `body` in a process of its own with its own network and mount namespace, its own `/run`,
/// and its own cgroup, whose path in the v2 hierarchy it is given. All of that is gone when it ends,
/// however it ends. `test` is the path of the calling test, with its crate.
///
/// # Panics
/// If `body` does, or the process cannot be made.
pub fn isolated(test: &str, body: impl FnOnce(&str)) {
    if let Ok(cgroup) = std::env::var(CGROUP) {
        crate::cgroup::join_v2(&cgroup, 0).expect("join the test's cgroup");
        run("mount", &["-t", "tmpfs", "none", "/run"]);
        ip("link set lo up");
        return body(&cgroup);
    }
    let id = std::process::id();
    let test = test.split_once("::").expect("a test's path begins with its crate").1;
    let cgroup = Cgroup(format!("skeg-test-net-{id}-{}", test.replace("::", "-")));
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().expect("a process knows its file"))
        .args(["--exact", test, "--nocapture"])
        .env(CGROUP, &cgroup.0)
        .output()
        .expect("unshare (Debian package util-linux) starts");
    let [out, err] =
        [output.stdout, output.stderr].map(|s| String::from_utf8_lossy(&s).into_owned());
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("1 passed"), "{test} did not run:\n{out}");
}

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace: a thread in it, on which clients and servers are run. It ends with the
/// last of its threads.
pub struct Namespace {
    path: PathBuf,
    tid: i32,
    jobs: SyncSender<Job>,
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Namespace {
    /// A new, empty namespace.
    ///
    /// # Panics
    /// Without the privilege to make one.
    pub fn new() -> Self {
        let (jobs, to_do) = sync_channel::<Job>(1);
        let (ready, is_ready) = sync_channel(1);
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
            ready.send(nix::unistd::gettid()).expect("the maker waits");
            while let Ok(job) = to_do.recv() {
                job();
            }
        });
        let tid = is_ready.recv().expect("a network namespace was made").as_raw();
        let path = format!("/proc/{}/task/{tid}/ns/net", std::process::id());
        Self { path: path.into(), tid, jobs }
    }

    /// The namespace's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The thread, by which iproute2 finds the namespace.
    pub fn tid(&self) -> i32 {
        self.tid
    }

    /// Runs `body` in the namespace. Threads that it starts are in it too.
    ///
    /// # Panics
    /// If `body` does.
    pub fn run<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = sync_channel(1);
        let job = Box::new(move || drop(done.send(body())));
        self.jobs.send(job).expect("no earlier body panicked");
        result.recv().expect("the body did not panic")
    }
}

/// Runs iproute2 in the calling thread's namespace.
///
/// # Panics
/// If it fails.
pub fn ip(arguments: &str) -> String {
    run("ip", &arguments.split(' ').collect::<Vec<_>>())
}

fn run(program: &str, arguments: &[&str]) -> String {
    crate::command::run_args(program, arguments).expect("a command of a test's set-up works")
}
