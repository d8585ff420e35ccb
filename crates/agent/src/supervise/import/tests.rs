//! Imports into a real root file system.
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use vessl_container::rootfs::{Access, Bind};
use vessl_core::plan::{GitParts, MountFrom, MountPlan};
use vessl_core::record::Login;
use vessl_data::staging::Staging;

use vessl_core::credential::{CredentialKind, CredentialRef};

use super::*;
use crate::testing_root::World;

fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(args).current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for key in ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"] {
        command.env(key, "someone");
    }
    let output = command.stderr(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "git {args:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn git_repository(dir: &Path) -> String {
    fs::create_dir_all(dir).unwrap();
    git(dir, &["init", "-q", "-b", "main"]);
    git_commit(dir, &[("train.py", "print()\n")])
}

fn git_commit(dir: &Path, files: &[(&str, &str)]) -> String {
    for (name, content) in files {
        fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        fs::write(dir.join(name), content).unwrap();
    }
    git(dir, &["add", "."]);
    git(dir, &["commit", "-q", "-m", "more"]);
    git(dir, &["rev-parse", "HEAD"])
}

fn from_git(world: &World, path: &str) -> ImportPlan {
    let url = format!("file://{}", world.path("repo").display());
    let source = ImportSource::Git { url, reference: None, credential: None, parts: GitParts::default() };
    ImportPlan::new(path, source)
}

fn from_tree(path: &str, manifest: String) -> ImportPlan {
    let source = ImportSource::Tree { label: "vessl-artifact://o/p/model".to_owned(), manifest };
    ImportPlan::new(path, source)
}

fn read(world: &World, path: &str) -> String {
    fs::read_to_string(world.inside(path)).unwrap()
}

#[test]
fn code_and_a_version_inside_it() {
    let mut world = World::new();
    let commit = git_repository(&world.path("repo"));
    let version = world.tree(&[("weights.bin", "weights"), ("sub/x", "x")]);
    world.plan.imports = vec![from_git(&world, "/code"), from_tree("/code/model", version.clone())];
    let imported = world.on(run).unwrap();
    assert_eq!(read(&world, "/code/train.py"), "print()\n");
    assert_eq!(read(&world, "/code/model/sub/x"), "x");
    let transfers = world.transfers();
    let brief: Vec<_> =
        transfers.iter().map(|t| (t.path.as_str(), t.version.clone(), t.bytes, t.files)).collect();
    assert_eq!(brief, [("/code", Some(commit), 8, 1), ("/code/model", Some(version.clone()), 8, 2)]);
    // What the run writes there stays with the run.
    fs::write(world.inside("/code/model/weights.bin"), "changed").unwrap();
    let pristine = world.path(&format!("data/staged/{version}/fs/weights.bin"));
    assert_eq!(fs::read_to_string(pristine).unwrap(), "weights");
    // Mounted versions are not collected, others are.
    let trees = Staging::open(&world.path("data/staged")).unwrap();
    assert_eq!(trees.collect(&|_| false).unwrap().count, 0);
    drop(imported);
    assert_eq!(trees.collect(&|_| false).unwrap().count, 1);
}

#[test]
fn a_directory_comes_with_its_own_permissions_and_time() {
    for owner in [None, Some((1000, 1000))] {
        let mut world = World::new();
        let version = world.tree(&[("a", "a")]);
        let top = vessl_data::tree::read(&world.store(), version.parse().unwrap()).unwrap().top().unwrap();
        world.plan.imports = vec![from_tree("/one", version)];
        let _imported = world.on(|merged, cx| run(merged, &TransferContext { owner, ..*cx })).unwrap();
        let here = fs::metadata(world.inside("/one")).unwrap();
        let found = (here.mode() & 0o7777, here.mtime(), here.mtime_nsec());
        assert_eq!(found, (top.mode, top.modified.seconds, top.modified.nanos.into()), "{owner:?}");
        assert_eq!(top.mode, 0o2750);
    }
}

#[test]
fn a_directory_inside_a_repository_brings_the_repository() {
    let mut world = World::new();
    let commit = git_repository(&world.path("repo"));
    fs::create_dir_all(world.path("repo/sub/deep")).unwrap();
    let url = format!("file://{}", world.path("repo/sub/deep").display());
    let source = ImportSource::Git { url, reference: None, credential: None, parts: GitParts::default() };
    world.plan.imports = vec![ImportPlan::new("/code", source)];
    world.on(run).unwrap();
    assert_eq!(read(&world, "/code/train.py"), "print()\n");
    assert_eq!(world.transfers()[0].version, Some(commit));
}

