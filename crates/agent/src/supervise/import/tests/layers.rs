//! What is shown as a layer: as the user's of the image, over its files, and kept while it is shown.
use vessl_core::ids::ProjectRef;

use super::*;

const USER: Option<(u32, u32)> = Some((7, 8));

/// Carries out the imports for a user of the image.
fn run_as(world: &World, owner: Option<(u32, u32)>) -> Result<ImportedVersions, ImportError> {
    world.on(|merged, cx| run(merged, &TransferContext { owner, ..*cx }))
}

fn staged(world: &World) -> Staging {
    Staging::open(&world.path("data/staged")).unwrap()
}

/// Regular files below a directory.
fn files_below(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap());
    let count = |entry: fs::DirEntry| {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() { files_below(&entry.path()) } else { usize::from(kind.is_file()) }
    };
    entries.map(count).sum()
}

#[test]
fn a_version_is_shown_as_the_users_without_a_copy() {
    let mut world = World::new();
    let version = world.tree(&[("a", "a"), ("sub/b", "b"), ("sub/gone", "")]);
    world.plan.imports = vec![from_tree("/one", version.clone()), from_tree("/full", version.clone())];
    let imported = run_as(&world, USER).unwrap();
    for path in ["/one", "/one/a", "/one/sub", "/one/sub/b", "/full/sub/b"] {
        assert_eq!(owner(&world.inside(path)), (7, 8), "{path}");
    }
    for path in ["/full", "/full/kept"] {
        assert_eq!(owner(&world.inside(path)), (0, 0), "{path}");
    }
    let said = "imported `/full`: 3 files, 2 B beside the files there, nothing copied: it is here already";
    assert!(world.lines().iter().any(|line| line == said), "{:?}", world.lines());
    // Nothing of it is in what the run writes.
    let written = fs::read_dir(world.path("box/private")).unwrap();
    let copied: usize = written.map(|entry| files_below(&entry.unwrap().path().join("upper"))).sum();
    assert_eq!(copied, 0);
    // The user changes everything, and nobody else sees it.
    let script = "cd /; test $(id -u) = 7 || exit 9; cd \"$0\" && echo more >> a && echo new > sub/new && rm sub/gone && \
                  chmod 700 sub && mv a sub/moved && stat -c '%u:%g' sub/moved sub/new";
    for place in ["/one", "/full"] {
        let mut shell = Command::new("setpriv");
        shell.args(["--reuid", "7", "--regid", "8", "--clear-groups", "sh", "-c", script]);
        // What lies above is the test's alone.
        fs::set_permissions(world.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        if place == "/full" {
            fs::set_permissions(world.inside(place), fs::Permissions::from_mode(0o777)).unwrap();
        }
        let done = shell.arg(world.inside(place)).output().unwrap();
        assert!(done.status.success(), "{place}: {done:?}");
        assert_eq!(String::from_utf8(done.stdout).unwrap(), "7:8\n7:8\n");
        assert_eq!(read(&world, &format!("{place}/sub/moved")), "amore\n");
    }
    let cache = world.path(&format!("data/staged/{version}/fs"));
    assert_eq!((files_below(&cache), owner(&cache.join("a"))), (3, (0, 0)));
    assert_eq!(fs::read_to_string(cache.join("a")).unwrap(), "a");
    // What is shown stays, however little may be kept.
    assert_eq!(staged(&world).shrink(0).unwrap().count, 0);
    assert_eq!(read(&world, "/one/sub/b"), "b");
    drop(imported);
    assert_eq!(staged(&world).shrink(0).unwrap().count, 1);
}

#[test]
fn a_mounted_version_is_the_users_too() {
    let mut world = World::new();
    // Only root and its group may enter it on the machine.
    let manifest = world.tree(&[("a", "a")]);
    let source = MountFrom::Tree { label: "l".to_owned(), manifest };
    world.plan.mounts = vec![MountPlan { path: "/mounted".to_owned(), source, readonly: true }];
    let _imported = run_as(&world, USER).unwrap();
    fs::set_permissions(world.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut shell = Command::new("setpriv");
    shell.args([
        "--reuid",
        "7",
        "--regid",
        "8",
        "--clear-groups",
        "sh",
        "-c",
        "cat \"$0\"; ! touch \"$0\" 2>/dev/null",
    ]);
    let done = shell.arg(world.inside("/mounted/a")).output().unwrap();
    assert!(done.status.success() && done.stdout == b"a", "{done:?}");
}

#[test]
fn links_of_the_image_in_the_place_of_directories_are_a_conflict() {
    let mut world = World::new();
    std::os::unix::fs::symlink("kept", world.path("image/full/sub")).unwrap();
    fs::create_dir_all(world.path("image/full/dir")).unwrap();
    for (file, words) in [("sub/a", "`sub`"), ("dir", "`dir`")] {
        let version = world.tree(&[(file, "a")]);
        world.plan.imports = vec![from_tree("/full", version)];
        for owner in [None, USER] {
            let error = run_as(&world, owner).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
    assert_eq!(fs::read_link(world.inside("/full/sub")).unwrap(), Path::new("kept"));
}

#[test]
fn what_a_mount_covers_is_not_shown_by_a_layer() {
    let mut world = World::new();
    fs::create_dir_all(world.path("image/full/secret")).unwrap();
    fs::write(world.path("image/full/secret/s"), "").unwrap();
    fs::create_dir_all(world.path("machine")).unwrap();
    world.plan.imports = vec![from_tree("/full", world.tree(&[("a", "a")]))];
    let bind =
        Bind { source: world.path("machine"), target: "/full/secret".into(), access: Access::ReadOnly };
    let _imported = world
        .on(|merged, cx| {
            merged.bind(&bind).unwrap();
            run(merged, cx)
        })
        .unwrap();
    assert_eq!(read(&world, "/full/a"), "a");
    assert_eq!(fs::read_dir(world.inside("/full/secret")).unwrap().count(), 0);
    let said = "`/full` is copied: something is mounted below it";
    assert!(world.lines().iter().any(|line| line == said), "{:?}", world.lines());
}

fn at_commit(world: &World, path: &str, commit: &str) -> ImportPlan {
    let mut import = from_git(world, path);
    if let ImportSource::Git { reference, .. } = &mut import.source {
        *reference = Some(commit.to_owned());
    }
    import
}

/// A git command of the user in a directory of the run.
fn git_inside(world: &World, path: &str, args: &[&str]) -> String {
    git(&world.inside(path), args)
}

#[test]
fn a_commit_is_fetched_once() {
    let mut world = World::new();
    let commit = git_repository(&world.path("repo"));
    world.plan.imports = vec![
        from_git(&world, "/one"),
        from_git(&world, "/two"),
        at_commit(&world, "/three", &commit),
        at_commit(&world, "/four", &commit),
    ];
    let imported = run_as(&world, None).unwrap();
    let here: Vec<bool> = world
        .lines()
        .iter()
        .filter(|line| line.starts_with("imported"))
        .map(|line| line.ends_with("it is here already"))
        .collect();
    // A branch and a commit leave different repositories.
    assert_eq!(here, [false, true, false, true], "{:?}", world.lines());
    for path in ["/one", "/two"] {
        assert_eq!(git_inside(&world, path, &["rev-parse", "--abbrev-ref", "HEAD"]), "main");
        assert_eq!(git_inside(&world, path, &["status", "--porcelain"]), "");
        let url = format!("file://{}", world.path("repo").display());
        assert_eq!(git_inside(&world, path, &["remote", "get-url", "origin"]), url);
    }
    assert_eq!(git_inside(&world, "/four", &["rev-parse", "--abbrev-ref", "HEAD"]), "HEAD");
    // Each run has it for itself.
    git_commit(&world.inside("/one"), &[("train.py", "mine")]);
    assert_eq!(
        (read(&world, "/one/train.py"), read(&world, "/two/train.py")),
        ("mine".to_owned(), "print()\n".to_owned())
    );
    assert_eq!(staged(&world).list().unwrap().len(), 2);
    // A branch is settled each time, a commit never changes; the repository need not be asked about it.
    let next = git_commit(&world.path("repo"), &[("more", "")]);
    world.plan.imports = vec![from_git(&world, "/five"), at_commit(&world, "/six", &commit)];
    let _more = run_as(&world, USER).unwrap();
    let versions: Vec<_> =
        world.transfers().into_iter().skip(4).map(|transfer| transfer.version.unwrap()).collect();
    assert_eq!(versions, [next, commit]);
    assert!(world.lines().last().unwrap().ends_with("it is here already"), "{:?}", world.lines());
    assert_eq!(
        (owner(&world.inside("/five/.git/HEAD")), owner(&world.inside("/six/train.py"))),
        ((7, 8), (7, 8))
    );
    drop(imported);
}

#[test]
fn what_one_organization_fetched_is_not_there_for_another() {
    let mut world = World::new();
    let commit = git_repository(&world.path("repo"));
    for (organization, expected) in [("one", 1), ("two", 2), ("one", 2)] {
        world.plan.project = ProjectRef { organization: organization.into(), ..world.plan.project.clone() };
        let path = format!("/{organization}-{expected}");
        world.plan.imports = vec![at_commit(&world, &path, &commit)];
        run_as(&world, None).unwrap();
        assert_eq!(staged(&world).list().unwrap().len(), expected, "{organization}");
    }
}

#[test]
fn a_commit_that_does_not_come_whole_is_not_kept_for_others() {
    let mut world = World::new();
    git_repository(&world.path("repo"));
    git_repository(&world.path("data/runs/inner"));
    let modules = format!(
        "[submodule \"sub\"]\n\tpath = sub\n\turl = file://{}\n",
        world.path("data/runs/inner").display()
    );
    let inner = git(&world.path("data/runs/inner"), &["rev-parse", "HEAD"]);
    fs::create_dir(world.path("repo/sub")).unwrap();
    git(&world.path("repo"), &["update-index", "--add", "--cacheinfo", &format!("160000,{inner},sub")]);
    git_commit(&world.path("repo"), &[(".gitmodules", &modules)]);
    world.plan.imports = vec![from_git(&world, "/one"), from_git(&world, "/two")];
    let _imported = run_as(&world, None).unwrap();
    for transfer in world.transfers() {
        assert_eq!(transfer.missing.len(), 1, "{transfer:?}");
    }
    assert_eq!(staged(&world).list().unwrap().len(), 2);
    assert!(!world.lines().iter().any(|line| line.contains("it is here already")), "{:?}", world.lines());
}

#[test]
fn git_takes_the_place_of_what_is_in_its_way_but_not_of_a_repository() {
    let mut world = World::new();
    let commit = git_repository(&world.path("repo"));
    fs::write(world.path("image/full/train.py"), "the image's").unwrap();
    git_repository(&world.path("image/full/has"));
    world.plan.imports = vec![from_git(&world, "/full"), from_git(&world, "/full/has")];
    let _imported = run_as(&world, None).unwrap();
    assert_eq!(
        (read(&world, "/full/train.py"), read(&world, "/full/kept")),
        ("print()\n".to_owned(), "kept".to_owned())
    );
    assert_eq!(git_inside(&world, "/full/has", &["rev-parse", "HEAD"]), commit);
    let said = "`/full/has` is copied: there is a git repository";
    assert!(world.lines().iter().any(|line| line == said), "{:?}", world.lines());
    assert_eq!(fs::read_to_string(world.path("image/full/train.py")).unwrap(), "the image's");
}
