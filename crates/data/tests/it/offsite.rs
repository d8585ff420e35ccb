//! Blobs in a bucket of real servers: pushed, taken off the disk, brought home, removed, and found again after what goes wrong between.
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use vessl_data::blob::{Batch, Digest, Stay, Store};
use vessl_data::offsite::{Compared, Offsite, OffsiteError};
use vessl_data::{DataError, Watch};

use crate::bucket_bed::{Server, Signed, bytes, keys, location, session};
use crate::bucket_proxy::{Fault, Proxy};
use vessl_data::bucket::{Identity, Location, Provider};

/// A store with a loose blob and a pack of three.
struct Bed {
    _dir: tempfile::TempDir,
    store: Store,
    alone: Digest,
    packed: Vec<Digest>,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("blobs")).unwrap();
        let alone = store.put_bytes(&bytes(3 << 20)).unwrap().digest;
        let batch = Batch::begin(&store).unwrap();
        let packed = [b"one".as_slice(), b"two", b"three"].map(|text| batch.put_bytes(text).unwrap().digest);
        batch.finish().unwrap();
        Self { _dir: dir, store, alone, packed: packed.to_vec() }
    }

    fn all(&self) -> Vec<Digest> {
        [&[self.alone], self.packed.as_slice()].concat()
    }

    fn at(&self, at: Location, identity: Identity) -> Offsite {
        Offsite::new(&self.store, session(at, identity))
    }

    fn here(&self) -> usize {
        self.store.units().unwrap().len()
    }

    /// Takes everything off the disk that may leave.
    fn empty(&self, offsite: &Offsite) {
        offsite.evict(0, &|_| Stay::May).unwrap();
        assert_eq!(self.here(), 0);
    }

    /// Whether every blob is what it was, wherever it is brought from.
    fn reads(&self, offsite: Offsite) {
        let store = self.store.clone().with_home(Arc::new(offsite));
        for digest in self.all() {
            store.open_verified(digest, &Watch::NONE).unwrap();
        }
    }
}

fn long_ago(_: Digest) -> bool {
    false
}

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_mins(1)
}

#[track_caller]
fn go_and_come(server: &Server, identity: &Identity) {
    let bed = Bed::new();
    let offsite = bed.at(server.at("team/blobs"), identity.clone());
    offsite.claim("11111111").unwrap();
    offsite.claim("11111111").unwrap();
    let other = offsite.claim("22222222").unwrap_err().to_string();
    assert!(other.contains("another installation (`11111111`)"), "{other}");
    assert_eq!(offsite.backlog().unwrap().units, 2);
    let pushed = offsite.push(&Watch::NONE).unwrap();
    assert_eq!((pushed.units, pushed.bytes), (2, (3 << 20) + 11));
    assert_eq!(offsite.push(&Watch::NONE).unwrap().units, 0);
    bed.empty(&offsite);
    let all = bed.all();
    assert_eq!(bed.store.missing(&all, SystemTime::UNIX_EPOCH).unwrap(), []);
    assert_eq!(bed.store.size(bed.packed[2]).unwrap(), Some(5));
    let closed = bed.store.open_blob(bed.alone).unwrap_err();
    assert!(matches!(closed, DataError::Away { .. }), "{closed}");
    // What is put again is known without a download.
    assert!(!bed.store.put_bytes(&bytes(3 << 20)).unwrap().new);
    assert_eq!(bed.here(), 0);
    assert_eq!(offsite.check(true, &Watch::NONE).unwrap(), []);
    bed.reads(bed.at(server.at("team/blobs"), identity.clone()));
    assert_eq!(bed.here(), 2);
    // What names others stays by itself, and what a run reads stays with its whole pack.
    let one = bed.packed[0];
    let stay = |digest| if digest == bed.alone { Stay::Unit } else { Stay::May };
    assert_eq!(offsite.evict(0, &stay).unwrap().count, 1);
    assert_eq!(bed.here(), 1);
    offsite.bring(&all, &Watch::NONE).unwrap();
    let stay = |digest| if digest == one { Stay::Itself } else { Stay::May };
    assert_eq!(offsite.evict(0, &stay).unwrap().count, 2);
    assert_eq!(bed.store.read(one, 10).unwrap(), b"one");
    // What nobody needs is removed on both sides.
    bed.store.collect(&long_ago, later()).unwrap();
    assert_eq!(bed.store.missing(&all, SystemTime::UNIX_EPOCH).unwrap().len(), 4);
    assert_eq!(offsite.bury().unwrap(), 2);
    let files = session(server.at("team/blobs"), identity.clone()).plain_files().unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["vessl-blobs.json"]);
}

#[test]
fn blobs_go_to_a_bucket_of_s3_and_come_home() {
    go_and_come(&Server::s3s(Signed::Checked), &keys());
}

#[test]
fn blobs_go_to_a_bucket_of_google_and_come_home() {
    go_and_come(&Server::google(), &Identity::Anonymous);
}

