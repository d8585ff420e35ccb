//! What a container needs of the GPU driver besides device nodes: libraries and programs that must be those of the
//! kernel's module, so that no image can bring them.
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::DriverFile;

/// Where distributions keep the driver's libraries, below the root; the first that has `libcuda.so.1` counts.
const LIBRARY_DIRS: [&str; 8] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "usr/lib64/nvidia",
    "usr/lib/nvidia",
    "usr/local/nvidia/lib64",
    "run/opengl-driver/lib",
];
const PROGRAM_DIRS: [&str; 4] =
    ["usr/bin", "usr/local/bin", "usr/local/nvidia/bin", "run/current-system/sw/bin"];

/// Names before `.so`: computing, monitoring, video. Source: the list in NVIDIA's libnvidia-container.
const LIBRARIES: [&str; 17] = [
    "libcuda",
    "libcudadebugger",
    "libnvcuvid",
    "libnvidia-allocator",
    "libnvidia-cfg",
    "libnvidia-compiler",
    "libnvidia-encode",
    "libnvidia-fatbinaryloader",
    "libnvidia-gpucomp",
    "libnvidia-ml",
    "libnvidia-nscq",
    "libnvidia-nvvm",
    "libnvidia-opencl",
    "libnvidia-opticalflow",
    "libnvidia-pkcs11",
    "libnvidia-pkcs11-openssl3",
    "libnvidia-ptxjitcompiler",
];
const PROGRAMS: [&str; 4] =
    ["nvidia-smi", "nvidia-debugdump", "nvidia-cuda-mps-control", "nvidia-cuda-mps-server"];

/// The driver's files below `root`, each under every name that programs may look for.
pub(super) fn files(root: &Path) -> Vec<DriverFile> {
    let dirs = LIBRARY_DIRS.iter().map(|dir| root.join(dir));
    let mut files = Vec::new();
    if let Some(dir) = dirs.into_iter().find(|dir| dir.join("libcuda.so.1").exists()) {
        files.extend(found(&dir, is_library, DriverFile::LIBRARIES));
    }
    for dir in PROGRAM_DIRS {
        files.extend(found(&root.join(dir), |name| PROGRAMS.contains(&name), DriverFile::PROGRAMS));
    }
    files.sort_by(|a, b| a.target.cmp(&b.target));
    files.dedup_by(|a, b| a.target == b.target);
    files
}

fn is_library(name: &str) -> bool {
    name.split_once(".so").is_some_and(|(name, version)| {
        LIBRARIES.contains(&name) && (version.is_empty() || version.starts_with('.'))
    })
}

/// Links lead through `/etc/alternatives` on some systems; one that leads nowhere is left out.
fn found(dir: &Path, wanted: impl Fn(&str) -> bool, target: &str) -> Vec<DriverFile> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let file = |name: String| {
        let source: PathBuf = dir.join(&name).canonicalize().ok()?;
        source.is_file().then(|| DriverFile { source, target: Path::new(target).join(name) })
    };
    names.filter(|name| wanted(name)).filter_map(file).collect()
}

/// Has the driver's own tool make the node for computing, which is missing from the boot until the first program of root
/// uses a GPU.
pub(super) fn wake() {
    if Path::new("/dev/nvidia-uvm").exists() {
        return;
    }
    let mut tool = Command::new("nvidia-modprobe");
    tool.args(["-u", "-c=0"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Without the tool a run finds what any program of the machine would find.
    let _ = tool.status();
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_driver_is_found_under_all_its_names_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (libs, other) = (root.join("usr/lib/aarch64-linux-gnu"), root.join("usr/lib64"));
        for dir in [&libs, &other, &libs.join("current"), &root.join("usr/bin")] {
            fs::create_dir_all(dir).unwrap();
        }
        let libraries =
            ["current/libcuda.so.550.1", "libnvidia-gpucomp.so.550.1", "libc.so.6", "libcudart.so.12"];
        for file in libraries.into_iter().chain(["libcuda.socket", "libnvidia-ml.a"]) {
            fs::write(libs.join(file), "").unwrap();
        }
        symlink("current/libcuda.so.550.1", libs.join("libcuda.so.1")).unwrap();
        symlink("libcuda.so.1", libs.join("libcuda.so")).unwrap();
        symlink("nowhere", libs.join("libnvidia-ml.so.1")).unwrap();
        fs::write(other.join("libnvidia-nvvm.so.4"), "of another driver").unwrap();
        for program in ["nvidia-smi", "nvidia-settings"] {
            fs::write(root.join("usr/bin").join(program), "").unwrap();
        }
        let found: Vec<_> = files(&root)
            .into_iter()
            .map(|file| {
                let source = file.source.strip_prefix(&root).unwrap().display().to_string();
                (source, file.target.display().to_string())
            })
            .collect();
        let lib = |source: &str, name: &str| {
            (format!("usr/lib/aarch64-linux-gnu/{source}"), format!("/usr/local/nvidia/lib64/{name}"))
        };
        let expected = [
            ("usr/bin/nvidia-smi".to_owned(), "/usr/local/nvidia/bin/nvidia-smi".to_owned()),
            lib("current/libcuda.so.550.1", "libcuda.so"),
            lib("current/libcuda.so.550.1", "libcuda.so.1"),
            lib("libnvidia-gpucomp.so.550.1", "libnvidia-gpucomp.so.550.1"),
        ];
        assert_eq!(found, expected);
        assert!(files(&root.join("usr/bin")).is_empty());
    }
}
