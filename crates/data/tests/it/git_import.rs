//! References, targets and failures, with repositories of this machine.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vessl_core::record::Login;
use vessl_data::Watch;
use vessl_data::git::GitError;

use crate::git_bed::{Ask, Bed, git_in, names, wait_until_nobody_is_in};

#[test]
fn every_kind_of_reference() {
    let bed = Bed::new();
    let commit = bed.id("main");
    let check = |name: &str, reference: Option<&str>, expected: &str, files: &[&str]| {
        let dest = bed.dest(name);
        let imported = bed.ask(reference).run(&dest).unwrap();
        assert_eq!(imported.commit, bed.id(expected), "{reference:?}");
        let mut all = vec![".git"];
        all.extend(files);
        assert_eq!(names(&dest), all, "{reference:?}");
        assert_eq!(git_in(&dest, &["status", "--porcelain"], ""), "");
        git_in(&dest, &["rev-parse", "--abbrev-ref", "HEAD"], "")
    };
    let both = ["README", "src"];
    assert_eq!(check("default", None, "main", &both), "main");
    assert_eq!(check("head", Some("HEAD"), "main", &both), "main");
    assert_eq!(check("branch", Some("feature/x"), "feature/x", &["README", "feature", "src"]), "feature/x");
    assert_eq!(check("full-name", Some("refs/heads/main"), "main", &both), "main");
    assert_eq!(check("tag", Some("v1"), "v1", &["README"]), "HEAD");
    assert_eq!(check("commit", Some(&commit), "main", &both), "HEAD");
    assert_eq!(check("short", Some(&commit[..8]), "main", &both), "HEAD");
    assert_eq!(check("old", Some(&bed.id("v1")), "v1", &["README"]), "HEAD");
    assert_eq!(check("old-short", Some(&bed.id("v1")[..10]), "v1", &["README"]), "HEAD");
    let pull = bed.id("refs/pull/1/head");
    assert_eq!(check("pull", Some("refs/pull/1/head"), &pull, &["README", "feature", "pull", "src"]), "HEAD");
}

#[test]
fn a_branch_is_preferred_to_a_tag_and_to_a_commit() {
    let bed = Bed::new();
    let short = bed.id("v1")[..7].to_owned();
    bed.git(&["branch", &short, "feature/x"]);
    bed.git(&["tag", "feature/x", "v1"]);
    for reference in [short.as_str(), "feature/x"] {
        let dest = bed.dest(&reference.replace('/', "-"));
        assert_eq!(bed.ask(Some(reference)).run(&dest).unwrap().commit, bed.id("refs/heads/feature/x"));
    }
}

#[test]
fn what_was_written_is_counted_and_configured_like_a_clone() {
    let bed = Bed::new();
    symlink("README", bed.path("repo").join("link")).unwrap();
    bed.git(&["add", "link"]);
    bed.git(&["commit", "-q", "-m", "link"]);
    let dest = bed.dest("dest");
    let received = AtomicU64::new(0);
    let progress = |more, _| {
        received.fetch_add(more, Ordering::Relaxed);
    };
    let watch = Watch { progress: &progress, stop: &|| false };
    let imported = Ask { watch, ..bed.ask(None) }.run(&dest).unwrap();
    assert_eq!((imported.files, imported.bytes), (3, 6 + 16 + 6));
    assert_eq!(git_in(&dest, &["remote", "get-url", "origin"], ""), bed.url());
    assert_eq!(git_in(&dest, &["rev-parse", "--abbrev-ref", "main@{upstream}"], ""), "origin/main");
    assert_eq!(names(&dest.join(".git")).iter().filter(|n| n.contains("vessl")).count(), 0);
    // A clone made by us can go on by itself.
    bed.commit("later", "later\n");
    git_in(&dest, &["-c", "safe.directory=*", "pull", "-q", "--ff-only"], "");
    assert!(dest.join("later").exists());
}