#[test]
fn a_path_without_a_commit_says_what_it_lacks() {
    let mut world = World::new();
    git_repository(&world.path("no-commit"));
    fs::remove_dir_all(world.path("no-commit/.git/refs/heads")).unwrap();
    let cases = [
        ("none", "there is no directory at `URL`; "),
        ("image/hollow", "`URL` is not in a git repository; "),
        ("no-commit", "`URL` has no commit yet, "),
    ];
    for (name, words) in cases {
        let url = format!("file://{}", world.path(name).display());
        let expected = format!("cannot import `/code`: {}", words.replace("URL", &url));
        let source = ImportSource::Git { url, reference: None, credential: None, parts: GitParts::default() };
        world.plan.imports = vec![ImportPlan::new("/code", source)];
        let said = world.on(run).unwrap_err().to_string();
        assert!(said.starts_with(&expected) && !said.contains("credential"), "{said}");
    }
}

#[test]
fn a_version_is_not_copied_twice() {
    let mut world = World::new();
    let version = world.tree(&[("a", "a")]);
    world.plan.imports = vec![from_tree("/one", version.clone()), from_tree("/hollow", version)];
    let _imported = world.on(run).unwrap();
    assert_eq!((read(&world, "/one/a"), read(&world, "/hollow/a")), ("a".to_owned(), "a".to_owned()));
    let lines = world.lines();
    assert!(
        lines.iter().any(|l| l == "imported `/hollow`: 1 file, 1 B, nothing copied: it is here already"),
        "{lines:?}"
    );
}

#[test]
fn a_place_with_files_is_filled_up_and_links_stay_inside() {
    let mut world = World::new();
    let version = world.tree(&[("new", "new"), ("kept", "replaced")]);
    world.plan.imports = vec![from_tree("/full", version.clone()), from_tree("/out/deep", version)];
    let _imported = world.on(run).unwrap();
    assert_eq!(
        (read(&world, "/full/new"), read(&world, "/full/kept")),
        ("new".to_owned(), "replaced".to_owned())
    );
    assert_eq!(fs::read_to_string(world.path("image/full/kept")).unwrap(), "kept");
    // The image's link is followed inside of its root.
    let outside = world.path("outside");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    let inside = world.inside(&format!("{}/deep/new", outside.display()));
    assert_eq!(fs::read_to_string(inside).unwrap(), "new");
}

