//! From a plan to a container that waits for its order: image, root file system, imports, mounts, user, environment.
pub(super) mod again;
mod embed;
mod env;
pub(super) mod error;
mod gpu;
mod hidden_dirs;
pub(crate) mod image;
mod mounts;
mod user;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use vessl_container::image::ImageConfig;
use vessl_container::limits::Limits;
use vessl_container::rootfs::{Merged, Rootfs, plain};
use vessl_container::runtime::{self, Bundle, Container};
use vessl_container::store::{Hold, Options, Store};
use vessl_container::{network, probe, seccomp, userns};
use vessl_core::account::{self, User};
use vessl_core::network::Network;
use vessl_core::plan::{ImagePlan, MountFrom, MountPlan, Plan};
use vessl_core::record::{EventKind, InitConfig, Phase, RECORD_VERSION};
use vessl_core::run::EndReason;
use vessl_core::{script, spelling};
use vessl_data::dir::proc_path;

use super::capture::OutputCapture;
use super::door;
use super::event_loop::{EventLoop, EventSource};
use super::import::{self, ImportedVersions};
use super::link::Link;
use super::scratch::ScratchWatch;
use super::session;
use crate::record::Sink;
use crate::record::mask::Mask;
use crate::task::{Reporter, Task};
use crate::transfer::TransferContext;
use error::SetupError;

/// Most processes and threads of one run: far above what training needs. A machine with few numbers gives fewer.
const PIDS: u64 = 32 * 1024;
/// Largest `/etc/passwd` or `/etc/group` that is read, in bytes.
const ACCOUNTS: u64 = 4 << 20;

/// What an attempt works with; shared with its tasks.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The plan.
    pub(crate) plan: Plan,
    /// Where its record goes.
    pub(crate) sink: Sink,
    /// Scratch of this attempt.
    pub(crate) scratch: PathBuf,
    /// Secret values.
    pub(crate) secrets: vessl_core::record::Secrets,
    /// What the log must not show.
    pub(crate) mask: Mask,
    /// The network of its container.
    pub(crate) network: Network,
}

/// A root file system that is ready for its commands.
#[derive(Debug)]
pub(crate) struct Root {
    /// The mounted tree.
    pub(crate) merged: Arc<Merged>,
    config: ImageConfig,
    /// Who the commands run as.
    pub(crate) user: User,
    /// Keeps the imported versions.
    pub(crate) imported: ImportedVersions,
    /// Keeps the layers.
    _hold: Option<Hold>,
}

/// A container whose init has its order.
#[derive(Debug)]
pub(crate) struct Running {
    /// The container.
    pub(crate) container: Container,
    /// The socket to init.
    pub(crate) link: Link,
    /// The commands' output.
    pub(crate) capture: OutputCapture,
    /// Who looks after what they write, if that has a limit.
    pub(crate) scratch: Option<ScratchWatch>,
}

/// Makes everything that the commands find when they start.
pub(crate) fn prepare(event_loop: &mut EventLoop, attempt: &Arc<Attempt>) -> Result<Root, SetupError> {
    let plan = &attempt.plan;
    let Base { merged, user, image, hidden } = base(event_loop, attempt)?;
    // Parents before children: an import may lie below a mount.
    let (above, others): (Vec<_>, Vec<_>) = plan.mounts.iter().partition(|mount| is_above(mount, plan));
    let volumes = attempt.sink.data().join("volumes");
    let own = mounts::Own { hidden: &hidden, volumes: &volumes, stop: &|| false };
    mounts::mount_all(&merged, &above, &own)?;
    let imported = import(event_loop, attempt, &merged, &user)?;
    mounts::mount_all(&merged, &others, &own)?;
    if gpu::needs_driver(plan) {
        let files = probe::driver_files();
        if files.is_empty() {
            event_loop
                .log
                .report("this machine has no libraries of a GPU driver: the image must bring its own");
        }
        gpu::show_driver(&merged, files)?;
    }
    warn_of_found_files(event_loop, &merged, plan)?;
    make_dirs(&merged, plan, &image.config, &user)?;
    Ok(Root { merged, config: image.config, user, imported, _hold: image.hold })
}

/// The root file system before anything is in it that the plan asks for.
struct Base {
    merged: Arc<Merged>,
    user: User,
    image: image::PreparedImage,
    /// Directories that no run may see.
    hidden: Vec<PathBuf>,
}

