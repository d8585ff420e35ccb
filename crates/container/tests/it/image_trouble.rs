//! Registries on bad days: wrong, slow, broken, strict.
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use vessl_container::store::{Auth, Options, PullWatch, StoreError};
use vessl_container::unpack::Limits;
use vessl_data::fetch::RetryPolicy;

use crate::image_build::{Built, Tar, digest, image, noise, plain};
use crate::image_server::serve;
use crate::image_support::{Fixture, login, pull, pull_threads, quick, retrying};
use crate::rt_support::eventually;
use crate::scripted::{Reply, Request, Scripted, Stop};

const SIZE: usize = 2 << 20;

fn one_layer() -> Built {
    image(&[plain(&Tar::new().file("f", &noise(SIZE, 7)))])
}

/// The layer's digest.
fn layer_of(built: &Built) -> String {
    let (digest, _) = built.blobs.iter().max_by_key(|(_, blob)| blob.len()).unwrap();
    digest.clone()
}

fn is_layer(request: &Request, built: &Built) -> bool {
    request.path.contains("/blobs/") && request.path.ends_with(&layer_of(built))
}

/// A server of `built` with another answer to the requests for its layer.
fn with_layer(built: &Built, answer: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Scripted {
    let built = built.clone();
    Scripted::start(move |request| {
        let reply = serve(&built, request);
        if is_layer(request, &built) { answer(request, reply) } else { reply }
    })
}

fn reference(server: &Scripted) -> String {
    format!("{}/team/app:v1", server.address())
}

#[test]
fn a_wrong_digest_is_refused_and_nothing_stays() {
    let built = one_layer();
    let server = with_layer(&built, |_, mut reply| {
        reply.body[SIZE / 2] ^= 1;
        reply
    });
    let fixture = Fixture::new();
    let error = fixture.refused(&reference(&server));
    assert!(
        error.contains("is damaged: its digest should be") && error.contains(&layer_of(&built)),
        "{error}"
    );
    fixture.assert_no_half_work();
    assert_eq!(fixture.names("tmp"), [""; 0]);
}

#[test]
fn a_wrong_diff_id_is_refused() {
    let mut layer = plain(&Tar::new().file("f", b"x"));
    layer.diff = digest(b"something else");
    let built = image(&[layer]);
    let server = Scripted::start(move |request| serve(&built, request));
    let fixture = Fixture::new();
    let error = fixture.refused(&reference(&server));
    assert!(error.contains("where the image's configuration says"), "{error}");
    fixture.assert_no_half_work();
}

#[test]
fn a_failed_pull_keeps_no_download_of_no_use() {
    let kept = Options { again: Duration::ZERO, ..quick() };
    let left = |built: Built, options: Options, words: &str| {
        let server =
            with_layer(
                &built,
                |request, reply| {
                    if request.path.contains("/gone/") { Reply::status(404) } else { reply }
                },
            );
        let fixture = Fixture::new();
        let repository = if words == "lacks" { "gone" } else { "here" };
        let reference = format!("{}/{repository}/app:v1", server.address());
        let error = pull(&fixture.store.clone().with(options), &reference, &Auth::Anonymous).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(fixture.names("tmp"), [""; 0], "{words}");
    };
    let mut garbage = plain(&Tar::new());
    garbage.blob = noise(100_000, 3);
    let limits = Limits { entries: 1, ..Limits::default() };
    for options in [quick(), kept] {
        left(one_layer(), options.clone(), "lacks");
        left(image(&[garbage.clone()]), options.clone(), "cannot be unpacked");
        let bomb = image(&[plain(&Tar::new().file("a", &noise(SIZE, 5)).file("b", b""))]);
        left(bomb, Options { limits, ..options }, "more than 1 files");
    }
}

#[test]
fn a_wrong_manifest_or_configuration_is_refused() {
    let built = one_layer();
    let pinned = digest(&built.manifest);
    let broken = built.clone();
    let server = Scripted::start(move |request| {
        let mut reply = serve(&broken, request);
        if request.path.contains("/manifests/sha256:") || request.path.contains("/blobs/") {
            reply.body.push(b' ');
        }
        reply
    });
    let fixture = Fixture::new();
    let by_digest = fixture.refused(&format!("{}/x@{pinned}", server.address()));
    assert!(by_digest.contains("the manifest of") && by_digest.contains("digest should be"), "{by_digest}");
    let by_tag = fixture.refused(&reference(&server));
    assert!(by_tag.contains("the configuration of") && by_tag.contains("digest should be"), "{by_tag}");
}

#[test]
fn a_cut_download_continues_where_it_stopped() {
    let built = one_layer();
    let server = with_layer(&built, |_, reply| {
        let size = reply.body.len();
        if size > SIZE / 4 { reply.stopping(size / 2, Stop::Cut) } else { reply }
    });
    let fixture = Fixture::new();
    let pulled = fixture.pull(&reference(&server)).unwrap();
    assert_eq!(std::fs::read(pulled.layers[0].join("f")).unwrap(), noise(SIZE, 7));
    let ranges: Vec<_> = server
        .seen()
        .iter()
        .filter(|r| is_layer(r, &built))
        .filter_map(|r| r.header("range").map(str::to_owned))
        .collect();
    assert!(ranges.len() >= 2 && ranges[0].starts_with("bytes=10"), "{ranges:?}");
    assert_eq!(pulled.fetched, built.compressed());
}

#[test]
fn layers_are_fetched_side_by_side() {
    const ALONE: Duration = Duration::from_secs(30);
    let layers: Vec<_> = (0..3).map(|n| plain(&Tar::new().file("f", &noise(1000, n)))).collect();
    let built = image(&layers);
    let names: Vec<_> = layers.iter().map(|layer| layer.diff.clone()).collect();
    // Each layer is only sent when all have been asked for; whoever asks one by one is refused.
    let (asked, all) = (Mutex::new(0), Condvar::new());
    let server = Scripted::start(move |request| {
        if names.iter().any(|name| request.path.ends_with(name)) {
            *asked.lock().unwrap() += 1;
            all.notify_all();
            let missing = |asked: &mut usize| *asked < names.len();
            let waited = all.wait_timeout_while(asked.lock().unwrap(), ALONE, missing).unwrap();
            if waited.1.timed_out() {
                return Reply::status(404);
            }
        }
        serve(&built, request)
    });
    let options = retrying(RetryPolicy { stall: 2 * ALONE, retries: 0, ..quick().fetch });
    let store = Fixture::new();
    assert!(pull(&store.store.clone().with(options), &reference(&server), &Auth::Anonymous).is_ok());
}

#[test]
fn a_registry_without_ranges_is_read_again() {
    let built = one_layer();
    let whole = built.blobs[&layer_of(&built)].clone();
    let asked = AtomicUsize::new(0);
    let server = with_layer(&built, move |_, _| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::ok(&whole).stopping(SIZE / 2, Stop::Cut),
        _ => Reply::ok(&whole),
    });
    let fixture = Fixture::new();
    assert!(fixture.pull(&reference(&server)).is_ok());
}

