//! Trees there and back, hostile manifests, many users at once.
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::blob::MODE;
use crate::dir::{Dir, Modified};
use crate::staging::Staging;

mod links;

struct Bed {
    dir: tempfile::TempDir,
    store: Store,
    trees: Staging,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("blobs")).unwrap();
        let trees = Staging::open(&dir.path().join("trees")).unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        Self { dir, store, trees }
    }

    fn path(&self, rest: &str) -> PathBuf {
        self.dir.path().join(rest)
    }

    /// Makes `in/<path>` with its parents.
    fn file(&self, path: &str, content: &[u8], mode: u32) {
        let path = self.path("in").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    /// Stores `in`, whose own time is always the same.
    fn write(&self) -> Written {
        let then = Modified { seconds: 1, nanos: 0 };
        Dir::open(&self.path("in")).unwrap().set_modified(Path::new("."), then).unwrap();
        self.try_write("in", Bounds::FORMAT, &Watch::NONE).unwrap()
    }

    /// Stores a directory; nothing around it is seen.
    fn try_write(&self, name: &str, bounds: Bounds, watch: &Watch<'_>) -> Result<Written, DataError> {
        let root = Dir::open(&self.path(name)).unwrap();
        write(&self.store, Source { root: &root, path: Path::new(""), reader: None }, bounds, watch)
    }

    fn sample(&self) -> Written {
        self.file("plain", b"plain", 0o644);
        self.file("sub/deep/tool", b"#!/bin/sh\n", 0o755);
        self.file("sub/secret", b"s", 0o400);
        self.file("sub-b", b"sorts between sub and sub/", 0o664);
        self.file("empty", b"", 0o644);
        fs::create_dir(self.path("in/hollow")).unwrap();
        fs::set_permissions(self.path("in/hollow"), Permissions::from_mode(0o555)).unwrap();
        symlink("../../etc/passwd", self.path("in/sub/link")).unwrap();
        fs::write(self.path("in").join(OsString::from_vec(b"odd \xff%\n".to_vec())), "odd").unwrap();
        fs::create_dir(self.path("in/team")).unwrap();
        fs::set_permissions(self.path("in/team"), Permissions::from_mode(0o2775)).unwrap();
        // Times of before 1970, of long ago, and of a link and directories that something is in.
        let root = Dir::open(&self.path("in")).unwrap();
        for (n, name) in ["plain", "sub/link", "sub/deep", "sub", "team", "empty"].iter().enumerate() {
            let seconds = i64::try_from(n).unwrap() * 1_000_000 - 1_000_000;
            root.set_modified(Path::new(name), Modified { seconds, nanos: 123_456_789 }).unwrap();
        }
        fs::set_permissions(self.path("in"), Permissions::from_mode(0o2750)).unwrap();
        self.write()
    }
}

