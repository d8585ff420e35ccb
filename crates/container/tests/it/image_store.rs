//! A store whose users die, whose disk is full, and what is pruned of it.
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use vessl_container::store::{Auth, Freed, Options, Store};

use crate::image_build::{Built, Tar, gzip, image, noise, plain};
use crate::image_server::serve;
use crate::image_support::{Fixture, login, pull, quick, read};
use crate::rt_support::{As, Place};
use crate::scripted::{Scripted, Stop};

const SIZE: usize = 1 << 20;

fn app(seed: u64) -> Built {
    let base = gzip(&Tar::new().file("base", &noise(SIZE, 1)));
    image(&[base, gzip(&Tar::new().dir("d", 0o755).file("d/f", &noise(SIZE, seed)))])
}

fn layout(dir: &Path, name: &str, built: &Built) -> String {
    built.write_layout(&dir.join(name), "t");
    format!("oci://{}", dir.join(name).display())
}

#[test]
fn prune_leaves_what_somebody_uses() {
    let fixture = Fixture::new();
    let references = [2, 3].map(|seed| layout(fixture.dir.path(), &seed.to_string(), &app(seed)));
    let used = fixture.pull(&references[0]).unwrap();
    drop(fixture.pull(&references[1]).unwrap());
    assert_eq!(fixture.names("layers").len(), 3);
    let freed = fixture.store.prune().unwrap();
    assert_eq!((freed.images, freed.layers), (1, 1));
    assert!(freed.bytes >= SIZE as u64);
    assert_eq!(fs::read(used.layers[1].join("d/f")).unwrap(), noise(SIZE, 2));
    assert_eq!(fixture.store.prune().unwrap(), Freed::default());
    // A copy of what was held holds as well; what a list gives does not.
    let hold = fixture.store.hold(&used).unwrap();
    drop(used);
    assert_eq!(fixture.store.prune().unwrap(), Freed::default());
    let listed = fixture.store.list().unwrap();
    drop(hold);
    assert_eq!(fixture.store.prune().unwrap().layers, 2);
    assert!(fixture.store.hold(&listed[0]).unwrap_err().to_string().contains("pull it again"));
    for name in ["images", "layers", "locks", "tmp"] {
        assert_eq!(fixture.names(name), [""; 0], "{name}");
    }
}

#[test]
fn pulls_and_prunes_at_once_end_well() {
    let fixture = Fixture::new();
    let references: Vec<_> =
        (2..5).map(|seed| layout(fixture.dir.path(), &seed.to_string(), &app(seed))).collect();
    let left = AtomicUsize::new(references.len());
    std::thread::scope(|scope| {
        for (seed, reference) in (2..).zip(&references) {
            let (fixture, left) = (&fixture, &left);
            scope.spawn(move || {
                for _ in 0..15 {
                    let image = fixture.pull(reference).unwrap();
                    assert_eq!(fs::read(image.layers[0].join("base")).unwrap(), noise(SIZE, 1));
                    assert_eq!(fs::read(image.layers[1].join("d/f")).unwrap(), noise(SIZE, seed));
                }
                left.fetch_sub(1, Ordering::SeqCst);
            });
        }
        while left.load(Ordering::SeqCst) > 0 {
            fixture.store.prune().unwrap();
        }
    });
    fixture.store.prune().unwrap();
    assert_eq!((fixture.names("layers"), fixture.names("tmp")), (Vec::new(), Vec::new()));
}

/// A pull in a process of its own that is killed after `moment`; what is left is whole or nothing, and the next pull ends
/// well and sweeps.
fn killed_at(place: &Place, reference: &str, moment: Duration) {
    let root = place.path("images");
    let begun = place.path("begun");
    let _ = fs::remove_file(&begun);
    let puller = place.spawn_in_own_mounts(
        || Ok(()),
        || {
            let store = Store::open(&root)?;
            fs::write(&begun, "")?;
            pull(&store, reference, &Auth::Anonymous)?;
            Ok(())
        },
    );
    crate::rt_support::eventually("the pull has begun", || begun.exists());
    let until = Instant::now() + moment;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    let _ = kill(puller.pid, Signal::SIGKILL);
    puller.reap();
    let store = Store::open(&root).unwrap();
    for image in store.list().unwrap().into_iter().chain(store.find(reference).unwrap()) {
        assert_eq!(fs::read(image.layers[1].join("d/f")).unwrap(), noise(SIZE, 2), "after {moment:?}");
    }
    let image = pull(&store, reference, &Auth::Anonymous).unwrap();
    assert_eq!(fs::read(image.layers[0].join("base")).unwrap(), noise(SIZE, 1));
    assert_eq!(fs::read(image.layers[1].join("d/f")).unwrap(), noise(SIZE, 2));
    drop(image);
    // A record that was being written may be another pull's for a minute.
    let long_ago = std::time::SystemTime::now() - Duration::from_mins(2);
    for half in fs::read_dir(root.join("tmp")).unwrap().flatten() {
        assert!(half.file_name().to_string_lossy().starts_with(".tmp"), "{half:?}");
        fs::File::open(half.path()).unwrap().set_modified(long_ago).unwrap();
    }
    store.prune().unwrap();
    assert_eq!(crate::image_support::names(&root.join("tmp")), [""; 0]);
}