#[test]
fn a_registry_that_refuses_to_go_on_is_read_again() {
    let built = one_layer();
    let asked = AtomicUsize::new(0);
    let server = with_layer(&built, move |request, reply| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => reply.stopping(SIZE / 2, Stop::Cut),
        _ if request.range().is_some() => Reply::status(416),
        _ => reply,
    });
    assert!(Fixture::new().pull(&reference(&server)).is_ok());
    let refuses = with_layer(&built, |request, reply| match request.range() {
        None => reply.stopping(SIZE / 2, Stop::Cut),
        Some(_) => Reply::status(416),
    });
    let error = Fixture::new().refused(&reference(&refuses));
    assert!(error.contains("the connection was cut"), "{error}");
}

#[test]
fn a_download_of_a_dead_pull_is_continued_by_the_next() {
    let built = one_layer();
    let broken = with_layer(&built, |_, reply| reply.stopping(SIZE / 2, Stop::Cut).with("X", "cut"));
    let fixture = Fixture::new();
    let once = retrying(RetryPolicy { retries: 0, ..quick().fetch });
    let error = pull(&fixture.store.clone().with(once), &reference(&broken), &Auth::Anonymous).unwrap_err();
    assert!(error.to_string().contains("the connection was cut"), "{error}");
    fixture.assert_no_half_work();

    let server = with_layer(&built, |_, reply| reply);
    let pulled = fixture.pull(&reference(&server)).unwrap();
    assert!(server.seen().iter().any(|r| r.header("range").is_some_and(|v| v != "bytes=0-")));
    assert!(pulled.fetched < built.compressed(), "{}", pulled.fetched);
}

