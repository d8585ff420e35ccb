//! Imports and exports on bad days: what stands between us and the server cuts, refuses, damages and lies.
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vessl_data::bucket::{BucketError, Empty, Identity, Import, ManifestUse, Provider};
use vessl_data::{DataError, Watch};

use crate::bucket_bed::{
    Into, KEY, SECRET, Server, Signed, bed, bytes, content, export, files, import, import_as, journal, keys,
    location, session,
};
use crate::bucket_proxy::{Asked, Fault, Proxy};

const MIB: usize = 1 << 20;

fn xml(code: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>as told</Message></Error>"
    )
}

fn no(status: u16, code: &str) -> Fault {
    Fault::Answer(status, Vec::new(), xml(code))
}

/// An import of `d` as nobody, through a proxy.
fn import_through(
    server: &Server,
    rule: impl Fn(&Asked) -> Fault + Send + Sync + 'static,
) -> (Result<Into, BucketError>, Proxy) {
    let proxy = Proxy::start(&server.address, rule);
    let session = session(location(Provider::S3, &proxy.endpoint(), "d"), Identity::Anonymous);
    (import(&session).map(|(_, into)| into), proxy)
}

/// A server with one large and one small object.
fn seeded() -> (Server, Vec<u8>) {
    let (server, content) = (Server::s3s(Signed::Ignored), bytes(35 * MIB));
    assert_eq!(server.put("d/large", &content), 200);
    assert_eq!(server.put("d/small", &content[..MIB]), 200);
    (server, content)
}

fn check_brought(into: Result<Into, BucketError>, content: &[u8]) {
    let into = into.unwrap();
    assert!(std::fs::read(into.path().join("large")).unwrap() == content);
    assert!(std::fs::read(into.path().join("small")).unwrap() == content[..MIB]);
}

#[test]
fn cut_connections_are_gone_on_with() {
    let (server, content) = seeded();
    let (into, proxy) = import_through(&server, |asked| {
        if asked.method != "GET" || asked.before >= 3 {
            Fault::None
        } else {
            Fault::Cut(300_000 + asked.before)
        }
    });
    check_brought(into, &content);
    let ranges: Vec<String> = proxy
        .seen()
        .iter()
        .filter(|a| a.is("GET", "small"))
        .filter_map(|a| Some(a.header("range")?.into()))
        .collect();
    assert_eq!(ranges, ["bytes=300000-1048575", "bytes=600001-1048575", "bytes=900003-1048575"]);
    let begins = |asked: &Asked| {
        asked.header("range")?.strip_prefix("bytes=")?.split('-').next()?.parse::<usize>().ok()
    };
    assert!(
        proxy
            .seen()
            .iter()
            .filter(|a| a.is("GET", "large"))
            .filter_map(begins)
            .any(|from| from % (16 * MIB) != 0)
    );
}

#[test]
fn a_server_that_always_cuts_is_given_up() {
    let (server, _) = seeded();
    let (failed, _proxy) =
        import_through(&server, |asked| if asked.is("GET", "small") { Fault::Cut(0) } else { Fault::None });
    let text = failed.map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("s3://bkt/d/small") && text.contains("connection was cut"), "{text}");
}

#[test]
fn a_server_that_is_busy_or_fails_is_asked_again() {
    let (server, content) = seeded();
    let (into, _proxy) = import_through(&server, |asked| match asked.before {
        0 => no(503, "SlowDown"),
        1 => Fault::Answer(429, vec![("Retry-After", "0".into())], String::new()),
        2 => no(500, "InternalError"),
        _ => Fault::None,
    });
    check_brought(into, &content);
    let (failed, proxy) = import_through(&server, |_| no(503, "SlowDown"));
    let text = failed.map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("status 503 (SlowDown): as told"), "{text}");
    assert_eq!(proxy.count("GET", "list-type"), 4);
    let busy = vec![("Retry-After", "3600".to_owned())];
    let (failed, _proxy) = import_through(&server, move |_| Fault::Answer(429, busy.clone(), String::new()));
    let text = failed.map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("too many requests, try again in 3600 s"), "{text}");
}

