//! A repository to import from and a directory to import into.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use vessl_core::plan::GitParts;
use vessl_core::record::Login;
use vessl_data::Watch;
use vessl_data::dir::Dir;
use vessl_data::git::{Address, Fence, Files, GitError, Imported, Request, import};

pub(crate) struct Bed {
    dir: tempfile::TempDir,
}

/// What a test asks for; the rest has defaults.
pub(crate) struct Ask<'a> {
    pub(crate) url: String,
    pub(crate) reference: Option<&'a str>,
    pub(crate) login: Option<Login>,
    pub(crate) watch: Watch<'a>,
    pub(crate) stall: Duration,
    pub(crate) prepare: &'a dyn Fn(&mut Command),
    pub(crate) fence: Option<&'a Fence>,
    pub(crate) hidden: Option<PathBuf>,
    pub(crate) parts: GitParts,
}

impl Ask<'_> {
    pub(crate) fn of(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            reference: None,
            login: None,
            watch: Watch::NONE,
            stall: Duration::from_secs(20),
            prepare: &|_| {},
            fence: None,
            hidden: None,
            parts: GitParts::default(),
        }
    }

    pub(crate) fn run(&self, dest: &Path) -> Result<Imported, GitError> {
        let address = Address::parse(&self.url, Files::Allowed)?;
        let dir = Dir::open(dest).unwrap();
        import(&Request {
            address: &address,
            reference: self.reference,
            dest: &dir,
            owner: None,
            login: self.login.as_ref(),
            watch: self.watch,
            stall: self.stall,
            prepare: self.prepare,
            fence: self.fence,
            hidden: self.hidden.as_deref(),
            parts: self.parts,
        })
    }
}

impl Bed {
    /// `main` with two commits, tag `v1` on the first, branch `feature/x`, a pull reference, a commit on no branch.
    pub(crate) fn new() -> Self {
        let bed = Self::empty();
        bed.git(&["init", "-q", "-b", "main", "."]);
        bed.commit("README", "first\n");
        bed.git(&["tag", "-a", "v1", "-m", "one"]);
        bed.commit("src/main.py", "print('second')\n");
        bed.git(&["checkout", "-q", "-b", "feature/x"]);
        bed.commit("feature", "x\n");
        bed.git(&["checkout", "-q", "--detach"]);
        bed.commit("pull", "request\n");
        bed.git(&["update-ref", "refs/pull/1/head", "HEAD"]);
        bed.git(&["checkout", "-q", "main"]);
        bed
    }

    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("repo")).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.path("repo").display())
    }

    pub(crate) fn ask<'a>(&self, reference: Option<&'a str>) -> Ask<'a> {
        Ask { reference, ..Ask::of(self.url()) }
    }

    /// A new empty directory.
    pub(crate) fn dest(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        path
    }

    pub(crate) fn commit(&self, file: &str, text: &str) {
        let path = self.path("repo").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self.git(&["add", "--force", file]);
        self.git(&["commit", "-q", "-m", file]);
    }

    /// Runs git in the repository and returns what it printed.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        git_in(&self.path("repo"), args, "")
    }

    /// The same with standard input.
    pub(crate) fn git_with(&self, args: &[&str], input: &str) -> String {
        git_in(&self.path("repo"), args, input)
    }

    pub(crate) fn id(&self, name: &str) -> String {
        self.git(&["rev-parse", &format!("{name}^{{commit}}")])
    }
}

pub(crate) fn git_in(dir: &Path, args: &[&str], input: &str) -> String {
    let mut child = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs(["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"].map(|key| (key, "Someone")))
        .envs(["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"].map(|key| (key, "someone@localhost")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {args:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Every file below `dir` that holds `needle`.
pub(crate) fn files_with(dir: &Path, needle: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() && contains(&fs::read(entry.path()).unwrap(), needle) {
                found.push(entry.path());
            }
        }
    }
    found
}

pub(crate) fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// Waits until no process works in `dir` any more.
pub(crate) fn wait_until_nobody_is_in(dir: &Path) {
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    let dir = fs::canonicalize(dir).unwrap();
    let busy = || {
        let pids = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        pids.filter_map(|e| fs::read_link(e.path().join("cwd")).ok()).any(|cwd| cwd.starts_with(&dir))
    };
    while busy() {
        assert!(std::time::Instant::now() < deadline, "a process is still in {}", dir.display());
        // Leaves the core to what is waited for.
        std::thread::sleep(Duration::from_millis(1));
    }
}
