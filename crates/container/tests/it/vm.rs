//! The limits on a machine that has cgroup version 2 and nothing else: a small emulated one boots Debian's kernel and runs
//! the tests of this very program that are about limits.
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::rt_support::build_init;

/// Modules of the kernel in the order in which they are loaded: the disk, and the layers of root file systems.
const MODULES: [&str; 7] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "overlay",
];

/// Programs that the tests call, besides the shell.
const PROGRAMS: [&str; 2] = ["newuidmap", "newgidmap"];

/// The first process of the kernel's archive, whose file system cannot be left for another root: it goes over to the disk.
const LOADER: &str = r"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs none /dev
for module in $(cat /modules); do insmod /$module.ko; done
n=0; while [ ! -b /dev/vda ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
mount -t ext4 /dev/vda /disk && umount /dev && exec switch_root /disk /first
";

/// The first process of the disk. A group made by root that hands everything on must not stand in an ordinary user's way.
const FIRST: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/usr/local/bin:/usr/bin:/bin
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev; mount -t tmpfs none /run
mount -t cgroup2 none /sys/fs/cgroup; mkdir /sys/fs/cgroup/shell /sys/fs/cgroup/vessl
echo $$ > /sys/fs/cgroup/shell/cgroup.procs
for group in /sys/fs/cgroup /sys/fs/cgroup/vessl; do echo '+memory +cpu +pids' > $group/cgroup.subtree_control; done
ip link set lo up
/it rt_limits:: --test-threads 2 2>&1
echo "ended with $?"
poweroff -f
"#;

/// Stands for the C compiler: the one program that the tests build is there already.
const COMPILER: &str = "#!/bin/sh\nexec cp /usr/local/lib/init \"$4\"\n";

/// Where `.ci/tools test` puts the kernel: `vm` in the target directory.
fn kernel() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let kernel = program.ancestors().nth(3).unwrap().join("vm");
    assert!(
        kernel.join("vmlinuz").is_file(),
        "no kernel at {}: `.ci/tools test` brings one",
        kernel.display()
    );
    kernel
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    output.stdout
}

/// Copies a program with the libraries that it loads, each to the place where it stands here.
fn bring(root: &Path, program: &Path, to: &Path) {
    let bring = |from: &Path, to: &Path| {
        let to = root.join(to.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    bring(program, to);
    let said = String::from_utf8(run(Command::new("ldd").arg(program))).unwrap();
    for library in said.split_whitespace().filter(|word| word.starts_with('/')) {
        bring(Path::new(library), Path::new(library));
    }
}

fn script(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn directory(dir: &Path, names: &[&str]) -> PathBuf {
    for name in names {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    fs::copy("/bin/busybox", dir.join("bin/busybox")).unwrap();
    dir.to_owned()
}

/// What the kernel unpacks into memory before it has a disk.
fn archive(kernel: &Path, dir: &Path) -> PathBuf {
    let root = directory(&dir.join("loader"), &["bin", "dev", "disk"]);
    script(&root, "init", LOADER);
    fs::write(root.join("modules"), MODULES.join(" ")).unwrap();
    for file in MODULES.map(|name| format!("{name}.ko")) {
        fs::copy(kernel.join(&file), root.join(&file)).unwrap();
    }
    let archive = dir.join("archive");
    let mut pack = Command::new("sh");
    pack.args(["-c", "find . | busybox cpio -o -H newc"]).current_dir(&root);
    fs::write(&archive, run(&mut pack)).unwrap();
    archive
}

/// The disk, with all that the tests need.
fn disk(dir: &Path) -> PathBuf {
    let names = ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "usr/local/lib"];
    let root = directory(&dir.join("root"), &names);
    bring(&root, &std::env::current_exe().unwrap(), Path::new("/it"));
    for name in PROGRAMS {
        let to = Path::new("/usr/bin").join(name);
        bring(&root, &to, &to);
        fs::set_permissions(root.join("usr/bin").join(name), fs::Permissions::from_mode(0o4755)).unwrap();
    }
    build_init(&root.join("usr/local/lib/init"));
    script(&root, "usr/local/bin/cc", COMPILER);
    script(&root, "first", FIRST);
    for (name, text) in
        [("passwd", "root:x:0:0:root:/:/bin/sh\n"), ("group", "root:x:0:\n"), ("subuid", ""), ("subgid", "")]
    {
        fs::write(root.join("etc").join(name), text).unwrap();
    }
    let disk = dir.join("disk");
    File::create(&disk).unwrap().set_len(1 << 30).unwrap();
    run(Command::new("/sbin/mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&disk));
    disk
}

#[test]
fn limits_hold_under_cgroup_version_2() {
    let kernel = kernel();
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Command::new("qemu-system-x86_64");
    machine.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"]);
    machine.args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"]);
    machine.arg("-kernel").arg(kernel.join("vmlinuz")).arg("-initrd").arg(archive(&kernel, dir.path()));
    machine.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]);
    machine
        .arg("-drive")
        .arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk(dir.path()).display()));
    let said = String::from_utf8_lossy(&run(machine.stdin(Stdio::null()))).into_owned();
    let passed = said.contains("test result: ok.") && said.contains("ended with 0");
    let counted = said.contains("rt_limits::memory_is_limited_and_the_kill_is_counted ... ok");
    assert!(passed && counted, "{said}");
}