#[test]
fn files_in_the_target_stay_unless_the_commit_has_them() {
    let bed = Bed::new();
    let dest = bed.dest("dest");
    fs::create_dir(dest.join("src")).unwrap();
    fs::write(dest.join("kept"), "kept").unwrap();
    fs::write(dest.join("src/kept.py"), "kept").unwrap();
    fs::write(dest.join("README"), "in the way").unwrap();
    bed.ask(None).run(&dest).unwrap();
    assert_eq!(names(&dest), [".git", "README", "kept", "src"]);
    assert_eq!(names(&dest.join("src")), ["kept.py", "main.py"]);
    assert_eq!(fs::read_to_string(dest.join("README")).unwrap(), "first\n");
    // Again, over the first import: its repository gives way.
    let again = bed.ask(Some("v1")).run(&dest).unwrap();
    assert_eq!(git_in(&dest, &["rev-parse", "HEAD"], ""), again.commit);
}

#[test]
fn one_repository_inside_another() {
    let (outer, inner) = (Bed::new(), Bed::new());
    inner.commit("inner", "inner\n");
    let dest = outer.dest("dest");
    outer.ask(None).run(&dest).unwrap();
    fs::create_dir_all(dest.join("src/third")).unwrap();
    let imported = inner.ask(None).run(&dest.join("src/third")).unwrap();
    assert_eq!(git_in(&dest.join("src/third"), &["rev-parse", "HEAD"], ""), imported.commit);
    assert_eq!(git_in(&dest, &["rev-parse", "HEAD"], ""), outer.id("main"));
}

#[test]
fn an_unknown_reference_names_what_there_is() {
    let bed = Bed::new();
    let dest = bed.dest("dest");
    let check = |reference: &str, near: &str| {
        let e = bed.ask(Some(reference)).run(&dest).unwrap_err();
        let expected = format!("`{}` has no branch, tag or commit `{reference}`; it has {near}", bed.url());
        assert_eq!(e.to_string(), expected);
    };
    check("mian", "`main`, `v1`, `feature/x`");
    check("feature/y", "`feature/x`, `main`, `v1`");
    check(&"0".repeat(40), "`feature/x`, `main`, `v1`");
    check("0123456", "`v1`, `main`, `feature/x`");
    assert_eq!(names(&dest), [""; 0]);
    let e = bed.ask(Some("--upload-pack=id")).run(&dest).unwrap_err();
    assert!(matches!(e, GitError::BadReference { .. }), "{e}");
}

#[test]
fn repositories_without_a_commit_or_a_default() {
    let bed = Bed::empty();
    bed.git(&["init", "-q", "-b", "main", "."]);
    let dest = bed.dest("dest");
    let e = bed.ask(None).run(&dest).unwrap_err();
    assert!(matches!(&e, GitError::NoCommit(url) if *url == bed.url()), "{e}");
    let bed = Bed::new();
    bed.git(&["symbolic-ref", "HEAD", "refs/heads/gone"]);
    let e = bed.ask(None).run(&dest).unwrap_err();
    assert!(e.to_string().ends_with("has no default branch; it has `feature/x`, `main`, `v1`"), "{e}");
    bed.git(&["update-ref", "--no-deref", "HEAD", &bed.id("main")]);
    assert_eq!(bed.ask(None).run(&dest).unwrap().commit, bed.id("main"));
    bed.git(&["symbolic-ref", "HEAD", "refs/heads/feature/x"]);
    assert_eq!(bed.ask(None).run(&bed.dest("other")).unwrap().commit, bed.id("feature/x"));
}

#[test]
fn a_repository_that_is_not_there() {
    let bed = Bed::new();
    let dest = bed.dest("dest");
    let e = Ask::of(format!("{}-none", bed.url())).run(&dest).unwrap_err();
    assert!(matches!(e, GitError::Other { .. }) && !e.to_string().contains("credential"), "{e}");
    assert_eq!(names(&dest), [""; 0]);
}

#[test]
fn a_repository_of_another_user_can_be_read() {
    assert!(nix::unistd::geteuid().is_root(), "needs root: to give a repository away, run the tests as root");
    let bed = Bed::new();
    let chown = std::process::Command::new("chown").args(["-R", "65534"]).arg(bed.path("repo")).status();
    assert!(chown.unwrap().success());
    bed.ask(Some("feature/x")).run(&bed.dest("dest")).unwrap();
}