fn base(event_loop: &mut EventLoop, attempt: &Attempt) -> Result<Base, SetupError> {
    let plan = &attempt.plan;
    let hidden = hidden_dirs::all(attempt.sink.data());
    let home = home_of_this_user();
    userns::isolate().map_err(|error| SetupError::of("cannot isolate the run", error))?;
    let roots = plan.fence.as_ref().map(|roots| roots.iter().map(PathBuf::from).collect());
    let store = Store::open(&attempt.sink.data().join("images")).map_err(SetupError::because)?;
    let store = store.with(Options { roots, ..Options::default() });
    let image = image::get(event_loop, &store, plan, &attempt.secrets)
        .map_err(|error| error.kind(EndReason::ImageFailed))?;
    std::fs::create_dir_all(&attempt.scratch)
        .map_err(|error| SetupError::of("cannot make the run's scratch directory", error))?;
    let host = plan.image == ImagePlan::Host;
    let rootfs = Rootfs {
        layers: image.layers.clone(),
        scratch: attempt.scratch.clone(),
        hidden: hidden.clone(),
        host,
        written: written(plan, home.as_deref()),
    };
    let merged = Arc::new(rootfs.mount().map_err(SetupError::because)?);
    let mut user = user(&merged, &image.config)?;
    if host {
        own_home(&mut user, home, &merged);
    }
    if !user::is_mapped(&user) {
        return Err(SetupError::Failed(
            EndReason::ImageFailed,
            format!(
                "the image's user {}:{} has no id here: the runs of an ordinary user have those of `/etc/subuid` and `/etc/subgid` (`vessl doctor`)",
                user.uid, user.gid
            ),
        ));
    }
    Ok(Base { merged, user, image, hidden })
}

/// The home directory of the server's user: what the machine says, and only for a user that it does not know what the server was
/// started with.
fn home_of_this_user() -> Option<String> {
    let me = nix::unistd::geteuid().as_raw();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let known = account::homes(&passwd).find(|(uid, _)| *uid == me).map(|(_, home)| home.to_owned());
    known.or_else(|| std::env::var("HOME").ok()).filter(|home| home.starts_with('/'))
}

/// Where the run writes on a machine's own root file system, as far as that is known before.
fn written(plan: &Plan, home: Option<&str>) -> Vec<PathBuf> {
    let home = home.map(PathBuf::from);
    let paths = plan.imports.iter().map(|import| &import.path);
    let paths = paths.chain(plan.mounts.iter().map(|mount| &mount.path));
    let paths = paths.chain(plan.exports.iter().map(|export| &export.path));
    let paths = paths.chain(plan.items.iter().filter_map(|item| item.workdir.as_ref()));
    home.into_iter().chain(paths.map(|path| spelling::path(path))).collect()
}

fn is_above(mount: &MountPlan, plan: &Plan) -> bool {
    plan.imports.iter().any(|import| Path::new(&import.path).starts_with(&mount.path))
}

fn import(
    event_loop: &mut EventLoop,
    attempt: &Arc<Attempt>,
    merged: &Arc<Merged>,
    user: &User,
) -> Result<ImportedVersions, SetupError> {
    let is_version = |mount: &MountPlan| matches!(mount.source, MountFrom::Tree { .. });
    if attempt.plan.imports.is_empty() && !attempt.plan.mounts.iter().any(is_version) {
        return Ok(ImportedVersions::default());
    }
    event_loop.events.add(EventKind::Phase { phase: Phase::Importing });
    let (attempt, merged) = (attempt.clone(), merged.clone());
    let owner = user.owner();
    let task = Task::start(move |reporter, cancel| {
        import::run(&merged, &TransferContext { owner, ..attempt.transfer_context(reporter, cancel) })
    })?;
    let imported = event_loop.attend(task, |event_loop| event_loop.stop.map(|_| Instant::now()));
    if event_loop.stop.is_some() {
        return Err(SetupError::Stopped);
    }
    imported?.map_err(|error| {
        let code = error.code();
        SetupError::because(error).kind(code)
    })
}

impl Attempt {
    /// What imports and exports need.
    pub(crate) fn transfer_context<'a>(
        &'a self,
        reporter: &'a Reporter,
        cancel: &'a AtomicBool,
    ) -> TransferContext<'a> {
        let Self { plan, sink, scratch, secrets, .. } = self;
        TransferContext { plan, owner: None, sink, scratch, secrets, reporter, cancel }
    }
}

