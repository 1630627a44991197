//! System call filters, compiled once and kept as raw BPF.
//!
//! Compiling the default profile takes about 26 ms, more than everything else in a container's
//! start together. So the agent compiles each distinct profile once, into a file in the run folder;
//! the process that becomes the container only loads it.

mod default;
mod oci;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use nix::sys::memfd::{MemFdCreateFlag, memfd_create};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator};

pub use oci::default_seccomp_profile;

use crate::Seccomp;
use default::{Rules, Test};

/// Part of each cached file's name: to be raised when the default profile or the compiler's
/// options change.
const FORMAT: u32 = 1;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    #[error("cannot load seccomp profile {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot decode seccomp profile {path}: {source}")]
    Decode { path: PathBuf, source: serde_json::Error },
    #[error("cannot compile seccomp profile: {0}")]
    Compile(#[from] libseccomp::error::SeccompError),
    #[error("cannot keep compiled seccomp profile {path}: {source}")]
    Keep { path: PathBuf, source: io::Error },
    #[error("seccomp profile: {0} is not supported")]
    Unsupported(String),
}

/// The file with the compiled filter for `profile`; `None` for no filter. Compiles if it is not
/// there yet. Blocks for some 30 ms in that case.
pub(crate) fn filter(
    folder: &Path,
    profile: &Seccomp,
    capabilities: &BTreeSet<String>,
) -> Result<Option<PathBuf>, ProfileError> {
    match profile {
        Seccomp::Unconfined => Ok(None),
        Seccomp::RuntimeDefault => {
            let rules = default::rules(capabilities);
            let path = folder.join(format!("default-{:016x}-{FORMAT}.bpf", digest(&rules.allowed)));
            keep(&path, || compile_rules(&rules)).map(Some)
        }
        Seccomp::Localhost(source) => {
            let text = fs::read(source)
                .map_err(|error| ProfileError::Read { path: source.clone(), source: error })?;
            let path = folder.join(format!("local-{:016x}-{FORMAT}.bpf", digest(&text)));
            let profile: LinuxSeccomp = serde_json::from_slice(&text)
                .map_err(|error| ProfileError::Decode { path: source.clone(), source: error })?;
            keep(&path, || compile_profile(&profile)).map(Some)
        }
    }
}

fn digest<T: Hash>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Writes the filter to `path` unless it is there. Two at the same time write the same bytes.
fn keep(
    path: &Path,
    compile: impl FnOnce() -> Result<Vec<u8>, ProfileError>,
) -> Result<PathBuf, ProfileError> {
    if !path.exists() {
        let program = compile()?;
        crate::files::write_atomically(path, &program)
            .map_err(|source| ProfileError::Keep { path: path.to_path_buf(), source })?;
    }
    Ok(path.to_path_buf())
}

/// The machine's own architecture and those its programs may switch to.
fn architectures() -> &'static [ScmpArch] {
    if cfg!(target_arch = "x86_64") {
        &[ScmpArch::X8664, ScmpArch::X86, ScmpArch::X32]
    } else if cfg!(target_arch = "aarch64") {
        &[ScmpArch::Aarch64, ScmpArch::Arm]
    } else {
        &[ScmpArch::Native]
    }
}

fn context(
    default: ScmpAction,
    architectures: &[ScmpArch],
) -> Result<ScmpFilterContext, ProfileError> {
    let mut context = ScmpFilterContext::new(default)?;
    for arch in architectures {
        context.add_arch(*arch)?;
    }
    // Whether new privileges are allowed is the container's business, not the filter's.
    context.set_ctl_nnp(false)?;
    // A binary tree instead of a list; older libraries cannot, and their filter is right all the same.
    let _slower = context.set_ctl_optimize(2);
    Ok(context)
}

