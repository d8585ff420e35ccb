//! Images and imports that cannot be had: the run fails before its first command and names path, source and reason.
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::data::repository;
use crate::scripted::{Reply, Scripted};
use crate::specs::{head, item};
use crate::test::Test;

/// The run fails before its first command with these words.
fn refused(test: &Test, yaml: &str, words: &[&str]) -> Value {
    let run = test.wait(yaml).code(1).json();
    assert_eq!(run["status"], "failed", "{run}");
    assert!(run["started_at"].is_null() && run["exit_code"].is_null(), "{run}");
    for word in words {
        assert!(run["reason"].as_str().unwrap().contains(word), "no `{word}` in {run}");
    }
    let log = test.vessl(["run", "logs", &run["id"].to_string()]).ok();
    assert_eq!(log.stdout, "", "{run}");
    run
}

/// The answer of a server that wants a login.
fn basic() -> Reply {
    Reply::status(401).with("WWW-Authenticate", "Basic realm=x")
}

fn image(reference: &str) -> String {
    format!("{}{}", head(reference), item("echo never"))
}

#[test]
fn a_registry_on_a_bad_day_is_named_with_its_reason() {
    let test = Test::new();
    let check = |reply: Reply, words: &[&str]| {
        let web = Scripted::start(move |_| reply.clone());
        let reference = format!("{}/team/app:v9", web.address());
        refused(&test, &image(&reference), &[&[web.address().as_str(), "team/app"], words].concat());
    };
    let error = |status, body: &str| Reply { status, ..Reply::ok(body.as_bytes()) };
    check(basic(), &["needs a login (401", "credential_name: NAME}`"]);
    check(Reply::status(401), &["offers no way to log in"]);
    let denied = r#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#;
    check(error(403, denied), &["needs a login (403: not yours"]);
    check(error(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#), &["has no tag `v9`"]);
    check(error(404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#), &["has no repository `team/app`"]);
    let busy = Reply::status(429).with("Retry-After", "3600");
    check(busy, &["too many requests (429)", "try again in 3600 s"]);
    check(Reply::ok(b"<html>welcome to the hotel</html>"), &["manifest"]);
    check(Reply::ok(br#"{"schemaVersion":1}"#), &["manifest"]);
}

#[test]
fn content_with_another_digest_is_refused() {
    let test = Test::new();
    let zeros = format!("sha256:{}", "0".repeat(64));
    let kind = "application/vnd.oci.image";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}.manifest.v1+json","config":{{"mediaType":"{kind}.config.v1+json","digest":"{zeros}","size":2}},"layers":[]}}"#
    );
    let web = Scripted::start(move |request| {
        Reply::ok(if request.path.contains("/manifests/") { manifest.as_bytes() } else { b"{}" })
    });
    let reference = format!("{}/team/app:v1", web.address());
    refused(&test, &image(&reference), &["team/app:v1", "the configuration", "its digest should be", &zeros]);
    assert_eq!(test.vessl(["image", "list", "--output", "json"]).ok().json(), serde_json::json!([]));
}

#[test]
fn a_registry_that_does_not_answer_can_be_given_up() {
    let test = Test::new();
    let web = Scripted::silent();
    let id = test.create(&image(&format!("{}/team/app:v1", web.address())));
    test.until_status(&id, "initializing");
    test.vessl(["run", "terminate", &id]).ok();
    let run = test.until_end(&id);
    assert_eq!((run["status"].as_str(), run["started_at"].is_null()), (Some("terminated"), true), "{run}");
}

fn git(url: &str, more: &str) -> String {
    format!("{}import:\n  /in/code: {{git: {{url: '{url}'{more}}}}}\n{}", head("host://"), item("echo never"))
}

#[test]
fn a_repository_that_cannot_be_had_is_named_with_its_reason() {
    let test = Test::new();
    let dir = test.path("repository");
    repository(&dir);
    let url = format!("file://{}", dir.display());
    refused(
        &test,
        &git(&url, ", ref: v9"),
        &["/in/code", &url, "no branch, tag or commit `v9`", "`dev`, `main`"],
    );
    // Wherever git runs, it would find this program and leave this file.
    let pwned = test.path("pwned");
    let program = test.file("program", format!("#!/bin/sh\ntouch {}\n", pwned.display()));
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let option = format!("--upload-pack={}", program.display());
    let hostile = [option.as_str(), "-h", "main:../../etc", "a..b", "refs/heads/*", "main~1", "@{u}", "x y"];
    for hostile in hostile.into_iter().map(str::to_owned).chain(["0".repeat(40), "r".repeat(5000)]) {
        let yaml = git(&url, &format!(", ref: '{hostile}'"));
        let done = test.wait(&yaml);
        assert!(done.code == 1 || done.code == 3, "{hostile}: {done:?}");
        let words = if done.code == 1 { done.json()["reason"].to_string() } else { done.stderr };
        assert!(words.contains("/in/code") || words.contains("ref"), "{hostile}: {words}");
    }
    assert!(!pwned.exists());
    let web = Scripted::start(|_| basic());
    let url = format!("http://{}/team/code.git", web.address());
    refused(&test, &git(&url, ""), &["/in/code", &url, "credential"]);
    test.vessl_with(["credential", "create", "wrong", "--kind", "git", "--username", "me"], b"pass-77aa")
        .ok();
    let run = refused(&test, &git(&url, ", credential_name: wrong"), &["/in/code", &url]);
    assert!(!run.to_string().contains("pass-77aa"), "{run}");
    let web = Scripted::start(|_| Reply::status(404));
    let url = format!("http://{}/team/code.git", web.address());
    refused(&test, &git(&url, ""), &["/in/code", &url]);
    refused(&test, &git("http://127.77.77.77:9/x.git", ""), &["/in/code", "127.77.77.77"]);
}

#[test]
fn a_path_of_the_machine_is_looked_at_when_the_run_starts() {
    let test = Test::new();
    let root = test.path("shared");
    std::fs::create_dir_all(root.join("inside")).unwrap();
    std::os::unix::fs::symlink("/etc", root.join("way-out")).unwrap();
    std::os::unix::fs::symlink(root.join("inside"), root.join("way-in")).unwrap();
    let root = root.display().to_string();
    let test = test.env("VESSL_SERVER_HOSTPATH_ROOTS", &root);
    let mount = |path: &str| {
        format!("{}mount: {{/m: 'hostpath://{root}{path}'}}\n{}", head("host://"), item("echo never"))
    };
    let refused = |path: &str, words: &[&str]| {
        // Refused when it is submitted or when it starts, in any case before the commands.
        let done = test.wait(&mount(path));
        let said = if done.code == 3 { done.stderr } else { done.code(1).stdout };
        for word in words {
            assert!(said.contains(word), "{path}: no `{word}` in {said}");
        }
        assert!(!said.contains("never"), "{said}");
    };
    refused("/nothing", &["/nothing"]);
    refused("/way-out", &["/way-out", "administrator allowed"]);
    refused("/way-out/passwd", &["/way-out/passwd", "administrator allowed"]);
    refused("/../elsewhere", &["elsewhere"]);
    refused("x", &["x"]);
    test.wait(&mount("/way-in")).ok();
}

#[test]
fn what_is_not_committed_is_said() {
    let test = Test::new();
    let proj = test.path("proj");
    repository(&proj);
    let yaml = git("..", "").replace("echo never", "cat /in/code/where");
    test.file("proj/sub/run.yaml", &yaml);
    let create = |more: &[&str]| {
        test.vessl(["run", "create", "-f", "proj/sub/run.yaml", "--wait"].iter().chain(more)).ok().stderr
    };
    let commit = |args: &[&str]| {
        let mut git = std::process::Command::new("git");
        let done =
            git.arg("-C").arg(&proj).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    let head = commit(&["rev-parse", "--short=7", "HEAD"]);
    let name = proj.canonicalize().unwrap().display().to_string();
    let note =
        format!("note: `{name}` has 1 file that is not committed; the run gets the last commit ({head})");
    let said = create(&[]);
    assert!(said.contains(&note), "{said}");
    // From the directory itself, which lies inside the repository.
    test.file("proj/sub/run.yaml", yaml.replace("'..'", "."));
    test.file("proj/where", "changed\n");
    let said = create(&["--output", "json"]);
    assert!(said.contains("note: `.` has 2 files that are not committed; "), "{said}");
    commit(&["add", "."]);
    commit(&["commit", "-qm", "all"]);
    assert!(!create(&[]).contains("committed"));
    // A commit that is named is what is wanted, and another server has other directories.
    test.file("proj/where", "changed again\n");
    test.file("proj/sub/run.yaml", yaml.replace("'..'", "., ref: main"));
    assert!(!create(&[]).contains("committed"));
    test.file("proj/sub/run.yaml", yaml.replace("'..'", "."));
    let url = test.vessl(["server", "status", "--output", "json"]).ok().json()["url"].clone();
    let token = std::fs::read_to_string(test.data().join("token")).unwrap();
    let test = test.env("VESSL_TOKEN", token.trim());
    let create = ["run", "create", "-f", "proj/sub/run.yaml", "--wait"];
    let far = test.vessl(["--server", url.as_str().unwrap()].iter().chain(&create)).ok();
    assert!(!far.stderr.contains("committed"), "{far:?}");
    assert!(test.vessl(create).ok().stderr.contains("1 file that is not committed"));
    // Without git, or with one that does not end, there is nothing to say; the server, which runs already, has its own.
    let slow = test.file("bin/git", "#!/bin/sh\nexec /bin/sleep 1000\n");
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).unwrap();
    let slow = slow.parent().unwrap().display().to_string();
    let test = test.env("PATH", "/nowhere");
    let without = test.vessl(create).ok();
    assert!(!without.stderr.contains("committed"), "{without:?}");
    let without = test.env("PATH", &slow).vessl(create).ok();
    assert!(!without.stderr.contains("committed"), "{without:?}");
}

#[test]
fn submodules_and_large_files_come_or_are_named() {
    let test = Test::new();
    for name in ["repository", "lib"] {
        repository(&test.path(name));
    }
    let script = "cd repository && git config user.email a@example.org && git config user.name a && \
                  git lfs install --local >/dev/null && git lfs track '*.bin' >/dev/null && \
                  echo large > model.bin && git -c protocol.file.allow=always submodule --quiet add ../lib lib && \
                  git config --file .gitmodules submodule.gone.path gone && \
                  git config --file .gitmodules submodule.gone.url ext::id && \
                  git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),gone && \
                  git add .gitmodules .gitattributes model.bin && git commit -qm all";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script]).current_dir(test.path("")).env("GIT_CONFIG_GLOBAL", "/dev/null");
    assert!(shell.status().unwrap().success());
    let show = "cd /in/code; cat model.bin lib/where 2>/dev/null | head -c 40; ls gone";
    let yaml = |more: &str| {
        git(&format!("file://{}", test.path("repository").display()), more).replace("echo never", show)
    };
    let run = test.wait(&yaml("")).ok().json();
    let id = run["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "large\nmain\n");
    let missing = run["imports"][0]["missing"].as_array().unwrap();
    let [missing] = missing.as_slice() else { panic!("{run}") };
    let missing = missing.as_str().unwrap();
    assert!(
        missing.starts_with("the submodule `gone` is not here: `ext::id` cannot be imported: "),
        "{missing}"
    );
    test.vessl(["run", "logs", &id]).ok().says(&[&format!("`/in/code`: {missing}")]);
    test.vessl(["run", "read", &id]).ok().prints(&[missing]);
    let run = test.wait(&yaml(", submodules: false, lfs: false")).ok().json();
    assert!(run["imports"][0]["missing"].is_null(), "{run}");
    let log = test.vessl(["run", "logs", &run["id"].to_string()]).ok().stdout;
    assert_eq!(log, "version https://git-lfs.github.com/spec/v1".get(..40).unwrap());
}