#[test]
fn damage_is_noticed() {
    let (server, content) = seeded();
    let (into, _proxy) = import_through(&server, |asked| {
        if asked.is("GET", "small") && asked.before < 2 { Fault::Corrupt(77) } else { Fault::None }
    });
    check_brought(into, &content);
    // The large one was put as a whole, so its tag is its MD5; one of three parts comes damaged once.
    let (into, proxy) = import_through(&server, |asked| {
        if asked.is("GET", "large") && asked.before == 1 { Fault::Corrupt(77) } else { Fault::None }
    });
    check_brought(into, &content);
    assert_eq!(proxy.count("GET", "large"), 6);
    let (failed, _proxy) =
        import_through(
            &server,
            |asked| {
                if asked.is("GET", "small") { Fault::Corrupt(0) } else { Fault::None }
            },
        );
    let failed = failed.map(|_| ()).unwrap_err();
    assert!(matches!(&failed, BucketError::Damaged { key, .. } if key == "s3://bkt/d/small"), "{failed}");
}

#[test]
fn an_answer_that_is_too_short_is_gone_on_with() {
    let (server, content) = seeded();
    let (into, _proxy) = import_through(&server, |asked| {
        if asked.method == "GET" && asked.before == 0 && !asked.path.contains('?') {
            Fault::Truncate(400_000)
        } else {
            Fault::None
        }
    });
    check_brought(into, &content);
}

#[test]
fn a_server_without_ranges_is_read_as_a_whole() {
    let (server, content) = seeded();
    let (into, _proxy) = import_through(&server, |asked| match asked.before {
        0 if asked.is("GET", "small") => Fault::Cut(1_000),
        _ => Fault::Without("range"),
    });
    check_brought(into, &content);
}

#[test]
fn a_source_that_changes_is_an_error() {
    let check = |name: &'static str, rule: fn(&Asked, &Server) -> Fault| {
        let server = Arc::new(seeded().0);
        let theirs = Arc::clone(&server);
        let (failed, _proxy) = import_through(&server, move |asked| rule(asked, &theirs));
        let failed = failed.map(|_| ()).unwrap_err();
        let is_it = matches!(&failed, BucketError::Changed { key } if *key == format!("s3://bkt/d/{name}"));
        assert!(is_it, "{name}: {failed}");
        assert!(failed.to_string().contains("changed while it was imported"));
    };
    check("small", |asked, server| {
        if asked.is("GET", "small") {
            server.put("d/small", b"shorter");
        }
        Fault::None
    });
    check("small", |asked, server| {
        if asked.is("GET", "small") {
            server.ask("DELETE", "/bkt/d/small", b"");
        }
        Fault::None
    });
    check("small", |asked, _| match asked.before {
        0 if asked.is("GET", "small") => Fault::Cut(1_000),
        _ if asked.is("GET", "small") => Fault::With("etag", "\"another\"".into()),
        _ => Fault::None,
    });
    check("large", |asked, _| {
        let is_last = asked.header("range").is_some_and(|range| range.starts_with("bytes=33554432-"));
        if is_last { Fault::With("etag", "\"another\"".into()) } else { Fault::None }
    });
}