fn compile_rules(rules: &Rules) -> Result<Vec<u8>, ProfileError> {
    let mut context = context(ScmpAction::Errno(libc::ENOSYS), architectures())?;
    // A name the library does not know has no number here: it cannot be called by it either.
    let number = |name: &str| ScmpSyscall::from_name(name).ok();
    for syscall in rules.allowed.iter().filter_map(|name| number(name)) {
        context.add_rule(ScmpAction::Allow, syscall)?;
    }
    for syscall in rules.denied.iter().filter_map(|name| number(name)) {
        context.add_rule(ScmpAction::Errno(libc::EPERM), syscall)?;
    }
    for condition in &rules.conditional {
        let Some(syscall) = number(condition.name) else { continue };
        let (operator, value) = match condition.test {
            Test::Equal(value) => (ScmpCompareOp::Equal, value),
            Test::NotEqual(value) => (ScmpCompareOp::NotEqual, value),
            Test::NoneOf(mask) => (ScmpCompareOp::MaskedEqual(mask), 0),
        };
        let compare = ScmpArgCompare::new(condition.argument, operator, value);
        context.add_rule_conditional(ScmpAction::Allow, syscall, &[compare])?;
        if let Some((operator, value)) = opposite(condition.test) {
            let compare = ScmpArgCompare::new(condition.argument, operator, value);
            context.add_rule_conditional(ScmpAction::Errno(libc::EPERM), syscall, &[compare])?;
        }
    }
    export(&context)
}

/// The comparison for the refused values, where one comparison can say it.
fn opposite(test: Test) -> Option<(ScmpCompareOp, u64)> {
    match test {
        Test::NotEqual(value) => Some((ScmpCompareOp::Equal, value)),
        Test::Equal(_) | Test::NoneOf(_) => None,
    }
}

/// A profile in OCI's form, as `localhostProfile` names it.
fn compile_profile(profile: &LinuxSeccomp) -> Result<Vec<u8>, ProfileError> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let listed: Vec<ScmpArch> =
        profile.architectures().iter().flatten().filter_map(|arch| architecture(*arch)).collect();
    let mut context = context(default, if listed.is_empty() { architectures() } else { &listed })?;
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret())?;
        if action == default {
            continue;
        }
        let compares = rule
            .args()
            .iter()
            .flatten()
            .map(|argument| {
                let index = u32::try_from(argument.index()).map_err(|_| {
                    ProfileError::Unsupported(format!("argument {}", argument.index()))
                })?;
                let (operator, value) =
                    comparison(argument.op(), argument.value(), argument.value_two());
                Ok(ScmpArgCompare::new(index, operator, value))
            })
            .collect::<Result<Vec<_>, ProfileError>>()?;
        for name in rule.names() {
            let Ok(syscall) = ScmpSyscall::from_name(name) else { continue };
            if compares.is_empty() {
                context.add_rule(action, syscall)?;
            } else {
                context.add_rule_conditional(action, syscall, &compares)?;
            }
        }
    }
    export(&context)
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<ScmpAction, ProfileError> {
    let number = i32::try_from(errno.unwrap_or(libc::EPERM.unsigned_abs())).unwrap_or(libc::EPERM);
    Ok(match action {
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(number),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            ScmpAction::KillThread
        }
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        other => return Err(ProfileError::Unsupported(format!("action {other:?}"))),
    })
}

fn comparison(
    operator: LinuxSeccompOperator,
    value: u64,
    value_two: Option<u64>,
) -> (ScmpCompareOp, u64) {
    match operator {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, value),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, value),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, value),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, value),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, value),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, value),
        // OCI names the mask first and the value second.
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (ScmpCompareOp::MaskedEqual(value), value_two.unwrap_or(0))
        }
    }
}

fn architecture(arch: Arch) -> Option<ScmpArch> {
    Some(match arch {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        // Foreign machines: their calls cannot be made here.
        _ => return None,
    })
}

fn export(context: &ScmpFilterContext) -> Result<Vec<u8>, ProfileError> {
    let keep = |source: io::Error| ProfileError::Keep { path: "memfd".into(), source };
    let fd = memfd_create(c"seccomp", MemFdCreateFlag::MFD_CLOEXEC)
        .map_err(|errno| keep(errno.into()))?;
    context.export_bpf(&fd)?;
    let mut file = fs::File::from(fd);
    let mut program = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut program)).map_err(keep)?;
    Ok(program)
}
