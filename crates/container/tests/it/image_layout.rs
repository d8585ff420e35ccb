//! Images of this machine: OCI layouts and archives of `docker save`, as directories and as files.
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;
use vessl_container::store::{Auth, Options, Store};

use crate::image_build::{Built, Tar, digest, gzip, here, image, image_for, plain};
use crate::image_support::{Fixture, pull, quick, read};

fn built(text: &str) -> Built {
    image(&[gzip(&Tar::new().file("f", text.as_bytes()))])
}

fn reference(path: &Path) -> String {
    format!("oci://{}", path.display())
}

/// A tar of everything in `dir`, in the order of names.
fn archive(dir: &Path, to: &Path) {
    let mut tar = tar::Builder::new(fs::File::create(to).unwrap());
    tar.append_dir_all(".", dir).unwrap();
    tar.finish().unwrap();
}

/// What old versions of `docker save` write: plain layers in directories of their own, no index.
fn save(dir: &Path, tags: &[&str], text: &str) {
    let layer = plain(&Tar::new().file("f", text.as_bytes()));
    let config = json!({
        "architecture": here(), "os": "linux", "config": {"Env": ["SAVED=yes"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff, layer.diff]},
    });
    fs::create_dir_all(dir.join("one")).unwrap();
    fs::create_dir_all(dir.join("two")).unwrap();
    fs::write(dir.join("one/layer.tar"), &layer.blob).unwrap();
    // A layer that the image has twice is a link.
    std::os::unix::fs::symlink("../one/layer.tar", dir.join("two/layer.tar")).unwrap();
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let manifest =
        json!([{"Config": "config.json", "RepoTags": tags, "Layers": ["one/layer.tar", "two/layer.tar"]}]);
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
}

#[test]
fn a_layout_is_a_directory_or_an_archive() {
    let fixture = Fixture::new();
    let (dir, file) = (fixture.dir.path().join("dir"), fixture.dir.path().join("file.tar"));
    let built = built("text");
    built.write_layout(&dir, "v1");
    archive(&dir, &file);
    for path in [&dir, &file] {
        for reference in [reference(path), format!("{}:v1", reference(path))] {
            let image = fixture.pull(&reference).unwrap();
            assert_eq!((read(&image, "f"), image.digest.clone()), ("text".into(), digest(&built.manifest)));
            assert!(fixture.store.find(&reference).unwrap().is_some());
        }
        let other = fixture.refused(&format!("{}:v2", reference(path)));
        assert!(other.contains("has no single image `v2`; it has `v1`"), "{other}");
    }
}

#[test]
fn an_old_saved_image_is_read_in_place() {
    let fixture = Fixture::new();
    let (dir, file) = (fixture.dir.path().join("dir"), fixture.dir.path().join("file.tar"));
    save(&dir, &["team/app:v1", "team/app:latest"], "saved");
    archive(&dir, &file);
    for path in [&dir, &file] {
        for tag in ["", ":v1", ":latest"] {
            let image = fixture.pull(&format!("{}{tag}", reference(path))).unwrap();
            assert_eq!((read(&image, "f"), image.layers.len()), ("saved".into(), 1), "{path:?}{tag}");
            assert!(image.config.env.contains(&"SAVED=yes".to_owned()));
        }
        let other = fixture.refused(&format!("{}:v2", reference(path)));
        assert!(other.contains("it has `team/app:v1`, `team/app:latest`"), "{other}");
    }
}

/// The same archive, compressed as a whole, beside it.
fn compressed(file: &Path) -> [std::path::PathBuf; 2] {
    let plain = fs::read(file).unwrap();
    let (gz, zst) = (file.with_extension("gz"), file.with_extension("zst"));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &plain).unwrap();
    fs::write(&gz, encoder.finish().unwrap()).unwrap();
    fs::write(&zst, zstd::encode_all(&*plain, 1).unwrap()).unwrap();
    [gz, zst]
}