#[test]
fn what_nobody_noted_is_found_again() {
    let server = Server::s3s(Signed::Checked);
    let mut bed = Bed::new();
    let mut offsite = bed.at(server.at("p"), keys());
    offsite.push(&Watch::NONE).unwrap();
    let away = bed.store.root().join("away");
    let forget = || {
        for entry in std::fs::read_dir(&away).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    };
    // Killed before it was noted: it is sent again.
    forget();
    assert_eq!(offsite.compare().unwrap(), Compared::default());
    assert_eq!(offsite.push(&Watch::NONE).unwrap().units, 2);
    // Nothing of it is here, nor known: a data directory from before.
    bed.empty(&offsite);
    forget();
    std::fs::remove_dir_all(bed.store.root().join("packs")).unwrap();
    bed.store = Store::open(bed.store.root()).unwrap();
    offsite = bed.at(server.at("p"), keys());
    assert_eq!(bed.store.missing(&bed.all(), SystemTime::UNIX_EPOCH).unwrap().len(), 4);
    assert_eq!(offsite.compare().unwrap().adopted, 2);
    assert_eq!(bed.store.missing(&bed.all(), SystemTime::UNIX_EPOCH).unwrap(), []);
    bed.reads(bed.at(server.at("p"), keys()));
    // Somebody removed it there: what is here is sent again, and what is not is named.
    let remove = || std::fs::remove_dir_all(server.root.join("bkt/p")).unwrap();
    remove();
    assert_eq!(offsite.compare().unwrap().again, 2);
    assert_eq!(offsite.push(&Watch::NONE).unwrap().units, 2);
    bed.empty(&offsite);
    remove();
    let bad = offsite.check(false, &Watch::NONE).unwrap();
    assert_eq!(bad.iter().map(|bad| bad.lost.len()).sum::<usize>(), 4, "{bad:?}");
    assert_eq!(offsite.compare().unwrap().lost.len(), 2);
    // Whoever has it can put it again.
    assert!(bed.store.put_bytes(&bytes(3 << 20)).unwrap().new);
}

/// Changes a byte of everything that is in the bucket.
fn spoil(server: &Server) {
    for file in
        crate::bucket_bed::content(&server.root.join("bkt")).into_keys().filter(|name| !name.ends_with('/'))
    {
        let path = server.root.join("bkt").join(file);
        let mut content = std::fs::read(&path).unwrap();
        content[0] ^= 1;
        std::fs::write(&path, content).unwrap();
    }
}

#[test]
fn the_last_copy_here_leaves_only_when_the_bucket_has_it() {
    let server = Server::s3s(Signed::Checked);
    let bed = Bed::new();
    let offsite = bed.at(server.at("p"), keys());
    offsite.push(&Watch::NONE).unwrap();
    // Somebody removes everything there, which nobody here has noticed.
    std::fs::remove_dir_all(server.root.join("bkt/p")).unwrap();
    assert_eq!(offsite.evict(0, &|_| Stay::May).unwrap().count, 0);
    assert_eq!((bed.here(), offsite.backlog().unwrap().units), (2, 2));
    assert_eq!(offsite.push(&Watch::NONE).unwrap().units, 2);
    bed.empty(&offsite);
    bed.reads(bed.at(server.at("p"), keys()));
}

#[test]
fn a_look_at_the_bucket_reads_what_is_here_too() {
    let server = Server::s3s(Signed::Checked);
    let bed = Bed::new();
    let offsite = bed.at(server.at("p"), keys());
    offsite.push(&Watch::NONE).unwrap();
    spoil(&server);
    let bad = offsite.check(true, &Watch::NONE).unwrap();
    assert!(bad.len() == 2 && bad.iter().all(|bad| bad.is_here && bad.lost.is_empty()), "{bad:?}");
}

#[test]
fn other_bytes_are_never_taken_home() {
    let server = Server::s3s(Signed::Checked);
    let bed = Bed::new();
    let offsite = bed.at(server.at("p"), keys());
    offsite.push(&Watch::NONE).unwrap();
    bed.empty(&offsite);
    spoil(&server);
    for digest in bed.all() {
        let error = offsite.bring(&[digest], &Watch::NONE).unwrap_err();
        assert!(matches!(error, OffsiteError::Lost { .. } | OffsiteError::Bucket(_)), "{error}");
    }
    assert_eq!(bed.here(), 0);
    assert_eq!(offsite.check(false, &Watch::NONE).unwrap(), []);
    assert_eq!(offsite.check(true, &Watch::NONE).unwrap().len(), 2);
}

#[test]
fn a_bad_connection_harms_nothing_and_one_download_serves_all() {
    let server = Server::s3s(Signed::Checked);
    let bed = Bed::new();
    let proxy = Proxy::start(&server.address, |asked| match (asked.method.as_str(), asked.before) {
        ("GET", 0) => Fault::Cut(1000),
        ("PUT", 0) => Fault::Answer(503, Vec::new(), String::new()),
        ("PUT", 1) => Fault::Lost,
        _ => Fault::None,
    });
    let at = location(Provider::S3, &proxy.endpoint(), "p");
    let offsite = bed.at(at, keys());
    offsite.push(&Watch::NONE).unwrap();
    bed.empty(&offsite);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| offsite.bring(&bed.all(), &Watch::NONE).unwrap());
        }
    });
    let alone = bed.alone.to_string();
    // Cut once, and gone on with.
    assert_eq!(proxy.count("GET", &alone[2..]), 2);
    bed.reads(bed.at(server.at("p"), keys()));
    bed.empty(&offsite);
    let stop = offsite.bring(&bed.all(), &Watch { progress: &|_, _| {}, stop: &|| true }).unwrap_err();
    assert!(matches!(stop, OffsiteError::Bucket(_) | OffsiteError::Data(DataError::Stopped)), "{stop}");
    drop(proxy);
    let down = offsite.bring(&bed.all(), &Watch::NONE).unwrap_err().to_string();
    assert!(down.contains("s3://bkt/p"), "{down}");
}
