//! Imports over http: logins, redirects, servers that are down, silent or old.
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use vessl_core::record::Login;
use vessl_data::git::GitError;

use crate::git_bed::{Ask, Bed, files_with, names, wait_until_nobody_is_in};
use crate::web::{Mode, Web};

/// `reader:s3cretw0rd` and `x-access-token:s3cretw0rd`.
const LOGIN: &str = "cmVhZGVyOnMzY3JldHcwcmQ=";
const TOKEN: &str = "eC1hY2Nlc3MtdG9rZW46czNjcmV0dzByZA==";

fn login(username: &str, password: &str) -> Login {
    Login { username: username.to_owned(), password: password.into(), ..Login::default() }
}

fn root(bed: &Bed) -> std::path::PathBuf {
    bed.path("")
}

#[test]
fn everything_that_works_with_files_works_over_http() {
    let bed = Bed::new();
    let web = Web::start(Mode::Open(root(&bed)));
    let first = bed.id("v1");
    for (n, reference) in
        [None, Some("feature/x"), Some("v1"), Some(first.as_str()), Some(&first[..9])].iter().enumerate()
    {
        let dest = bed.dest(&format!("dest{n}"));
        let imported = Ask { reference: *reference, ..Ask::of(web.url()) }.run(&dest).unwrap();
        assert_eq!(imported.commit, bed.id(reference.unwrap_or("main")));
    }
    let e = Ask { reference: Some("nope"), ..Ask::of(web.url()) }.run(&bed.dest("none")).unwrap_err();
    assert!(matches!(e, GitError::UnknownReference { .. }), "{e}");
}

#[test]
fn a_password_reaches_the_server_and_nothing_else() {
    let bed = Bed::new();
    let web = Web::start(Mode::Login(root(&bed), LOGIN));
    web.watch_for("s3cretw0rd");
    let dest = bed.dest("dest");
    let ask = Ask { login: Some(login("reader", "s3cretw0rd\n")), ..Ask::of(web.url()) };
    assert_eq!(ask.run(&dest).unwrap().commit, bed.id("main"));
    assert!(!web.logins().is_empty());
    assert_eq!(web.leaks(), [""; 0]);
    for word in ["s3cretw0rd", "credential", "/proc/"] {
        assert!(files_with(&dest, word).is_empty(), "{word}");
    }
}

#[test]
fn a_bare_token_needs_no_user() {
    let bed = Bed::new();
    let web = Web::start(Mode::Login(root(&bed), TOKEN));
    Ask { login: Some(login("", "s3cretw0rd")), ..Ask::of(web.url()) }.run(&bed.dest("dest")).unwrap();
}

#[test]
fn a_refused_login_is_said_without_the_password() {
    let bed = Bed::new();
    let web = Web::start(Mode::Login(root(&bed), LOGIN));
    let dest = bed.dest("dest");
    let check = |login: Option<Login>, hint: &str| {
        let e = Ask { login, ..Ask::of(web.url()) }.run(&dest).unwrap_err();
        let text = e.to_string();
        assert!(matches!(e, GitError::Login { .. }), "{text}");
        assert!(!text.contains("terminal prompts"), "{text}");
        assert!(text.contains(&web.url()) && text.ends_with(hint) && !text.contains("wr0ng"), "{text}");
    };
    check(None, "`vessl credential create NAME --kind git` and name it in `credential_name`");
    check(Some(login("reader", "wr0ng")), "check user, password and rights of the credential");
    let e =
        Ask { login: Some(login("reader", "a\nhost=evil")), ..Ask::of(web.url()) }.run(&dest).unwrap_err();
    assert!(matches!(e, GitError::BadLogin { .. }), "{e}");
    assert_eq!(names(&dest), [""; 0]);
}

