//! One init under test.
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vessl_core::frame::{self, Frames};
use vessl_core::record::{InitAsk, InitConfig, InitReport, RECORD_VERSION};

const PATIENCE: Duration = Duration::from_mins(1);
/// Mounts an overlay of `/` whose changes go to `$1`, and starts `$2` in it.
const ENTER: &str = r#"
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/merged"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" none "$1/merged"
mkdir -p "$1/merged/.vessl"
mount -t proc none "$1/merged/proc"
mount --bind /dev "$1/merged/dev"
trap '' HUP USR2
exec chroot "$1/merged" "$2"
"#;

/// Init, and the agent's end of its socket.
pub(crate) struct Rig {
    child: Child,
    link: UnixStream,
    frames: Frames,
    _scratch: tempfile::TempDir,
}

/// An order for `script` as root in `/`.
pub(crate) fn order(script: &str) -> InitConfig {
    InitConfig {
        v: RECORD_VERSION,
        script: Some(script.to_owned()),
        argv: Vec::new(),
        env: vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
        workdir: "/".to_owned(),
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        stay: false,
        items: 1,
    }
}

impl Rig {
    /// Starts init and sends it `order`.
    pub(crate) fn start(order: &InitConfig) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "needs root: to make init PID 1, run the tests as root");
        let scratch = tempfile::tempdir().unwrap();
        let (link, theirs) = UnixStream::pair().unwrap();
        let number = theirs.as_raw_fd();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "sh"]);
        command.arg(scratch.path()).arg(env!("CARGO_BIN_EXE_vessl-init"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: `dup2` may be called between fork and exec, and `number` stays open until the child has started.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(move || match libc::dup2(number, 3) {
                3 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let child = command.spawn().unwrap();
        drop(theirs);
        link.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rig = Self { child, link, frames: Frames::default(), _scratch: scratch };
        rig.send(&frame::encode(order).unwrap());
        rig
    }

    pub(crate) fn ask(&mut self, ask: &InitAsk) {
        self.send(&frame::encode(ask).unwrap());
    }

    fn send(&mut self, bytes: &[u8]) {
        self.link.write_all(bytes).unwrap();
    }

    /// The next report; `None` when init has closed the socket.
    pub(crate) fn report(&mut self) -> Option<InitReport> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(report) = self.frames.pop().unwrap() {
                return Some(report);
            }
            match self.link.read(&mut bytes).expect("init answers in time") {
                0 => return None,
                n => self.frames.push(&bytes[..n]),
            }
        }
    }

    /// The exit code that init reports, marks and `Running` skipped; every item is waved through.
    pub(crate) fn exit_code(&mut self) -> i32 {
        loop {
            match self.report().expect("init reports the end before it goes") {
                InitReport::Ended { exit_code, .. } => return exit_code,
                InitReport::Item { .. } => self.ask(&InitAsk::Go),
                InitReport::Running => {}
                InitReport::Refused { why, .. } => panic!("refused: {why}"),
            }
        }
    }

    /// Reads standard output until `text` has come.
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        let out = self.child.stdout.as_mut().unwrap();
        let mut got = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        let mut byte = [0];
        while !String::from_utf8_lossy(&got).contains(text) {
            assert!(Instant::now() < deadline, "no `{text}` in {:?}", String::from_utf8_lossy(&got));
            assert_eq!(out.read(&mut byte).unwrap(), 1, "the output ended without `{text}`");
            got.push(byte[0]);
        }
        String::from_utf8(got).unwrap()
    }

    /// Closes the socket, as an agent that dies does.
    pub(crate) fn hang_up(&mut self) {
        self.link.shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// Waits for the end of everything in the namespace, and returns what was printed.
    pub(crate) fn finish(mut self) -> String {
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.child.wait().unwrap();
        text
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A test that failed leaves a namespace behind; its first process takes everything along.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `script` to its end: exit code and output.
pub(crate) fn run(order: &InitConfig) -> (i32, String) {
    let mut rig = Rig::start(order);
    let code = rig.exit_code();
    (code, rig.finish())
}
