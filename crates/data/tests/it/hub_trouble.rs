//! Imports from a Hugging Face that fails, lies or never answers.
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vessl_core::secret::Secret;
use vessl_data::Watch;
use vessl_data::dir::Dir;
use vessl_data::fetch::RetryPolicy;
use vessl_data::hub::{self, HubError, Kind, Login, Repository, Request};

use crate::hub_bed::{Bed, COMMIT, Content, Site, TOKEN, Want, all_files, entry};
use crate::scripted::{Reply, Request as Asked, Stop};

/// The whole repository is there.
fn check_complete(bed: &Bed, want: &Want<'_>) {
    let imported = bed.import(want).unwrap();
    assert_eq!(imported.files, 5);
    let expected = Site::new().files.into_iter().map(|(path, content)| (path, content.bytes)).collect();
    assert_eq!(all_files(&bed.target()), expected);
}

#[test]
fn a_cut_download_goes_on_where_it_stopped() {
    let cut = |_: &Asked, time, reply: Reply| {
        if time < 3 { reply.stopping(1_000_000, Stop::Cut) } else { reply }
    };
    let bed = Bed::new(Site { far_fault: Box::new(cut), ..Site::new() });
    let sum = AtomicU64::new(0);
    let progress = |new, _| {
        sum.fetch_add(new, Ordering::Relaxed);
    };
    check_complete(&bed, &Want { watch: Watch { progress: &progress, ..Watch::NONE }, ..Want::default() });
    let ranges = Bed::ranges(bed.far());
    assert!(ranges.len() == 3 && ranges.iter().is_sorted() && ranges[2] > 2_000_000, "{ranges:?}");
    assert_eq!(sum.into_inner(), 5_000_009);
}

#[test]
fn passing_failures_pass() {
    let fault = |_: &Asked, time, reply: Reply| match time {
        0 => Reply::status(500),
        1 => Reply::status(429).with("Retry-After", "0"),
        2 => Reply::status(503),
        _ => reply,
    };
    check_complete(&Bed::new(Site { fault: Box::new(fault), ..Site::new() }), &Want::default());
}

#[test]
fn damage_on_the_way_is_mended_once() {
    let damage = |last: usize| {
        move |asked: &Asked, time, mut reply: Reply| {
            let is_file = asked.path.ends_with("README.md") || asked.path.ends_with("model.bin");
            if is_file && time <= last && !reply.body.is_empty() {
                reply.body[1] ^= 1;
            }
            reply
        }
    };
    let site = Site { fault: Box::new(damage(0)), far_fault: Box::new(damage(0)), ..Site::new() };
    check_complete(&Bed::new(site), &Want::default());
    let bed = Bed::new(Site { fault: Box::new(damage(9)), ..Site::new() });
    let said = bed.refusal(&Want::default());
    let expected = "`README.md` of the model `owner/name` at";
    assert!(said.starts_with(expected) && said.contains("damaged: its git object id should be "), "{said}");
    let bed = Bed::new(Site { far_fault: Box::new(damage(9)), ..Site::new() });
    let said = bed.refusal(&Want::default());
    assert!(said.starts_with("`model.bin`") && said.contains("its SHA-256 should be "), "{said}");
}

#[test]
fn sizes_that_lie_are_found() {
    let real = |bytes: &[u8]| Content { bytes: bytes.to_vec(), is_large: false };
    let check = |listed: String, expected: &str| {
        let mut site = Site { entries: Some(vec![listed]), ..Site::new() };
        site.files.insert("f".to_owned(), real(b"12345"));
        let said = Bed::new(site).refusal(&Want::default());
        assert!(said.contains(expected), "{said}");
    };
    check(entry("f", &real(b"123")), "`f` of the model `owner/name`");
    check(entry("f", &real(b"123")), "damaged: it is longer than 3 bytes, as its listing says");
    check(entry("f", &real(b"1234567")), "damaged: it is shorter than its listing says");
    let huge = entry("f", &real(b"123")).replace("\"size\":3", "\"size\":4611686018427387904");
    check(huge, "the disk is full: cannot write the files of the model");
}

#[test]
fn lists_that_lie_are_found() {
    let content = Content { bytes: b"x".to_vec(), is_large: false };
    let check = |paths: &[&str], expected: &str| {
        let mut site = Site { page: 1, ..Site::new() };
        site.entries = Some(paths.iter().map(|path| entry(path, &content)).collect());
        site.files = paths.iter().map(|path| ((*path).to_owned(), content.clone())).collect();
        let bed = Bed::new(site);
        let said = bed.refusal(&Want::default());
        assert!(said.contains(expected), "{said}");
        let outside = bed.target().parent().unwrap().join("escaped");
        assert!(!outside.exists());
    };
    check(&["a", "b", "a"], "it has two entries for `a`");
    check(&["a", "b", "a/c"], "or a file and a directory of that name");
    check(&["a/c", "b", "a"], "or a file and a directory of that name");
    check(
        &["b", "../escaped"],
        "has a file `../escaped`, which cannot be written: it has an empty part, `.` or `..`",
    );
    let mut site = Site::new();
    site.entries = Some(vec![entry("missing", &content)]);
    let said = Bed::new(site).refusal(&Want::default());
    assert!(said.ends_with("lacks `missing`, which its listing names"), "{said}");
}

