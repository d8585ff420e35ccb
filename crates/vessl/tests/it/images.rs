//! Images from a private registry on loopback.
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::specs::{head, item};
use crate::test::Test;

/// Debian's registry with one private image made from busybox.
struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    /// Starts on a free port.
    fn start(dir: &Path) -> Self {
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
        let password = Command::new("htpasswd").args(["-nbB", "robot", "pass-90ab"]).output().unwrap().stdout;
        std::fs::write(dir.join("htpasswd"), password).unwrap();
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
        Self { process, address: format!("127.0.0.1:{port}") }
    }

    /// Puts a busybox image there.
    fn fill(&self, dir: &Path) {
        let root = dir.join("root");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        let script = "cp $(command -v busybox) root/bin/busybox && for n in sh echo cat true sleep; do ln -sf busybox root/bin/$n; done && \
                      tar --sort=name -C root -cf layer.tar . && \
                      mkdir -p image && sum=$(sha256sum layer.tar | cut -c1-64) && cp layer.tar image/layer.tar && \
                      printf '{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Env\":[\"FROM_IMAGE=yes\",\"PATH=/bin\"],\"WorkingDir\":\"/bin\"},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}' $sum > image/config.json && \
                      printf '[{\"Config\":\"config.json\",\"RepoTags\":[\"t:1\"],\"Layers\":[\"layer.tar\"]}]' > image/manifest.json && \
                      tar -C image -cf image.tar . && \
                      skopeo copy --quiet --insecure-policy --dest-tls-verify=false --dest-creds robot:pass-90ab docker-archive:image.tar docker://$ADDRESS/team/box:1";
        let mut shell = Command::new("sh");
        let done =
            shell.args(["-ec", script]).current_dir(dir).env("ADDRESS", &self.address).output().unwrap();
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

#[test]
fn a_private_image_is_pulled_with_a_credential_and_run() {
    pull_and_run(&Test::new());
}

#[test]
fn an_ordinary_user_pulls_and_runs_it_as_well() {
    pull_and_run(&Test::ordinary());
    pull_and_run(&Test::with_ids());
}

fn pull_and_run(test: &Test) {
    let dir = test.path("registry");
    let registry = Registry::start(&dir);
    registry.fill(&dir);
    let image = format!("{}/team/box:1", registry.address);
    test.vessl(["image", "pull", &image]).code(5).says(&["team/box"]);
    test.vessl_with(
        ["credential", "create", "reg", "--kind", "registry", "--username", "robot"],
        b"pass-90ab\n",
    )
    .ok();
    let pulled =
        test.vessl(["image", "pull", &image, "--credential-name", "reg", "--output", "json"]).ok().json();
    assert_eq!((pulled["reference"].as_str(), pulled["layers"].as_u64()), (Some(image.as_str()), Some(1)));
    let listed = test.vessl(["image", "list", "--output", "json"]).ok().json();
    assert_eq!(listed[0]["digest"], pulled["digest"]);
    test.vessl(["image", "read", pulled["id"].as_str().unwrap()]).ok().prints(&[&image]);
    let yaml = format!(
        "{}{}",
        head(&format!("{{url: '{image}', credential_name: reg}}")),
        item("echo $FROM_IMAGE in $PWD")
    );
    let id = test.wait(&yaml).ok().json()["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "yes in /bin\n");
    let missing = yaml.replace("box:1", "box:2");
    let run = test.wait(&missing).code(1).json();
    assert!(
        run["reason"].as_str().unwrap().contains("box:2") || run["reason"].as_str().unwrap().contains('2'),
        "{run}"
    );
    let using = test.create(&yaml.replace("echo $FROM_IMAGE", "echo ready; sleep 1000; echo $FROM_IMAGE"));
    test.until_log(&using, "ready");
    let freed = test.vessl(["image", "prune", "--output", "json"]).ok().json();
    assert_eq!((freed["images"].as_u64(), freed["layers"].as_u64()), (Some(0), Some(0)), "{freed}");
    test.vessl(["run", "terminate", &using, "--grace", "0"]).ok();
    test.until_end(&using);
    let freed = test.vessl(["image", "prune", "--output", "json"]).ok().json();
    assert_eq!((freed["images"].as_u64(), freed["layers"].as_u64()), (Some(1), Some(1)), "{freed}");
    assert_eq!(test.vessl(["image", "list", "--output", "json"]).ok().json(), serde_json::json!([]));
    assert_eq!(test.leaks("pass-90ab"), Vec::<String>::new());
}
