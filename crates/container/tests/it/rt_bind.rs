//! Binds: who sees writes, what is refused, what stays inside.
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::ensure;
use nix::mount::MsFlags;
use vessl_container::rootfs::{Access, Bind, Merged};

use crate::rt_support::{As, EVERYBODY, Place, WHO};

fn bind(merged: &Merged, source: &Path, target: &str, access: Access) -> Result<(), anyhow::Error> {
    Ok(merged.bind(&Bind { source: source.to_owned(), target: target.into(), access })?)
}

/// A source directory and a source file that the user of the place may write.
fn sources(place: &Place) {
    fs::create_dir(place.path("data")).unwrap();
    for file in ["data/f", "file"] {
        fs::write(place.path(file), "old\n").unwrap();
    }
    place.give("data");
    place.give("file");
}

fn check(access: Access, script: &str, expected: (i32, &str), source_after: &str) {
    for who in EVERYBODY {
        let place = Place::new(who);
        sources(&place);
        place.supervise(|| {
            let merged = place.rootfs().mount()?;
            bind(&merged, &place.path("data"), "/new/dir", access)?;
            bind(&merged, &place.path("file"), "/other/file", access)?;
            let (status, output) = place.run(&merged, script)?;
            ensure!((status, output.as_str()) == expected, "{who:?} {access:?}: {status} {output:?}");
            Ok(())
        });
        for file in ["data/f", "file"] {
            assert_eq!(
                fs::read_to_string(place.path(file)).unwrap(),
                source_after,
                "{who:?} {access:?} {file}"
            );
        }
        assert_eq!(place.path("data/g").exists(), access == Access::Shared);
    }
}

const WRITE: &str = "cat /new/dir/f /other/file; for f in /new/dir/f /new/dir/g /other/file; do echo new > $f; done 2>/dev/null; cat /new/dir/f";

#[test]
fn writes_go_where_the_access_says() {
    check(Access::ReadOnly, WRITE, (0, "old\nold\nold\n"), "old\n");
    check(Access::Shared, WRITE, (0, "old\nold\nnew\n"), "new\n");
    check(Access::Private, WRITE, (0, "old\nold\nnew\n"), "old\n");
}

/// Flags of every mount at or below `/b`, by its path.
const FLAGS: &str = "while read -r _ _ _ _ point flags _; do case $point in /b*) echo $point $flags;; esac; done < /proc/self/mountinfo";

#[test]
fn no_bind_brings_devices_or_set_user_id_programs() {
    for who in EVERYBODY {
        let place = Place::new(who);
        sources(&place);
        fs::create_dir(place.path("data/sub")).unwrap();
        // A disk of the machine below the source.
        let run = place.spawn_in_own_mounts(
            || {
                let sub = place.path("data/sub");
                Ok(nix::mount::mount(Some("tmpfs"), &sub, Some("tmpfs"), MsFlags::empty(), None::<&str>)?)
            },
            || {
                let merged = place.rootfs().mount()?;
                let all = [("ro", Access::ReadOnly), ("rw", Access::Shared), ("private", Access::Private)];
                for (name, access) in all {
                    // An overlay over what has mounts below it is not for everybody.
                    if access != Access::Private || who == As::Root {
                        bind(&merged, &place.path("data"), &format!("/b/{name}/dir"), access)?;
                    }
                    bind(&merged, &place.path("file"), &format!("/b/{name}/file"), access)?;
                }
                let (status, output) = place.run(&merged, FLAGS)?;
                let seen = output.lines().count();
                ensure!(
                    status == 0 && seen == if who == As::Root { 8 } else { 7 },
                    "{who:?} {status} {output}"
                );
                for line in output.lines() {
                    ensure!(line.contains("nosuid") && line.contains("nodev"), "{who:?} {line}");
                }
                Ok(())
            },
        );
        run.join();
    }
}

#[test]
fn root_in_a_container_makes_no_devices_in_a_directory_of_the_machine() {
    for who in [As::Root, As::User] {
        let place = Place::new(who);
        sources(&place);
        place.program("who", WHO);
        place.supervise(|| {
            let merged = place.rootfs().mount()?;
            bind(&merged, &place.path("data"), "/d", Access::Shared)?;
            let script = "cd /d; mknod c c 1 3 2>/dev/null || echo no; mknod b b 8 0 2>/dev/null || echo no; mknod p p && echo pipe; \
                          cat /who > tool; busybox chmod 6755 tool; ./tool; /who /d/tool";
            let (status, output) = place.run(&merged, script)?;
            let expected = "no\nno\npipe\n0 0\n1000 1000\n";
            ensure!((status, output.as_str()) == (0, expected), "{who:?} {status} {output}");
            Ok(())
        });
        assert!(!place.path("data/c").exists() && !place.path("data/b").exists());
    }
}

