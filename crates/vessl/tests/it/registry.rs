//! Debian's registry on loopback, private, filled with images that are made here.
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A registry that wants the login `robot` with a password of its own.
pub(crate) struct Registry {
    process: Child,
    /// `host:port`.
    pub(crate) address: String,
    /// No other test has it, so that finding it anywhere says something.
    pub(crate) password: String,
}

impl Registry {
    /// Starts on a free port.
    pub(crate) fn start(dir: &Path) -> Self {
        for (program, package) in [
            ("docker-registry", "docker-registry"),
            ("skopeo", "skopeo"),
            ("htpasswd", "apache2-utils"),
            ("busybox", "busybox-static"),
        ] {
            let found = Command::new("which").arg(program).stdout(Stdio::null()).status();
            assert!(
                found.is_ok_and(|found| found.success()),
                "the test needs `{program}`: install the Debian package `{package}`"
            );
        }
        std::fs::create_dir_all(dir).unwrap();
        let password = format!("pass-{}", std::process::id());
        let entry = Command::new("htpasswd").args(["-nbB", "robot", &password]).output().unwrap().stdout;
        std::fs::write(dir.join("htpasswd"), entry).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: '{0}/store'}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\nauth: {{htpasswd: {{realm: x, path: '{0}/htpasswd'}}}}\n",
            dir.display()
        );
        std::fs::write(dir.join("config.yml"), config).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let said: Vec<String> =
            lines.by_ref().map_while(Result::ok).take_while(|line| !line.contains("listening on")).collect();
        // It goes on writing, and must be read.
        std::thread::spawn(move || lines.for_each(drop));
        let port =
            listening_port(process.id()).unwrap_or_else(|| panic!("the registry does not listen: {said:?}"));
        Self { process, address: format!("127.0.0.1:{port}"), password }
    }

    /// Makes `team/box:1` from the tree `root` of `dir`, as one layer.
    pub(crate) fn push(&self, dir: &Path) {
        let script = r#"mkdir -p image && tar --sort=name -C root -cf image/layer.tar .
            sum=$(sha256sum image/layer.tar | cut -c1-64)
            printf '{"architecture":"%s","os":"linux","config":{"Env":["FROM_IMAGE=yes","PATH=/usr/bin:/bin"],"WorkingDir":"/bin"},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$(dpkg --print-architecture)" $sum > image/config.json
            printf '[{"Config":"config.json","RepoTags":["t:1"],"Layers":["layer.tar"]}]' > image/manifest.json
            tar -C image -cf image.tar .
            skopeo copy --quiet --insecure-policy --dest-tls-verify=false --dest-creds robot:$PASSWORD docker-archive:image.tar docker://$ADDRESS/team/box:1"#;
        self.shell(script, dir);
    }

    /// Makes `team/box:1` from busybox.
    pub(crate) fn fill(&self, dir: &Path) {
        let script = "mkdir -p root/bin && cp $(command -v busybox) root/bin/busybox
            for n in sh echo cat true sleep; do ln -sf busybox root/bin/$n; done";
        self.shell(script, dir);
        self.push(dir);
    }

    fn shell(&self, script: &str, dir: &Path) {
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]).current_dir(dir);
        let done = shell.env("ADDRESS", &self.address).env("PASSWORD", &self.password).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The loopback port that a process listens on, from the kernel's tables.
fn listening_port(pid: u32) -> Option<u16> {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .flatten()
        .filter_map(|fd| {
            Some(
                std::fs::read_link(fd.path())
                    .ok()?
                    .to_str()?
                    .strip_prefix("socket:[")?
                    .trim_end_matches(']')
                    .to_owned(),
            )
        })
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let own = words.get(3) == Some(&"0A")
            && sockets.iter().any(|socket| words.get(9) == Some(&socket.as_str()));
        u16::from_str_radix(words.get(1)?.rsplit(':').next()?, 16).ok().filter(|_| own)
    })
}
