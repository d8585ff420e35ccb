//! Debian's registry on loopback, private, filled with images that are made here.
use std::path::Path;
use std::process::{Command, Stdio};

use crate::docker_registry;

/// A registry that wants the login `robot` with a password of its own.
pub(crate) struct Registry {
    _server: docker_registry::Registry,
    /// `host:port`.
    pub(crate) address: String,
    /// No other test has it, so that finding it anywhere says something.
    pub(crate) password: String,
}

impl Registry {
    /// Starts on a free port; its images are made in `dir`.
    pub(crate) fn start(dir: &Path) -> Self {
        for (program, package) in [("skopeo", "skopeo"), ("busybox", "busybox-static")] {
            let found = Command::new("which").arg(program).stdout(Stdio::null()).status();
            assert!(
                found.is_ok_and(|found| found.success()),
                "the test needs `{program}`: install the Debian package `{package}`"
            );
        }
        std::fs::create_dir_all(dir).unwrap();
        let password = format!("pass-{}", std::process::id());
        let server = docker_registry::Registry::start_private("robot", &password);
        Self { address: server.address.clone(), _server: server, password }
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