#[test]
fn a_damaged_half_download_is_begun_again() {
    let built = one_layer();
    let fixture = Fixture::new();
    let layer = layer_of(&built);
    let hex = layer.strip_prefix("sha256:").unwrap();
    let work = fixture.root().join("tmp").join(hex);
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join(format!("{hex}.part")), vec![0; SIZE / 2]).unwrap();
    let server = with_layer(&built, |_, reply| reply);
    let pulled = fixture.pull(&reference(&server)).unwrap();
    assert_eq!(std::fs::read(pulled.layers[0].join("f")).unwrap(), noise(SIZE, 7));
}

#[test]
fn a_blob_longer_than_announced_is_refused() {
    let built = one_layer();
    let server = with_layer(&built, |_, mut reply| {
        reply.body.extend_from_slice(b"more");
        reply
    });
    let error = Fixture::new().refused(&reference(&server));
    assert!(error.contains("it is longer than"), "{error}");
}

#[test]
fn a_huge_manifest_is_not_read() {
    let server = Scripted::start(|_| Reply::ok(&vec![b' '; 5 << 20]));
    let error = Fixture::new().refused(&reference(&server));
    assert!(error.contains("is longer than 4194304 bytes"), "{error}");
}

#[test]
fn a_registry_that_stalls_is_given_up() {
    let built = one_layer();
    let server = with_layer(&built, |_, reply| reply.stopping(1000, Stop::Stall));
    let fixture = Fixture::new();
    let options = retrying(RetryPolicy { stall: Duration::from_secs(2), retries: 1, ..quick().fetch });
    let error =
        pull(&fixture.store.clone().with(options), &reference(&server), &Auth::Anonymous).unwrap_err();
    assert!(error.to_string().contains("it stalled: nothing came for 2 s"), "{error}");
    assert!(error.to_string().contains("`team/app`"), "{error}");
    // What stalled was the layer, each time it was asked for.
    assert_eq!(server.seen().iter().filter(|request| is_layer(request, &built)).count(), 2);
}

#[test]
fn cancel_stops_at_once_and_leaves_no_thread() {
    let built = one_layer();
    let server = with_layer(&built, |_, reply| reply.stopping(1000, Stop::Stall));
    let fixture = Fixture::new();
    // Nothing else ends the pull before this.
    let stall = Duration::from_mins(1);
    let store = fixture.store.clone().with(retrying(RetryPolicy { stall, retries: 0, ..quick().fetch }));
    let cancel = AtomicBool::new(false);
    let (error, took) = std::thread::scope(|scope| {
        let pulling = scope.spawn(|| {
            let watch = PullWatch { progress: &|_, _| {}, cancel: &cancel };
            let error = store.pull(&reference(&server), &Auth::Anonymous, &watch).unwrap_err();
            (error, Instant::now())
        });
        server.wait_for(|request| is_layer(request, &built));
        let asked = Instant::now();
        cancel.store(true, Ordering::SeqCst);
        let (error, ended) = pulling.join().unwrap();
        (error, ended - asked)
    });
    assert!(matches!(error, StoreError::Cancelled), "{error}");
    assert!(took < stall / 2, "{took:?}");
    // The kernel may list a thread a moment longer than it lives.
    eventually("no thread of the pull is left", || pull_threads() == 0);
    fixture.assert_no_half_work();
}

