//! The last steps before a container's program, in the process that becomes it.
//!
//! libcontainer leaves to the executor what depends on the runtime around it: signal dispositions,
//! the pre-compiled filter, propagation of mounts. Two capabilities are held until the filter is
//! loaded and dropped here.

use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use caps::{CapSet, Capability, CapsHashSet};
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use oci_spec::runtime::Spec;

use crate::spec::Propagation;

/// Held until [`Payload::lock_down`]: loading a filter needs the first, dropping capabilities from
/// the bounding set the second.
pub(super) const HELD: [Capability; 2] = [Capability::CAP_SYS_ADMIN, Capability::CAP_SETPCAP];

/// What to execute, and how it is locked down before.
pub(super) struct Payload {
    pub(super) args: Vec<String>,
    pub(super) env: Vec<String>,
    /// Compiled filter.
    pub(super) filter: Option<Vec<u8>>,
    /// The capabilities it ends up with.
    pub(super) granted: CapsHashSet,
    pub(super) no_new_privileges: bool,
    /// Set on the container's mounts before it starts.
    pub(super) propagations: Vec<(PathBuf, Propagation)>,
    /// Make what is mounted below `/sys/fs/cgroup` read-only.
    pub(super) read_only_cgroups: bool,
    /// Where to say why the program could not be executed; closed by executing it.
    pub(super) report: i32,
}

/// A [`Payload`] in the shape libcontainer wants.
#[derive(Clone)]
pub(super) struct PayloadExecutor(pub(super) Rc<Payload>);

impl Executor for PayloadExecutor {
    /// Runs inside the container's root while errors can still be told to the maker.
    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        self.0.finish_mounts().map_err(ExecutorValidationError::ArgValidationError)
    }

    /// The environment is handed to execve instead: in its own order, touching no global state.
    fn setup_envs(&self, _envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, _spec: &Spec) -> Result<(), ExecutorError> {
        reset_signals();
        let Err(reason) = self.0.lock_down().and_then(|()| self.0.execute());
        // SAFETY: the maker has opened this descriptor for the report, and it is still open.
        let report = unsafe { BorrowedFd::borrow_raw(self.0.report) };
        // If the maker is gone, nobody wants to know.
        let _unheard = nix::unistd::write(report, reason.as_bytes());
        Err(ExecutorError::Other(reason))
    }
}

impl Payload {
    fn finish_mounts(&self) -> Result<(), String> {
        for (place, propagation) in &self.propagations {
            let flags = match propagation {
                Propagation::Private => MsFlags::MS_PRIVATE,
                Propagation::Slave => MsFlags::MS_SLAVE,
            };
            mount(None::<&str>, place, None::<&str>, flags | MsFlags::MS_REC, None::<&str>)
                .map_err(|errno| {
                    format!("set mount propagation of {}: {}", place.display(), errno.desc())
                })?;
        }
        if self.read_only_cgroups {
            make_read_only(c"/sys/fs/cgroup")
                .map_err(|errno| format!("make /sys/fs/cgroup read-only: {}", errno.desc()))?;
        }
        Ok(())
    }

    fn lock_down(&self) -> Result<(), String> {
        // With no_new_privs the filter needs no capability, so it can come last and say nothing
        // about the calls that drop them.
        if !self.no_new_privileges {
            self.load_filter()?;
        }
        self.drop_capabilities()?;
        if self.no_new_privileges {
            self.load_filter()?;
        }
        Ok(())
    }