#[test]
fn compressed_archives_are_images_like_the_others() {
    let fixture = Fixture::new();
    let (dir, new, old) = (
        fixture.dir.path().join("dir"),
        fixture.dir.path().join("new.tar"),
        fixture.dir.path().join("old.tar"),
    );
    built("text").write_layout(&dir, "v1");
    archive(&dir, &new);
    fs::remove_dir_all(&dir).unwrap();
    save(&dir, &["team/app:v1"], "text");
    archive(&dir, &old);
    for file in [&new, &old].into_iter().flat_map(|file| compressed(file)) {
        let name = format!("{}:v1", reference(&file));
        fixture.store.check(&name).unwrap();
        let image = fixture.pull(&name).unwrap();
        assert_eq!(read(&image, "f"), "text", "{}", file.display());
        assert!(fixture.store.find(&name).unwrap().is_some());
        assert_eq!(fixture.names("tmp"), [""; 0]);
        assert!(fixture.refused(&format!("{}:v2", reference(&file))).contains("has no single image `v2`"));
    }
    // Cut in the middle, or no archive inside.
    let [gz, zst] = compressed(&new);
    for file in [gz, zst] {
        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        let said = fixture.refused(&reference(&file));
        assert!(said.contains("is damaged: it cannot be decompressed"), "{said}");
        assert_eq!(fixture.store.check(&reference(&file)).unwrap_err().to_string(), said);
    }
    let text = fixture.dir.path().join("text");
    fs::write(&text, "text".repeat(500)).unwrap();
    for file in compressed(&text) {
        assert!(fixture.refused(&reference(&file)).contains("is not an image archive: "));
    }
}

#[test]
fn what_is_wrong_with_a_layout_is_seen_before_it_is_pulled() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join("dir");
    let refused = |path: &Path| fixture.store.check(&reference(path)).unwrap_err().to_string();
    assert!(refused(&path).contains("No such file"));
    built("text").write_layout(&path, "v1");
    fixture.store.check(&reference(&path)).unwrap();
    assert!(fixture.store.list().unwrap().is_empty(), "a look pulls nothing");
    let blobs = fs::read_dir(path.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let layer = blobs.max_by_key(|blob| fs::read(blob).unwrap().starts_with(&[0x1f, 0x8b])).unwrap();
    fs::remove_file(layer).unwrap();
    assert!(refused(&path).contains("lacks `blobs/sha256/"));
    // Of an archive that takes long to decompress only the begin is looked at.
    let large = fixture.dir.path().join("large.gz");
    let mut bytes = vec![0; 65 << 20];
    bytes[..2].copy_from_slice(&[0x1f, 0x8b]);
    fs::write(&large, &bytes).unwrap();
    assert!(refused(&large).contains("is not an image archive"));
}

#[test]
fn what_changed_on_disk_is_seen() {
    let fixture = Fixture::new();
    let dir = fixture.dir.path().join("dir");
    built("old").write_layout(&dir, "v1");
    fixture.pull(&reference(&dir)).unwrap();
    fs::remove_dir_all(&dir).unwrap();
    assert!(
        fixture.store.find(&reference(&dir)).unwrap().is_some(),
        "what was pulled needs its source no more"
    );
    built("newer").write_layout(&dir, "v1");
    assert!(fixture.store.find(&reference(&dir)).unwrap().is_none());
    assert_eq!(read(&fixture.pull(&reference(&dir)).unwrap(), "f"), "newer");
}

