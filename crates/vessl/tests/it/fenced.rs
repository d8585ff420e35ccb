//! A server whose runs may not see the whole machine (`allow_host_image = false`): every path of the machine that a run file names
//! lies below `hostpath_roots`.
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::bad_days::save;
use crate::data::repository;
use crate::specs::{head, item};
use crate::test::Test;

/// A world with an image, a repository and a file below the one root `open`, and the same in `closed`.
fn world(test: Test) -> (Test, String) {
    for name in ["open", "closed"] {
        let root = "mkdir -p root/bin && cp $(command -v busybox) root/bin/busybox && \
                    for name in sh cat ls; do ln -s busybox root/bin/$name; done";
        save(&test.path(name), "root", &format!("{root} && echo {name} > root/whose"));
        repository(&test.path(name).join("repo"));
        test.file(&format!("{name}/data/file"), format!("{name}\n"));
    }
    let open = test.path("open").canonicalize().unwrap().display().to_string();
    let test = test.env("VESSL_SERVER_ALLOW_HOST_IMAGE", "false").env("VESSL_SERVER_HOSTPATH_ROOTS", &open);
    (test, open)
}

fn yaml(image: &str, sources: &str) -> String {
    let show = "cat /whose\ncat /in/where /m/file 2>/dev/null || true";
    format!("{}{sources}{}", head(image), item(show))
}

fn run_git(args: &[&str]) {
    let done = Command::new("git").args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").status();
    assert!(done.unwrap().success(), "git {args:?}");
}

fn git(url: &str) -> String {
    format!("import: {{/in: {{git: {{url: '{url}'}}}}}}\n")
}

#[test]
fn what_lies_below_the_roots_is_used() {
    for make in [Test::new, Test::ordinary, Test::with_ids] {
        is_used(make());
    }
}

fn is_used(test: Test) {
    let (test, open) = world(test);
    run_git(&["-C", &format!("{open}/repo"), "gc", "-q"]);
    let mount = format!("mount: {{/m: 'hostpath://{open}/data'}}\n");
    let sources = format!("{}{mount}", git(&format!("file://{open}/repo")));
    let id = test.wait(&yaml(&format!("oci://{open}/image.tar"), &sources)).ok().json()["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "open\nmain\nopen\n");
    // A relative address is a path as well.
    test.file("open/sub/run.yaml", yaml(&format!("oci://{open}/image.tar"), &git("../repo")));
    test.vessl(["run", "create", "-f", "open/sub/run.yaml", "--wait"]).ok();
}

#[test]
fn what_lies_elsewhere_is_refused_at_submit() {
    let (test, open) = world(Test::new());
    let closed = test.path("closed").canonicalize().unwrap().display().to_string();
    let image = format!("oci://{open}/image.tar");
    let refused = |yaml: &str, path: &str| {
        let done = test.vessl_with(["run", "create", "-f", "-"], yaml.as_bytes()).code(3);
        done.says(&[path, "may not be", "hostpath_roots", &open]);
    };
    refused(&yaml(&format!("oci://{closed}/image.tar"), ""), &closed);
    refused(&yaml("oci:///nowhere:1", ""), "/nowhere");
    refused(&yaml(&image, &git(&format!("file://{closed}/repo"))), &closed);
    let up = yaml(&image, &git(&format!("file://{open}/%2e%2e/closed/repo")));
    test.vessl_with(["run", "create", "-f", "-"], up.as_bytes()).code(3).says(&["is not an absolute path"]);
    refused(&yaml(&image, &format!("mount: {{/m: 'hostpath://{closed}/data'}}\n")), &closed);
    test.vessl_with(["run", "create", "-f", "-"], yaml("host://", "").as_bytes()).code(3).says(&["host://"]);
    test.file("closed/run.yaml", yaml(&image, &git("./repo")));
    test.vessl(["run", "create", "-f", "closed/run.yaml"]).code(3).says(&["may not be used", &closed]);
}

#[test]
fn what_leads_elsewhere_is_refused_before_the_first_command() {
    let (test, open) = world(Test::new());
    let closed = test.path("closed").canonicalize().unwrap();
    let at = |name: &str| Path::new(&open).join(name);
    let image = format!("oci://{open}/image.tar");
    let refused = |yaml: &str, words: &[&str]| {
        let run = test.wait(yaml).code(1).json();
        for word in words {
            assert!(run["reason"].as_str().unwrap().contains(word), "no `{word}` in {run}");
        }
        assert_eq!(test.vessl(["run", "logs", &run["id"].to_string(), "--only", "stdout"]).ok().stdout, "");
    };
    for name in ["image.tar", "repo", "data"] {
        symlink(closed.join(name), at(&format!("to-{name}"))).unwrap();
    }
    run_git(&["clone", "-q", "--shared", closed.join("repo").to_str().unwrap(), &format!("{open}/borrows")]);
    test.file("open/elsewhere/.git", format!("gitdir: {}/repo/.git\n", closed.display()));
    for name in ["to-repo", "borrows", "elsewhere"] {
        let url = format!("file://{open}/{name}");
        refused(&yaml(&image, &git(&url)), &["/in", &url, "administrator allowed", "/closed/repo"]);
    }
    // Also one that is here already, because the administrator fetched it.
    let link = format!("oci://{open}/to-image.tar");
    test.vessl(["image", "pull", &link]).ok();
    let at_once = |image: &str, words: &[&str]| {
        test.vessl_with(["run", "create", "-f", "-"], yaml(image, "").as_bytes()).code(3).says(words);
    };
    at_once(&link, &[&link, "administrator allowed", "/closed/image.tar"]);
    std::fs::create_dir(at("layout")).unwrap();
    symlink(closed.join("image/manifest.json"), at("layout/manifest.json")).unwrap();
    at_once(&format!("oci://{open}/layout"), &["manifest.json", "leads out of"]);
    refused(
        &yaml(&image, &format!("mount: {{/m: 'hostpath://{open}/to-data'}}\n")),
        &["administrator allowed"],
    );
}
