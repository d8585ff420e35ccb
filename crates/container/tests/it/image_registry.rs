//! Pulls from Debian's real registry.
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use vessl_container::store::{Auth, PullWatch, Store, StoreError};

use crate::image_build::{Built, Tar, digest, gzip, here, image, image_for, index, noise, plain, zstd};
use crate::image_support::{Fixture, login, pull, quick, read, threads};
use crate::registry::Registry;
use crate::rt_support::eventually;

fn three_layers() -> Built {
    image(&[
        gzip(&Tar::new().dir("etc", 0o755).file("etc/a", b"one").file("big", &noise(3 << 20, 1))),
        zstd(&Tar::new().file("etc/a", b"two").file("etc/b", b"b")),
        plain(&Tar::new().file("c", &noise(1 << 20, 2))),
    ])
}

#[test]
fn an_image_comes_whole_and_only_once() {
    let registry = Registry::start();
    let built = three_layers();
    built.push(&registry.address, "team/app", "v1", None);
    let fixture = Fixture::new();
    let reference = format!("{}/team/app:v1", registry.address);
    assert!(fixture.store.find(&reference).unwrap().is_none());

    let before = threads();
    let told = Mutex::new(Vec::new());
    let watch = PullWatch {
        progress: &|now, all| told.lock().unwrap().push((now, all)),
        cancel: &AtomicBool::new(false),
    };
    let pulled = fixture.store.pull(&reference, &Auth::Anonymous, &watch).unwrap();
    // The kernel may list a thread a moment longer than it lives.
    eventually("no thread of the pull is left", || threads() <= before);
    assert_eq!(pulled.fetched, built.compressed());
    assert_eq!(told.lock().unwrap().last(), Some(&(built.compressed(), built.compressed())));

    assert_eq!((read(&pulled, "etc/a"), read(&pulled, "etc/b")), ("two".into(), "b".into()));
    assert_eq!(pulled.layers.len(), 3);
    assert_eq!((pulled.digest.clone(), pulled.notes.len()), (digest(&built.manifest), 0));
    assert_eq!((pulled.config.workdir.as_str(), pulled.config.user.as_str()), ("/work", "1000:1000"));
    assert_eq!((pulled.config.env[1].as_str(), pulled.config.cmd.len()), ("A=b c", 2));
    assert_eq!(pulled.size, (3 << 20) + (1 << 20) + 3 + 3 + 1);

    let found = fixture.store.find(&reference).unwrap().unwrap();
    assert_eq!((&found.layers, found.fetched, &found.config), (&pulled.layers, 0, &pulled.config));
    assert_eq!(fixture.pull(&reference).unwrap().fetched, 0);
    let listed = fixture.store.list().unwrap();
    assert_eq!((listed.len(), listed[0].reference.as_str()), (1, reference.as_str()));
    assert_eq!(fixture.names("tmp"), [""; 0]);
}

#[test]
fn a_shared_layer_is_fetched_once_and_a_moved_tag_is_seen_by_pull() {
    let registry = Registry::start();
    let base = gzip(&Tar::new().file("base", &noise(1 << 20, 3)));
    let top = |text: &str| gzip(&Tar::new().file("top", text.as_bytes()));
    let first = image(&[base.clone(), top("one")]);
    let second = image(&[base.clone(), top("two")]);
    let fixture = Fixture::new();
    let reference = format!("{}/x", registry.address);
    first.push(&registry.address, "x", "latest", None);
    fixture.pull(&reference).unwrap();
    second.push(&registry.address, "x", "latest", None);
    assert_eq!(read(&fixture.store.find(&reference).unwrap().unwrap(), "top"), "one");
    let pulled = fixture.pull(&reference).unwrap();
    assert_eq!(read(&pulled, "top"), "two");
    assert_eq!(pulled.fetched, second.compressed() - base.blob.len() as u64);
    let pinned = format!("{reference}@{}", digest(&first.manifest));
    assert_eq!(read(&fixture.pull(&pinned).unwrap(), "top"), "one");
}

