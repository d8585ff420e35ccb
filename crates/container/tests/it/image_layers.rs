//! What layers hold, seen through a real overlay by each kind of user; and layers that no honest tool writes.
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::ensure;
use proptest::prelude::*;
use vessl_container::rootfs::Rootfs;
use vessl_container::store::{Auth, Image, Options, Store};
use vessl_container::unpack::{self, Limits};

use crate::image_build::{Layer, Meta, Tar, gzip, image, plain, zstd};
use crate::image_support::{Fixture, pull, quick};
use crate::rt_support::{As, EVERYBODY, Place};

/// Writes the layers as a layout and gives its reference.
fn layout(dir: &Path, layers: &[Layer]) -> String {
    let dir = dir.join("layout");
    image(layers).write_layout(&dir, "t");
    format!("oci://{}", dir.display())
}

/// Pulls the layers as each kind of user, mounts them, and looks.
fn check(layers: &[Layer], look: impl Fn(As, &Image, &Path) -> Result<(), anyhow::Error>) {
    for who in EVERYBODY {
        let place = Place::new(who);
        let reference = layout(&place.path(""), layers);
        place.supervise(|| {
            let store = Store::open(&place.path("images"))?;
            let image = pull(&store, &reference, &Auth::Anonymous)?;
            let rootfs = Rootfs { layers: image.layers.clone(), ..place.rootfs() };
            look(who, &image, &rootfs.mount()?.path)
        });
    }
}

fn names(dir: &Path) -> Vec<String> {
    crate::image_support::names(dir)
}

#[test]
fn whiteouts_hide_what_is_below_and_only_that() {
    let below = Tar::new().dir("a", 0o755).file("a/old", b"").file("a/keep", b"").file("gone", b"");
    let below = below.dir("b", 0o755).file("b/x", b"").dir("tree", 0o755).file("tree/leaf", b"");
    let below = below.file("swap", b"file").dir("back", 0o755).file("back/below", b"");
    let above = Tar::new().file(".wh.gone", b"").file("a/.wh.old", b"").file("a/.wh.never-was", b"");
    // A whiteout hides nothing of its own layer, whichever comes first.
    let above =
        above.file("a/own", b"").file("a/.wh.own", b"").file("b/new", b"").file("b/.wh..wh..opq", b"");
    let above = above.file(".wh.tree", b"").file(".wh.swap", b"").file("swap/inside", b"");
    let above = above.file(".wh.back", b"").dir("back", 0o755).file("back/above", b"");
    check(&[gzip(&below), zstd(&above)], |who, _, root| {
        ensure!(names(&root.join("a")) == ["keep", "own"], "{who:?} {:?}", names(&root.join("a")));
        ensure!(names(&root.join("b")) == ["new"], "{who:?} {:?}", names(&root.join("b")));
        ensure!(names(&root.join("swap")) == ["inside"] && names(&root.join("back")) == ["above"], "{who:?}");
        ensure!(names(root) == ["a", "b", "back", "swap"], "{who:?} {:?}", names(root));
        Ok(())
    });
}

#[test]
fn an_opaque_root_covers_every_layer_below() {
    let below = gzip(&Tar::new().file("old", b"").dir("etc", 0o755).file("etc/old", b""));
    let above = gzip(&Tar::new().file(".wh..wh..opq", b"").file("etc/new", b""));
    check(&[below, above], |who, image, root| {
        ensure!(image.layers.len() == 1 && names(root) == ["etc"], "{who:?} {:?}", names(root));
        ensure!(names(&root.join("etc")) == ["new"], "{who:?}");
        Ok(())
    });
}

#[test]
fn links_owners_modes_times_attributes_and_devices_are_kept() {
    let owned = Meta { mode: 0o4751, uid: 1000, gid: 1001, mtime: 1_500_000_000 };
    let tar = Tar::new().entry_with(b'0', "owned", ("", b"x"), owned).hard_link("second", "owned");
    let tar = tar.symlink("soft", "/owned").entry(b'6', "pipe", "", b"").entry(b'3', "null", "", b"");
    let tar =
        tar.pax(&[("SCHILY.xattr.user.note", b"hello"), ("mtime", b"1500000000.25")]).file("noted", b"");
    let tar = tar.pax(&[("SCHILY.xattr.user.overlay.opaque", b"y"), ("SCHILY.xattr.security.selinux", b"l")]);
    let tar = tar.dir("not-opaque", 0o1777);
    check(&[plain(&tar)], |who, image, root| {
        let meta = |name: &str| root.join(name).symlink_metadata();
        let (owned, second) = (meta("owned")?, meta("second")?);
        ensure!(
            (owned.nlink(), owned.ino()) == (2, second.ino()) && owned.mtime() == 1_500_000_000,
            "{who:?}"
        );
        ensure!(fs::read_link(root.join("soft"))? == Path::new("/owned"));
        ensure!(
            meta("not-opaque")?.mode() & 0o7777 == 0o1777 && meta("pipe")?.mode() & 0o170_000 == 0o10_000
        );
        ensure!(xattr::get(root.join("noted"), "user.note")?.as_deref() == Some(&b"hello"[..]), "{who:?}");
        ensure!(meta("noted")?.mtime_nsec() == 250_000_000);
        let attributes: Vec<_> = xattr::list(image.layers[0].join("not-opaque"))?.collect();
        ensure!(attributes.is_empty(), "{attributes:?}");
        let said = image.notes.join("\n");
        let (owners, devices) =
            (said.contains("owners were left out"), said.contains("device nodes were left out"));
        ensure!((owners, devices) == (who.has_one_id(), who != As::Root), "{who:?} {said}");
        ensure!(
            who.has_one_id() || (owned.uid(), owned.gid(), owned.mode() & 0o7777) == (1000, 1001, 0o4751)
        );
        ensure!(who != As::Root || meta("null")?.rdev() == libc::makedev(1, 3));
        Ok(())
    });
}