#[test]
fn a_redirect_does_not_carry_the_password_along() {
    let bed = Bed::new();
    let other = Web::start(Mode::Login(root(&bed), LOGIN));
    let web = Web::start(Mode::Redirect(other.address()));
    let ask = Ask { login: Some(login("reader", "s3cretw0rd")), ..Ask::of(web.url()) };
    let e = ask.run(&bed.dest("dest")).unwrap_err();
    assert!(matches!(e, GitError::Login { .. }), "{e}");
    assert_eq!(other.logins(), [""; 0]);
    let open = Web::start(Mode::Open(root(&bed)));
    let web = Web::start(Mode::Redirect(open.address()));
    Ask::of(web.url()).run(&bed.dest("followed")).unwrap();
}

#[test]
fn servers_that_are_down_or_have_nothing() {
    let bed = Bed::new();
    let dest = bed.dest("dest");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let e = Ask::of(format!("http://{closed}/repo")).run(&dest).unwrap_err();
    assert!(matches!(e, GitError::Unreachable { .. }), "{e}");
    // A name server that does not answer is silence.
    let e = Ask::of("http://no-such-host.invalid/repo").run(&dest).unwrap_err();
    assert!(matches!(e, GitError::Unreachable { .. } | GitError::Stalled { .. }), "{e}");
    let web = Web::start(Mode::Status(404));
    let e = Ask::of(web.url()).run(&dest).unwrap_err();
    assert!(matches!(e, GitError::NotFound { .. }), "{e}");
    let web = Web::start(Mode::Status(503));
    let e = Ask::of(web.url()).run(&dest).unwrap_err();
    assert!(matches!(e, GitError::Unreachable { .. }), "{e}");
    assert_eq!(names(&dest), [""; 0]);
}

#[test]
fn a_silent_server_is_given_up() {
    let bed = Bed::new();
    let web = Web::start(Mode::Silent);
    let dest = bed.dest("dest");
    let began = Instant::now();
    let e = Ask { stall: Duration::from_millis(700), ..Ask::of(web.url()) }.run(&dest).unwrap_err();
    assert!(matches!(e, GitError::Stalled { .. }), "{e}");
    assert!(began.elapsed() < Duration::from_mins(1));
    wait_until_nobody_is_in(&dest);
    assert_eq!(names(&dest), [""; 0]);
}

#[test]
fn a_server_of_plain_files() {
    let bed = Bed::new();
    let bare = bed.path("www/repo");
    fs::create_dir_all(bed.path("www")).unwrap();
    bed.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    bed.git(&["--git-dir", bare.to_str().unwrap(), "update-server-info"]);
    let web = Web::start(Mode::Dumb(bed.path("www")));
    let imported = Ask { reference: Some("feature/x"), ..Ask::of(web.url()) }.run(&bed.dest("dest")).unwrap();
    assert_eq!(imported.commit, bed.id("feature/x"));
    let first = bed.id("v1");
    Ask { reference: Some(&first), ..Ask::of(web.url()) }.run(&bed.dest("old")).unwrap();
}

#[test]
fn the_users_own_configuration_is_not_read() {
    let bed = Bed::new();
    let web = Web::start(Mode::Login(root(&bed), LOGIN));
    let home = bed.dest("home");
    fs::write(home.join(".netrc"), "machine 127.0.0.1 login reader password s3cretw0rd\n").unwrap();
    fs::write(home.join(".gitconfig"), "[credential]\n\thelper = \"!touch ran; exit 1\"\n").unwrap();
    fs::set_permissions(home.join(".netrc"), fs::Permissions::from_mode(0o600)).unwrap();
    let ask = |set: bool| {
        let prepare = |command: &mut std::process::Command| {
            let has_home = command
                .get_envs()
                .any(|(key, value)| key == "HOME" && value.is_some_and(|v| v == home.as_os_str()));
            assert!(!has_home);
            if set {
                command.env("HOME", &home);
            }
        };
        Ask { prepare: &prepare, ..Ask::of(web.url()) }.run(&bed.dest(&format!("dest-{set}")))
    };
    assert!(matches!(ask(false), Err(GitError::Login { .. })));
    // The bait works: with that home directory the import would have succeeded.
    assert!(ask(true).is_ok());
    assert_eq!(names(&home), [".gitconfig", ".netrc"]);
}
