//! Packs beside loose blobs: put, found, checked, collected, damaged.
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use super::*;

struct Bed {
    _dir: tempfile::TempDir,
    root: PathBuf,
    store: Store,
}

fn bed() -> Bed {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("blobs");
    let store = Store::open(&root).unwrap();
    Bed { _dir: dir, root, store }
}

impl Bed {
    /// Puts some bytes in one pack; gives its name.
    fn pack(&self, all: &[&[u8]]) -> Digest {
        let batch = Batch::begin(&self.store).unwrap();
        for bytes in all {
            assert!(batch.put_bytes(bytes).unwrap().new);
        }
        batch.finish().unwrap();
        match self.store.unit(Digest::of(all[0])).unwrap() {
            Some(Unit::Pack { name, .. }) => name,
            other => panic!("{other:?}"),
        }
    }

    fn packs(&self) -> usize {
        self.store.units().unwrap().iter().filter(|unit| matches!(unit, Unit::Pack { .. })).count()
    }

    fn collect(&self, keep: &[&[u8]]) -> Freed {
        let keep: Vec<Digest> = keep.iter().map(|bytes| Digest::of(bytes)).collect();
        self.store.collect(&|digest| keep.contains(&digest), later()).unwrap()
    }

    /// Files with a name that ends so.
    fn files(&self, ending: &str) -> Vec<PathBuf> {
        let all = fs::read_dir(self.root.join("packs")).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
    }
}

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_mins(1)
}

fn reads(store: &Store, bytes: &[u8]) {
    assert_eq!(store.read(Digest::of(bytes), 1 << 20).unwrap(), bytes);
    let mut blob = store.open_verified(Digest::of(bytes), &Watch::NONE).unwrap();
    let mut all = Vec::new();
    blob.read_to_end(&mut all).unwrap();
    assert_eq!(all, bytes);
    assert_eq!(store.size(Digest::of(bytes)).unwrap(), Some(bytes.len() as u64));
}

#[test]
fn a_batch_is_there_as_a_whole_and_each_blob_is_read_from_it() {
    let bed = bed();
    let batch = Batch::begin(&bed.store).unwrap();
    let large = vec![7; (4 << 20) + 1];
    for bytes in [&b"one"[..], b"", b"two", &large] {
        assert!(batch.put_bytes(bytes).unwrap().new);
        assert!(!batch.put_bytes(bytes).unwrap().new, "it is in the batch");
        assert!(!bed.store.has(Digest::of(bytes)).unwrap());
    }
    batch.finish().unwrap();
    for store in [&bed.store, &Store::at(&bed.root)] {
        reads(store, b"one");
        reads(store, b"");
        reads(store, b"two");
        assert_eq!(store.size(Digest::of(&large)).unwrap(), Some(large.len() as u64));
    }
    assert!(matches!(bed.store.unit(Digest::of(&large)).unwrap(), Some(Unit::Loose { .. })));
    assert_eq!((bed.packs(), bed.store.units().unwrap().len()), (1, 2));
    assert_eq!(fs::read_dir(bed.root.join("tmp")).unwrap().count(), 0);
    let again = Batch::begin(&bed.store).unwrap();
    assert!(!again.put_bytes(b"two").unwrap().new && !again.put_bytes(&large).unwrap().new);
    drop(again);
    assert!(!bed.store.put_bytes(b"one").unwrap().new);
    assert_eq!(fs::read_dir(bed.root.join("tmp")).unwrap().count(), 0);
}

#[test]
fn another_process_sees_packs_that_come_and_go() {
    let bed = bed();
    let other = Store::at(&bed.root);
    for n in 0..20_u8 {
        let bytes = [n; 100];
        assert!(!other.has(Digest::of(&bytes)).unwrap());
        bed.pack(&[&bytes, &[n]]);
        reads(&other, &bytes);
        assert_eq!(other.missing(&[Digest::of(&[n]), Digest([0; 32])], later()).unwrap(), [Digest([0; 32])]);
    }
    bed.collect(&[]);
    assert!(matches!(other.read(Digest::of(&[3]), 1), Err(DataError::Missing { .. })));
}

#[test]
fn a_pack_has_at_most_its_bytes() {
    let bed = bed();
    let batch = Batch::begin(&bed.store).unwrap();
    let piece = |n: u8| vec![n; 4 << 20];
    for n in 0..17 {
        batch.put_bytes(&piece(n)).unwrap();
    }
    batch.finish().unwrap();
    assert_eq!(bed.packs(), 2);
    for n in 0..17 {
        bed.store.open_verified(Digest::of(&piece(n)), &Watch::NONE).unwrap();
    }
    assert!(bed.files(".pack").iter().all(|path| fs::metadata(path).unwrap().len() <= LARGEST_PACK));
}