#[test]
fn read_only_reaches_the_mounts_below() {
    let place = Place::new(As::Root);
    sources(&place);
    fs::create_dir(place.path("data/sub")).unwrap();
    place.supervise(|| {
        let sub = place.path("data/sub");
        nix::mount::mount(Some("tmpfs"), &sub, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        fs::write(sub.join("x"), "below\n")?;
        let merged = place.rootfs().mount()?;
        bind(&merged, &place.path("data"), "/d", Access::ReadOnly)?;
        let (status, output) = place.run(&merged, "cat /d/sub/x; touch /d/sub/y 2>/dev/null")?;
        ensure!((status, output.as_str()) == (1, "below\n"), "{status} {output}");
        Ok(())
    });
}

#[test]
fn a_link_in_the_image_leads_nowhere_else() {
    for who in EVERYBODY {
        let place = Place::new(who);
        sources(&place);
        symlink("/tmp", place.path("layer/link")).unwrap();
        symlink("../../../../tmp/up", place.path("layer/up")).unwrap();
        place.supervise(|| {
            let merged = place.rootfs().mount()?;
            bind(&merged, &place.path("data"), "/link/a", Access::ReadOnly)?;
            bind(&merged, &place.path("data"), "/up", Access::ReadOnly)?;
            ensure!(
                merged.open(Path::new("/link/a/f"))?.is_some()
                    && merged.open(Path::new("/link/b"))?.is_none()
            );
            let (status, output) = place.run(&merged, "cat /tmp/a/f /tmp/up/f")?;
            ensure!((status, output.as_str()) == (0, "old\nold\n"), "{status} {output}");
            Ok(())
        });
        assert!(!Path::new("/tmp/up").exists());
    }
}

#[test]
fn what_cannot_be_bound_is_said() {
    let place = Place::new(As::Root);
    sources(&place);
    symlink(place.path("data"), place.path("link")).unwrap();
    place.supervise(|| {
        let merged = place.rootfs().mount()?;
        let check = |source: &str, target: &str, expected: &str| {
            let source = place.path(source);
            let error = bind(&merged, &source, target, Access::ReadOnly).expect_err("refused").to_string();
            let expected = format!("cannot show `{}` at `{target}`: {expected}", source.display());
            ensure!(error.starts_with(&expected), "{error}");
            Ok(())
        };
        check("link", "/a", "a part of the path is a symbolic link")?;
        check("link/f", "/a", "a part of the path is a symbolic link")?;
        check("nothing", "/a", "No such file")?;
        check("file", "/bin", "the source is a file, but the target is a directory")?;
        check("data", "/bin/sh", "the source is a directory, but the target or a parent of it is a file")?;
        check("data", "/x/../y", "the path must be absolute and without `..`")
    });
}

#[test]
fn a_hidden_path_below_a_bind_is_covered() {
    for who in EVERYBODY {
        let place = Place::new(who);
        fs::create_dir_all(place.path("data/secret/run/box")).unwrap();
        fs::write(place.path("data/secret/key"), "k\n").unwrap();
        fs::write(place.path("data/secret/run/box/mine"), "m\n").unwrap();
        fs::write(place.path("data/config"), "c\n").unwrap();
        place.supervise(|| {
            let mut rootfs = place.rootfs();
            rootfs.hidden = vec![place.path("data/secret"), place.path("data/config")];
            let merged = rootfs.mount()?;
            bind(&merged, &place.path("data"), "/d", Access::Shared)?;
            bind(&merged, &place.path("data/secret/run/box"), "/mine", Access::ReadOnly)?;
            let (status, output) = place.run(
                &merged,
                "ls -A /d /d/secret; cat /d/config /mine/mine; touch /d/secret/x 2>/dev/null",
            )?;
            ensure!(
                status == 1 && output == "/d:\nconfig\nsecret\n\n/d/secret:\nm\n",
                "{who:?} {status} {output:?}"
            );
            Ok(())
        });
    }
}
