//! Paths with blanks, `%20` and bytes that are no text, wherever a run file names one.
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::bad_days::save;
use crate::data::repository;
use crate::specs::{head, item};
use crate::test::Test;

/// A directory of this name in the world, with an image, a repository and a file, and its path as a run file spells it.
fn world(test: Test, name: &[u8], spelled: &str) -> (Test, PathBuf, String) {
    let root = "mkdir -p root/bin && cp $(command -v busybox) root/bin/busybox && \
                for name in sh cat ls; do ln -s busybox root/bin/$name; done";
    save(&test.path("plain"), "root", &format!("{root} && echo image > root/whose"));
    repository(&test.path("plain/repo"));
    test.file("plain/data/file", "mounted\n");
    let dir = test.path("").join(OsStr::from_bytes(name));
    std::fs::rename(test.path("plain"), &dir).unwrap();
    let above = test.path("").canonicalize().unwrap().display().to_string();
    let test = test.env("VESSL_SERVER_HOSTPATH_ROOTS", &above);
    (test, dir, format!("{above}/{spelled}"))
}

fn check(name: &[u8], spelled: &str, escaped: &str) {
    let (test, dir, path) = world(Test::new(), name, spelled);
    let url = format!("file://{}", path.replace(spelled, escaped));
    // Everything has this name: image, repository, mount, the directory of the commands, the export.
    let inside = format!("/w/{spelled}");
    let yaml = |url: &str| {
        format!(
            "{}import: {{/in: {{git: {{url: '{url}'}}}}}}\nmount: {{'{inside}/m': 'hostpath://{path}/data'}}\n\
             export: {{'{inside}/out': vessl-artifact://}}\n{}    workdir: '{inside}'\n",
            head(&format!("'oci://{path}/image.tar'")),
            item("cat /whose /in/where m/file; cat m/file > out/file")
        )
    };
    let expected = "image\nmain\nmounted\n";
    std::fs::write(dir.join("repo/run.yaml"), yaml(".")).unwrap();
    let file = dir.join("repo/run.yaml");
    let create =
        [OsStr::new("run"), OsStr::new("create"), OsStr::new("-f"), file.as_os_str(), OsStr::new("--wait")];
    let create = create.into_iter().chain([OsStr::new("--output"), OsStr::new("json")]);
    let done = test.vessl(create).ok().says(&["1 file that is not committed"]);
    let by_dot = done.json()["id"].to_string();
    let by_url = test.wait(&yaml(&format!("{url}/repo"))).ok().json()["id"].to_string();
    for id in [&by_dot, &by_url] {
        assert_eq!(test.vessl(["run", "logs", id]).ok().stdout, expected, "{spelled}");
    }
    test.vessl(["run", "download", &by_url, "one", "--path", &format!("{inside}/out")]).ok();
    assert_eq!(std::fs::read_to_string(test.path("one/file")).unwrap(), "mounted\n");
    test.vessl(["run", "download", &by_url, "all"]).ok();
    let landed = test.path("all/w").join(OsStr::from_bytes(name)).join("out/file");
    assert_eq!(std::fs::read_to_string(landed).unwrap(), "mounted\n");
    // What is not there is said before anything starts.
    let wrong = yaml(&format!("{url}/none"));
    test.vessl_with(["run", "create", "-f", "-"], wrong.as_bytes())
        .code(3)
        .says(&["the machine has no", "/none`"]);
}

#[test]
fn with_blanks() {
    check(b"my  data", "my  data", "my%20 data");
}

#[test]
fn with_what_looks_like_an_escape() {
    check(b"my%20data 100%", "my%20data 100%", "my%2520data%20100%");
}

#[test]
fn with_bytes_that_are_no_text() {
    check(b"my \xff\xe9 %FF", "my %FF%E9 %25FF", "my%20%ff%e9%20%25FF");
}

#[test]
fn with_signs_that_mean_something_elsewhere() {
    check("ü $x; \"#1\" `".as_bytes(), "ü $x; \"#1\" `", "ü%20$x;%20\"#1\"%20`");
}

#[test]
fn a_relative_repository_in_a_directory_of_any_name() {
    let test = Test::new();
    let dir = test.path("").join("line\nbreak");
    repository(&dir.join("repo"));
    let yaml =
        format!("{}import: {{/in: {{git: {{url: ../repo}}}}}}\n{}", head("host://"), item("cat /in/where"));
    std::fs::create_dir(dir.join("run")).unwrap();
    std::fs::write(dir.join("run/run.yaml"), yaml).unwrap();
    let file = Path::new("line\nbreak/run/run.yaml");
    let create = ["run", "create", "--wait", "-f"].map(OsStr::new).into_iter().chain([file.as_os_str()]);
    let done = test.vessl(create.chain(["--output", "json"].map(OsStr::new))).ok();
    assert_eq!(test.vessl(["run", "logs", &done.json()["id"].to_string()]).ok().stdout, "main\n");
}