#[test]
fn packs_are_collected_by_what_is_needed_of_them() {
    let bed = bed();
    let half = vec![9; 1000];
    let first = bed.pack(&[b"dead", b"gone"]);
    let second = bed.pack(&[b"living", &half]);
    let third = bed.pack(&[b"small", &[8; 1000]]);
    let old = Store::at(&bed.root);
    reads(&old, b"living");
    // Nothing that is young is touched.
    assert_eq!(bed.store.collect(&|_| false, SystemTime::UNIX_EPOCH).unwrap(), Freed::default());
    let freed = bed.collect(&[b"living", &[8; 1000]]);
    assert_eq!(freed, Freed { count: 3, bytes: 8 + 1000 });
    reads(&old, b"living");
    reads(&bed.store, b"small");
    let names = bed.files(".idx");
    let is_there = |pack: Digest| names.iter().any(|path| path.to_str().unwrap().contains(&pack.to_string()));
    assert!(!is_there(first) && !is_there(second) && is_there(third));
    assert_eq!((names.len(), bed.files(".pack").len()), (2, 2));
    assert_eq!(bed.store.missing(&[Digest::of(&half)], later()).unwrap(), [Digest::of(&half)]);
    // A half of it is not too much.
    bed.collect(&[b"living", &[8; 1000]]);
    assert_eq!(bed.packs(), 2);
    bed.collect(&[]);
    assert_eq!((bed.packs(), bed.files("").len()), (0, 0));
}

#[test]
fn what_is_asked_for_again_stays_also_in_a_pack() {
    let bed = bed();
    bed.pack(&[b"asked", b"other"]);
    bed.pack(&[b"put", b"fourth"]);
    bed.pack(&[b"old", b"older"]);
    let before = SystemTime::now() + Duration::from_secs(1);
    assert_eq!(bed.store.missing(&[Digest::of(b"asked")], before).unwrap(), []);
    let batch = Batch::begin(&bed.store).unwrap();
    assert!(!batch.put_bytes(b"put").unwrap().new);
    // As if all of it had been put long ago, but not the notes.
    let notes = || fs::read_dir(bed.root.join("again")).unwrap().map(|note| note.unwrap().path());
    for note in notes() {
        File::open(note).unwrap().set_modified(before).unwrap();
    }
    assert_eq!(notes().count(), 2);
    bed.store.collect(&|_| false, before).unwrap();
    reads(&bed.store, b"asked");
    reads(&bed.store, b"put");
    assert!(!bed.store.has(Digest::of(b"old")).unwrap());
}

#[test]
fn what_is_damaged_is_named_and_put_anew() {
    let bed = bed();
    let pack = bed.pack(&[b"first", b"second", b"third"]);
    let (data, index) =
        (bed.root.join(format!("packs/{pack}.pack")), bed.root.join(format!("packs/{pack}.idx")));
    let checked = || bed.store.check(&Watch::NONE).unwrap();
    let found = checked();
    assert_eq!((found.harms.len(), found.blobs, found.packs, found.bytes), (0, 3, 1, 16));
    assert_eq!(found.standing(Digest::of(b"first")), Standing::Whole);
    // A byte of one of them.
    let file = File::options().write(true).open(&data).unwrap();
    file.write_all_at(b"S", 5).unwrap();
    let found = checked();
    let second = Digest::of(b"second");
    assert_eq!((found.harms.len(), found.blobs), (1, 2));
    assert_eq!((&found.harms[0].file, found.harms[0].digest), (&data, Some(second)));
    assert_eq!(found.standing(second), Standing::Damaged(&found.harms[0]));
    let read = bed.store.read(second, 10);
    assert!(matches!(&read, Err(DataError::Damaged { path, .. }) if *path == data), "{read:?}");
    assert!(bed.store.put_bytes(b"second").unwrap().new, "a damaged one is no copy");
    reads(&bed.store, b"second");
    assert_eq!(checked().standing(second), Standing::Whole);
    // The end of the pack is cut off: nothing of it counts, and all of it can be put again.
    file.set_len(11).unwrap();
    assert_eq!(checked().harms.len(), 2);
    let store = Store::at(&bed.root);
    assert!(!store.has(Digest::of(b"first")).unwrap());
    let batch = Batch::begin(&store).unwrap();
    for bytes in [&b"first"[..], b"third"] {
        assert!(batch.put_bytes(bytes).unwrap().new);
    }
    batch.finish().unwrap();
    reads(&store, b"first");
    // The index is cut, and then gone.
    let text = fs::read(&index).unwrap();
    for length in [0, 20, text.len() - 1] {
        fs::write(&index, &text[..length]).unwrap();
        let found = checked();
        assert_eq!((&found.harms[0].file, found.harms[0].digest), (&index, None), "{length}");
        assert!(found.harms[0].why.contains("index"));
    }
    fs::remove_file(&data).unwrap();
    assert!(checked().harms[0].why.contains("is not there"));
    fs::remove_file(&index).unwrap();
    assert_eq!(checked().harms, []);
    reads(&Store::at(&bed.root), b"first");
}