    fn load_filter(&self) -> Result<(), String> {
        let Some(program) = &self.filter else { return Ok(()) };
        let length = u16::try_from(program.len() / size_of::<libc::sock_filter>())
            .map_err(|_| "load seccomp filter: too long".to_owned())?;
        // The kernel does not write through the pointer, although the type says it may.
        let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
        // SAFETY: the program outlives the call; its length is in whole instructions.
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter)
        };
        if result == 0 {
            Ok(())
        } else {
            Err(format!("load seccomp filter: {}", Errno::last().desc()))
        }
    }

    fn drop_capabilities(&self) -> Result<(), String> {
        let failed = |error: caps::errors::CapsError| format!("drop capabilities: {error}");
        for capability in HELD {
            if !self.granted.contains(&capability) {
                caps::drop(None, CapSet::Bounding, capability).map_err(failed)?;
            }
        }
        caps::set(None, CapSet::Effective, &self.granted).map_err(failed)?;
        caps::set(None, CapSet::Permitted, &self.granted).map_err(failed)
    }

    /// Becomes the program, or says why not, in the words people know from other runtimes.
    fn execute(&self) -> Result<Infallible, String> {
        let program = self.args.first().map(String::as_str).unwrap_or_default();
        let invalid = |_| format!("exec: {program:?}: argument or variable with a NUL byte");
        let strings = |list: &[String]| -> Result<Vec<CString>, _> {
            list.iter().map(|text| CString::new(text.as_bytes())).collect()
        };
        let args = strings(&self.args).map_err(invalid)?;
        let env = strings(&self.env).map_err(invalid)?;
        let mut denied = false;
        for candidate in candidates(program, &self.env) {
            let path = CString::new(candidate.as_os_str().as_bytes()).map_err(invalid)?;
            let Err(errno) = nix::unistd::execve(&path, &args, &env);
            match errno {
                Errno::ENOENT | Errno::ENOTDIR if !program.contains('/') => {}
                Errno::EACCES if !program.contains('/') => denied = true,
                Errno::ENOEXEC => return Err(format!("exec {program}: exec format error")),
                Errno::ENOENT => {
                    return Err(format!(
                        "exec: {program:?}: stat {program}: no such file or directory"
                    ));
                }
                Errno::EACCES => return Err(format!("exec: {program:?}: permission denied")),
                errno => return Err(format!("exec: {program:?}: {}", errno.desc())),
            }
        }
        let reason =
            if denied { "permission denied" } else { "executable file not found in $PATH" };
        Err(format!("exec: {program:?}: {reason}"))
    }
}

/// Where `program` may be: itself if it names a folder, else in each folder of `PATH`.
fn candidates(program: &str, env: &[String]) -> Vec<PathBuf> {
    if program.is_empty() {
        return Vec::new();
    }
    if program.contains('/') {
        return vec![PathBuf::from(program)];
    }
    let path = env.iter().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or_default();
    path.split(':')
        .map(|folder| {
            Path::new(if folder.is_empty() { "." } else { folder }).join(OsStr::new(program))
        })
        .collect()
}

/// `MOUNT_ATTR_RDONLY` on a mount and all below it.
fn make_read_only(path: &std::ffi::CStr) -> Result<(), Errno> {
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let attr = MountAttr { set: 1, clear: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: path and attributes outlive the call; the size is that of the structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    match result {
        0 => Ok(()),
        _ => match Errno::last() {
            // Nothing is mounted there.
            Errno::ENOENT | Errno::EINVAL => Ok(()),
            errno => Err(errno),
        },
    }
}

/// Undoes what the shim and Rust's own start-up did to signals: blocked ones, and an ignored
/// SIGPIPE, would be inherited by the program.
fn reset_signals() {
    // SAFETY: plain calls on a zeroed set and on signal numbers; the process is single-threaded.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        for signal in 1..=libc::SIGRTMAX() {
            if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_in_path_order() {
        let env = ["A=b".to_owned(), "PATH=/a:/b/c:".to_owned()];
        let found = |program: &str| {
            candidates(program, &env)
                .iter()
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(found("ls"), "/a/ls /b/c/ls ./ls");
        assert_eq!(found("./ls"), "./ls");
        assert_eq!(found(""), "");
        assert_eq!(candidates("ls", &[]), [PathBuf::from("./ls")]);
    }
}
