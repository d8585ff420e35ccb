//! A root file system, a store and an event loop that only listens, for tests of imports and exports.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use vessl_container::rootfs::{Merged, Rootfs};
use vessl_core::plan::Plan;
use vessl_core::record::{EventKind, Secrets, Transfer};
use vessl_data::Watch;
use vessl_data::blob::Store;
use vessl_data::dir::Dir;
use vessl_data::tree;

use crate::record::Sink;
use crate::record::run_dir::RunDir;
use crate::task::{Reporter, TaskEvent};
use crate::testing::plan;
use crate::transfer::TransferContext;

/// Everything but the work.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) plan: Plan,
    pub(crate) secrets: Secrets,
    pub(crate) cancel: AtomicBool,
    merged: Option<Merged>,
    notes: Arc<Mutex<Vec<TaskEvent>>>,
    reporter: Reporter,
}

impl World {
    /// Mounts, as root. The mounts go with the thread of the test.
    pub(crate) fn new() -> Self {
        let none = None::<&str>;
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        unshare(CloneFlags::CLONE_NEWNS)
            .and_then(|()| mount(none, "/", none, private, none))
            .expect("needs root: to mount, run the tests as root");
        let dir = tempfile::tempdir().unwrap();
        for name in ["image/etc", "image/full", "image/hollow", "data", "box", "outside"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("image/full/kept"), "kept").unwrap();
        fs::write(dir.path().join("outside/file"), "untouched").unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), dir.path().join("image/out")).unwrap();
        let rootfs = Rootfs {
            layers: vec![dir.path().join("image")],
            scratch: dir.path().join("box"),
            hidden: Vec::new(),
            host: false,
            written: Vec::new(),
        };
        let merged = rootfs.mount().unwrap();
        let notes = Arc::new(Mutex::new(Vec::new()));
        let heard = notes.clone();
        let reporter = Reporter::to(move |note| heard.lock().unwrap().push(note));
        let (plan, secrets, cancel) = (plan(&["true"]), Secrets::default(), AtomicBool::new(false));
        Self { dir, plan, secrets, cancel, merged: Some(merged), notes, reporter }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path of the container as this process sees it.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        self.merged().path.join(path.trim_start_matches('/'))
    }

    pub(crate) fn merged(&self) -> &Merged {
        self.merged.as_ref().unwrap()
    }

    /// Does `work` in the root, with everything that a transfer needs.
    pub(crate) fn on<R>(&self, work: impl FnOnce(&Merged, &TransferContext<'_>) -> R) -> R {
        let Self { plan, secrets, reporter, cancel, .. } = self;
        let sink = &Sink::new(RunDir::open(self.dir.path()).unwrap(), self.path("data"));
        let scratch = &self.path("box");
        work(self.merged(), &TransferContext { plan, owner: None, sink, scratch, secrets, reporter, cancel })
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.path("data/blobs")).unwrap()
    }

    /// Stores a tree of these files and returns its version.
    pub(crate) fn tree(&self, files: &[(&str, &str)]) -> String {
        let dir = tempfile::tempdir_in(self.dir.path()).unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2750)).unwrap();
        let dir = Dir::open(dir.path()).unwrap();
        let source = tree::Source { root: &dir, path: Path::new(""), reader: None };
        tree::write(&self.store(), source, tree::Bounds::FORMAT, &Watch::NONE).unwrap().version.to_string()
    }

    fn notes(&self) -> MutexGuard<'_, Vec<TaskEvent>> {
        self.notes.lock().unwrap()
    }

    /// What was recorded.
    pub(crate) fn transfers(&self) -> Vec<Transfer> {
        let transfer = |note: &TaskEvent| match note {
            TaskEvent::Event(EventKind::Imported(t) | EventKind::Exported(t)) => Some(t.clone()),
            _ => None,
        };
        self.notes().iter().filter_map(transfer).collect()
    }

    /// Lines of the log.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line =
            |note: &TaskEvent| if let TaskEvent::Line(line) = note { Some(line.clone()) } else { None };
        self.notes().iter().filter_map(line).collect()
    }

    pub(crate) fn cancel(&self) {
        self.cancel.store(true, Ordering::SeqCst);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The directory can only be removed when nothing is mounted in it.
        self.merged = None;
        let _ = nix::mount::umount2(&self.path("box/merged"), nix::mount::MntFlags::MNT_DETACH);
    }
}