#[test]
fn a_pull_killed_at_any_moment_leaves_no_half_image() {
    let place = Place::new(As::Root);
    let reference = layout(&place.path(""), "layout", &app(2));
    for moment in 0..40 {
        killed_at(&place, &reference, Duration::from_micros(moment * 500));
    }
}

#[test]
fn a_download_killed_in_the_middle_goes_on_by_range() {
    let built = image(&[plain(&Tar::new().file("f", &noise(2 * SIZE, 9)))]);
    let asked = AtomicUsize::new(0);
    let served = built.clone();
    let server = Scripted::start(move |request| {
        let reply = serve(&served, request);
        let is_layer = reply.body.len() > SIZE;
        if is_layer && asked.fetch_add(1, Ordering::SeqCst) == 0 {
            reply.stopping(SIZE, Stop::Stall)
        } else {
            reply
        }
    });
    let reference = format!("{}/team/app:v1", server.address());
    let place = Place::new(As::Root);
    let root = place.path("images");
    let puller = place.spawn_in_own_mounts(
        || Ok(()),
        || {
            let options = Options { again: Duration::ZERO, ..quick() };
            pull(&Store::open(&root)?.with(options), &reference, &Auth::Anonymous)?;
            Ok(())
        },
    );
    let part = || {
        let work = fs::read_dir(root.join("tmp")).ok()?.flatten().next()?.path();
        let part =
            fs::read_dir(work).ok()?.flatten().find(|e| e.path().extension().is_some_and(|e| e == "part"))?;
        Some(part.metadata().ok()?.len())
    };
    crate::rt_support::eventually("half of it is there", || part() == Some(SIZE as u64));
    kill(puller.pid, Signal::SIGKILL).unwrap();
    puller.reap();
    let store = Store::open(&root).unwrap();
    let pulled = pull(&store, &reference, &Auth::Anonymous).unwrap();
    assert_eq!(fs::read(pulled.layers[0].join("f")).unwrap(), noise(2 * SIZE, 9));
    assert_eq!(pulled.fetched, built.compressed() - SIZE as u64);
    let ranges: Vec<_> = server.seen().iter().filter_map(|r| r.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [format!("bytes={SIZE}-")]);
}

#[test]
fn a_full_disk_is_said_and_room_is_made() {
    // The mount is seen by this test's thread and its children alone.
    unshare(CloneFlags::CLONE_NEWNS).expect("needs root: run the tests as root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let dir = tempfile::tempdir().unwrap();
    mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=3m")).unwrap();
    let built =
        image(&[gzip(&Tar::new().file("small", b"x")), gzip(&Tar::new().file("big", &noise(4 * SIZE, 1)))]);
    let server = Scripted::start(move |request| serve(&built, request));
    let elsewhere = tempfile::tempdir().unwrap();
    let local =
        layout(elsewhere.path(), "layout", &image(&[plain(&Tar::new().file("big", &noise(4 * SIZE, 2)))]));
    let store = Store::open(&dir.path().join("images")).unwrap().with(quick());
    for reference in [format!("{}/team/app:v1", server.address()), local] {
        let error = pull(&store, &reference, &Auth::Anonymous).unwrap_err().to_string();
        assert!(
            error.contains("no space left on the device") && error.contains("vessl image prune"),
            "{error}"
        );
        let room = nix::sys::statvfs::statvfs(dir.path()).unwrap();
        assert!(room.blocks_free() * 10 > room.blocks() * 9, "what was half done takes no room: {room:?}");
    }
    let small = layout(elsewhere.path(), "small", &image(&[plain(&Tar::new().file("f", b"fits"))]));
    assert_eq!(read(&pull(&store, &small, &login("a", "b")).unwrap(), "f"), "fits");
    umount2(dir.path(), MntFlags::MNT_DETACH).unwrap();
}
