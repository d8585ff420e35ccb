//! What not every machine has: a small emulated one boots Debian's kernel and runs tests of this very program, about limits where
//! there is cgroup version 2 and nothing else, and about NFS where the kernel has a client and a server.
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

/// The server and the client of NFS, after those.
const NFS_MODULES: [&str; 11] = [
    "sunrpc",
    "auth_rpcgss",
    "grace",
    "lockd",
    "nfs_acl",
    "netfs",
    "fscache",
    "nfs",
    "dns_resolver",
    "nfsv4",
    "nfsd",
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
. /tests
echo "ended with $?"
poweroff -f
"#;

const LIMITS: &str = "/it rt_limits:: --test-threads 2 2>&1";

/// Exports `/export` without the programs of a server, which would answer what is written into the channels here. The numbers:
/// valid until 2033; asynchronous, no check of subtrees, an id of its own, any port of the client.
const NFS: &str = r#"mkdir -p /export
mount -t nfsd none /proc/fs/nfsd
for time in nfsv4leasetime nfsv4gracetime; do echo 10 > /proc/fs/nfsd/$time; done
echo "-3 +4 +4.1 +4.2" > /proc/fs/nfsd/versions
echo "nfsd 127.0.0.1 2000000000 all" > /proc/net/rpc/auth.unix.ip/channel
echo "all /export 2000000000 9234 65534 65534 0" > /proc/net/rpc/nfsd.export/channel
printf '%s\n' 'all 1 \x00000000 2000000000 /export' > /proc/net/rpc/nfsd.fh/channel
echo 2 > /proc/fs/nfsd/threads
VESSL_TEST_EXPORTED=/export /it rt_nfs:: 2>&1"#;

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
fn archive(kernel: &Path, dir: &Path, modules: &[&str]) -> PathBuf {
    let root = directory(&dir.join("loader"), &["bin", "dev", "disk"]);
    script(&root, "init", LOADER);
    let modules = [&MODULES, modules].concat();
    fs::write(root.join("modules"), modules.join(" ")).unwrap();
    for file in modules.iter().map(|name| format!("{name}.ko")) {
        fs::copy(kernel.join(&file), root.join(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    }
    let archive = dir.join("archive");
    let mut pack = Command::new("sh");
    pack.args(["-c", "find . | busybox cpio -o -H newc"]).current_dir(&root);
    fs::write(&archive, run(&mut pack)).unwrap();
    archive
}

/// The disk, with all that the tests need, and what runs them.
fn disk(dir: &Path, tests: &str) -> PathBuf {
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
    script(&root, "tests", tests);
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

/// Boots a machine with these modules that runs tests; what it said, if they have passed.
fn boot(modules: &[&str], tests: &str) -> String {
    let kernel = kernel();
    let dir = tempfile::tempdir().unwrap();
    let mut machine = Command::new("qemu-system-x86_64");
    machine.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"]);
    machine.args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"]);
    machine.arg("-kernel").arg(kernel.join("vmlinuz"));
    machine.arg("-initrd").arg(archive(&kernel, dir.path(), modules));
    machine.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]);
    machine
        .arg("-drive")
        .arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk(dir.path(), tests).display()));
    let said = String::from_utf8_lossy(&run(machine.stdin(Stdio::null()))).into_owned();
    assert!(said.contains("test result: ok.") && said.contains("ended with 0"), "{said}");
    said
}

#[test]
fn limits_hold_under_cgroup_version_2() {
    let said = boot(&[], LIMITS);
    assert!(said.contains("rt_limits::memory_is_limited_and_the_kill_is_counted ... ok"), "{said}");
}

#[test]
fn exports_are_mounted_where_the_kernel_has_a_client() {
    let said = boot(&NFS_MODULES, NFS);
    assert!(said.contains("rt_nfs::an_export_is_mounted_or_it_is_said_why_not ... ok"), "{said}");
}
