//! The process that makes a container, or one more process in it, through libcontainer.
//!
//! It is forked from the shim for each job and ends when the program runs: whatever libcontainer
//! leaves on its heap goes with it, and the shim never waits. libcontainer clones the container's
//! process as its *sibling*, so that it is the shim's child from the start.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;

use caps::{Capability, CapsHashSet};
use libcgroups::common::CgroupConfig;
use libcontainer::notify_socket::{NotifyListener, NotifySocket};
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::container_main_process::container_main_process;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::socket::MsgFlags;
use oci_spec::runtime::Spec;

use super::executor::{HELD, Payload, PayloadExecutor};
use super::protocol::Progress;
use super::{image_facts, unseen};
use crate::cgroup::Version;
use crate::record::ContainerRecord;
use crate::spec::{self, Capabilities, Facts};
use crate::wire;

/// What to make.
pub(super) enum Job {
    /// The container and its first process.
    Container,
    /// One more process, beside the first, `init`.
    Exec {
        /// PID of the first process.
        init: i32,
        args: Vec<String>,
        tty: bool,
        /// The process's own cgroup in a pure v2 layout, relative to the hierarchy's root.
        cgroup: Option<PathBuf>,
    },
}

/// The far ends of the process's streams; with a terminal there are none.
#[derive(Default)]
pub(super) struct Stdio {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// Does the job, telling the shim how it goes. Returns the exit code of the maker.
pub(super) fn make(folder: &Path, job: &Job, stdio: Stdio, progress: BorrowedFd<'_>) -> i32 {
    let Err(reason) = try_make(folder, job, stdio, progress) else { return 0 };
    // Without a shim there is nobody to tell.
    let _unheard = wire::send(progress, &Progress::Failed { reason }, &[], MsgFlags::empty());
    1
}

fn try_make(
    folder: &Path,
    job: &Job,
    stdio: Stdio,
    progress: BorrowedFd<'_>,
) -> Result<(), String> {
    let record = ContainerRecord::read(folder).map_err(|error| error.to_string())?;
    let mut facts = facts(&record, job)?;
    if let Job::Container = job
        && let Some(allowed) = spec::device_rules(&record.spec, &facts.devices)
    {
        record.group.restrict_devices(&allowed).map_err(|error| error.to_string())?;
    }
    // Held until the container has entered it.
    let mounts = match record.group.version {
        Version::V1 => Some(unseen::join(&record.group)?),
        Version::V2 => None,
    };
    facts.mounts = mounts.as_ref().map(unseen::path);
    let tty = match job {
        Job::Container => record.spec.tty,
        Job::Exec { tty, .. } => *tty,
    };
    let mut oci = match job {
        Job::Container => spec::container(&record.spec, &facts),
        Job::Exec { init, args, tty, .. } => spec::exec(&record.spec, &facts, *init, args, *tty),
    }
    .map_err(|error| format!("build OCI specification: {error}"))?;
    let (report, report_far) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|errno| errno.to_string())?;
    let payload = payload(&record, &facts, job, &oci, report_far.as_raw_fd())?;
    hold_capabilities(&mut oci, &facts.available);
    if matches!(job, Job::Container) {
        image_facts::make_working_folder(&record.spec.rootfs, &record.spec.cwd)?;
    }
    let console = if tty {
        Some(wire::pair().map_err(|error| format!("make console socket: {error}"))?)
    } else {
        None
    };
    let (near, far) = console.unzip();
    let cgroup = match job {
        Job::Exec { cgroup: Some(cgroup), .. } => cgroup.clone(),
        _ => record.group.path.clone(),
    };
    let socket = folder.join(format!("notify-{}", std::process::id()));
    let pid = clone_container(&record, job, Rc::new(oci), payload, stdio, far, cgroup, &socket)?;
    drop(report_far);
    set_oom_score(pid, record.spec.oom_score_adj);
    announce(pid, near, progress)?;
    let started = NotifySocket::new(&socket).notify_container_start();
    // Used once; a leftover would only take space.
    let _gone = std::fs::remove_file(&socket);
    started.map_err(|error| format!("start the process: {error}"))?;
    let mut reason = String::new();
    File::from(report).read_to_string(&mut reason).map_err(|error| error.to_string())?;
    if !reason.is_empty() {
        return Err(reason);
    }
    wire::send(progress, &Progress::Started, &[], MsgFlags::empty())
        .map_err(|error| format!("tell the shim: {error}"))
}

fn facts(record: &ContainerRecord, job: &Job) -> Result<Facts, String> {
    let spec = &record.spec;
    let available: Capabilities = caps::read(None, caps::CapSet::Permitted)
        .map_err(|error| format!("read capabilities: {error}"))?
        .iter()
        .map(ToString::to_string)
        .collect();
    Ok(Facts {
        namespaces: record.namespaces.clone(),
        hostname: record.hostname.clone(),
        home: image_facts::home(&spec.rootfs, spec.uid),
        shm: record.shm.clone(),
        cgroup: record.group.path.clone(),
        cgroup_version: record.group.version,
        available,
        mounts: None,
        devices: match job {
            Job::Container => image_facts::devices(spec)?,
            Job::Exec { .. } => Vec::new(),
        },
    })
}

