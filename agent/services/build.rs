//! Builds the BPF programs (`ebpf/programs`) and leaves the object at `$OUT_DIR/services.bpf.o`.
//!
//! Compiler, the first that fits:
//! 1. `SKEG_BPF_OBJ`: a finished object, taken as it is;
//! 2. a rustc that ships `core` for `bpfel-unknown-none` (Debian's `rustc-web` with
//!    `libstd-rust-web-dev-bpf`): `SKEG_BPF_RUSTC`, else `/usr/bin/rustc`;
//! 3. rustup's nightly with `rust-src`.
//!
//! Linker: `bpf-linker` in `$SKEG_EBPF_TOOLS/bin`, `~/.cache/skeg/ebpf/bin`, or `PATH`.

use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::{env, fs};

/// Variables that cargo and rustup set for the host's build; they would leak into this one.
const SCRUBBED: &[&str] = &[
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTC_LINKER",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "LD_LIBRARY_PATH",
    "TARGET",
    "HOST",
    "OPT_LEVEL",
    "DEBUG",
    "PROFILE",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CARGO_MAKEFLAGS",
    "CARGO_INCREMENTAL",
];
const SCRUBBED_PREFIXES: &[&str] =
    &["CARGO_CFG_", "CARGO_FEATURE_", "CARGO_PKG_", "CARGO_PROFILE_", "DEP_"];

struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
    /// `core` has to be built from source.
    build_core: bool,
}

fn main() {
    let crate_dir = PathBuf::from(required("CARGO_MANIFEST_DIR"));
    let root = crate_dir.join("../..");
    let programs = root.join("ebpf/programs");
    let object = PathBuf::from(required("OUT_DIR")).join("services.bpf.o");

    for path in ["src", "Cargo.toml", "Cargo.lock", "../maps/src", "../maps/Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", programs.join(path).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    for variable in ["SKEG_BPF_OBJ", "SKEG_BPF_RUSTC", "SKEG_EBPF_TOOLS"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }

    if let Some(finished) = env::var_os("SKEG_BPF_OBJ") {
        if let Err(error) = fs::copy(&finished, &object) {
            fail(&format!("copy SKEG_BPF_OBJ {}: {error}", Path::new(&finished).display()));
        }
        return;
    }
    let Some(toolchain) = debian().or_else(nightly) else {
        fail("no Rust compiler with a `core` for bpfel-unknown-none: run `cargo xtask setup`");
    };
    let Some(linker) = linker() else {
        fail("no bpf-linker: run `cargo xtask setup`");
    };
    build(&programs, &toolchain, &linker, &object);
}

fn build(programs: &Path, toolchain: &Toolchain, linker: &Path, object: &Path) {
    // Never cargo's own target folder: the outer cargo holds its lock while it waits for us.
    let target_dir = object.with_file_name("bpf-target");
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", required("CARGO_CFG_TARGET_ARCH")),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", linker.display()),
    ];
    let mut command = scrubbed(&toolchain.cargo);
    command
        .current_dir(programs)
        .env("RUSTC", &toolchain.rustc)
        // aya-ebpf uses a nightly feature (inline assembly for BPF); unlocked for it alone.
        .env("RUSTC_BOOTSTRAP", if toolchain.build_core { "1" } else { "aya_ebpf" })
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .args(["build", "--release", "--locked", "--target", "bpfel-unknown-none"])
        .args(["--bin", "services", "--target-dir"])
        .arg(&target_dir);
    if toolchain.build_core {
        command.args(["-Z", "build-std=core"]);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => fail(&format!("start {}: {error}", toolchain.cargo.display())),
    };
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        fail(&format!("the BPF programs do not build with {}", toolchain.rustc.display()));
    }
    let built = target_dir.join("bpfel-unknown-none/release/services");
    if let Err(error) = fs::copy(&built, object) {
        fail(&format!("copy {}: {error}", built.display()));
    }
}

fn debian() -> Option<Toolchain> {
    let rustc: PathBuf =
        env::var_os("SKEG_BPF_RUSTC").unwrap_or_else(|| "/usr/bin/rustc".into()).into();
    let sysroot = stdout(scrubbed(&rustc).args(["--print", "sysroot"]))?;
    let has_core = Path::new(&sysroot).join("lib/rustlib/bpfel-unknown-none/lib").is_dir();
    // Any cargo drives any rustc.
    has_core.then(|| Toolchain { rustc, cargo: required("CARGO").into(), build_core: false })
}

fn nightly() -> Option<Toolchain> {
    let which = ["which", "--toolchain", "nightly", "rustc"];
    let rustc = PathBuf::from(stdout(scrubbed(Path::new("rustup")).args(which))?);
    let sysroot = stdout(scrubbed(&rustc).args(["--print", "sysroot"]))?;
    let source = Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml");
    let cargo = rustc.with_file_name("cargo");
    source.exists().then_some(Toolchain { rustc, cargo, build_core: true })
}

fn linker() -> Option<PathBuf> {
    let tools = env::var_os("SKEG_EBPF_TOOLS").map(PathBuf::from);
    let cache = env::var_os("HOME").map(|home| Path::new(&home).join(".cache/skeg/ebpf"));
    let path = env::var_os("PATH").unwrap_or_default();
    tools
        .into_iter()
        .chain(cache)
        .map(|folder| folder.join("bin"))
        .chain(env::split_paths(&path))
        .map(|folder| folder.join("bpf-linker"))
        .find(|candidate| candidate.is_file())
}

fn scrubbed(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let prefixed = SCRUBBED_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
        if prefixed || SCRUBBED.contains(&text.as_ref()) {
            command.env_remove(&name);
        }
    }
    command
}

fn stdout(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn required(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| fail(&format!("cargo did not set {variable}")))
}

#[allow(clippy::exit, reason = "a build script reports failure by its exit code")]
fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    exit(1)
}