#[test]
fn a_rate_limit_is_waited_for_a_few_times() {
    let built = one_layer();
    let asked = AtomicUsize::new(0);
    let server = Scripted::start(move |request| match asked.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Reply::status(429).with("Retry-After", "0"),
        _ => serve(&built, request),
    });
    assert!(Fixture::new().pull(&reference(&server)).is_ok());

    let endless = Scripted::start(|_| Reply::status(429).with("Retry-After", "0"));
    let error = Fixture::new().refused(&reference(&endless));
    assert!(error.contains("too many requests (429)"), "{error}");
    assert_eq!(endless.seen().len(), 4);

    let long = Scripted::start(|_| Reply::status(429).with("Retry-After", "3600"));
    let error = Fixture::new().refused(&reference(&long));
    assert!(error.contains("try again in 3600 s") && error.contains(&long.address()), "{error}");
}

#[test]
fn passing_failures_are_tried_again_and_lasting_ones_told() {
    let built = one_layer();
    let asked = AtomicUsize::new(0);
    let server = Scripted::start(move |request| match asked.fetch_add(1, Ordering::SeqCst) {
        0 | 2 => Reply::status(503),
        _ => serve(&built, request),
    });
    assert!(Fixture::new().pull(&reference(&server)).is_ok());
    let lasting = Scripted::start(|_| Reply::status(500));
    let error = Fixture::new().refused(&reference(&lasting));
    assert!(error.contains("status 500") && error.contains("`team/app`"), "{error}");
}