#[test]
fn a_silent_server_does_not_keep_who_wants_no_more() {
    let (server, _) = seeded();
    let proxy =
        Proxy::start(
            &server.address,
            |asked| {
                if asked.is("GET", "large") { Fault::Silence } else { Fault::None }
            },
        );
    let session = session(location(Provider::S3, &proxy.endpoint(), "d"), Identity::Anonymous);
    let (into, moved) = (Into::new(), AtomicUsize::new(0));
    let watch = Watch {
        progress: &|more, _| {
            moved.fetch_add(usize::try_from(more).unwrap(), Ordering::SeqCst);
        },
        stop: &|| moved.load(Ordering::SeqCst) > 0,
    };
    let began = Instant::now();
    let want = Import {
        into: &into.handle,
        previous: None,
        owner: None,
        manifest: ManifestUse::Follow,
        empty: Empty::IsError,
        watch: &watch,
    };
    let stopped = session.import(&want).map(|_| ()).unwrap_err();
    assert!(matches!(stopped, BucketError::Local(DataError::Stopped)), "{stopped}");
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[test]
fn the_right_region_is_found_or_said() {
    let (server, content) = seeded();
    let told =
        || Fault::Answer(301, vec![("x-amz-bucket-region", "eu-west-7".into())], xml("PermanentRedirect"));
    let moved = move |asked: &Asked| {
        let is_right = asked.header("authorization").is_some_and(|auth| auth.contains("/eu-west-7/s3/"));
        // The server behind takes no signatures.
        if is_right { Fault::Without("authorization") } else { told() }
    };
    let proxy = Proxy::start(&server.address, moved);
    let at = location(Provider::S3, &proxy.endpoint(), "d");
    check_brought(import(&session(at.clone(), keys())).map(|(_, into)| into), &content);
    let mut given = at;
    given.region = Some("us-east-1".into());
    let failed = import(&session(given, keys())).map(|_| ()).unwrap_err().to_string();
    assert!(
        failed.contains("not in the region `us-east-1` but in `eu-west-7`; set `region: eu-west-7`"),
        "{failed}"
    );
}

#[test]
fn credentials_that_ended_and_wrong_clocks_are_said() {
    let (server, _) = seeded();
    let check = |status, code: &'static str, expected: &str| {
        let (failed, _proxy) = import_through(&server, move |asked| {
            if asked.path.contains("list-type") { no(status, code) } else { Fault::None }
        });
        let text = failed.map(|_| ()).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    };
    check(400, "ExpiredToken", "the credential has expired");
    check(403, "RequestTimeTooSkewed", "its clock is wrong; set the clock");
    check(403, "InvalidAccessKeyId", "it is not known there");
    check(403, "AccessDenied", "no permission, asked anonymously");
}

#[test]
fn a_hundred_thousand_keys() {
    const KEYS: usize = 100_100;
    let page = |from: usize| {
        let keys = (from..KEYS.min(from + 1000)).map(|n| {
            format!(
                "<Contents><Key>d/{}/{n:06}</Key><Size>0</Size><ETag>\"e{n}\"</ETag></Contents>",
                n / 1000
            )
        });
        let next = from + 1000;
        let more = if next < KEYS {
            format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>")
        } else {
            "<IsTruncated>false</IsTruncated>".to_owned()
        };
        format!("<ListBucketResult>{more}{}</ListBucketResult>", keys.collect::<String>())
    };
    let proxy = Proxy::start("127.0.0.1:1", move |asked| {
        if !asked.path.contains("list-type") {
            return no(404, "NoSuchKey");
        }
        let token = asked.path.split("continuation-token=").nth(1).and_then(|rest| rest.split('&').next());
        Fault::Answer(200, Vec::new(), page(token.map_or(0, |token| token.parse().unwrap())))
    });
    let session = session(location(Provider::S3, &proxy.endpoint(), "d"), Identity::Anonymous);
    let (imported, into) = import(&session).unwrap();
    assert_eq!((imported.files, imported.picture.len()), (KEYS as u64, KEYS));
    assert_eq!(std::fs::read_dir(into.path().join("99")).unwrap().count(), 1000);
    let again = import_as(&session, Some((&imported, &into)), ManifestUse::Follow).unwrap().0;
    assert!(again.unchanged && again.picture == imported.picture);
}

