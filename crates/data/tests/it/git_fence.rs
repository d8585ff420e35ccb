//! Repositories of a machine that is not to be seen as a whole: what lies below the fence comes in as ever, and nothing leads out.
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use vessl_data::git::{Fence, GitError, Imported};

use crate::git_bed::{Ask, Bed, git_in, names};

/// A fence around the bed.
fn fence(bed: &Bed) -> Fence {
    let scratch = bed.path("scratch");
    fs::create_dir_all(&scratch).unwrap();
    Fence::new(&[bed.path("").display().to_string()], &scratch)
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// Imports from `path`, with the fence around `bed`.
fn inside(bed: &Bed, path: &Path, reference: Option<&str>, dest: &Path) -> Result<Imported, GitError> {
    let fence = fence(bed);
    let imported = Ask { reference, fence: Some(&fence), ..Ask::of(url(path)) }.run(dest);
    assert_eq!(names(&bed.path("scratch")), [""; 0], "nothing stays");
    imported
}

#[test]
fn what_lies_inside_comes_in_as_ever() {
    let bed = Bed::new();
    let repo = bed.path("repo");
    let check = |name: &str, path: &Path, reference: Option<&str>, expected: &str| {
        let dest = bed.dest(&format!("dest-{name}"));
        let imported = inside(&bed, path, reference, &dest).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(imported.commit, bed.id(expected), "{name}");
        assert!(dest.join("README").exists(), "{name}");
        assert_eq!(git_in(&dest, &["remote", "get-url", "origin"], ""), url(path), "{name}");
        assert_eq!(git_in(&dest, &["status", "--porcelain"], ""), "", "{name}");
        assert!(!dest.join(".git/objects/info/alternates").exists(), "{name}");
    };
    let id = bed.id("v1");
    check("default", &repo, None, "main");
    check("branch", &repo, Some("feature/x"), "feature/x");
    check("tag", &repo, Some("v1"), "v1");
    check("commit", &repo, Some(&id), "v1");
    check("short", &repo, Some(&id[..9]), "v1");
    check("pull", &repo, Some("refs/pull/1/head"), "refs/pull/1/head");
    bed.git(&["clone", "-q", "--bare", ".", "../bare.git"]);
    check("bare", &bed.path("bare.git"), None, "main");
    bed.git(&["clone", "-q", "--shared", ".", "../borrows"]);
    check("borrows", &bed.path("borrows"), None, "main");
    // What borrows from what borrows.
    bed.git(&["clone", "-q", "--shared", "../borrows", "../again"]);
    check("again", &bed.path("again"), None, "main");
    bed.git(&["worktree", "add", "-q", "../tree", "feature/x"]);
    check("worktree", &bed.path("tree"), None, "feature/x");
    bed.git(&["pack-refs", "--all"]);
    bed.git(&["gc", "-q"]);
    assert!(!repo.join(".git/refs/heads/main").exists());
    check("packed", &repo, Some("feature/x"), "feature/x");
    symlink(repo.join(".git/objects"), bed.path("bare.git/elsewhere")).unwrap();
    fs::remove_dir_all(bed.path("bare.git/objects")).unwrap();
    symlink("elsewhere", bed.path("bare.git/objects")).unwrap();
    check("linked", &bed.path("bare.git"), None, "main");
}

#[test]
fn other_formats_of_objects_are_kept() {
    let bed = Bed::empty();
    bed.git(&["init", "-q", "-b", "main", "--object-format=sha256", "."]);
    bed.commit("README", "first\n");
    let imported = inside(&bed, &bed.path("repo"), None, &bed.dest("dest"));
    // The target is made in the usual format; git says so as it does without a fence.
    let plain = bed.ask(None).run(&bed.dest("plain"));
    assert_eq!(imported.map_err(|e| e.to_string()), plain.map_err(|e| e.to_string()));
}

/// A repository inside that has nothing but a branch on the commit of `secret`.
fn evil(bed: &Bed, secret: &Bed) -> PathBuf {
    bed.git(&["init", "-q", "-b", "main", "../evil"]);
    let evil = bed.path("evil");
    fs::write(evil.join(".git/refs/heads/main"), format!("{}\n", secret.id("main"))).unwrap();
    evil
}

/// A way out that is there without a fence.
fn check(name: &str, lead_out: impl Fn(&Path, &Path)) {
    let (bed, secret) = (Bed::new(), Bed::new());
    secret.commit("secret", "word\n");
    secret.git(&["gc", "-q"]);
    let evil = evil(&bed, &secret);
    let theirs = secret.path("repo").canonicalize().unwrap();
    lead_out(&evil, &theirs.join(".git"));
    let without = bed.dest("without");
    Ask::of(url(&evil)).run(&without).unwrap_or_else(|error| panic!("{name} leads nowhere: {error}"));
    assert!(without.join("secret").exists(), "{name}");
    let dest = bed.dest("dest");
    match inside(&bed, &evil, None, &dest) {
        Err(GitError::Outside { path, .. }) => {
            assert!(path.starts_with(&theirs), "{name}: {}", path.display());
        }
        other => panic!("{name}: {other:?}"),
    }
    assert_eq!(names(&dest), [""; 0], "{name}");
}

fn replace_by_link(link: &Path, target: &Path) {
    if link.is_dir() {
        fs::remove_dir_all(link).unwrap();
    } else if link.exists() {
        fs::remove_file(link).unwrap();
    }
    symlink(target, link).unwrap();
}

#[test]
fn nothing_leads_out() {
    check("gitdir", |evil, theirs| {
        fs::remove_dir_all(evil.join(".git")).unwrap();
        fs::write(evil.join(".git"), format!("gitdir: {}\n", theirs.display())).unwrap();
    });
    check("a link as .git", |evil, theirs| replace_by_link(&evil.join(".git"), theirs));
    check("commondir", |evil, theirs| {
        fs::write(evil.join(".git/commondir"), format!("{}\n", theirs.display())).unwrap();
    });
    check("alternates", |evil, theirs| {
        let text = format!("# one\n\n{}\n", theirs.join("objects").display());
        fs::write(evil.join(".git/objects/info/alternates"), text).unwrap();
    });
    check("alternates by a link inside", |evil, theirs| {
        symlink(theirs, evil.join("way")).unwrap();
        fs::write(evil.join(".git/objects/info/alternates"), "../../way/objects\n").unwrap();
    });
    check("alternates of alternates", |evil, theirs| {
        let between = evil.join("between");
        fs::create_dir_all(between.join("info")).unwrap();
        fs::write(between.join("info/alternates"), theirs.join("objects").display().to_string()).unwrap();
        fs::write(evil.join(".git/objects/info/alternates"), between.display().to_string()).unwrap();
    });
    for name in ["objects", "objects/pack"] {
        check(name, |evil, theirs| replace_by_link(&evil.join(".git").join(name), &theirs.join(name)));
    }
    check("packs", |evil, theirs| {
        for name in names(&theirs.join("objects/pack")) {
            replace_by_link(
                &evil.join(".git/objects/pack").join(&name),
                &theirs.join("objects/pack").join(&name),
            );
        }
    });
}

#[test]
fn references_and_objects_lead_nowhere_either() {
    for name in
        ["HEAD", "packed-refs", "refs", "refs/heads", "refs/heads/main", "objects/00/00", "objects/info"]
    {
        let (bed, secret) = (Bed::new(), Bed::new());
        let theirs = secret.path("repo/.git").canonicalize().unwrap();
        fs::write(theirs.join("packed-refs"), "").unwrap();
        let file = bed.path("repo/.git").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        if name == "objects/00/00" {
            symlink(theirs.join("HEAD"), file).unwrap();
        } else {
            replace_by_link(&file, &theirs.join(name));
        }
        let dest = bed.dest("dest");
        match inside(&bed, &bed.path("repo"), None, &dest) {
            Err(GitError::Outside { path, .. }) => assert!(path.starts_with(&theirs), "{name}"),
            // Links to directories are not followed among references, so that there is none.
            Err(GitError::NoCommit(_)) if name == "refs/heads" => {}
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(names(&dest), [""; 0], "{name}");
    }
}

#[test]
fn what_lies_outside_is_refused_whatever_leads_there() {
    let (bed, secret) = (Bed::new(), Bed::new());
    symlink(secret.path("repo"), bed.path("link")).unwrap();
    for path in [secret.path("repo"), bed.path("link"), bed.path("link/src"), bed.path("../").join("x")] {
        let error =
            inside(&bed, &path, None, &bed.dest(&names(&bed.path("")).len().to_string())).unwrap_err();
        if !path.ends_with("x") {
            let said = error.to_string();
            assert!(said.contains("is not below a directory that the administrator allowed (`"), "{said}");
        }
    }
    let nowhere = Fence::new(&[], &bed.path("scratch"));
    let error =
        Ask { fence: Some(&nowhere), ..bed.ask(None) }.run(&bed.dest("dest")).unwrap_err().to_string();
    assert!(
        error.ends_with("(none is allowed: see `hostpath_roots` in the server's configuration)"),
        "{error}"
    );
}

#[test]
fn their_settings_and_submodules_start_nothing() {
    let (bed, secret) = (Bed::new(), Bed::new());
    let pwn = format!("touch {}", bed.path("pwned").display());
    let modules = format!(
        "[submodule \"a\"]\n\tpath = a\n\turl = {}\n[submodule \"b\"]\n\tpath = b\n\turl = ../../{}\n",
        secret.url(),
        secret.path("repo").strip_prefix("/").unwrap().display()
    );
    bed.commit(".gitmodules", &modules);
    for name in ["a", "b"] {
        bed.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{},{name}", secret.id("main"))]);
    }
    bed.git(&["commit", "-q", "-m", "submodules"]);
    let config = format!(
        "[include]\n\tpath = {}\n[core]\n\tfsmonitor = {pwn}\n\thooksPath = {}\n[extensions]\n\tpartialClone = o\n\
         [remote \"o\"]\n\tpromisor = true\n\turl = {}\n\tuploadpack = {pwn}; git-upload-pack\n",
        secret.path("repo/.git/config").display(),
        bed.path("repo").display(),
        secret.url()
    );
    let file = bed.path("repo/.git/config");
    fs::write(&file, fs::read_to_string(&file).unwrap() + &config).unwrap();
    let dest = bed.dest("dest");
    inside(&bed, &bed.path("repo"), None, &dest).unwrap();
    assert_eq!([names(&dest.join("a")), names(&dest.join("b"))], [[""; 0], [""; 0]]);
    assert!(!bed.path("pwned").exists());
    // An object that is not there is asked of nobody.
    let tree = bed.git(&["rev-parse", "main^{tree}"]);
    fs::remove_file(bed.path("repo/.git/objects").join(&tree[..2]).join(&tree[2..])).unwrap();
    assert!(inside(&bed, &bed.path("repo"), None, &bed.dest("again")).is_err());
    assert!(!bed.path("pwned").exists());
}

#[test]
fn who_changes_the_repository_meanwhile_gains_nothing() {
    let (bed, secret) = (Bed::new(), Bed::new());
    secret.commit("secret", "word\n");
    let evil = evil(&bed, &secret);
    let alternates = evil.join(".git/objects/info/alternates");
    let theirs = secret.path("repo/.git/objects").display().to_string();
    // When git starts, what was looked at is another thing.
    let swap = |_: &mut std::process::Command| fs::write(&alternates, &theirs).unwrap();
    let fence = fence(&bed);
    let dest = bed.dest("dest");
    assert!(Ask { fence: Some(&fence), prepare: &swap, ..Ask::of(url(&evil)) }.run(&dest).is_err());
    assert!(!dest.join("secret").exists());
}