#[test]
fn a_registry_that_is_down_is_said_soon() {
    let address = Scripted::start(|_| Reply::status(500)).address();
    // With its pauses, so many tries would take more than half a minute.
    let patient = retrying(RetryPolicy { retries: 14, ..quick().fetch });
    let fixture = Fixture::new();
    let started = Instant::now();
    let pulled = pull(&fixture.store.clone().with(patient), &format!("{address}/team/app"), &Auth::Anonymous);
    let error = pulled.unwrap_err().to_string();
    assert!(
        error.contains(&format!("registry `{address}`")) && error.contains("Connection refused"),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn plain_http_is_for_loopback_and_listed_registries_only() {
    let built = one_layer();
    let server = Scripted::start(move |request| serve(&built, request));
    let port = server.address().rsplit_once(':').unwrap().1.to_owned();
    let fixture = Fixture::new();
    // Reaches this machine, but is no loopback address.
    let registry = format!("0.0.0.0:{port}");
    let error = fixture.refused(&format!("{registry}/x"));
    assert!(error.contains("does not speak https") && error.contains(Options::INSECURE), "{error}");
    let listed = Options { insecure: vec![registry.clone()], ..quick() };
    assert!(pull(&fixture.store.clone().with(listed), &format!("{registry}/x"), &Auth::Anonymous).is_ok());
    assert!(fixture.pull(&format!("localhost:{port}/x")).is_ok());
}

/// A registry that wants a token from `realm`, and accepts `Bearer good-token`.
fn token_registry(built: &Built, realm: String) -> Scripted {
    let built = built.clone();
    Scripted::start(move |request| {
        if request.header("authorization") == Some("Bearer good-token") {
            return serve(&built, request);
        }
        let challenge = format!(r#"Bearer realm="{realm}",service="tests",scope="repository:team/app:pull""#);
        Reply::status(401).with("WWW-Authenticate", &challenge)
    })
}

#[test]
fn a_token_is_fetched_with_the_login_and_used() {
    let built = one_layer();
    let tokens = Scripted::start(|request| match request.header("authorization") {
        // ada:pass
        Some("Basic YWRhOnBhc3M=") => Reply::ok(br#"{"token":"good-token","expires_in":60}"#),
        None => Reply::ok(br#"{"access_token":"good-token"}"#),
        Some(_) => Reply::status(401),
    });
    let server = token_registry(&built, format!("http://{}/token?x=y", tokens.address()));
    let fixture = Fixture::new();
    let pulled = pull(&fixture.store, &reference(&server), &login("ada", "pass")).unwrap();
    assert_eq!(pulled.fetched, built.compressed());
    let asked = tokens.seen();
    assert_eq!(asked.len(), 1);
    assert!(
        asked[0].path.starts_with("/token?x=y&scope=repository%3Ateam%2Fapp%3Apull&service=tests"),
        "{}",
        asked[0].path
    );
    assert!(server.seen().iter().all(|r| !r.header("authorization").is_some_and(|a| a.contains("Basic"))));

    assert_eq!(Fixture::new().pull(&reference(&server)).map(|p| p.layers.len()).unwrap(), 1);
    let wrong = pull(&Fixture::new().store, &reference(&server), &login("ada", "wrong")).unwrap_err();
    assert!(wrong.to_string().contains("the login of `ada` failed (401)"), "{wrong}");
}

#[test]
fn a_login_service_that_is_not_there_is_named_as_what_it_is() {
    let tokens = Scripted::start(|_| Reply::status(404));
    let server = token_registry(&one_layer(), format!("http://{}/token", tokens.address()));
    let error = Fixture::new().refused(&reference(&server));
    assert!(error.contains("its login service answers 404") && !error.contains("manifest"), "{error}");
}

#[test]
fn a_token_that_ran_out_is_fetched_anew() {
    let built = one_layer();
    let valid = Arc::new(AtomicUsize::new(0));
    let issued = Arc::clone(&valid);
    let tokens = Scripted::start(move |_| {
        let n = issued.fetch_add(1, Ordering::SeqCst) + 1;
        Reply::ok(format!(r#"{{"token":"t{n}"}}"#).as_bytes())
    });
    let realm = format!("http://{}/", tokens.address());
    let (serving, layer) = (built.clone(), layer_of(&built));
    let server = Scripted::start(move |request| {
        // The first token is good for all but the layer.
        let n = valid.load(Ordering::SeqCst);
        let good = request.header("authorization") == Some(&format!("Bearer t{n}"));
        if good && (n > 1 || !request.path.ends_with(&layer)) {
            return serve(&serving, request);
        }
        Reply::status(401).with("WWW-Authenticate", &format!(r#"Bearer realm="{realm}""#))
    });
    assert!(Fixture::new().pull(&reference(&server)).is_ok());
    assert_eq!(tokens.seen().len(), 2);
}

#[test]
fn a_credential_goes_nowhere_else() {
    let built = one_layer();
    let served = built.clone();
    let storage = Scripted::start(move |request| serve(&served, request));
    let (registry, elsewhere) = (built.clone(), storage.address());
    let server = Scripted::start(move |request| {
        if request.header("authorization").is_none() {
            return Reply::status(401).with("WWW-Authenticate", "Basic realm=x");
        }
        if request.path.contains("/blobs/") {
            return Reply::status(307)
                .with("Location", &format!("http://{elsewhere}{}?signed=1", request.path));
        }
        serve(&registry, request)
    });
    assert!(pull(&Fixture::new().store, &reference(&server), &login("ada", "pass")).is_ok());
    let seen = storage.seen();
    assert_eq!(seen.len(), 2);
    assert!(
        seen.iter().all(|r| r.header("authorization").is_none() && r.header("referer").is_none()),
        "{seen:?}"
    );
}
