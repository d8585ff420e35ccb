//! Exports out of a real root file system.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use vessl_core::ids::ProjectRef;
use vessl_core::plan::ExportTarget;
use vessl_data::tree;

use super::*;
use crate::testing_root::World;

fn run(merged: &Merged, cx: &TransferContext<'_>) {
    rest(merged, cx, &[]);
}

fn export(path: &str) -> ExportPlan {
    ExportPlan { path: path.to_owned(), target: ExportTarget::Output }
}

fn content(world: &World, version: &str, path: &str) -> String {
    let store = world.store();
    let manifest = tree::read(&store, version.parse().unwrap()).unwrap();
    let (_, size, digest) = manifest.files().find(|(entry, ..)| entry.path == Path::new(path)).unwrap();
    String::from_utf8(store.read(digest, size).unwrap()).unwrap()
}

#[test]
fn directories_and_files_become_versions() {
    let mut world = World::new();
    fs::create_dir_all(world.inside("/output/sub")).unwrap();
    fs::write(world.inside("/output/model"), "weights").unwrap();
    fs::write(world.inside("/output/sub/metrics.json"), "{}").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.inside("/output/socket")).unwrap();
    let named = ExportTarget::Artifact(ProjectRef::new("o", "p").artifact("m"));
    world.plan.exports = vec![
        export("/output"),
        ExportPlan { path: "/output/model".to_owned(), target: named },
        export("/full"),
    ];
    world.on(run);
    let transfers = world.transfers();
    let brief: Vec<_> =
        transfers.iter().map(|t| (t.label.as_str(), t.bytes, t.files, t.error.clone())).collect();
    assert_eq!(
        brief,
        [
            ("vessl-artifact://", 9, 2, None),
            ("vessl-artifact://o/p/m", 7, 1, None),
            ("vessl-artifact://", 4, 1, None)
        ]
    );
    let version = |n: usize| transfers[n].version.clone().unwrap();
    assert_eq!(content(&world, &version(0), "sub/metrics.json"), "{}");
    assert_eq!(content(&world, &version(1), "model"), "weights");
    let lines = world.lines();
    assert!(
        lines.iter().any(|l| l == "`/output/socket` was left out: it is a socket, pipe or device"),
        "{lines:?}"
    );
}

#[test]
fn links_are_resolved_inside_the_root_and_lead_no_further() {
    let mut world = World::new();
    // `/out` of the image points to a directory that is there outside, and not inside.
    fs::create_dir_all(world.inside("/linked/sub")).unwrap();
    fs::create_dir_all(world.inside("/elsewhere")).unwrap();
    fs::write(world.inside("/elsewhere/f"), "inside").unwrap();
    let outside = world.path("outside/file").display().to_string();
    for (name, target) in
        [("away", "/elsewhere/f"), ("sub/own", "/linked/sub"), ("up", "/"), ("none", &outside)]
    {
        std::os::unix::fs::symlink(target, world.inside("/linked").join(name)).unwrap();
    }
    // A path that is a link itself.
    std::os::unix::fs::symlink("/linked", world.inside("/by-link")).unwrap();
    world.plan.exports = vec![export("/out"), export("/linked"), export("/by-link")];
    world.on(run);
    let transfers = world.transfers();
    assert_eq!((&transfers[0].version, &transfers[0].error), (&None, &None));
    let version = transfers[1].version.clone().unwrap();
    assert_eq!(transfers[2].version.as_ref(), Some(&version));
    assert_eq!(content(&world, &version, "away"), "inside");
    let manifest = tree::read(&world.store(), version.parse().unwrap()).unwrap();
    let links = manifest.entries().iter().filter_map(|entry| match &entry.kind {
        tree::Kind::Symlink { target } => Some((entry.path.to_str().unwrap(), target.to_str().unwrap())),
        _ => None,
    });
    assert_eq!(links.collect::<Vec<_>>(), [("none", outside.as_str()), ("sub/own", ".")]);
    let lines = world.lines();
    for line in [
        "`/linked/up` was left out: it is a link to `/`, in which it lies itself".to_owned(),
        format!("`/linked/none` stays a link to `{outside}`: where there is nothing"),
        "a link that leads out of `/linked` became what it leads to".to_owned(),
    ] {
        assert!(lines.contains(&line), "{line}: {lines:?}");
    }
}

#[test]
fn a_link_to_what_the_user_may_not_read_is_left_out() {
    let mut world = World::new();
    fs::create_dir_all(world.inside("/linked")).unwrap();
    for (name, mode) in [("open", 0o644), ("closed", 0o600)] {
        let file = world.inside("/etc").join(name);
        fs::write(&file, name).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::symlink(format!("/etc/{name}"), world.inside("/linked").join(name)).unwrap();
    }
    world.plan.exports = vec![export("/linked")];
    world.on(|merged, cx| run(merged, &TransferContext { owner: Some((7, 8)), ..*cx }));
    let transfers = world.transfers();
    assert_eq!((transfers[0].files, &transfers[0].error), (1, &None));
    let line =
        "`/linked/closed` was left out: it is a link to `/etc/closed`, and the run's user may not read that";
    assert!(world.lines().iter().any(|said| said == line), "{:?}", world.lines());
}

#[test]
fn nothing_to_export_is_a_warning() {
    let mut world = World::new();
    world.plan.exports = vec![export("/missing"), export("/hollow")];
    world.on(run);
    assert!(world.transfers().iter().all(|t| t.version.is_none() && t.error.is_none()));
    let lines = world.lines();
    for line in ["nothing to export: there is no `/missing`", "nothing to export: `/hollow` is empty"] {
        assert!(lines.iter().any(|l| l == line), "{lines:?}");
    }
}

#[test]
fn one_failure_does_not_stop_the_others() {
    let mut world = World::new();
    nix::unistd::mkfifo(&world.inside("/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    world.plan.exports = vec![export("/pipe"), export("/full")];
    world.on(run);
    let transfers = world.transfers();
    assert_eq!(transfers[0].error.as_deref(), Some("it is neither a directory nor a file"));
    assert!(transfers[1].version.is_some());
    let lines = world.lines();
    let said = "cannot export `/pipe` to `vessl-artifact://`: it is neither a directory nor a file";
    assert!(lines.iter().any(|l| l == said), "{lines:?}");
}

#[test]
fn a_full_disk_fails_the_export_and_leaves_no_version() {
    use nix::mount::{MsFlags, mount};
    let mut world = World::new();
    mount(Some("tmpfs"), &world.path("data"), Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
    fs::create_dir(world.inside("/output")).unwrap();
    fs::write(world.inside("/output/small"), "small").unwrap();
    fs::write(world.inside("/output/big"), vec![7; 3 << 20]).unwrap();
    world.plan.exports = vec![export("/output")];
    world.on(run);
    let transfers = world.transfers();
    let error = transfers[0].error.clone().unwrap();
    assert!(error.starts_with("the disk is full: cannot write"), "{error}");
    assert_eq!(transfers[0].version, None);
    // The room that the failed file took is free again.
    fs::remove_file(world.inside("/output/big")).unwrap();
    world.on(run);
    assert!(world.transfers()[1].version.is_some());
    nix::mount::umount2(&world.path("data"), nix::mount::MntFlags::MNT_DETACH).unwrap();
}

#[test]
fn what_is_cancelled_is_not_recorded() {
    let mut world = World::new();
    world.plan.exports = vec![export("/full"), export("/etc")];
    world.cancel();
    world.on(run);
    assert_eq!(world.transfers(), []);
}