#[test]
fn a_stopped_import_ends_soon_and_leaves_no_process() {
    let bed = Bed::new();
    let dest = bed.dest("dest");
    let stopped = AtomicBool::new(false);
    // Stops as soon as the third command is about to run.
    let commands = AtomicU64::new(0);
    let prepare = |_: &mut std::process::Command| {
        if commands.fetch_add(1, Ordering::Relaxed) == 2 {
            stopped.store(true, Ordering::Relaxed);
        }
    };
    let stop = || stopped.load(Ordering::Relaxed);
    let watch = Watch { progress: &|_, _| {}, stop: &stop };
    let e = Ask { watch, prepare: &prepare, ..bed.ask(None) }.run(&dest).unwrap_err();
    assert!(matches!(e, GitError::Stopped), "{e}");
    wait_until_nobody_is_in(&dest);
    assert_eq!(names(&dest), [""; 0]);
}

#[test]
fn a_full_disk_is_said() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    // The mount goes with this process.
    unshare(CloneFlags::CLONE_NEWNS).expect("needs root: to mount a small disk, run the tests as root");
    let bed = Bed::new();
    bed.commit("big", &"0123456789abcdef".repeat(200_000));
    let dest = bed.dest("dest");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
    mount(Some("tmpfs"), &dest, Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
    let e = bed.ask(None).run(&dest).unwrap_err();
    assert!(matches!(e, GitError::DiskFull(_)), "{e}");
    assert!(!names(&dest).iter().any(|n| n.contains("git")), "{:?}", names(&dest));
}

#[test]
fn ssh_gets_the_key_by_memory_alone() {
    let bed = Bed::new();
    let dest = bed.dest("dest");
    let tools = bed.dest("tools");
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nMzE0MTU5\n-----END OPENSSH PRIVATE KEY-----\n";
    // Stands in for ssh: notes its arguments and the key, then does what the far end would do.
    let script = format!(
        "#!/bin/sh\ncd {dir} || exit 9\nprintf '%s\\n' \"$@\" >args\nenv >environment\n\
         while [ $# -gt 1 ]; do [ \"$1\" = -i ] && {{ cat \"$2\" >key; stat -L -c %a \"$2\" >mode; }}; shift; done\n\
         cd / && exec sh -c \"$1\"\n",
        dir = tools.display()
    );
    fs::write(tools.join("ssh"), script).unwrap();
    fs::set_permissions(tools.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let prepare = |command: &mut std::process::Command| {
        command.env("PATH", &path);
    };
    let login = Login { username: String::new(), password: key.into(), ..Login::default() };
    let url = format!("git@host.invalid:{}", bed.path("repo").display());
    let ask = Ask { login: Some(login), prepare: &prepare, ..Ask::of(&url) };
    assert_eq!(ask.run(&dest).unwrap().commit, bed.id("main"));
    let read = |name: &str| fs::read_to_string(tools.join(name)).unwrap();
    assert_eq!((read("key").as_str(), read("mode").as_str()), (key, "600\n"));
    assert!(read("args").contains("BatchMode=yes") && read("args").contains("IdentitiesOnly=yes"));
    assert!(!read("args").contains("MzE0MTU5") && !read("environment").contains("MzE0MTU5"));
    let login = Some(Login { username: "me".to_owned(), password: "secret".into(), ..Login::default() });
    let e = Ask { login, ..Ask::of(&url) }.run(&dest).unwrap_err();
    assert_eq!(e.to_string(), format!("the credential cannot be used for `{url}`: ssh needs a private key"));
}

#[test]
fn a_git_that_somebody_kills_is_said() {
    let bed = Bed::new();
    let (dest, tools) = (bed.dest("dest"), bed.dest("tools"));
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let prepare = |command: &mut std::process::Command| {
        command.env("PATH", &path);
    };
    for signal in ["KILL", "TERM"] {
        // Stands in for a git that the machine ends.
        fs::write(
            tools.join("git"),
            format!("#!/bin/sh\necho 'Receiving objects:  10%' >&2\nkill -{signal} $$\n"),
        )
        .unwrap();
        fs::set_permissions(tools.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
        let e = Ask { prepare: &prepare, ..bed.ask(None) }.run(&dest).unwrap_err().to_string();
        let expected = format!("`{}` cannot be imported: git was ended by SIG{signal}; ", bed.url());
        assert!(e.starts_with(&expected), "{e}");
        assert_eq!(names(&dest), [""; 0]);
    }
}
