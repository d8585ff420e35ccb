//! The images: busybox alone, and a large one made of the files of this machine's Debian packages.
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::Outcome;
use crate::docker::Docker;
use crate::registry::Registry;
use crate::timing::output;

/// Layers of the large image, and bytes of files in each.
const LAYERS: usize = 4;
const LAYER: u64 = 125_000_000;
/// A package that is larger than this is left out: one file would be most of a layer.
const LARGEST: u64 = 60_000_000;

/// References in the registry.
pub(crate) struct Images {
    pub(crate) small: String,
    pub(crate) large: String,
    /// The root file system of the small one, as a directory.
    pub(crate) root: std::path::PathBuf,
}

impl Images {
    /// Makes the images and puts them into the registry. The daemon keeps the small one only.
    pub(crate) fn make(dir: &Path, docker: &Docker, registry: &Registry, with_large: bool) -> Outcome<Self> {
        let name = |name: &str| format!("{}/bench/{name}:1", registry.address);
        let images = Self { small: name("small"), large: name("large"), root: dir.join("root") };
        let bin = images.root.join("bin");
        fs::create_dir_all(&bin)?;
        fs::copy("/bin/busybox", bin.join("busybox"))?;
        for link in ["sh", "true", "cat", "head", "sleep", "yes"] {
            std::os::unix::fs::symlink("busybox", bin.join(link))?;
        }
        let archive = dir.join("small.tar");
        output(tar(&images.root, &archive, ["."]))?;
        let mut import = docker.command(["import", "--change", "ENV PATH=/bin"]);
        import.arg(&archive).arg(&images.small);
        output(import)?;
        output(docker.command(["push", &images.small]))?;
        if with_large {
            eprintln!("making an image of {} MB", LAYERS as u64 * LAYER / 1_000_000);
            large(&dir.join("large"), docker, &images.large)?;
        }
        fs::remove_file(&archive)?;
        Ok(images)
    }
}

fn tar<const N: usize>(from: &Path, to: &Path, what: [&str; N]) -> Command {
    let mut command = Command::new("tar");
    command.arg("-C").arg(from).arg("-cf").arg(to).arg("--numeric-owner").args(what);
    command
}

/// An archive as `docker save` writes it, loaded, pushed, and forgotten by the daemon.
fn large(dir: &Path, docker: &Docker, name: &str) -> Outcome<()> {
    fs::create_dir_all(dir)?;
    let mut diff_ids = Vec::new();
    let mut files = Vec::new();
    for (n, paths) in layers()?.into_iter().enumerate() {
        let file = format!("{n}.tar");
        write_layer(&dir.join(&file), &paths)?;
        let sum = String::from_utf8(output(sha256(&dir.join(&file)))?)?;
        diff_ids.push(format!("sha256:{}", sum.split(' ').next().unwrap_or_default()));
        files.push(file);
    }
    let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({ "architecture": arch, "os": "linux", "config": {}, "rootfs": rootfs });
    fs::write(dir.join("config.json"), config.to_string())?;
    let manifest = json!([{ "Config": "config.json", "RepoTags": [name], "Layers": files }]);
    fs::write(dir.join("manifest.json"), manifest.to_string())?;
    let archive = dir.with_extension("tar");
    output(tar(dir, &archive, ["."]))?;
    let mut load = docker.command(["load", "--input"]);
    load.arg(&archive);
    output(load)?;
    output(docker.command(["push", name]))?;
    output(docker.command(["rmi", name]))?;
    fs::remove_file(&archive)?;
    Ok(fs::remove_dir_all(dir)?)
}

fn sha256(file: &Path) -> Command {
    let mut command = Command::new("sha256sum");
    command.arg(file);
    command
}

fn write_layer(to: &Path, paths: &[String]) -> Outcome<()> {
    let mut command = tar(Path::new("/"), to, ["--no-recursion", "--null", "--files-from", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(paths.join("\0").as_bytes())?;
    if child.wait()?.success() { Ok(()) } else { Err("`tar` could not pack a layer".into()) }
}

/// Paths of the files of each layer, relative to `/`: the packages that every Debian has, then others by name.
fn layers() -> Outcome<Vec<Vec<String>>> {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${Priority} ${binary:Package}\n"]);
    let text = String::from_utf8(output(query)?)?;
    let mut packages: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    packages.sort_by_key(|(priority, name)| (*priority != "required", *priority != "important", *name));
    let (mut layers, mut layer, mut size) = (Vec::new(), BTreeMap::new(), 0);
    for (_, package) in packages {
        let files = files_of(package)?;
        let bytes = files.values().sum::<u64>();
        if bytes > LARGEST {
            continue;
        }
        layer.extend(files);
        size += bytes;
        if size >= LAYER {
            layers.push(std::mem::take(&mut layer).into_keys().collect());
            size = 0;
        }
        if layers.len() == LAYERS {
            return Ok(layers);
        }
    }
    Err("this machine has too few Debian packages for an image of 500 MB".into())
}

/// What a package brought, with sizes.
fn files_of(package: &str) -> Outcome<BTreeMap<String, u64>> {
    let mut query = Command::new("dpkg-query");
    query.args(["-L", package]);
    let text = String::from_utf8_lossy(&output(query)?).into_owned();
    let mut files = BTreeMap::new();
    for path in text.lines().filter(|path| path.starts_with("/usr/")) {
        let Ok(about) = fs::symlink_metadata(path) else { continue };
        let size = if about.is_file() { about.len() } else { 0 };
        files.insert(path.trim_start_matches('/').to_owned(), size);
    }
    Ok(files)
}
