//! How long a container takes from nothing to the end of `true`, beside crun and Docker on the same root file system.
//!
//! ```text
//! cargo bench -p vessl-container --bench start
//! ```
//! Needs root, `busybox` (static), a C compiler; a peer that is not installed, or a Docker daemon that does not run, is
//! left out. Prints medians in milliseconds and ratios.
#![allow(clippy::print_stdout, missing_docs)]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use vessl_container::limits::Limits;
use vessl_container::rootfs::Rootfs;
use vessl_container::runtime::{self, Bundle};
use vessl_container::{seccomp, userns};

const ROUNDS: usize = 60;

/// Stands for init: runs its arguments and ends with them.
const INIT: &str = "#include <unistd.h>\n#include <sys/wait.h>\nint main(int c,char**v){(void)c;if(!fork()){execv(v[1],v+1);_exit(9);}\
                    int s;wait(&s);_exit(WEXITSTATUS(s));}\n";

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    prepare(dir.path())?;
    let begun = Instant::now();
    let filter = seccomp::default_filter();
    println!("seccomp filter compiled: {:.2} ms, {} instructions", ms(begun.elapsed()), filter.len() / 8);
    let rounds = (0..ROUNDS).map(|n| one(dir.path(), n)).collect::<Outcome<Vec<_>>>()?;
    let ours = median(rounds.iter().map(|r| r.3));
    println!("isolate {:6.2} ms", median(rounds.iter().map(|r| r.0)));
    println!("mount   {:6.2} ms", median(rounds.iter().map(|r| r.1)));
    println!("start   {:6.2} ms", median(rounds.iter().map(|r| r.2)));
    println!("ours    {ours:6.2} ms (process to end, with overlay, limits, removal of the group)");
    compare("crun", ours, crun(dir.path()));
    compare("docker", ours, docker(dir.path()));
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(times: impl Iterator<Item = Duration>) -> f64 {
    let mut times: Vec<_> = times.collect();
    times.sort();
    times.get(times.len() / 2).map_or(0.0, |time| ms(*time))
}

fn compare(name: &str, ours: f64, peer: Outcome<f64>) {
    match peer {
        Ok(peer) => println!("{name:7} {peer:6.2} ms; ours takes {:.2} of it", ours / peer),
        Err(e) => println!("{name}: left out ({e})"),
    }
}

fn prepare(dir: &Path) -> Outcome<()> {
    let bin = dir.join("layer/bin");
    fs::create_dir_all(&bin)?;
    fs::copy("/bin/busybox", bin.join("busybox"))?;
    std::os::unix::fs::symlink("busybox", bin.join("true"))?;
    fs::write(dir.join("init.c"), INIT)?;
    let files = [dir.join("init"), dir.join("init.c")];
    let built = Command::new("cc").args(["-static", "-O1", "-o"]).args(files).status()?;
    if built.success() { Ok(()) } else { Err("the C compiler failed".into()) }
}

/// isolate, mount, start, whole.
type Times = (Duration, Duration, Duration, Duration);

/// One container in a supervisor process of its own.
fn one(dir: &Path, number: usize) -> Outcome<Times> {
    let scratch = dir.join(format!("box{number}"));
    fs::create_dir(&scratch)?;
    let (mut reader, mut writer) = io::pipe()?;
    let begun = Instant::now();
    // SAFETY: this program has one thread.
    #[allow(unsafe_code)]
    match unsafe { fork() }? {
        ForkResult::Child => {
            let told =
                supervise(dir, &scratch, number).map(|t| t.map(|t| t.as_nanos().to_string()).join(" "));
            let _ = writer.write_all(told.unwrap_or_else(|e| format!("error: {e}")).as_bytes());
            std::process::exit(0)
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut told = String::new();
            reader.read_to_string(&mut told)?;
            waitpid(child, None)?;
            let whole = begun.elapsed();
            let mut parts = told.split(' ').map(|n| n.parse().map(Duration::from_nanos));
            let mut next = || parts.next().and_then(Result::ok).ok_or_else(|| told.clone());
            Ok((next()?, next()?, next()?, whole))
        }
    }
}

fn supervise(dir: &Path, scratch: &Path, number: usize) -> Outcome<[Duration; 3]> {
    let begun = Instant::now();
    userns::isolate()?;
    let isolated = begun.elapsed();
    let rootfs =
        Rootfs { layers: vec![dir.join("layer")], scratch: scratch.into(), hidden: Vec::new(), host: false };
    let merged = rootfs.mount()?;
    let mounted = begun.elapsed();
    let null = || File::open("/dev/null").map(OwnedFd::from);
    let container = runtime::start(Bundle {
        unit: format!("vessl-bench-{}-{number}", std::process::id()),
        merged: merged.path.clone(),
        hostname: "bench".to_owned(),
        limits: Limits { cpu_milli: Some(1000), memory: Some(256 << 20), pids: Some(512) },
        devices: Vec::new(),
        init: dir.join("init"),
        init_args: vec!["/bin/true".to_owned()],
        fds: [null()?, null()?, null()?, null()?],
    })?;
    let started = begun.elapsed();
    waitpid(Pid::from_raw(container.pid), None)?;
    container.cgroup.remove()?;
    Ok([isolated, mounted.saturating_sub(isolated), started.saturating_sub(mounted)])
}

fn time_of(mut command: Command) -> Outcome<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut times = Vec::new();
    for _ in 0..ROUNDS / 2 {
        let begun = Instant::now();
        if !command.status()?.success() {
            return Err(format!("{command:?} failed").into());
        }
        times.push(begun.elapsed());
    }
    Ok(median(times.into_iter()))
}

fn crun(dir: &Path) -> Outcome<f64> {
    let bundle = dir.join("crun");
    fs::create_dir_all(&bundle)?;
    let made = Command::new("crun").arg("spec").current_dir(&bundle).status()?;
    let text = fs::read_to_string(bundle.join("config.json"))?;
    let mut config: serde_json::Value = serde_json::from_str(&text)?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["/bin/true"]);
    config["root"] = serde_json::json!({ "path": dir.join("layer"), "readonly": false });
    let namespaces = ["pid", "mount", "ipc", "uts"].map(|kind| serde_json::json!({ "type": kind }));
    config["linux"]["namespaces"] = namespaces.to_vec().into();
    config["linux"]["resources"]["memory"] = serde_json::json!({ "limit": 256 << 20 });
    config["linux"]["resources"]["pids"] = serde_json::json!({ "limit": 512 });
    fs::write(bundle.join("config.json"), config.to_string())?;
    let mut command = Command::new("crun");
    command.args(["run", "--bundle"]).arg(&bundle).arg(format!("vessl-bench-{}", std::process::id()));
    if made.success() { time_of(command) } else { Err("`crun spec` failed".into()) }
}

fn docker(dir: &Path) -> Outcome<f64> {
    let image = format!("vessl-bench:{}", std::process::id());
    let archive: PathBuf = dir.join("image.tar");
    let packed =
        Command::new("tar").arg("-C").arg(dir.join("layer")).arg("-cf").arg(&archive).arg(".").status()?;
    let mut import = Command::new("docker");
    import.arg("import").arg(&archive).arg(&image).stdout(Stdio::null()).stderr(Stdio::null());
    let imported = import.status()?;
    if !packed.success() || !imported.success() {
        return Err("no daemon answers".into());
    }
    let mut command = Command::new("docker");
    command.args(["run", "--rm", "--network", "host", &image, "/bin/true"]);
    let time = time_of(command);
    Command::new("docker").args(["rmi", &image]).stdout(Stdio::null()).status()?;
    time
}