fn payload(
    record: &ContainerRecord,
    facts: &Facts,
    job: &Job,
    oci: &Spec,
    report: i32,
) -> Result<Payload, String> {
    let process = oci.process().as_ref().expect("the spec has just been built with a process");
    let first = matches!(job, Job::Container);
    let filter = record
        .filter
        .as_ref()
        .map(|path| {
            std::fs::read(path)
                .map_err(|error| format!("read seccomp filter {}: {error}", path.display()))
        })
        .transpose()?;
    Ok(Payload {
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        filter: if record.spec.privileged { None } else { filter },
        granted: capability_set(&spec::granted(
            &record.spec,
            &facts.available,
            facts.cgroup_version,
        )),
        no_new_privileges: record.spec.no_new_privileges,
        propagations: if first { spec::propagations(&record.spec) } else { Vec::new() },
        read_only_cgroups: first && !record.spec.privileged,
        report,
    })
}

fn capability_set(names: &Capabilities) -> CapsHashSet {
    names.iter().filter_map(|name| Capability::from_str(name).ok()).collect()
}

/// Adds what the executor still needs; it drops it again.
fn hold_capabilities(oci: &mut Spec, available: &Capabilities) {
    let Some(process) = oci.process_mut().as_mut() else { return };
    let Some(mut capabilities) = process.capabilities().clone() else { return };
    for held in HELD.map(|capability| capability.to_string()) {
        let Some(capability) = spec::named(&held).filter(|_| available.contains(&held)) else {
            continue;
        };
        let with = |set: &Option<oci_spec::runtime::Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        capabilities.set_bounding(with(capabilities.bounding()));
        capabilities.set_permitted(with(capabilities.permitted()));
        capabilities.set_effective(with(capabilities.effective()));
    }
    process.set_capabilities(Some(capabilities));
}

#[expect(clippy::too_many_arguments, reason = "one call, whose arguments are libcontainer's own")]
fn clone_container(
    record: &ContainerRecord,
    job: &Job,
    oci: Rc<Spec>,
    payload: Payload,
    stdio: Stdio,
    console: Option<OwnedFd>,
    cgroup: PathBuf,
    socket: &Path,
) -> Result<i32, String> {
    // libcontainer's own report of a failed exec; the payload has its own, which also says so.
    let unused = File::open("/dev/null").map_err(|error| error.to_string())?;
    let (container_type, rootfs) = match job {
        Job::Container => (ContainerType::InitContainer, record.spec.rootfs.clone()),
        // libcontainer closes this descriptor in two of its processes.
        Job::Exec { .. } => (
            ContainerType::TenantContainer { exec_notify_fd: unused.as_raw_fd() },
            PathBuf::from("/"),
        ),
    };
    let args = ContainerArgs {
        container_type,
        syscall: SyscallType::default(),
        spec: oci,
        rootfs,
        console_socket: console.as_ref().map(AsRawFd::as_raw_fd),
        notify_listener: NotifyListener::new(socket).map_err(|error| chain(&error))?,
        preserve_fds: 0,
        container: None,
        user_ns_config: None,
        cgroup_config: CgroupConfig {
            cgroup_path: cgroup,
            systemd_cgroup: false,
            container_name: record.spec.id.clone(),
        },
        detached: true,
        executor: Box::new(PayloadExecutor(Rc::new(payload))),
        no_pivot: false,
        stdin: stdio.stdin.as_ref().map(AsRawFd::as_raw_fd),
        stdout: stdio.stdout.as_ref().map(AsRawFd::as_raw_fd),
        stderr: stdio.stderr.as_ref().map(AsRawFd::as_raw_fd),
        as_sibling: true,
        pid_file: None,
    };
    let pid = container_main_process(&args).map_err(|error| chain(&error))?;
    Ok(pid.as_raw())
}

/// Sets the score as far as the agent may: without CAP_SYS_RESOURCE it cannot go below its own.
fn set_oom_score(pid: i32, wanted: i32) {
    let file = format!("/proc/{pid}/oom_score_adj");
    if std::fs::write(&file, wanted.to_string()).is_ok() {
        return;
    }
    let own = std::fs::read_to_string("/proc/self/oom_score_adj")
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok())
        .unwrap_or(0);
    // A container that is a little less protected is better than none.
    let _refused = std::fs::write(&file, wanted.max(own).to_string());
}

/// Tells the shim the PID and hands it the terminal.
fn announce(pid: i32, console: Option<OwnedFd>, progress: BorrowedFd<'_>) -> Result<(), String> {
    let master = match console {
        Some(console) => Some(
            wire::receive_fd(console.as_fd())
                .ok()
                .flatten()
                .ok_or("the container sent no terminal")?,
        ),
        None => None,
    };
    let fds: Vec<BorrowedFd<'_>> = master.iter().map(AsFd::as_fd).collect();
    wire::send(progress, &Progress::Created { pid }, &fds, MsgFlags::empty())
        .map_err(|error| format!("tell the shim: {error}"))
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Several of libcontainer's errors repeat their cause.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
