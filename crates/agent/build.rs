//! Builds `vessl-init` as a static program and leaves it, with its hash, where `embed.rs` includes it.
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set by the outer cargo for its own compilations; they would change or break the inner one.
const OUTER: [&str; 9] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_TARGET",
];

/// What init is made of: itself, and the part of `core` that it speaks.
const SOURCES: [&str; 13] = [
    "crates/init",
    "crates/copy",
    "crates/sftp",
    "crates/core/Cargo.toml",
    "crates/core/src/account.rs",
    "crates/core/src/door.rs",
    "crates/core/src/frame.rs",
    "crates/core/src/limits.rs",
    "crates/core/src/record.rs",
    "crates/core/src/plan",
    "crates/core/src/run",
    "crates/core/src/script.rs",
    "crates/core/src/secret.rs",
];

/// Small: it is copied into every binary and read at every start.
const PROFILE: [(&str, &str); 5] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_LTO", "thin"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "4"),
    ("CARGO_PROFILE_RELEASE_STRIP", "symbols"),
];

fn main() {
    let root = workspace();
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let program = build(&root);
    let bytes =
        std::fs::read(&program).unwrap_or_else(|error| panic!("cannot read {}: {error}", program.display()));
    let out = PathBuf::from(variable("OUT_DIR"));
    std::fs::write(out.join("vessl-init"), &bytes).expect("the output directory is writable");
    println!("cargo::rustc-env=VESSL_INIT={}", out.join("vessl-init").display());
    println!("cargo::rustc-env=VESSL_INIT_HASH={}", &blake3::hash(&bytes).to_hex()[..16]);
}

fn build(root: &Path) -> PathBuf {
    // The target is named also where it is the host: flags then apply to the program and not to build scripts.
    let target = variable("TARGET");
    let target_dir = PathBuf::from(variable("OUT_DIR")).join("init");
    let mut cargo = Command::new(variable("CARGO"));
    cargo.args(["build", "--release", "--locked", "--package", "vessl-init", "--target", &target]);
    cargo.arg("--target-dir").arg(&target_dir).current_dir(root);
    for name in OUTER {
        cargo.env_remove(name);
    }
    cargo.envs(PROFILE).env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let status = cargo.status().unwrap_or_else(|error| panic!("cannot start cargo: {error}"));
    assert!(
        status.success(),
        "cannot build `vessl-init` as a static program: see the words of cargo above; if the linker misses libc.a, install the C library's development files (Debian: libc6-dev)"
    );
    target_dir.join(target).join("release/vessl-init")
}

fn workspace() -> PathBuf {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("the crate is two levels below the workspace").to_owned()
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