/// The image's user, resolved by the image's own files.
fn user(merged: &Merged, config: &ImageConfig) -> Result<User, SetupError> {
    let (passwd, group) = (account_file(merged, "/etc/passwd")?, account_file(merged, "/etc/group")?);
    account::resolve(&config.user, &passwd, &group).map_err(SetupError::because)
}

/// On the machine's own root file system an ordinary user is shown as root, whose home is closed to them: it is their own.
fn own_home(user: &mut User, own: Option<String>, merged: &Merged) {
    let there = |home: &String| merged.open(Path::new(home)).is_ok_and(|found| found.is_some());
    if let Some(home) = own.filter(there) {
        user.home = home;
    }
}

fn account_file(merged: &Merged, path: &str) -> Result<String, SetupError> {
    let failed = |error| SetupError::of(&format!("cannot read `{path}` of the image"), error);
    let Some(found) = merged.open(&spelling::path(path)).map_err(SetupError::because)? else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    let file = reopen(&found).map_err(failed)?;
    file.take(ACCOUNTS).read_to_end(&mut bytes).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Opens for reading what an `O_PATH` descriptor names, if it is a plain file.
fn reopen(found: &OwnedFd) -> io::Result<File> {
    let path = proc_path(found);
    if !std::fs::metadata(&path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    File::open(path)
}

/// An export takes all that is there at the end, also what the machine had there before.
fn warn_of_found_files(event_loop: &mut EventLoop, merged: &Merged, plan: &Plan) -> Result<(), SetupError> {
    let brought = plan.imports.iter().map(|import| &import.path);
    let brought: Vec<_> = brought.chain(plan.mounts.iter().map(|mount| &mount.path)).collect();
    for path in plan.exports.iter().map(|export| &export.path).filter(|_| plan.image == ImagePlan::Host) {
        let Some(found) = merged.open(&spelling::path(path)).map_err(SetupError::because)? else { continue };
        let entries = std::fs::read_dir(proc_path(&found));
        let filled = entries.is_ok_and(|mut entries| entries.next().is_some());
        let is_ours = brought.iter().any(|other| Path::new(other).starts_with(path));
        if filled && !is_ours {
            event_loop
                .log
                .report(&format!("this machine has files at `{path}`: the export will take them as well"));
        }
    }
    Ok(())
}

/// The image's working directory and the directories to be exported: there before the commands, the user's own.
fn make_dirs(merged: &Merged, plan: &Plan, config: &ImageConfig, user: &User) -> Result<(), SetupError> {
    let exports = plan.exports.iter().map(|export| export.path.clone());
    for path in exports.chain([workdir(config)]).map(|path| spelling::path(&path)) {
        if merged.open(&path).map_err(SetupError::because)?.is_none() {
            merged.make_dir(&path, user.owner()).map_err(SetupError::because)?;
        }
    }
    Ok(())
}

fn workdir(config: &ImageConfig) -> String {
    spelling::spell(plain(Path::new(&config.workdir)).as_os_str().as_bytes())
}

/// Starts the container and gives its init the order. This process has one thread here.
pub(crate) fn start(
    event_loop: &mut EventLoop,
    attempt: &Attempt,
    root: &Root,
) -> Result<Running, SetupError> {
    event_loop.events.add(EventKind::Phase { phase: Phase::Starting });
    let failed = |error: io::Error| SetupError::of("cannot start the container", error);
    let config = init_config(attempt, root)?;
    let init = embed::place(attempt.sink.data()).map_err(failed)?;
    let (mut link, init_link) = Link::pair().map_err(failed)?;
    let (capture, stdout, stderr) = OutputCapture::open(event_loop, &attempt.mask).map_err(failed)?;
    let stdin = File::open("/dev/null").map_err(failed)?;
    let namespace = network::make(attempt.network, attempt.plan.run.0)
        .map_err(|error| SetupError::of("cannot make the run's network", error))?;
    let door = door::listen(attempt.sink.dir()).map_err(failed)?;
    let bundle = Bundle {
        unit: attempt.plan.unit(),
        merged: root.merged.path.clone(),
        hostname: env::hostname(&attempt.plan),
        limits: limits(&attempt.plan),
        no_new_privs: attempt.plan.no_new_privs || attempt.plan.image == ImagePlan::Host,
        seccomp: seccomp::default_filter(),
        network: namespace.map(|namespace| namespace.fd),
        devices: gpu::devices(&attempt.plan)?,
        init,
        beside_init: session::shown(&attempt.plan, attempt.sink.data()).map_err(failed)?,
        init_args: Vec::new(),
        fds: [stdin.into(), stdout, stderr, init_link, door],
    };
    be_alone().map_err(failed)?;
    let container = runtime::start(bundle).map_err(SetupError::because)?;
    for sentence in &container.unenforced {
        event_loop.log.report(sentence);
    }
    link.send_config(&config).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => {
            failed(io::Error::other("its first process ended before it had its order"))
        }
        _ => failed(error),
    })?;
    event_loop.set_surroundings(Some(door::surroundings(&config)));
    event_loop.watch(EventSource::Link, &link).map_err(failed)?;
    event_loop.watch(EventSource::Child, &container.pidfd).map_err(failed)?;
    let scratch = ScratchWatch::start(&attempt.scratch, container.pid, attempt.plan.bounds.scratch);
    let scratch = scratch.map_err(failed)?;
    scratch.iter().try_for_each(|watch| event_loop.watch(EventSource::Scratch, watch)).map_err(failed)?;
    Ok(Running { container, link, capture, scratch })
}