#[test]
fn tokens_are_sent_to_the_server() {
    let server = Server::google();
    assert_eq!(server.put("d/a", b"a"), 200);
    let key = Command::new(bed("python/bin/python3"))
        .args(["-c", "from cryptography.hazmat.primitives.asymmetric import rsa\n\
            from cryptography.hazmat.primitives import serialization as s\n\
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)\n\
            print(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode(), end='')"])
        .output()
        .unwrap();
    let key = String::from_utf8(key.stdout).unwrap().replace('\n', "\\n");
    let account = format!(
        "{{\"private_key\": \"{key}\", \"private_key_id\": \"1\", \"client_email\": \"me@example.com\"}}"
    );
    let proxy = Proxy::start(&server.address, |_| Fault::None);
    let at = location(Provider::Gs, &proxy.endpoint(), "d");
    assert_eq!(import(&session(at, Identity::ServiceAccount(account.as_str().into()))).unwrap().0.files, 1);
    let tokens = |name: &str, proxy: &Proxy| {
        let seen = proxy.seen();
        seen.iter().map(|asked| asked.header(name).unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert!(tokens("authorization", &proxy).iter().all(|token| token.starts_with("Bearer ey")));

    let server = Server::moto();
    assert_eq!(server.put("d/a", b"a"), 200);
    let proxy = Proxy::start(&server.address, |_| Fault::None);
    let identity =
        Identity::Keys { id: KEY.into(), secret: SECRET.into(), session_token: Some("temporary".into()) };
    assert_eq!(
        import(&session(location(Provider::S3, &proxy.endpoint(), "d"), identity)).unwrap().0.files,
        1
    );
    assert!(tokens("x-amz-security-token", &proxy).iter().all(|token| token == "temporary"));
}

/// Exports as [`keys`] say, through a proxy.
fn through(
    server: &Server,
    rule: impl Fn(&Asked) -> Fault + Send + Sync + 'static,
) -> (Proxy, vessl_data::bucket::Session) {
    let proxy = Proxy::start(&server.address, rule);
    let session = session(location(Provider::S3, &proxy.endpoint(), "out"), keys());
    (proxy, session)
}

fn session_of(server: &Server) -> vessl_data::bucket::Session {
    session(server.at("out"), keys())
}

fn check_exported(server: &Server, dir: &Path) {
    let into = import(&session_of(server)).unwrap().1;
    assert!(into.content() == content(dir));
}

#[test]
fn an_export_goes_on_where_it_stopped() {
    let server = Server::s3s(Signed::Checked);
    let large = bytes(70 * MIB);
    let (_temp, dir) = files(&[("large", &large), ("small", b"small")]);
    let refuse = Arc::new(Mutex::new(true));
    let rule = Arc::clone(&refuse);
    let (proxy, session) = through(&server, move |asked| {
        let is_last = asked.path.contains("partNumber=5");
        if is_last && *rule.lock().unwrap() { no(403, "AccessDenied") } else { Fault::None }
    });
    let failed = export(&session, &dir, "run 1").map(|_| ()).unwrap_err();
    assert!(matches!(failed, BucketError::Denied { .. }), "{failed}");
    assert!(
        !server.root.join("bkt/out/large").exists()
            && !server.root.join("bkt/out/.vessl-manifest.json").exists()
    );
    let sent = |proxy: &Proxy| {
        proxy.seen().iter().filter(|a| a.method == "PUT").map(|a| a.path.clone()).collect::<Vec<_>>()
    };
    let (before, known) = (sent(&proxy).len(), std::fs::read_to_string(journal(&dir)).unwrap());
    *refuse.lock().unwrap() = false;
    let exported = export(&session, &dir, "run 1").unwrap();
    assert_eq!((exported.files, exported.bytes), (2, large.len() as u64 + 5));
    let after = sent(&proxy)[before..].to_vec();
    // Parts that were on their way when the first try ended may be sent again, but nothing that is known to be done.
    assert!(after.iter().any(|path| path.contains("partNumber=5")), "{after:?}");
    let was_known = known.contains("{\"done\":{\"path\":\"small\"");
    assert!(!was_known || !after.iter().any(|path| path.contains("out/small")), "{after:?}");
    assert_eq!(proxy.count("POST", "uploads="), 1);
    check_exported(&server, &dir);
}

#[test]
fn lost_answers_do_no_harm() {
    let server = Server::s3s(Signed::Checked);
    let large = bytes(65 * MIB);
    let (_temp, dir) = files(&[("large", &large), ("small", b"small")]);
    // Every write is done and its first answer lost: of the end of the upload and of the list too.
    let (proxy, session) = through(&server, |asked| {
        let is_begin = asked.path.contains("uploads=");
        if matches!(asked.method.as_str(), "PUT" | "POST") && asked.before == 0 && !is_begin {
            Fault::Lost
        } else {
            Fault::None
        }
    });
    let exported = export(&session, &dir, "run 1").unwrap();
    assert!(!exported.last_writer_wins);
    assert!(proxy.count("PUT", "manifest") > 1 && proxy.count("POST", "uploadId") > 1);
    check_exported(&server, &dir);
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_an_error() {
    let server = Server::s3s(Signed::Checked);
    let (_temp, dir) = files(&[("a", &bytes(3 * MIB))]);
    let path = dir.join("a");
    let (_proxy, session) = through(&server, move |asked| {
        if asked.is("PUT", "out/a") {
            std::fs::write(&path, b"other").unwrap();
        }
        Fault::None
    });
    let changed = export(&session, &dir, "run 1").map(|_| ()).unwrap_err();
    assert!(
        matches!(&changed, BucketError::Local(DataError::Changed { path }) if path == Path::new("a")),
        "{changed}"
    );
    assert!(!server.root.join("bkt/out/.vessl-manifest.json").exists());
    export(&session, &dir, "run 1").map(|_| ()).unwrap_err();
}

#[test]
fn a_store_without_conditions_is_said() {
    let server = Server::moto();
    let (_temp, dir) = files(&[("a", b"a")]);
    let (_proxy, session) = through(&server, |_| Fault::Without("if-none-match"));
    assert!(export(&session, &dir, "run 1").unwrap().last_writer_wins);
    let (_temp, other) = files(&[("b", b"b")]);
    let (_proxy, session) = through(&server, |asked| {
        if asked.header("if-match").is_some() { no(501, "NotImplemented") } else { Fault::None }
    });
    assert!(export(&session, &other, "run 2").unwrap().last_writer_wins);
    // What was there before stays.
    let mut both = content(&other);
    both.extend(content(&dir));
    assert!(import(&session_of(&server)).unwrap().1.content() == both);
}

#[test]
fn two_exports_to_one_place_at_once_are_noticed() {
    let server = Arc::new(Server::s3s(Signed::Checked));
    let (_one, first) = files(&[("a", b"one")]);
    let (_two, second) = files(&[("b", b"two")]);
    let theirs = Arc::clone(&server);
    let (_proxy, ours) = through(&server, move |asked| {
        if asked.is("PUT", "manifest") {
            // Somebody is faster.
            export(&session(theirs.at("out"), keys()), &second, "run 2").unwrap();
        }
        Fault::None
    });
    let taken = export(&ours, &first, "run 1").map(|_| ()).unwrap_err();
    assert!(matches!(&taken, BucketError::Taken { who, .. } if who == "`run 2`"), "{taken}");
}

#[test]
fn an_export_that_is_given_up_leaves_no_upload() {
    let server = Server::moto();
    let (_temp, dir) = files(&[("large", &bytes(65 * MIB))]);
    let (_proxy, session) = through(&server, |asked| {
        if asked.path.contains("partNumber=2&") { no(403, "AccessDenied") } else { Fault::None }
    });
    export(&session, &dir, "run 1").map(|_| ()).unwrap_err();
    let uploads = || String::from_utf8(server.ask("GET", "/bkt?uploads", b"").1).unwrap();
    assert!(uploads().contains("<UploadId>"), "{}", uploads());
    session.abort(&journal(&dir)).unwrap();
    assert!(!uploads().contains("<UploadId>"), "{}", uploads());
    session.abort(&journal(&dir)).unwrap();
}

#[test]
fn what_is_damaged_after_an_export_is_noticed() {
    let server = Server::s3s(Signed::Checked);
    let (_temp, dir) = files(&[("a", b"right"), ("b", b"b")]);
    export(&session(server.at("out"), keys()), &dir, "run 1").unwrap();
    std::fs::write(server.root.join("bkt/out/a"), b"wrong").unwrap();
    let failed = import(&session(server.at("out"), keys())).map(|_| ()).unwrap_err();
    assert!(failed.to_string().contains("s3://bkt/out/a"), "{failed}");
    std::fs::write(server.root.join("bkt/out/.vessl-manifest.json"), b"{\"v\": 7}").unwrap();
    let failed = import(&session(server.at("out"), keys())).map(|_| ()).unwrap_err();
    assert!(failed.to_string().contains("it has version 7, and this program knows version 1"), "{failed}");
}