#[test]
fn a_private_image_needs_the_right_login() {
    let registry = Registry::start_private("ada", "s3cret-word");
    three_layers().push(&registry.address, "priv/app", "v1", Some(("ada", "s3cret-word")));
    let fixture = Fixture::new();
    let reference = format!("{}/priv/app:v1", registry.address);
    let anonymous = fixture.refused(&reference);
    assert!(anonymous.contains(&registry.address) && anonymous.contains("`priv/app`"), "{anonymous}");
    assert!(anonymous.contains("needs a login"), "{anonymous}");
    let wrong = pull(&fixture.store, &reference, &login("ada", "wrong-word")).unwrap_err();
    assert!(matches!(wrong, StoreError::Registry { .. }), "{wrong}");
    assert!(wrong.to_string().contains("the login of `ada` failed (401"), "{wrong}");
    assert!(!format!("{wrong} {wrong:?}").contains("word"), "{wrong:?}");
    let pulled = pull(&fixture.store, &reference, &login("ada", "s3cret-word")).unwrap();
    assert_eq!(read(&pulled, "etc/a"), "two");
}

#[test]
fn what_is_not_there_is_named() {
    let registry = Registry::start();
    three_layers().push(&registry.address, "team/app", "v1", None);
    let fixture = Fixture::new();
    let tag = fixture.refused(&format!("{}/team/app:v2", registry.address));
    assert!(tag.contains(&format!("registry `{}` has no tag `v2`", registry.address)), "{tag}");
    let repository = fixture.refused(&format!("{}/team/none", registry.address));
    assert!(repository.contains("`team/none`"), "{repository}");
    let no_digest = fixture.refused(&format!("{}/team/app@{}", registry.address, digest(b"x")));
    assert!(no_digest.contains("has no digest"), "{no_digest}");
}

#[test]
fn an_index_gives_the_image_of_this_architecture() {
    let registry = Registry::start();
    let other = if here() == "amd64" { "arm64" } else { "amd64" };
    let mine = image(&[gzip(&Tar::new().file("who", b"mine"))]);
    let theirs = image_for(other, &[gzip(&Tar::new().file("who", b"theirs"))]);
    let both = index(&[(other, &theirs), (here(), &mine)]);
    both.push(&registry.address, "multi", "latest", None);
    index(&[(other, &theirs), ("s390x", &theirs)]).push(&registry.address, "multi", "foreign", None);
    theirs.push(&registry.address, "multi", "single", None);

    let fixture = Fixture::new();
    let pulled = fixture.pull(&format!("{}/multi", registry.address)).unwrap();
    assert_eq!((read(&pulled, "who"), pulled.digest), ("mine".into(), digest(&both.manifest)));
    let foreign = fixture.refused(&format!("{}/multi:foreign", registry.address));
    assert!(foreign.contains(&format!("not built for `linux/{}`", here())), "{foreign}");
    assert!(foreign.contains(&format!("linux/{other}, linux/s390x")), "{foreign}");
    let single = fixture.refused(&format!("{}/multi:single", registry.address));
    assert!(single.contains(&format!("it has linux/{other}")), "{single}");
}

#[test]
fn many_pulls_at_once_fetch_each_layer_once() {
    let registry = Registry::start();
    let built = three_layers();
    built.push(&registry.address, "x", "latest", None);
    let fixture = Fixture::new();
    let reference = format!("{}/x", registry.address);
    let fetched: u64 = std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4)
            .map(|_| {
                let store = Store::open(&fixture.root()).unwrap().with(quick());
                let reference = &reference;
                scope.spawn(move || pull(&store, reference, &Auth::Anonymous).unwrap())
            })
            .collect();
        let images = pulls.into_iter().map(|pull| pull.join().unwrap());
        images.inspect(|image| assert_eq!(read(image, "etc/a"), "two")).map(|image| image.fetched).sum()
    });
    assert_eq!(fetched, built.compressed());
    assert_eq!(fixture.names("tmp"), [""; 0]);
}