/// A thread that was joined may stay in the kernel's list for a moment.
fn be_alone() -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(1);
    while std::fs::read_dir("/proc/self/task")?.count() > 1 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    Ok(())
}

fn init_config(attempt: &Attempt, root: &Root) -> Result<InitConfig, SetupError> {
    let plan = &attempt.plan;
    let stay = plan.interactive.is_some() || plan.termination_protection;
    let argv: Vec<String> = if plan.items.is_empty() && plan.interactive.is_none() {
        root.config.entrypoint.iter().chain(&root.config.cmd).cloned().collect()
    } else {
        Vec::new()
    };
    if plan.items.is_empty() && argv.is_empty() && !stay {
        return Err(SetupError::Failed(
            EndReason::SetupFailed,
            "there is nothing to run: the file has no `run`, and the image no program of its own".to_owned(),
        ));
    }
    let env = env::build(plan, &root.config.env, &root.user.home, &attempt.secrets);
    let mut env = env.map_err(SetupError::because)?;
    if gpu::needs_driver(plan) {
        gpu::name_driver(&mut env);
    }
    let workdir = workdir(&root.config);
    Ok(InitConfig {
        v: RECORD_VERSION,
        script: (!plan.items.is_empty()).then(|| script::build(&plan.items, &workdir, plan.shell)),
        argv,
        env,
        // Of the image, so it is UTF-8.
        workdir: String::from_utf8_lossy(&spelling::read(&workdir)).into_owned(),
        uid: root.user.uid,
        gid: root.user.gid,
        groups: root.user.groups.clone(),
        stay,
        items: u32::try_from(plan.items.len()).unwrap_or(u32::MAX),
    })
}

fn limits(plan: &Plan) -> Limits {
    let some = |amount: u64| (amount > 0).then_some(amount);
    Limits {
        cpu_milli: some(plan.resources.cpu_milli),
        memory: some(plan.resources.memory),
        pids: Some(pids(&std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default())),
    }
}

/// No run takes more than a quarter of the machine's process numbers, so that one that forks without end leaves room for
/// others. `pid_max` is the text of `/proc/sys/kernel/pid_max`.
fn pids(pid_max: &str) -> u64 {
    pid_max.trim().parse().map_or(PIDS, |all: u64| (all / 4).min(PIDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_working_directory_of_an_image_is_a_plain_path() {
        for (said, expected) in [
            ("", "/"),
            ("/", "/"),
            ("/app/", "/app"),
            ("/app/../srv/./x", "/srv/x"),
            ("/../../etc", "/etc"),
            ("app", "/app"),
        ] {
            let config = ImageConfig { workdir: said.to_owned(), ..ImageConfig::default() };
            assert_eq!(workdir(&config), expected, "{said}");
        }
    }

    #[test]
    fn a_run_gets_a_share_of_the_process_numbers() {
        for (text, expected) in [("32768\n", 8_192), ("4194304\n", 32_768), ("", 32_768)] {
            assert_eq!(pids(text), expected);
        }
    }
}