#[test]
fn a_damaged_pack_is_not_written_anew_without_what_is_damaged() {
    let bed = bed();
    let pack = bed.pack(&[b"kept", &[5; 1000]]);
    let data = bed.root.join(format!("packs/{pack}.pack"));
    File::options().write(true).open(&data).unwrap().write_all_at(b"K", 0).unwrap();
    bed.collect(&[b"kept"]);
    assert_eq!(bed.packs(), 1);
    assert!(matches!(bed.store.read(Digest::of(b"kept"), 10), Err(DataError::Damaged { .. })));
}

#[test]
fn what_dead_writers_left_is_swept_and_the_living_are_left() {
    let bed = bed();
    let living = Batch::begin(&bed.store).unwrap();
    living.put_bytes(b"x").unwrap();
    fs::create_dir(bed.root.join("tmp/batch-dead")).unwrap();
    fs::write(bed.root.join("tmp/batch-dead/1"), "12345").unwrap();
    fs::create_dir_all(bed.root.join("packs")).unwrap();
    fs::write(bed.root.join(format!("packs/{}.pack", Digest::of(b"n"))), "nameless").unwrap();
    assert_eq!(bed.store.sweep().unwrap(), Freed { count: 1, bytes: 5 });
    living.finish().unwrap();
    reads(&bed.store, b"x");
    bed.collect(&[b"x"]);
    assert_eq!((bed.files(".pack").len(), bed.files(".idx").len()), (1, 1));
}

#[test]
fn many_put_and_collect_at_once() {
    let bed = bed();
    let begun = SystemTime::now() - Duration::from_secs(1);
    std::thread::scope(|scope| {
        let putters: Vec<_> = (0..4_u8)
            .map(|n| {
                let store = &bed.store;
                scope.spawn(move || {
                    for round in 0..20_u8 {
                        let batch = Batch::begin(store).unwrap();
                        for blob in 0..10_u8 {
                            // Half of them are the same for all.
                            batch.put_bytes(&[if blob < 5 { 0 } else { n }, round, blob]).unwrap();
                        }
                        batch.finish().unwrap();
                    }
                })
            })
            .collect();
        while !putters.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            bed.store.collect(&|_| false, begun).unwrap();
        }
    });
    for (n, round, blob) in
        (0..4_u8).flat_map(|n| (0..20).flat_map(move |r| (0..10_u8).map(move |b| (n, r, b))))
    {
        reads(&bed.store, &[if blob < 5 { 0 } else { n }, round, blob]);
    }
    assert_eq!(bed.store.check(&Watch::NONE).unwrap().harms, []);
}

#[test]
fn who_reads_is_not_disturbed_by_packs_that_are_written_anew() {
    let bed = bed();
    let kept: Vec<Vec<u8>> = (0..8_u8).map(|n| vec![n; 100]).collect();
    let digests: Vec<Digest> = kept.iter().map(|bytes| Digest::of(bytes)).collect();
    for bytes in &kept {
        bed.pack(&[bytes, &[bytes[0]; 101]]);
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let store = Store::at(&bed.root);
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    for bytes in &kept {
                        reads(&store, bytes);
                    }
                }
            });
        }
        for round in 0..60_u8 {
            // Together with the blobs that stay they are more than half of a pack.
            let batch = Batch::begin(&bed.store).unwrap();
            for bytes in &kept {
                batch.pack(Digest::of(bytes), bytes).unwrap();
            }
            batch.put_bytes(&vec![round; 2000]).unwrap();
            batch.finish().unwrap();
            bed.store.collect(&|digest| digests.contains(&digest), later()).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(bed.store.check(&Watch::NONE).unwrap().harms, []);
}
