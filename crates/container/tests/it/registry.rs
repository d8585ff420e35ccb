//! Debian's real registry on loopback. Tests of other crates use this file too.
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// `docker-registry serve` with its own port and storage, gone when dropped.
pub(crate) struct Registry {
    child: Child,
    pub(crate) address: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    pub(crate) fn start() -> Self {
        Self::start_with("", |_| {})
    }

    /// With basic auth for one user.
    pub(crate) fn start_private(user: &str, password: &str) -> Self {
        let auth = "auth: {htpasswd: {realm: tests, path: DIR/htpasswd}}\n";
        Self::start_with(auth, |dir| {
            let made = Command::new("htpasswd").args(["-nbB", user, password]).output();
            let made = made.expect("`htpasswd` is needed by the tests (Debian: apache2-utils)");
            std::fs::write(dir.join("htpasswd"), made.stdout).unwrap();
        })
    }

    fn start_with(more: &str, prepare: impl Fn(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: DIR/data}}}}\nhttp: {{addr: 127.0.0.1:0}}\n{more}"
        );
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config.replace("DIR", dir.path().to_str().unwrap())).unwrap();
        let spawned = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = spawned.expect("`docker-registry` is needed by the tests (Debian: docker-registry)");
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = read_address(&mut log);
        // The log must be read, or the registry would stop at a full pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, address: address.expect("docker-registry did not start"), _dir: dir }
    }
}

fn read_address(log: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    while log.read_line(&mut line).ok()? > 0 {
        if let Some((_, after)) = line.split_once("listening on ") {
            return Some(after.split(['"', ' ', ',']).next()?.trim().to_owned());
        }
        line.clear();
    }
    None
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