#[test]
fn imports_belong_to_the_user_of_the_image_and_nothing_else_does() {
    let mut world = World::new();
    git_repository(&world.path("repo"));
    let version = world.tree(&[("sub/x", "x")]);
    let full = from_tree("/full", world.tree(&[("new", "new")]));
    world.plan.imports = vec![
        from_git(&world, "/code"),
        from_tree("/model", version.clone()),
        from_tree("/hollow", version.clone()),
        full,
    ];
    std::os::unix::fs::symlink(world.path("outside/file"), world.path("image/full/link")).unwrap();
    let _imported =
        world.on(|merged, cx| run(merged, &TransferContext { owner: Some((7, 8)), ..*cx })).unwrap();
    for path in [
        "/code",
        "/code/.git",
        "/code/.git/HEAD",
        "/code/train.py",
        "/model/sub/x",
        "/hollow",
        "/hollow/sub",
        "/full/new",
    ] {
        assert_eq!(owner(&world.inside(path)), (7, 8), "{path}");
    }
    for path in [
        world.path("repo/.git/HEAD"),
        world.path("outside/file"),
        world.path("data/blobs/tmp"),
        world.inside("/full/.."),
        world.inside("/full"),
        world.inside("/full/kept"),
        world.inside("/full/link"),
    ] {
        assert_eq!(owner(&path), (0, 0), "{}", path.display());
    }
    assert_eq!(read(&world, "/model/sub/x"), "x");
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

#[test]
fn the_images_own_files_keep_their_owner_beside_what_comes_in() {
    let mut world = World::new();
    git_repository(&world.path("repo"));
    git_commit(&world.path("repo"), &[("deep/code", ""), ("made/code", ""), ("taken/code", "")]);
    let image = world.path("image");
    fs::create_dir_all(image.join("in/deep")).unwrap();
    for (name, mode) in [("shadow", 0o600), ("suid", 0o4755), ("deep/k", 0o644), ("train.py", 0o644)] {
        fs::write(image.join("in").join(name), "the image's").unwrap();
        fs::set_permissions(image.join("in").join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(image.join("etc/shadow"), "").unwrap();
    // Where the commit has a directory it takes the place of a link.
    for (link, target) in [("linked", "etc"), ("in/taken", "/etc")] {
        std::os::unix::fs::symlink(target, image.join(link)).unwrap();
    }
    let version = world.tree(&[("deep/data", ""), ("new/data", "")]);
    world.plan.imports =
        vec![from_git(&world, "/in"), from_tree("/in", version), from_git(&world, "/linked")];
    let _imported =
        world.on(|merged, cx| run(merged, &TransferContext { owner: Some((7, 8)), ..*cx })).unwrap();
    let comes_in = ["train.py", ".git", "deep/code", "deep/data", "made", "made/code", "new", "new/data"];
    let comes_in = comes_in.iter().chain(&["taken", "taken/code"]).map(|name| format!("/in/{name}"));
    for path in comes_in.chain(["/etc/train.py".to_owned()]) {
        assert_eq!(owner(&world.inside(&path)), (7, 8), "{path}");
    }
    for path in ["/in", "/in/shadow", "/in/suid", "/in/deep", "/in/deep/k", "/etc", "/etc/shadow"] {
        assert_eq!(owner(&world.inside(path)), (0, 0), "{path}");
    }
    assert_eq!(fs::metadata(world.inside("/in/suid")).unwrap().mode() & 0o7777, 0o4755);
    // What is not touched is not copied either.
    for name in ["in/shadow", "in/suid", "in/deep/k", "etc/shadow"] {
        assert!(!world.path("box/root/upper").join(name).exists(), "{name}");
    }
    assert!(world.path("box/root/upper/in/train.py").exists());
}

#[test]
fn what_comes_into_a_mount_is_the_runs_own() {
    let mut world = World::new();
    git_repository(&world.path("repo"));
    let version = world.tree(&[("data", "")]);
    let machine = world.path("machine");
    fs::create_dir_all(machine.join("more")).unwrap();
    fs::write(machine.join("more/there"), "").unwrap();
    let source = MountFrom::Hostpath { path: machine.display().to_string(), roots: Vec::new() };
    world.plan.mounts = vec![MountPlan { path: "/full".to_owned(), source, readonly: false }];
    world.plan.imports = vec![
        from_git(&world, "/full/code"),
        from_tree("/full/code/data", version.clone()),
        from_tree("/full/more", version),
    ];
    let bind = Bind { source: machine.clone(), target: "/full".into(), access: Access::Shared };
    let imported = world.on(|merged, cx| {
        merged.bind(&bind).unwrap();
        let imported = run(merged, &TransferContext { owner: Some((7, 8)), ..*cx });
        for path in ["code/train.py", "code/.git", "code/data/data", "more/data"] {
            let path = merged.open(&Path::new("/full").join(path)).unwrap().unwrap();
            let about = fs::metadata(proc_path(&path)).unwrap();
            assert_eq!((about.uid(), about.gid()), (7, 8));
        }
        imported
    });
    imported.unwrap();
    // The machine has a place to put them over, and nothing of them.
    let names = |dir: &str| {
        let names = fs::read_dir(machine.join(dir)).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(
        (names(""), names("code"), names("more")),
        (vec!["code".to_owned(), "more".to_owned()], vec![], vec!["there".to_owned()])
    );
}

#[test]
fn failures_name_path_source_and_reason_and_are_recorded() {
    let mut world = World::new();
    git_repository(&world.path("repo"));
    git_repository(&world.path("data/runs/other"));
    fs::write(world.path("image/file"), "").unwrap();
    let url = |name: &str| format!("file://{}", world.path(name).display());
    let git = |url: String, reference: Option<&str>, credential: Option<&str>| ImportSource::Git {
        url,
        reference: reference.map(str::to_owned),
        credential: credential.map(Into::into),
        parts: GitParts::default(),
    };
    let label = "vessl-artifact://o/p/m";
    let tree = |manifest: String| ImportSource::Tree { label: label.to_owned(), manifest };
    let cases = [
        (
            "/code",
            git(url("repo"), Some("v9"), None),
            format!(
                "cannot import `/code`: `{}` has no branch, tag or commit `v9`; it has `main`",
                url("repo")
            ),
        ),
        (
            "/code",
            git(url("repo"), None, Some("me")),
            format!(
                "cannot import `{}` to `/code`: the credential `me` did not reach the agent",
                url("repo")
            ),
        ),
        (
            "/code",
            git(url("data/runs/other"), None, None),
            format!("cannot import `{}` to `/code`: it holds the product's own data", url("data/runs/other")),
        ),
        (
            "/code",
            git(url("d%61ta/runs/other"), None, None),
            format!("cannot import `{}` to `/code`: it holds the product's own", url("d%61ta/runs/other")),
        ),
        (
            "/code",
            git("ext::id".to_owned(), None, None),
            "cannot import `/code`: `ext::id` cannot be imported".to_owned(),
        ),
        ("/file", git(url("repo"), None, None), format!("cannot import `{}` to `/file`: ", url("repo"))),
        (
            "/m",
            tree("0".repeat(64)),
            format!("cannot import `{label}` to `/m`: `{}` is not in the store", "0".repeat(64)),
        ),
        (
            "/m",
            tree("x".to_owned()),
            format!("cannot import `{label}` to `/m`: `x` is not the version of a tree"),
        ),
        ("/file/x", tree(world.tree(&[("a", "a")])), format!("cannot import `{label}` to `/file/x`: ")),
    ];
    let second = ImportPlan::new("/later", git(url("repo"), None, None));
    for (n, (path, source, expected)) in cases.into_iter().enumerate() {
        world.plan.imports = vec![ImportPlan::new(path, source), second.clone()];
        let e = world.on(run).unwrap_err().to_string();
        assert!(e.starts_with(&expected), "{e}");
        let transfers = world.transfers();
        assert_eq!(transfers.len(), n + 1);
        let last = transfers.last().unwrap();
        assert!(last.version.is_none() && e.ends_with(last.error.as_ref().unwrap()), "{last:?}");
    }
    assert!(!world.inside("/later").exists());
}

#[test]
fn a_repository_lies_inside_the_fence_with_all_that_it_borrows() {
    let mut world = World::new();
    let commit = git_repository(&world.path("open/repo"));
    git_repository(&world.path("closed/repo"));
    git(&world.path("closed/repo"), &["clone", "-q", "--shared", ".", "../../open/borrows"]);
    let closed = world.path("closed/repo/.git");
    fs::create_dir_all(world.path("open/work/tree")).unwrap();
    fs::write(world.path("open/work/.git"), format!("gitdir: {}\n", closed.display())).unwrap();
    std::os::unix::fs::symlink(world.path("closed"), world.path("open/link")).unwrap();
    fs::create_dir_all(world.path("closed/repo/open-too")).unwrap();
    world.plan.fence =
        Some(["open", "closed/repo/open-too"].map(|name| world.path(name).display().to_string()).to_vec());
    assert_eq!(imported(&mut world, "open/repo"), Ok(Some(commit)));
    // The last two lead to the repository around a directory.
    for name in [
        "closed/repo",
        "open/link/repo",
        "open/borrows",
        "open/work",
        "open/work/tree",
        "closed/repo/open-too",
    ] {
        let error = imported(&mut world, name).unwrap_err();
        assert!(
            error.contains("is not below a directory that the administrator allowed (`"),
            "{name}: {error}"
        );
        assert!(error.contains("/closed/repo"), "{name}: {error}");
        assert!(!world.inside(&format!("/{}/train.py", name.replace('/', "-"))).exists(), "{name}");
    }
    // Where the run may see the machine anyway, all of them come in.
    world.plan.fence = None;
    for name in ["closed/repo", "open/borrows", "open/work"] {
        imported(&mut world, name).unwrap();
    }
}

/// What an import of the repository at a path of the machine comes to.
fn imported(world: &mut World, name: &str) -> Result<Option<String>, String> {
    let url = format!("file://{}", world.path(name).display());
    let source = ImportSource::Git { url, reference: None, credential: None, parts: GitParts::default() };
    world.plan.imports = vec![ImportPlan::new(&format!("/{}", name.replace('/', "-")), source)];
    world.on(run).map(|_| world.transfers().last().unwrap().version.clone()).map_err(|e| e.to_string())
}

#[test]
fn a_cancelled_import_ends() {
    let mut world = World::new();
    git_repository(&world.path("repo"));
    let version = world.tree(&[("a", "a")]);
    world.cancel();
    for import in [from_git(&world, "/code"), from_tree("/m", version)] {
        world.plan.imports = vec![import];
        assert!(world.on(run).unwrap_err().to_string().ends_with("stopped"));
    }
}

#[test]
fn a_login_is_found_by_the_credentials_name() {
    let mut world = World::new();
    git_repository(&world.path("repo"));
    let login = Login { username: "me".to_owned(), password: "secret".into(), ..Login::default() };
    world.secrets.credentials.insert(CredentialRef { kind: CredentialKind::Git, name: "mine".into() }, login);
    let mut import = from_git(&world, "/code");
    if let ImportSource::Git { credential, .. } = &mut import.source {
        *credential = Some("mine".into());
    }
    world.plan.imports = vec![import];
    world.on(run).unwrap();
}