#[test]
fn what_is_no_image_is_refused_in_words() {
    let fixture = Fixture::new();
    let check = |name: &str, make: &dyn Fn(&Path), words: &[&str]| {
        let path = fixture.dir.path().join(name);
        make(&path);
        let error = fixture.refused(&reference(&path));
        for word in words {
            assert!(error.contains(&word.replace("NAME", name)), "{name}: no `{word}` in {error}");
        }
        fixture.assert_no_half_work();
    };
    let damaged = |path: &Path, change: &dyn Fn(&Path)| {
        built("text").write_layout(path, "v1");
        let blobs = fs::read_dir(path.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
        let layer = blobs.max_by_key(|blob| fs::read(blob).unwrap().starts_with(&[0x1f, 0x8b])).unwrap();
        change(&layer);
    };
    check("nothing", &|_| {}, &["NAME`: No such file"]);
    check("empty", &|path| fs::create_dir(path).unwrap(), &["neither an OCI layout nor a saved image"]);
    check(
        "text",
        &|path| fs::write(path, "text".repeat(500)).unwrap(),
        &["not an image archive", "not a tar"],
    );
    check(
        "packed",
        &|path| fs::write(path, [0x1f, 0x8b, 8, 0, 0]).unwrap(),
        &["NAME` is damaged: it cannot be decompressed"],
    );
    check(
        "pipe",
        &|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        &["NAME` is neither a directory nor a file"],
    );
    check(
        "device",
        &|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        &["NAME` is neither a directory nor a file"],
    );
    check("lost", &|path| damaged(path, &|layer| fs::remove_file(layer).unwrap()), &["lacks `blobs/sha256/"]);
    check(
        "short",
        &|path| damaged(path, &|layer| fs::write(layer, "x").unwrap()),
        &["it has 1 bytes, the manifest says"],
    );
    check(
        "flipped",
        &|path| {
            damaged(path, &|layer| {
                let mut bytes = fs::read(layer).unwrap();
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                fs::write(layer, bytes).unwrap();
            });
        },
        &["layer `sha256:", "its digest should be"],
    );
    check(
        "index",
        &|path| {
            built("text").write_layout(path, "v1");
            fs::write(path.join("index.json"), "{").unwrap();
        },
        &["NAME", "EOF"],
    );
    check(
        "outside",
        &|path| {
            save(path, &["a:b"], "x");
            let text = fs::read_to_string(path.join("manifest.json")).unwrap();
            fs::write(path.join("manifest.json"), text.replace("one/layer.tar", "../../etc/passwd")).unwrap();
        },
        &["leads out of the layout"],
    );
    let other = if here() == "amd64" { "arm64" } else { "amd64" };
    check("foreign", &|path| image_for(other, &[]).write_layout(path, "v1"), &["is not built for", other]);
}

#[test]
fn several_images_need_a_tag() {
    let fixture = Fixture::new();
    let dir = fixture.dir.path().join("dir");
    built("one").write_layout(&dir, "one");
    let first = fs::read_to_string(dir.join("index.json")).unwrap();
    built("two").write_layout(&dir, "two");
    let merge = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["manifests"][0].clone();
    let second = fs::read_to_string(dir.join("index.json")).unwrap();
    let both = json!({"schemaVersion": 2, "manifests": [merge(&first), merge(&second)]});
    fs::write(dir.join("index.json"), both.to_string()).unwrap();
    let error = fixture.refused(&reference(&dir));
    assert!(error.contains("has several images, name one with `:tag`; it has `one`, `two`"), "{error}");
    for tag in ["one", "two"] {
        let image = pull(&fixture.store, &format!("{}:{tag}", reference(&dir)), &Auth::Anonymous).unwrap();
        assert_eq!(read(&image, "f"), tag);
    }
}

/// A store whose layouts must lie below `in`.
fn fenced(fixture: &Fixture) -> Store {
    let roots = Some(vec![fixture.dir.path().join("in"), fixture.dir.path().join("not-there")]);
    fixture.store.clone().with(Options { roots, ..quick() })
}

#[test]
fn layouts_lie_below_the_roots_where_there_are_some() {
    let fixture = Fixture::new();
    let at = |name: &str| fixture.dir.path().join(name);
    let store = fenced(&fixture);
    built("inside").write_layout(&at("in/layout"), "v1");
    save(&at("in/saved"), &["a:v1"], "saved");
    archive(&at("in/saved"), &at("in/saved.tar"));
    std::os::unix::fs::symlink("in/layout", at("way-in")).unwrap();
    for (name, text) in
        [("in/layout", "inside"), ("in/saved", "saved"), ("in/saved.tar", "saved"), ("way-in", "inside")]
    {
        let image = pull(&store, &reference(&at(name)), &Auth::Anonymous).unwrap();
        assert_eq!(read(&image, "f"), text, "{name}");
        assert!(store.find(&reference(&at(name))).unwrap().is_some());
    }
    built("outside").write_layout(&at("out/layout"), "v1");
    archive(&at("out/layout"), &at("out/layout.tar"));
    for name in ["layout", "layout.tar"] {
        std::os::unix::fs::symlink(at("out").join(name), at("in").join(format!("to-{name}"))).unwrap();
        for path in [at("out").join(name), at("in").join(format!("to-{name}"))] {
            // It may be here already.
            fixture.pull(&reference(&path)).unwrap();
            let pulled = pull(&store, &reference(&path), &Auth::Anonymous).unwrap_err().to_string();
            let found = store.find(&reference(&path)).unwrap_err().to_string();
            for error in [pulled, found] {
                assert!(
                    error.contains("is not below a directory that the administrator allowed (`"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn no_part_of_a_layout_leads_out_of_the_roots() {
    let fixture = Fixture::new();
    let at = |name: &str| fixture.dir.path().join(name);
    let theirs = built("outside");
    theirs.write_layout(&at("out"), "v1");
    save(&at("out"), &["a:v1"], "saved");
    let blob = |name: &str| format!("blobs/sha256/{}", name.strip_prefix("sha256:").unwrap());
    let mut parts = vec!["index.json".to_owned(), "blobs".to_owned(), "blobs/sha256".to_owned()];
    parts.push(blob(&digest(&theirs.manifest)));
    parts.extend(theirs.blobs.keys().map(|name| blob(name)));
    let saved = ["manifest.json", "config.json", "one", "one/layer.tar"].map(str::to_owned);
    for (n, part) in parts.into_iter().chain(saved).enumerate() {
        let dir = at(&format!("in/{n}"));
        if n < 3 + 1 + theirs.blobs.len() {
            theirs.write_layout(&dir, "v1");
        } else {
            save(&dir, &["a:v1"], "saved");
        }
        let link = dir.join(&part);
        if link.is_dir() {
            fs::remove_dir_all(&link).unwrap();
        } else {
            fs::remove_file(&link).unwrap();
        }
        std::os::unix::fs::symlink(at("out").join(&part), &link).unwrap();
        // A store of its own each time: what is there by its digest is not read again.
        let fixture = Fixture::new();
        let store = fixture.store.clone().with(Options { roots: Some(vec![at("in")]), ..quick() });
        let error = pull(&store, &reference(&dir), &Auth::Anonymous).unwrap_err().to_string();
        assert!(error.contains("a symbolic link is absolute or leads out of `"), "{part}: {error}");
        fixture.assert_no_half_work();
        fixture
            .pull(&reference(&dir))
            .unwrap_or_else(|error| panic!("{part} is a link to the real one: {error}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever happened to an archive, it is read, or refused in words, and no half image stays.
    #[test]
    fn damaged_archives_are_read_or_refused(
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let fixture = Fixture::new();
        let (dir, file) = (fixture.dir.path().join("dir"), fixture.dir.path().join("file.tar"));
        save(&dir, &["a:b"], "text");
        archive(&dir, &file);
        let mut bytes = fs::read(&file).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
        fs::write(&file, bytes).unwrap();
        match fixture.pull(&reference(&file)) {
            Ok(image) => prop_assert_eq!(read(&image, "f"), "text"),
            Err(_) => fixture.assert_no_half_work(),
        }
    }
}
