//! Single files of a place of a bucket: listed, read, put and removed beside an export, whose list stays true.
use std::fs::File;
use std::path::Path;

use vessl_data::Watch;
use vessl_data::blob::Digest;
use vessl_data::bucket::{Addition, FileKind, Identity, ListChange, Outgoing, Provider, Recursive, Session};
use vessl_data::sparse::ReadAt;

use crate::bucket_bed::{Server, Signed, bytes, export, files, import, keys, location, session};
use crate::bucket_proxy::{Fault, Proxy};

fn add(session: &Session, name: &str, content: &[u8]) -> ListChange {
    let (_temp, dir) = files(&[("f", content), ("none", b"")]);
    let file = File::open(dir.join("f")).unwrap();
    let what = Outgoing::File { name: Path::new(name), file: &file };
    let journal = dir.join("journal");
    let want = Addition { what, to: "", journal: &journal, who: "somebody", watch: &Watch::NONE };
    let added = session.add(&want).unwrap();
    assert_eq!((added.files, added.bytes), (1, content.len() as u64));
    assert!(!journal.exists(), "nothing is on its way any more");
    added.change
}

fn listed(session: &Session, path: &str, recursive: Recursive) -> Option<Vec<String>> {
    let files = session.files(path, recursive, 1000).unwrap()?;
    Some(files.into_iter().map(|file| file.path).collect())
}

#[test]
fn files_come_and_go_beside_an_export() {
    let (_temp, dir) = files(&[("a", b"1"), ("sub/b", b"2"), ("sub/deep/c", b"3")]);
    let servers = [
        (Server::s3s(Signed::Checked), keys()),
        (Server::moto(), keys()),
        (Server::google(), Identity::Anonymous),
    ];
    for (n, (server, identity)) in servers.into_iter().enumerate() {
        let session = session(server.at("p/x"), identity);
        let provider = session.location().provider;
        assert_eq!(listed(&session, "", Recursive::Yes), Some(Vec::new()), "{provider:?}");
        export(&session, &dir, "run 1").unwrap();
        let one = ["a", "sub"].map(str::to_owned).to_vec();
        assert_eq!(listed(&session, "", Recursive::No), Some(one), "{provider:?}");
        let first = session.files("a", Recursive::No, 1000).unwrap().unwrap().remove(0);
        // The first of the servers may list no tag, and without one nobody knows that it is the same content.
        let known = first.known.map(|known| (known.mode, known.digest));
        let expected = (n > 0 || known.is_some()).then(|| (0o644, Digest::of(b"1")));
        assert_eq!(known, expected, "{provider:?}");
        let all = ["sub/b", "sub/deep", "sub/deep/c"].map(str::to_owned).to_vec();
        assert_eq!(listed(&session, "sub", Recursive::Yes), Some(all), "{provider:?}");
        assert_eq!(listed(&session, "su", Recursive::No), None);
        assert_eq!(session.kind("sub").unwrap(), Some(FileKind::Directory));
        assert_eq!(session.kind("a").unwrap(), Some(FileKind::File));
        let change = add(&session, "sub/b", b"new");
        let stale = import(&session).map(|_| ()).unwrap_err().to_string();
        assert!(stale.contains("sub/b"), "the list does not know it yet: {stale}");
        session.amend(&change).unwrap();
        session.amend(&add(&session, "more/d", b"4")).unwrap();
        assert_eq!(session.remove("sub/deep").unwrap(), 1);
        assert_eq!(session.remove("a").unwrap(), 1);
        let (imported, into) = import(&session).unwrap();
        assert_eq!(imported.left_out, [""; 0], "{provider:?}");
        let content = into.content();
        let found: Vec<_> = content.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        let expected: [(&str, &[u8]); 4] =
            [("more/", b""), ("more/d", b"4"), ("sub/", b""), ("sub/b", b"new")];
        assert_eq!(found, expected, "{provider:?}");
    }
}

#[test]
fn an_object_is_read_from_anywhere_and_compared_at_its_end() {
    let (server, content) = (Server::s3s(Signed::Ignored), bytes(3 << 20));
    assert_eq!(server.put("d/f", &content), 200);
    let open = |proxy: &Proxy| {
        let session = session(location(Provider::S3, &proxy.endpoint(), "d"), Identity::Anonymous);
        session.read("f").unwrap().unwrap()
    };
    let whole = |proxy: &Proxy| {
        let reader = open(proxy);
        let mut read = vec![0; content.len()];
        // In pieces, as it is sent on.
        for (n, piece) in read.chunks_mut(100_000).enumerate() {
            reader.read_exact_at(piece, n as u64 * 100_000)?;
        }
        Ok::<_, std::io::Error>(read)
    };
    let cuts = Proxy::start(&server.address, |asked| {
        if asked.method == "GET" && asked.before < 2 { Fault::Cut(1_000_000) } else { Fault::None }
    });
    assert!(whole(&cuts).unwrap() == content);
    let mut middle = vec![0; 1000];
    open(&cuts).read_exact_at(&mut middle, 2_000_000).unwrap();
    assert!(middle == content[2_000_000..2_001_000]);
    let damaged = Proxy::start(&server.address, |asked| {
        if asked.method == "GET" { Fault::Corrupt(2_999_999) } else { Fault::None }
    });
    let failed = whole(&damaged).unwrap_err().to_string();
    assert!(failed.contains("s3://bkt/d/f") && failed.contains("MD5"), "{failed}");
    let reader = open(&cuts);
    assert_eq!(server.put("d/f", &content[..1 << 20]), 200);
    let failed = reader.read_exact_at(&mut middle, 0).unwrap_err().to_string();
    assert!(failed.contains("changed"), "{failed}");
}