/// Pulls one layer; the refusal in words, if it is refused. Nothing outside of the store may change.
fn unpacked(layer: Layer, limits: Limits) -> Result<(Fixture, Image), String> {
    let fixture = Fixture::new();
    let outside = fixture.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let reference = layout(fixture.dir.path(), &[layer]);
    let store = fixture.store.clone().with(Options { limits, ..quick() });
    let done = pull(&store, &reference, &Auth::Anonymous);
    assert_eq!(names(&outside), [""; 0]);
    assert_eq!(names(fixture.dir.path()), ["images", "layout", "outside"]);
    done.map(|image| (fixture, image)).map_err(|error| error.to_string())
}

#[test]
fn no_entry_leads_out_of_its_layer() {
    let refused = |tar: &Tar, words: &str| {
        let error = unpacked(plain(tar), Limits::default()).err().expect(words);
        assert!(error.contains(words), "{error}");
    };
    refused(&Tar::new().file("../escape", b"x"), "`../escape`");
    refused(&Tar::new().file("a/../../escape", b"x"), "escape");
    refused(&Tar::new().pax(&[("path", b"a/../../escape")]).file("a", b"x"), "escape");
    refused(&Tar::new().pax(&[("path", b"a\0b")]).file("a", b"x"), "entry");
    refused(&Tar::new().hard_link("h", "../../etc/passwd"), "passwd");
    refused(&Tar::new().hard_link("h", "/etc/passwd"), "which is not in its layer");
    refused(&Tar::new().symlink("l", "/etc/passwd").hard_link("h", "l/x"), "which is not in its layer");
    refused(&Tar::new().dir("d", 0o755).hard_link("h", "d"), "hard link to a directory");
    refused(&Tar::new().file(".", b"x"), "root directory");
    refused(&Tar::new().file("a/.wh.", b""), "entry");
    refused(&Tar::new().file(".wh..", b""), "entry");
    refused(&Tar::new().symlink("l", "l").file("l/x", b""), "loop of links");
    refused(&Tar::new().file("f", b"").file("f/x", b""), "not a directory");
    refused(&Tar::new().entry(b'S', "sparse", "", b""), "sparse");
    refused(&Tar::new().entry(b'Q', "what", "", b""), "unknown type");
    refused(
        &Tar::new()
            .file(&format!("{}x", "d/".repeat(49)), b"")
            .pax(&[("path", "d/".repeat(300).as_bytes())])
            .file("deep", b""),
        "256",
    );
}

#[test]
fn links_to_the_outside_are_followed_inside() {
    let fixture = Fixture::new();
    let out = fixture.dir.path().join("outside");
    for target in ["/", "../../../../../../../../../..", &out.display().to_string()] {
        let below = out.strip_prefix("/").unwrap();
        let tar = Tar::new()
            .dir(below.to_str().unwrap(), 0o755)
            .symlink("l", target)
            .file("l/tmp-of-test/x", b"in");
        let (_store, image) = unpacked(plain(&tar), Limits::default()).unwrap();
        let made =
            if target.starts_with("/t") { below.join("tmp-of-test/x") } else { "tmp-of-test/x".into() };
        assert_eq!(fs::read(image.layers[0].join(made)).unwrap(), b"in", "{target}");
    }
}

#[test]
fn bombs_are_refused() {
    let limits = Limits { bytes: 64 << 20, ratio: 10, free: 1 << 20, entries: 5 };
    let refused = |layer: Layer, words: &str| {
        let error = unpacked(layer, limits).err().expect(words);
        assert!(error.contains(words), "{error}");
    };
    let zeros = Tar::new().file("zeros", &vec![0; 8 << 20]);
    refused(gzip(&zeros), "bytes, which no honest layer of its size does");
    refused(zstd(&zeros), "bytes, which no honest layer of its size does");
    let many = (0..6).fold(Tar::new(), |tar, n| tar.file(&n.to_string(), b""));
    refused(gzip(&many), "5 files");
    refused(plain(&Tar::new().entry(b'x', "pax", "", &vec![b'1'; 2 << 20])), "more than 1 MiB");
    let mut cut = gzip(&Tar::new().file("f", &crate::image_build::noise(200_000, 5)));
    cut.blob.truncate(100_000);
    refused(cut, "damaged");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Any damage, with the checksums made right again so that it is seen, ends in an answer and stays inside.
    #[test]
    fn damaged_layers_stay_inside(
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..12),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let tar = Tar::new().dir("a", 0o755).file("a/b", b"content").symlink("a/l", "../..").hard_link("h", "a/b");
        let tar = tar.pax(&[("path", b"a/l/x"), ("SCHILY.xattr.user.n", b"v")]).file("p", b"x").file("a/.wh.b", b"");
        let mut bytes = tar.entry(b'L', "long", "", b"../../../x\0").file("y", b"z").bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for block in bytes.chunks_exact_mut(512) {
            if block[257..262] == *b"ustar" {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            }
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("in/layer")).unwrap();
        let _ = unpack::layer(&bytes[..], bytes.len() as u64, &dir.path().join("in/layer"), &Limits::default());
        prop_assert_eq!(names(dir.path()), ["in"]);
        prop_assert_eq!(names(&dir.path().join("in")), ["layer"]);
    }
}