/// What a directory holds: path, mode or link target with the time of the last change, content.
fn look(dir: &Path) -> Vec<(PathBuf, String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
            let (path, meta) = (entry.path(), entry.path().symlink_metadata().unwrap());
            let name = path.strip_prefix(dir).unwrap().to_owned();
            let time = format!("{}.{:09}", meta.mtime(), meta.mtime_nsec());
            let about = format!("{:o} {time}", meta.mode() & 0o7777);
            if meta.is_symlink() {
                found.push((name, format!("{} {time}", fs::read_link(&path).unwrap().display()), Vec::new()));
            } else if meta.is_dir() {
                found.push((name, about, b"<dir>".to_vec()));
                open.push(path);
            } else {
                found.push((name, about, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let bed = Bed::new();
    let written = bed.sample();
    let manifest = read(&bed.store, written.version).unwrap();
    assert_eq!((manifest.digest(), manifest.bytes()), (written.version, written.bytes));
    let top = |dir: &str| {
        let meta = fs::metadata(bed.path(dir)).unwrap();
        (meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec())
    };
    assert_eq!((written.files, written.empty, written.warnings.len()), (7, false, 1));
    let first = checkout(&bed.trees, &bed.store, ("x", written.version), &Watch::NONE).unwrap();
    assert!(first.staged.new);
    assert_eq!(look(&first.staged.path), look(&bed.path("in")));
    assert_eq!((first.files, first.bytes), (written.files, written.bytes));
    let again = checkout(&bed.trees, &bed.store, ("x", written.version), &Watch::NONE).unwrap();
    assert!(!again.staged.new);
    assert_eq!(again.staged.path, first.staged.path);
    fs::create_dir(bed.path("out")).unwrap();
    let out = Dir::open(&bed.path("out")).unwrap();
    copy_into(&bed.store, written.version, &out, None, &Watch::NONE).unwrap();
    assert_eq!(look(&bed.path("out")), look(&bed.path("in")), "a copy");
    assert_ne!(top("out"), top("in"), "a copy beside other files");
    manifest.top().unwrap().apply(&out).unwrap();
    assert_eq!(top("out"), top("in"));
}

#[test]
fn the_text_is_readable_and_entries_are_found() {
    let bed = Bed::new();
    bed.file("a/run me.sh", b"x", 0o755);
    symlink("/nowhere", bed.path("in/z")).unwrap();
    let manifest = read(&bed.store, bed.write().version).unwrap();
    let digest = Digest::of(b"x");
    let expected =
        format!("vessl-tree 2\nd 755 - - T a\nf 755 1 {digest} T a/run%20me.sh\nl - - /nowhere T z\n");
    assert_eq!(manifest.top(), Some(Top { mode: 0o755, modified: Modified { seconds: 1, nanos: 0 } }));
    assert!(manifest.text().starts_with(b"vessl-tree 2\nd 755 - - 1 .\n"));
    let mut without_times = Manifest { top: None, ..manifest.clone() };
    without_times.entries.iter_mut().for_each(|entry| entry.modified = None);
    let text = String::from_utf8(without_times.text()).unwrap();
    assert_eq!(text, expected.replace(" T ", " ").replace("tree 2", "tree 1"));
    assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), without_times, "version 1 is read");
    let times = [(5, 0, "5"), (-1, 5, "-1.000000005"), (1_764_374_400, 120_000_000, "1764374400.120000000")];
    for (entry, (seconds, nanos, text)) in without_times.entries.iter_mut().zip(times) {
        entry.modified = Some(Modified { seconds, nanos });
        let line = String::from_utf8({
            let mut line = Vec::new();
            entry.print(Format::Two, &mut line);
            line
        })
        .unwrap();
        assert!(line.contains(&format!(" {text} ")), "{line}");
        assert_eq!(Modified::from_nanoseconds(entry.modified.unwrap().nanoseconds()), entry.modified);
    }
    let mixed = expected.replacen(" T ", " - ", 1).replace(" T ", " 1 ");
    assert_eq!(String::from_utf8(Manifest::parse(mixed.as_bytes()).unwrap().text()).unwrap(), mixed);
    assert!(matches!(manifest.get(Path::new("a/run me.sh")).unwrap().kind, Kind::File { size: 1, .. }));
    assert_eq!(manifest.get(Path::new("a/none")), None);
    assert_eq!(bed.store.read(digest, 10).unwrap(), b"x");
}

#[test]
fn the_same_tree_is_the_same_version_and_is_stored_once() {
    let bed = Bed::new();
    let first = bed.sample();
    let blobs = || walk_files(&bed.path("blobs")) - walk_files(&bed.path("blobs/again"));
    let before = blobs();
    let second = bed.write();
    assert_eq!(first.version, second.version);
    assert_eq!(blobs(), before);
}

fn walk_files(dir: &Path) -> usize {
    look(dir).iter().filter(|(_, _, content)| content != b"<dir>").count()
}

#[test]
fn checkouts_share_bytes_with_the_store_and_leave_them_alone() {
    let bed = Bed::new();
    bed.file("plain", b"plain", 0o644);
    let written = bed.write();
    let checkout = checkout(&bed.trees, &bed.store, ("x", written.version), &Watch::NONE).unwrap();
    let blob = fs::metadata(bed.store.path(Digest::of(b"plain"))).unwrap();
    assert_eq!(fs::metadata(checkout.staged.path.join("plain")).unwrap().ino(), blob.ino());
    assert_eq!(blob.mode() & 0o7777, MODE);
    // A copy for a run does not.
    fs::create_dir(bed.path("out")).unwrap();
    let out = Dir::open(&bed.path("out")).unwrap();
    copy_into(&bed.store, written.version, &out, None, &Watch::NONE).unwrap();
    assert_ne!(fs::metadata(bed.path("out/plain")).unwrap().ino(), blob.ino());
}

#[test]
fn damage_in_the_store_is_found_on_the_way_out() {
    for mode in [0o644, 0o755] {
        let bed = Bed::new();
        bed.file("plain", b"plain", mode);
        let written = bed.write();
        let blob = bed.store.path(Digest::of(b"plain"));
        fs::write(&blob, b"plaim").unwrap();
        let e = checkout(&bed.trees, &bed.store, ("x", written.version), &Watch::NONE).unwrap_err();
        assert!(matches!(&e, DataError::Damaged { path, .. } if *path == blob), "{e}");
        assert_eq!(fs::read_dir(bed.path("trees")).unwrap().filter(is_tree).count(), 0);
        fs::remove_file(&blob).unwrap();
        let e = checkout(&bed.trees, &bed.store, ("x", written.version), &Watch::NONE).unwrap_err();
        assert!(matches!(e, DataError::Missing { digest } if digest == Digest::of(b"plain")));
        // Writing the file again repairs it.
        bed.write();
        checkout(&bed.trees, &bed.store, ("x", written.version), &Watch::NONE).unwrap();
    }
}

fn is_tree(entry: &std::io::Result<fs::DirEntry>) -> bool {
    !entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with(".lock")
}

#[test]
fn a_blob_that_is_cut_or_damaged_is_replaced_by_the_next_put() {
    let bed = Bed::new();
    let put = bed.store.put_bytes(b"hello").unwrap();
    for harm in [&b""[..], b"hellO"] {
        fs::write(bed.store.path(put.digest), harm).unwrap();
        assert!(bed.store.open_verified(put.digest, &Watch::NONE).is_err());
        assert!(bed.store.put_bytes(b"hello").unwrap().new);
    }
    assert!(!bed.store.put_bytes(b"hello").unwrap().new);
    assert_eq!(bed.store.read(put.digest, 5).unwrap(), b"hello");
    assert!(matches!(bed.store.read(put.digest, 4), Err(DataError::Limit { .. })));
    bed.store.open_verified(put.digest, &Watch::NONE).unwrap();
}

#[test]
fn holes_stay_holes_and_large_files_are_whole() {
    let bed = Bed::new();
    let file = File::create(bed.path("in/sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(b"end", (64 << 20) - 3).unwrap();
    fs::write(bed.path("in/dense"), vec![7; 5 << 20]).unwrap();
    let done = AtomicU64::new(0);
    let watch = Watch {
        progress: &|more, total| {
            assert_eq!(total, Some((64 << 20) + (5 << 20)));
            done.fetch_add(more, Ordering::Relaxed);
        },
        stop: &|| false,
    };
    let written = bed.try_write("in", Bounds::FORMAT, &watch).unwrap();
    assert_eq!(done.into_inner(), written.bytes);
    let manifest = read(&bed.store, written.version).unwrap();
    let Kind::File { digest, size, form, .. } = manifest.get(Path::new("sparse")).unwrap().kind else {
        panic!()
    };
    assert_eq!((size, form, bed.store.size(digest).unwrap()), (64 << 20, Form::Packed, Some(16 + 4096)));
    bed.store.open_verified(digest, &Watch::NONE).unwrap();
    let Kind::File { digest, .. } = manifest.get(Path::new("dense")).unwrap().kind else { panic!() };
    assert_eq!(digest, Digest::of(&vec![7; 5 << 20]));
}

#[test]
fn a_huge_file_goes_in_and_out_by_its_data() {
    let bed = Bed::new();
    // Nobody could read that many zeros within the time of a test.
    let huge = |name: &str| {
        let file = File::create(bed.path("in").join(name)).unwrap();
        file.set_len(15 << 40).unwrap();
        file.write_all_at(b"middle", 7 << 40).unwrap();
    };
    huge("huge");
    let written = bed.write();
    assert_eq!(written.bytes, 15 << 40);
    let done = AtomicU64::new(0);
    let progress = |more, _| {
        done.fetch_add(more, Ordering::Relaxed);
    };
    let watch = Watch { progress: &progress, stop: &|| false };
    let checkout = checkout(&bed.trees, &bed.store, ("x", written.version), &watch).unwrap();
    assert_eq!(done.into_inner(), 15 << 40);
    let mut middle = [0; 8];
    let copy = File::open(checkout.staged.path.join("huge")).unwrap();
    copy.read_exact_at(&mut middle, (7 << 40) - 1).unwrap();
    assert_eq!(&middle, b"\0middle\0");
    let meta = copy.metadata().unwrap();
    assert!(meta.len() == 15 << 40 && meta.blocks() < 1000, "{meta:?}");
    // The same content is the same version, also from a copy.
    let root = Dir::open(&checkout.staged.path).unwrap();
    checkout.top.unwrap().apply(&root).unwrap();
    let source = Source { root: &root, path: Path::new(""), reader: None };
    assert_eq!(write(&bed.store, source, Bounds::FORMAT, &Watch::NONE).unwrap().version, written.version);
    let file = File::open(bed.path("in/huge")).unwrap();
    let alone = write_file(&bed.store, (Path::new("huge"), &file), Bounds::FORMAT, &Watch::NONE).unwrap();
    let entries = |version| read(&bed.store, version).unwrap().entries().to_vec();
    assert_eq!(entries(alone.version), entries(written.version));
}

#[test]
fn damage_of_a_packed_file_is_found() {
    let bed = Bed::new();
    let file = File::create(bed.path("in/sparse")).unwrap();
    file.set_len(1 << 20).unwrap();
    file.write_all_at(b"middle", 1 << 19).unwrap();
    let version = bed.write().version;
    let manifest = read(&bed.store, version).unwrap();
    let (_, _, digest) = manifest.files().next().unwrap();
    let blob = bed.store.path(digest);
    let whole = fs::read(&blob).unwrap();
    let cut = whole[..whole.len() - 1].to_vec();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut elsewhere = whole;
    elsewhere[7] = 0xff;
    for harm in [cut, flipped, elsewhere] {
        fs::write(&blob, harm).unwrap();
        let e = checkout(&bed.trees, &bed.store, ("x", version), &Watch::NONE).unwrap_err();
        assert!(matches!(&e, DataError::Damaged { path, .. } if *path == blob), "{e}");
    }
}

#[test]
fn what_is_no_file_is_left_out_with_a_warning() {
    let bed = Bed::new();
    bed.file("a", b"a", 0o644);
    let _socket = std::os::unix::net::UnixListener::bind(bed.path("in/socket")).unwrap();
    nix::unistd::mkfifo(&bed.path("in/pipe"), Mode::S_IRWXU).unwrap();
    let warnings: Vec<_> = bed.write().warnings.into_iter().map(|w| (w.path, w.text)).collect();
    let expected = ["pipe", "socket"]
        .map(|name| (PathBuf::from(name), "was left out: it is a socket, pipe or device".to_owned()));
    assert_eq!(warnings, expected);
}

#[test]
fn empty_directories_and_single_files() {
    let bed = Bed::new();
    assert!(bed.write().empty);
    bed.file("model.bin", b"weights", 0o640);
    let file = File::open(bed.path("in/model.bin")).unwrap();
    let written =
        write_file(&bed.store, (Path::new("model.bin"), &file), Bounds::FORMAT, &Watch::NONE).unwrap();
    let directory = read(&bed.store, bed.write().version).unwrap();
    assert_eq!(read(&bed.store, written.version).unwrap().entries(), directory.entries());
    assert_eq!((written.files, written.bytes), (1, 7));
}

#[test]
fn a_file_that_changes_while_it_is_read_fails_the_whole() {
    let bed = Bed::new();
    bed.file("busy", &vec![1; 3 << 20], 0o644);
    let file = fs::OpenOptions::new().write(true).open(bed.path("in/busy")).unwrap();
    let watch = Watch { progress: &|_, _| file.write_all_at(b"x", 0).unwrap(), stop: &|| false };
    let e = bed.try_write("in", Bounds::FORMAT, &watch).unwrap_err();
    assert!(matches!(&e, DataError::Changed { path } if path == Path::new("busy")), "{e}");
}

#[test]
fn work_stops_when_asked_and_leaves_no_half() {
    let bed = Bed::new();
    for n in 0..50 {
        bed.file(&format!("f{n}"), &vec![n; 100_000], 0o755);
    }
    let written = bed.write();
    let calls = AtomicU64::new(0);
    let stop = || calls.fetch_add(1, Ordering::Relaxed) > 20;
    let watch = Watch { progress: &|_, _| {}, stop: &stop };
    let e = checkout(&bed.trees, &bed.store, ("x", written.version), &watch).unwrap_err();
    assert!(matches!(e, DataError::Stopped));
    assert_eq!(fs::read_dir(bed.path("trees")).unwrap().filter(is_tree).count(), 0);
    let e = bed.try_write("in", Bounds::FORMAT, &watch).unwrap_err();
    assert!(matches!(e, DataError::Stopped));
}

#[test]
fn many_builders_make_one_tree() {
    let bed = Bed::new();
    let written = bed.sample();
    let made: Vec<bool> = std::thread::scope(|scope| {
        let each = (0..8).map(|_| {
            scope.spawn(|| {
                checkout(&bed.trees, &bed.store, ("x", written.version), &Watch::NONE).unwrap().staged.new
            })
        });
        each.collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(made.iter().filter(|new| **new).count(), 1);
}

#[test]
fn what_a_dead_builder_left_is_built_anew() {
    let bed = Bed::new();
    let written = bed.sample();
    let half = bed.path("trees").join(format!(".new-{}", written.version));
    fs::create_dir_all(half.join("fs/plain/in the way")).unwrap();
    fs::set_permissions(half.join("fs/plain"), Permissions::from_mode(0o555)).unwrap();
    let checkout = checkout(&bed.trees, &bed.store, ("x", written.version), &Watch::NONE).unwrap();
    assert_eq!(look(&checkout.staged.path), look(&bed.path("in")));
    assert!(!half.exists());
}

/// Collects everything while it is read: while a blob is being put.
struct Collecting<'b>(&'b Bed, Vec<u64>);

impl std::io::Read for Collecting<'_> {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        let late = SystemTime::now() + Duration::from_hours(1);
        self.1.push(collect(&self.0.store, &[], late).unwrap().0.count);
        Ok(0)
    }
}

#[test]
fn a_lost_version_keeps_nothing_else_from_being_removed() {
    let bed = Bed::new();
    let kept = bed.sample();
    bed.file("more", b"more", 0o644);
    let damaged = bed.write();
    fs::write(bed.store.path(damaged.version), "rot").unwrap();
    bed.file("most", b"most", 0o644);
    bed.write();
    let late = SystemTime::now() + Duration::from_hours(1);
    let missing = Digest::of(b"never put");
    let (freed, lost) = collect(&bed.store, &[kept.version, damaged.version, missing], late).unwrap();
    // `more`, `most` and the manifest of the last.
    assert_eq!(freed.count, 3);
    assert!(matches!(&lost[..], [DataError::Damaged { .. }, DataError::Missing { .. }]), "{lost:?}");
    assert!(bed.store.has(damaged.version).unwrap());
    for (_, size, digest) in read(&bed.store, kept.version).unwrap().files() {
        assert_eq!(bed.store.size(digest).unwrap(), Some(size));
    }
}

#[test]
fn collection_gives_way_to_a_blob_that_is_being_put() {
    let bed = Bed::new();
    bed.sample();
    let mut source = Collecting(&bed, Vec::new());
    bed.store.put(&mut source, &Watch::NONE).unwrap();
    assert_eq!(source.1, [0]);
    let late = SystemTime::now() + Duration::from_hours(1);
    assert!(collect(&bed.store, &[], late).unwrap().0.count > 1);
}

#[test]
fn a_version_that_is_in_use_is_stored_again_and_not_touched() {
    let bed = Bed::new();
    let written = bed.sample();
    let checkout = checkout(&bed.trees, &bed.store, ("x", written.version), &Watch::NONE).unwrap();
    let times = |name: &str| {
        let meta = fs::metadata(checkout.staged.path.join(name)).unwrap();
        (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
    };
    let names = ["plain", "sub/deep/tool", "sub/secret", "sub-b", "empty"];
    let before = names.map(times);
    let begin = SystemTime::now();
    let root = Dir::open(&checkout.staged.path).unwrap();
    checkout.top.unwrap().apply(&root).unwrap();
    let source = Source { root: &root, path: Path::new(""), reader: None };
    let again = write(&bed.store, source, Bounds::FORMAT, &Watch::NONE).unwrap();
    assert_eq!(again.version, written.version);
    assert_eq!(names.map(times), before);
    // Nobody names it yet, but somebody has just put it.
    assert_eq!(collect(&bed.store, &[], begin).unwrap().0.count, 0);
    let late = SystemTime::now() + Duration::from_hours(1);
    assert!(collect(&bed.store, &[], late).unwrap().0.count > 1);
    assert_eq!(fs::read_dir(bed.path("blobs/again")).unwrap().count(), 0);
}

#[test]
fn collection_keeps_what_is_named_held_or_new() {
    let bed = Bed::new();
    let kept = bed.sample();
    bed.file("more", b"more", 0o644);
    let other = bed.write();
    let hold = checkout(&bed.trees, &bed.store, ("x", other.version), &Watch::NONE).unwrap();
    checkout(&bed.trees, &bed.store, ("x", kept.version), &Watch::NONE).unwrap();
    let (old, late) = (SystemTime::UNIX_EPOCH, SystemTime::now() + Duration::from_hours(1));
    assert_eq!(collect(&bed.store, &[kept.version], old).unwrap().0.count, 0);
    assert_eq!(collect(&bed.store, &[kept.version], late).unwrap().0.count, 2);
    assert!(!bed.store.has(other.version).unwrap());
    assert_eq!(bed.trees.collect(&|_| false).unwrap().count, 1);
    assert!(hold.staged.path.join("more").exists());
    drop(hold);
    fs::create_dir(bed.path("trees").join(format!(".gone-{}", other.version))).unwrap();
    assert_eq!(bed.trees.collect(&|version| version == kept.version).unwrap().count, 1);
    assert_eq!(fs::read_dir(bed.path("trees")).unwrap().filter(is_tree).count(), 0);
    assert!(checkout(&bed.trees, &bed.store, ("x", kept.version), &Watch::NONE).unwrap().staged.new);
}

#[test]
fn scratch_is_swept_when_its_writer_is_gone() {
    let bed = Bed::new();
    let make = |name: &str| File::create(bed.path("blobs/tmp").join(name)).unwrap();
    make("dead");
    let writing = make("writing");
    writing.lock().unwrap();
    assert_eq!(bed.store.sweep().unwrap().count, 1);
    assert!(!bed.path("blobs/tmp/dead").exists() && bed.path("blobs/tmp/writing").exists());
}

#[test]
fn writers_and_sweeps_at_once_lose_nothing() {
    let bed = Bed::new();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4_u32)
            .map(|writer| {
                let store = &bed.store;
                scope.spawn(move || {
                    for n in 0..100_u32 {
                        let bytes = [writer.to_le_bytes(), n.to_le_bytes()].concat();
                        let digest = store.put_bytes(&bytes).unwrap().digest;
                        assert_eq!(store.read(digest, 8).unwrap(), bytes);
                    }
                })
            })
            .collect();
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            bed.store.sweep().unwrap();
        }
    });
    assert_eq!(fs::read_dir(bed.path("blobs/tmp")).unwrap().count(), 0);
}

