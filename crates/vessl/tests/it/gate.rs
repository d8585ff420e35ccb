//! A gate at which the commands of a run wait until the test opens it: a named pipe that the run sees as `/gate/pipe`.
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use nix::sys::stat::Mode;

use crate::specs::{head, item};
use crate::test::Test;

/// Command that waits at the gate.
pub(crate) const WAIT: &str = "read opened < /gate/pipe";

/// The gate of a world.
pub(crate) struct Gate {
    dir: PathBuf,
    /// Both ends, so that the pipe has no end and keeps what is written until somebody comes.
    pipe: File,
}

impl Gate {
    /// A world with a gate.
    pub(crate) fn new() -> (Test, Self) {
        Self::of(Test::new())
    }

    /// This world with a gate.
    pub(crate) fn of(test: Test) -> (Test, Self) {
        let dir = test.path("gate");
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("pipe");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let pipe = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        (test.env("VESSL_SERVER_HOSTPATH_ROOTS", &dir.display().to_string()), Self { dir, pipe })
    }

    /// A run of this machine's own root file system with one command, which may wait at the gate.
    pub(crate) fn host(&self, command: &str) -> String {
        self.host_with("", command)
    }

    /// The same with these lines before the commands.
    pub(crate) fn host_with(&self, lines: &str, command: &str) -> String {
        let dir = self.dir.display();
        format!("{}mount: {{/gate: 'hostpath://{dir}'}}\n{lines}{}", head("host://"), item(command))
    }

    /// Lets one through, who may still be on the way.
    pub(crate) fn open(&self) {
        (&self.pipe).write_all(b"open\n").unwrap();
    }
}
