//! The host's own root as the container's.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::ensure;
use nix::mount::MsFlags;
use vessl_container::rootfs::Rootfs;

use crate::rt_support::{As, EVERYBODY, Place};

fn quoted(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn the_host_is_seen_and_cannot_be_changed() {
    for who in EVERYBODY {
        let place = Place::new(who);
        fs::write(place.path("public"), "p\n").unwrap();
        fs::create_dir(place.path("mine")).unwrap();
        place.give("");
        place.supervise(|| {
            let merged = place.host(&[]).mount()?;
            let dir = quoted(&place.path(""));
            let script = format!("cat {dir}public; test -x /usr/bin/env && echo new > {dir}mine/new && echo ok; cat /etc/hostname");
            let (status, output) = place.run(&merged, &script)?;
            ensure!((status, output.as_str()) == (0, "p\nok\ntestbox\n"), "{who:?} {status} {output}");
            Ok(())
        });
        assert!(!place.path("mine/new").exists());
    }
}

#[test]
fn file_systems_mounted_below_are_shown_read_only_one_by_one() {
    for who in EVERYBODY {
        let place = Place::new(who);
        fs::create_dir_all(place.path("outer")).unwrap();
        // Mounted before the supervisor isolates itself, as a host's disks are.
        let run = place.spawn_in_own_mounts(
            || {
                let tmpfs = |path: &Path| {
                    nix::mount::mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>)
                };
                tmpfs(&place.path("outer"))?;
                fs::create_dir(place.path("outer/inner"))?;
                tmpfs(&place.path("outer/inner"))?;
                fs::write(place.path("outer/a"), "a\n")?;
                fs::write(place.path("outer/inner/b"), "b\n")?;
                Ok(())
            },
            || {
                let merged = place.host(&[]).mount()?;
                let dir = quoted(&place.path("outer"));
                let script = format!(
                    "cat {dir}/a {dir}/inner/b; touch {dir}/x 2>/dev/null || touch {dir}/inner/x 2>/dev/null"
                );
                let (status, output) = place.run(&merged, &script)?;
                ensure!((status, output.as_str()) == (1, "a\nb\n"), "{who:?} {status} {output}");
                Ok(())
            },
        );
        run.join();
    }
}

#[test]
fn what_is_to_be_written_can_be_wherever_it_stands() {
    for who in EVERYBODY {
        let place = Place::new(who);
        // A directory of the user deep in directories of root, and one on a file system of its own.
        for name in ["of/root/mine/deep", "disk"] {
            fs::create_dir_all(place.path(name)).unwrap();
        }
        fs::set_permissions(place.path("of"), fs::Permissions::from_mode(0o751)).unwrap();
        fs::write(place.path("of/root/mine/file"), "old\n").unwrap();
        place.give("of/root/mine");
        let run = place.spawn_in_own_mounts(
            || {
                let none = None::<&str>;
                nix::mount::mount(Some("tmpfs"), &place.path("disk"), Some("tmpfs"), MsFlags::empty(), none)?;
                fs::create_dir(place.path("disk/mine"))?;
                fs::create_dir(place.path("disk/other"))?;
                place.give("disk/mine");
                Ok(())
            },
            || {
                let written = ["of/root/mine/new/out", "disk/mine/new"].map(|name| place.path(name)).to_vec();
                let rootfs = Rootfs { written, ..place.host(&[]) };
                let merged = rootfs.mount()?;
                let dir = quoted(&place.path(""));
                let script = format!(
                    "cd {dir}; stat -c %a of; cd of/root/mine; cat file; mkdir -p new/out deep/er; echo new > file; \
                     cat file; rm -r deep; ls; cd {dir}disk; mkdir mine/new && echo x > mine/new/x && cat mine/new/x; \
                     touch other/x 2>/dev/null || echo no; echo t > /var/tmp/{0} && cat /var/tmp/{0}",
                    place.unit
                );
                let (status, output) = place.run(&merged, &script)?;
                let expected = (0, "751\nold\nnew\nfile\nnew\nx\nno\nt\n");
                ensure!((status, output.as_str()) == expected, "{who:?} {status} {output}");
                Ok(())
            },
        );
        run.join();
        assert_eq!(fs::read_to_string(place.path("of/root/mine/file")).unwrap(), "old\n");
        assert!(
            place.path("of/root/mine/deep").exists() && !Path::new("/var/tmp").join(&place.unit).exists()
        );
    }
}

#[test]
fn kernel_file_systems_and_sockets_of_the_host_are_not_shown() {
    for who in EVERYBODY {
        let place = Place::new(who);
        place.supervise(|| {
            let merged = place.host(&[]).mount()?;
            let (status, output) = place.run(
                &merged,
                "ls -A /run; ls /dev | wc -l; set -- /proc/[0-9]*; echo $#; echo w > /tmp/vessl-rt-written && echo ok",
            )?;
            ensure!((status, output.as_str()) == (0, "15\n2\nok\n"), "{who:?} {status} {output}");
            Ok(())
        });
    }
}

#[test]
fn hidden_paths_are_empty_under_every_name() {
    for who in EVERYBODY {
        let place = Place::new(who);
        fs::create_dir_all(place.path("data/keys")).unwrap();
        fs::create_dir_all(place.path("alias")).unwrap();
        fs::write(place.path("data/keys/k"), "secret").unwrap();
        fs::write(place.path("public"), "end").unwrap();
        let run = place.spawn_in_own_mounts(
            || {
                // The same directory under a second name.
                Ok(nix::mount::mount(Some(&place.path("data")), &place.path("alias"), None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
            },
            || {
                let later = place.path("data/later");
                let merged = place.host(&[place.path("data/keys"), later.clone()]).mount()?;
                let dir = quoted(&place.path(""));
                let script = format!(
                    "ls -A {dir}data/keys {dir}alias/keys | grep -v : ; cat /proc/1/root{dir}data/keys/k /proc/self/root{dir}alias/keys/k 2>/dev/null; \
                     touch {dir}data/keys/x {dir}data/later/x 2>/dev/null; head -c 3 {dir}public"
                );
                let (status, output) = place.run(&merged, &script)?;
                ensure!((status, output.trim()) == (0, "end"), "{who:?} {status} {output}");
                Ok(())
            },
        );
        run.join();
    }
}

#[test]
fn the_root_cannot_be_hidden_and_what_leads_nowhere_need_not_be() {
    let place = Place::new(As::Root);
    let (ring, plain) = (place.path("ring"), place.path("plain"));
    std::os::unix::fs::symlink(&ring, &ring).unwrap();
    fs::write(&plain, "").unwrap();
    place.supervise(|| {
        let error = place.host(&["/".into()]).mount().expect_err("refused").to_string();
        ensure!(error == "cannot find `/`, which must stay hidden: it is `/`", "{error}");
        place.host(&[ring.join("vessl"), plain.join("vessl")]).mount()?;
        Ok(())
    });
}