#[test]
fn copying_in_replaces_files_and_never_follows_links() {
    let bed = Bed::new();
    bed.file("sub/file", b"new", 0o644);
    bed.file("other", b"new", 0o600);
    symlink("sub", bed.path("in/link")).unwrap();
    let version = bed.write().version;
    let outside = bed.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "untouched").unwrap();

    let fresh = |name: &str| {
        let path = bed.path(name);
        fs::create_dir(&path).unwrap();
        let fd = Dir::open(&path).unwrap();
        (path, fd)
    };
    let (path, fd) = fresh("merge");
    fs::create_dir(path.join("sub")).unwrap();
    fs::write(path.join("sub/kept"), "kept").unwrap();
    symlink(outside.join("file"), path.join("other")).unwrap();
    fs::write(path.join("link"), "was a file").unwrap();
    copy_into(&bed.store, version, &fd, None, &Watch::NONE).unwrap();
    assert_eq!(fs::read_to_string(path.join("sub/kept")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(path.join("sub/file")).unwrap(), "new");
    assert_eq!(fs::read_to_string(path.join("other")).unwrap(), "new");
    assert_eq!(fs::read_link(path.join("link")).unwrap(), Path::new("sub"));

    let (path, fd) = fresh("trap");
    symlink(&outside, path.join("sub")).unwrap();
    let e = copy_into(&bed.store, version, &fd, None, &Watch::NONE).unwrap_err();
    assert_eq!(e.to_string(), "cannot write `sub`: a symbolic link is already there");
    let (path, fd) = fresh("blocked");
    fs::create_dir(path.join("other")).unwrap();
    let e = copy_into(&bed.store, version, &fd, None, &Watch::NONE).unwrap_err();
    assert_eq!(e.to_string(), "cannot write `other`: a directory is already there");
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn hostile_manifests_are_refused() {
    let zero = "0".repeat(64);
    let check = |body: &str, line: usize| {
        let text = format!("vessl-tree 1\n{body}");
        match Manifest::parse(text.as_bytes()) {
            Err(DataError::Manifest { line: found, .. }) => assert_eq!(found, line, "{body:?}"),
            other => panic!("{body:?}: {other:?}"),
        }
    };
    for path in ["../x", "/x", "x/", "", ".", "a/./b", "x/../y", "a//b", "%2E%2E", "%00", &"n".repeat(256)] {
        check(&format!("f 644 0 {zero} {path}\n"), 2);
    }
    check(&format!("f 644 0 {zero} a/b\n"), 2);
    check(&format!("l - - /etc a\nf 644 0 {zero} a/b\n"), 3);
    check(&format!("f 644 0 {zero} a\nf 644 0 {zero} a/b\n"), 3);
    check(&format!("f 644 0 {zero} a\nf 644 0 {zero} a\n"), 3);
    check("d 755 - - b\nd 755 - - a\n", 3);
    check("d 4755 - - a\n", 2);
    check(&format!("f 4755 1 {zero} a\n"), 2);
    check("d 0755 - - a\n", 2);
    check("d 755 - - a b\n", 2);
    check("d 755 - - %61\n", 2);
    check("d 755 - - %ff\n", 2);
    check("l - -  a\n", 2);
    check("x 755 - - a\n", 2);
    check(&format!("f 644 +1 {zero} a\n"), 2);
    check(&format!("f 644 1 {} a\n", "A".repeat(64)), 2);
    check(&format!("f 644 {max} {zero} a\nf 644 {max} {zero} b\n", max = u64::MAX), 3);
    check("d 755 - - a", 2);
    check("\n", 2);
    let old = format!("vessl-tree 2\nc 644 1 {zero} 1 a\n");
    for text in [
        "",
        "vessl-tree 2\nd 755 - - - a\n",
        "vessl-tree 3\nd 755 - - 1 a\n",
        &old,
        "vessl-tree 4\n",
        "vessl-tree 1",
    ] {
        assert!(matches!(Manifest::parse(text.as_bytes()), Err(DataError::Manifest { line: 1, .. })));
    }
    for line in [
        "1.5",
        "01",
        "+1",
        "-0",
        "1.0000000000",
        "1.1000000000",
        "1.000000000",
        "x",
        "",
        "99999999999999999999",
    ] {
        let text = format!("vessl-tree 2\nd 755 - - {line} a\n");
        assert!(
            matches!(Manifest::parse(text.as_bytes()), Err(DataError::Manifest { line: 2, .. })),
            "{line}"
        );
    }
    for top in
        ["d 4755 - - 1 .", "d 755 - - - .", "f 644 0 x 1 .", "l - - /etc 1 .", "d 755 - - 1 .\nd 755 - - 1 ."]
    {
        assert!(Manifest::parse(format!("vessl-tree 2\n{top}\n").as_bytes()).is_err(), "{top}");
    }
    assert!(Manifest::parse(b"vessl-tree 2\n").is_err());
    assert_eq!(Manifest::parse(&Manifest::default().text()).unwrap(), Manifest::default());
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("not in a name", |b| !matches!(b, 0 | b'/'));
    proptest::collection::vec(byte, 1..12).prop_filter("special", |n| !matches!(&n[..], b"." | b".."))
}

fn tree() -> impl Strategy<Value = Vec<Entry>> {
    let leaf = prop_oneof![
        (0_u32..=0o777, 0_u64..1 << 40, any::<[u8; 32]>(), any::<bool>()).prop_map(
            |(mode, size, digest, packed)| Kind::File {
                mode,
                size,
                digest: Digest(digest),
                form: if packed { Form::Packed } else { Form::Plain },
            }
        ),
        proptest::collection::vec(1_u8.., 1..30)
            .prop_map(|target| Kind::Symlink { target: OsString::from_vec(target).into() }),
        (0_u32..=0o3777).prop_map(|mode| Kind::Dir { mode }),
    ];
    let time = proptest::option::of((any::<i64>(), 0_u32..1_000_000_000));
    proptest::collection::vec((any::<proptest::sample::Index>(), name(), leaf, time), 0..40).prop_map(
        |parts| {
            let mut entries: Vec<Entry> = Vec::new();
            for (parent, name, kind, time) in parts {
                let modified = time.map(|(seconds, nanos)| Modified { seconds, nanos });
                let dirs: Vec<PathBuf> = std::iter::once(PathBuf::new())
                    .chain(
                        entries.iter().filter(|e| matches!(e.kind, Kind::Dir { .. })).map(|e| e.path.clone()),
                    )
                    .collect();
                let path = parent.get(&dirs).join(OsString::from_vec(name));
                if entries.iter().all(|e| e.path != path) {
                    entries.push(Entry { path, kind, modified });
                }
            }
            entries
        },
    )
}

proptest! {
    #[test]
    fn text_and_tree_are_one_to_one(entries in tree(), top in proptest::option::of((0_u32..=0o3777, any::<i64>()))) {
        let manifest = Manifest::new(entries).unwrap();
        let top = top.map(|(mode, seconds)| Top { mode, modified: Modified { seconds, nanos: 5 } });
        let manifest = top.map_or(manifest.clone(), |top| manifest.with_top(top));
        let text = manifest.text();
        prop_assert!(text.iter().all(|b| b.is_ascii_graphic() || matches!(b, b' ' | b'\n')));
        let again = Manifest::parse(&text).unwrap();
        prop_assert_eq!(&again, &manifest);
        for entry in manifest.entries() {
            prop_assert_eq!(manifest.get(&entry.path), Some(entry));
        }
    }

    #[test]
    fn any_text_is_refused_or_canonical(entries in tree(), at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut text = Manifest::new(entries).unwrap().text();
        let at = at.index(text.len());
        text[at] = byte;
        if let Ok(manifest) = Manifest::parse(&text) {
            prop_assert_eq!(manifest.text(), text);
        }
    }
}

#[test]
fn a_tree_beyond_its_bounds_is_refused_before_a_byte_is_copied() {
    let bed = Bed::new();
    for name in ["in/a", "in/b"] {
        fs::write(bed.path(name), "12345").unwrap();
    }
    // As large as the largest file of many file systems, and nearly nothing on disk.
    File::create(bed.path("in/hole")).unwrap().set_len(15 << 40).unwrap();
    let check = |bounds: Bounds, expected: &str| {
        let said = bed.try_write("in", bounds, &Watch::NONE).unwrap_err().to_string();
        assert!(said.contains(expected), "{said}");
    };
    check(Bounds { bytes: 1 << 40, ..Bounds::FORMAT }, "more than 1099511627776 bytes in all");
    check(Bounds { entries: 2, ..Bounds::FORMAT }, "more than 2 files, links and directories");
    let hole = File::open(bed.path("in/hole")).unwrap();
    let bounds = Bounds { bytes: 9, ..Bounds::FORMAT };
    let said = write_file(&bed.store, (Path::new("h"), &hole), bounds, &Watch::NONE).unwrap_err().to_string();
    assert!(said.contains("`h`: more than 9 bytes"), "{said}");
    fs::remove_file(bed.path("in/hole")).unwrap();
    let bounds = Bounds { entries: 2, bytes: 10 };
    assert_eq!(bed.try_write("in", bounds, &Watch::NONE).unwrap().files, 2, "just as large is fine");
}

#[test]
fn a_link_may_climb_only_first() {
    let check = |target: &str, depth, expected| {
        assert_eq!(climbs_first(Path::new(target), depth), expected, "{target} {depth}");
    };
    check("x", 0, true);
    check("a/b", 0, true);
    check("../x", 1, true);
    check("../..", 2, true);
    check("../x", 0, false);
    check("../../x", 1, false);
    check("/etc/passwd", 9, false);
    check("./x/./y", 0, true);
    check("./../x", 0, false);
    check(".", 0, true);
    check("a/../x", 9, false);
}

#[test]
fn a_blob_is_shared_where_its_time_is_right() {
    let bed = Bed::new();
    bed.file("first", b"same", 0o644);
    bed.file("second", b"same", 0o644);
    let root = Dir::open(&bed.path("in")).unwrap();
    for (name, seconds) in [("first", 1_000_000_000), ("second", 1_100_000_000)] {
        root.set_modified(Path::new(name), Modified { seconds, nanos: 1 }).unwrap();
    }
    let checkout = checkout(&bed.trees, &bed.store, ("x", bed.write().version), &Watch::NONE).unwrap();
    assert_eq!(look(&checkout.staged.path), look(&bed.path("in")));
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let blob = inode(&bed.store.path(Digest::of(b"same")));
    let shared = ["first", "second"].map(|name| inode(&checkout.staged.path.join(name)) == blob);
    assert_eq!(shared.iter().filter(|shared| **shared).count(), 1);
}

#[test]
fn a_directory_is_copied_as_a_whole_over_what_is_there() {
    let bed = Bed::new();
    bed.sample();
    bed.file("sparse", b"", 0o644);
    let sparse = fs::OpenOptions::new().write(true).open(bed.path("in/sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    sparse.write_all_at(b"end", (1 << 40) - 3).unwrap();
    fs::create_dir_all(bed.path("out/sub")).unwrap();
    fs::write(bed.path("out/plain"), "old").unwrap();
    fs::write(bed.path("out/sub/other"), "stays").unwrap();
    let (root, out) = (Dir::open(&bed.path("in")).unwrap(), Dir::open(&bed.path("out")).unwrap());
    let source = Source { root: &root, path: Path::new(""), reader: None };
    let target = Target { dir: &out, owner: Some((7, 8)), parts: Path::new(".parts") };
    let copied = copy(source, target, Bounds::FORMAT, &Watch::NONE).unwrap();
    assert_eq!((copied.files, copied.warnings.len()), (8, 1));
    let names: Vec<_> = fs::read_dir(bed.path("out")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!names.contains(&OsString::from(".parts")), "{names:?}");
    assert_eq!(fs::read_to_string(bed.path("out/sub/other")).unwrap(), "stays");
    let huge = fs::metadata(bed.path("out/sparse")).unwrap();
    assert!(huge.len() == 1 << 40 && huge.blocks() < 1000);
    let plain = fs::metadata(bed.path("out/plain")).unwrap();
    assert_eq!((plain.uid(), plain.gid(), plain.mode() & 0o777), (7, 8, 0o644));
    assert_eq!(fs::read(bed.path("out/plain")).unwrap(), b"plain");
    assert_eq!(fs::read_link(bed.path("out/sub/link")).unwrap(), Path::new("../../etc/passwd"));
    // What cannot get its place is refused before anything changes.
    fs::write(bed.path("in/plain"), "new").unwrap();
    fs::remove_dir_all(bed.path("out/team")).unwrap();
    symlink("/etc", bed.path("out/team")).unwrap();
    let refused = copy(source, target, Bounds::FORMAT, &Watch::NONE).unwrap_err();
    assert_eq!(refused.to_string(), "cannot write `team`: a symbolic link is already there");
    assert_eq!(fs::read(bed.path("out/plain")).unwrap(), b"plain");
}