#[test]
fn a_bad_name_is_found_before_the_first_byte() {
    let content = Content { bytes: b"x".to_vec(), is_large: false };
    let mut site = Site::new();
    site.entries = Some(vec![entry("README.md", &content), entry(&"x".repeat(256), &content)]);
    let bed = Bed::new(site);
    let said = bed.refusal(&Want::default());
    assert!(said.contains("a part of it has more than 255 bytes"), "{said}");
    assert!(bed.near().seen().iter().all(|asked| asked.path.contains("/tree/")));
    assert!(all_files(&bed.target()).is_empty());
}

#[test]
fn pages_without_end_are_given_up() {
    let check = |next: &'static str, body: Option<&'static str>| {
        let fault = move |asked: &Asked, _, mut reply: Reply| {
            if asked.path.contains("/tree/") {
                reply.headers.push(("Link".to_owned(), format!("<{next}>; rel=\"next\"")));
                reply.body = body.map_or(reply.body, |body| body.as_bytes().to_vec());
            }
            reply
        };
        let said = Bed::new(Site { fault: Box::new(fault), ..Site::new() }).refusal(&Want::default());
        assert!(said.contains("its pages do not end"), "{said}");
    };
    check("?recursive=true", None);
    check("?cursor=0", Some("[]"));
}

#[test]
fn answers_that_are_none() {
    let check = |part: &'static str, reply: Reply, expected: &str| {
        let fault = move |asked: &Asked, _, truth: Reply| {
            if asked.path.contains(part) { reply.clone() } else { truth }
        };
        let bed = Bed::new(Site { fault: Box::new(fault), ..Site::new() });
        let want = Want { token: Some(TOKEN), ..Want::default() };
        let said = match bed.pin(&want) {
            Ok(_) => bed.refusal(&want),
            Err(error) => error.to_string(),
        };
        assert!(said.contains(expected), "{said}");
        assert!(!said.contains(TOKEN), "{said}");
    };
    check("/revision/", Reply::ok(b"{}"), "the server answers without a commit for its revision");
    check("/revision/", Reply::ok(b"<html>"), "the server answers without a commit for its revision");
    check("/tree/", Reply::ok(b"<html>"), "cannot be used: it is no list: expected value at line 1");
    check("/tree/", Reply::status(418), "the server answers 418 for the list of its files");
    check("/resolve/", Reply::status(503), "the server failed: it fails with status 503");
    check("/resolve/", Reply::status(429), "cannot be fetched now: too many requests (429), again and again");
    check("/resolve/", Reply::status(429).with("Retry-After", "900"), "(429), try again in 900 s");
    let limit = Reply::status(429).with("RateLimit", "\"resolvers\";r=0;t=400");
    check("/resolve/", limit, "(429), try again in 400 s");
    let echo = Reply::status(403).with("X-Error-Message", &format!("no {TOKEN}"));
    check("/resolve/", echo, "may not be read (403); check the token of the credential `mine`");
}

#[test]
fn the_other_server_is_named_when_it_refuses() {
    let fault = |_: &Asked, _, _| Reply::status(403);
    let bed = Bed::new(Site { far_fault: Box::new(fault), ..Site::new() });
    let said = bed.refusal(&Want { token: Some(TOKEN), ..Want::default() });
    let expected =
        format!("the server answers 403 at `{}`, where it sends, for `model.bin`", bed.far().address());
    assert!(said.ends_with(&expected), "{said}");
}

#[test]
fn a_server_that_is_down_is_said_soon() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let repository = Repository::new(Kind::Model, "a/b", None, &format!("http://{closed}")).unwrap();
    let retry = RetryPolicy { pause: Duration::from_millis(1), ..RetryPolicy::default() };
    let token = Secret::from(TOKEN);
    let login = Some(Login { credential: "mine", token: &token });
    let request = Request { repository: &repository, login, watch: Watch::NONE, retry: &retry };
    let dir = tempfile::tempdir().unwrap();
    for said in [
        hub::pin(&request).map(drop).unwrap_err(),
        hub::import(&request, COMMIT, &Dir::open(dir.path()).unwrap(), None).map(drop).unwrap_err(),
    ] {
        assert!(matches!(said, HubError::Unreachable { .. }), "{said}");
        assert!(said.to_string().contains("cannot be reached: Connection refused"), "{said}");
    }
}

#[test]
fn a_silent_server_holds_nobody_who_wants_to_stop() {
    let fault = |asked: &Asked, _, reply: Reply| {
        if asked.path.contains("/resolve/") { reply.stopping(0, Stop::Silence) } else { reply }
    };
    let bed = Bed::new(Site { fault: Box::new(fault), ..Site::new() });
    let stop = AtomicBool::new(false);
    let is_stopped = || stop.load(Ordering::Relaxed);
    let want = Want { watch: Watch { stop: &is_stopped, ..Watch::NONE }, ..Want::default() };
    let began = Instant::now();
    let error = std::thread::scope(|scope| {
        let import = scope.spawn(|| bed.import(&want).unwrap_err());
        bed.near().wait_for(|asked| asked.path.contains("/resolve/"));
        stop.store(true, Ordering::Relaxed);
        import.join().unwrap()
    });
    assert!(matches!(error, HubError::Stopped), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn only_a_commit_is_imported() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::new(Kind::Model, "a/b", None, "http://127.0.0.1:9").unwrap();
    let retry = RetryPolicy::default();
    let request = Request { repository: &repository, login: None, watch: Watch::NONE, retry: &retry };
    for commit in ["main", "", "../../../../../../../../../../../../../x", &COMMIT.to_uppercase()] {
        let said = hub::import(&request, commit, &Dir::open(dir.path()).unwrap(), None).unwrap_err();
        assert!(matches!(said, HubError::Bad { .. }), "{said}");
    }
}
