//! SSH into runs, by the clients that people have: OpenSSH's own, and what is built on it.
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::specs::{endless, host};
use crate::test::{Done, Live, Test, until};

/// A world whose server lets people into every run by SSH, with a key of a person that it knows.
fn world() -> Test {
    let test =
        Test::new().env("VESSL_SERVER_SSH_LISTEN", "127.0.0.1:0").env("VESSL_SERVER_SSH_ALL_RUNS", "true");
    make_key(&test, "key", "ed25519");
    test.vessl(["ssh-key", "add", "-p", "key.pub", "--name", "mine"]).ok();
    test
}

fn make_key(test: &Test, name: &str, kind: &str) {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", kind, "-N", "", "-C", "anna@laptop", "-f"]).arg(test.path(name));
    assert!(keygen.stdin(Stdio::null()).status().expect("ssh-keygen is there").success());
}

/// A world with a run that runs.
fn running(script: &str) -> (Test, String) {
    let test = world();
    let id = start(&test, script);
    (test, id)
}

fn start(test: &Test, script: &str) -> String {
    let id = test.create(&host(&format!("{script}\necho ready\nsleep 1000")));
    test.until_log(&id, "ready");
    id
}

fn end(test: &Test, id: &str) {
    test.vessl(["run", "terminate", id, "--grace", "2"]).ok();
    test.until_end(id);
}

fn port(test: &Test) -> u16 {
    let status = test.vessl(["server", "status", "--output", "json"]).ok().json();
    let at = status["ssh"].as_str().expect("the server says where it is reached by SSH");
    at.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("with a port")
}

/// Options that every client of OpenSSH takes, with the usual key.
fn options(test: &Test) -> Vec<String> {
    with_key(test, "key")
}

fn with_key(test: &Test, key: &str) -> Vec<String> {
    let key = format!("IdentityFile={}", test.path(key).display());
    let port = format!("Port={}", port(test));
    let all = [
        key.as_str(),
        port.as_str(),
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "BatchMode=yes",
    ];
    ["-F", "/dev/null"]
        .into_iter()
        .chain(all.into_iter().flat_map(|one| ["-o", one]))
        .map(str::to_owned)
        .collect()
}

/// `ssh` to a user of the server.
fn ssh(test: &Test, user: &str, args: &[&str]) -> Command {
    let mut ssh = Command::new("ssh");
    let (before, after) = match args.iter().position(|arg| *arg == "--") {
        Some(at) => (&args[..at], &args[at + 1..]),
        None => (args, &[][..]),
    };
    ssh.args(options(test)).args(before).arg(format!("{user}@127.0.0.1")).args(after);
    ssh.stdin(Stdio::null());
    ssh
}

fn run(test: &Test, command: Command) -> Done {
    test.start_command(command).finish()
}

fn run_with(test: &Test, mut command: Command, input: &[u8]) -> Done {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(input).expect("a file can be written");
    std::io::Seek::rewind(&mut file).expect("a file can be read again");
    command.stdin(file);
    run(test, command)
}

/// The way of a client that stays.
fn stays(test: &Test, command: Command) -> Live {
    test.start_command(command)
}

#[test]
fn a_command_runs_in_the_run_and_ends_as_it_ends() {
    let (test, id) = running("mkdir -p /tmp/x && cd /tmp/x; export ONLY_SHELL=1");
    let done =
        run(&test, ssh(&test, &id, &["--", "echo out; echo err >&2; echo $VESSL_RUN_ID; exit 7"])).code(7);
    assert_eq!((done.stdout, done.stderr.as_str()), (format!("out\n{id}\n"), "err\n"));
    // By its name too, and without a terminal.
    let done =
        run(&test, ssh(&test, "test", &["--", "tty; echo $SSH_CONNECTION | wc -w; echo ${0##*/}"])).ok();
    assert_eq!(done.stdout, "not a tty\n4\nbash\n");
    run(&test, ssh(&test, &id, &["--", "no-such-program"])).code(127);
    run(&test, ssh(&test, &id, &["--", "kill -9 $$"])).code(137);
    let bytes: Vec<u8> = (0..8_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    let done = run_with(&test, ssh(&test, &id, &["--", "cat"]), &bytes).ok();
    assert!(done.bytes == bytes, "{} of {} bytes", done.bytes.len(), bytes.len());
    // With new keys for the connection again and again.
    let done = run_with(&test, ssh(&test, &id, &["-o", "RekeyLimit=300K", "--", "cat"]), &bytes).ok();
    assert!(done.bytes == bytes, "{} of {} bytes", done.bytes.len(), bytes.len());
    run_with(&test, ssh(&test, &id, &["--", "true"]), &bytes).ok();
    // What it has left running keeps nobody, and is left running.
    let left = "sleep 0.5 && touch /tmp/left-by-ssh";
    run(
        &test,
        ssh(&test, &id, &["--", &format!("rm -f /tmp/left-by-ssh; ({left}) >/dev/null 2>&1 & echo over")]),
    )
    .ok();
    until("what was left running is gone", || {
        run(&test, ssh(&test, &id, &["--", "test -e /tmp/left-by-ssh"])).code == 0
    });
    run(&test, ssh(&test, &id, &["--", "rm /tmp/left-by-ssh"])).ok();
    // A shell without a terminal reads what it gets.
    assert_eq!(
        run_with(&test, ssh(&test, &id, &["-T"]), b"echo $((6 * 7)); exit 8\n").code(8).stdout,
        "42\n"
    );
    // The client's own variables.
    let mut named = ssh(&test, &id, &["-o", "SendEnv=LC_TEST", "--", "echo $LC_TEST"]);
    let named = test.world(&mut named).env("LC_TEST", "a b").output().expect("ssh runs");
    assert_eq!(String::from_utf8_lossy(&named.stdout), "a b\n");
    end(&test, &id);
}

/// Runs a command on a terminal of its own, types `input` once it shows `at`, and gives its exit code and what it showed.
fn on_terminal(test: &Test, command: &str, (at, input): (&str, impl Fn(&str) -> Vec<u8>)) -> (i32, String) {
    let mut script = Command::new("script");
    script.args(["-qec", &format!("stty rows 33 cols 101; tty; {command}"), "/dev/null"]);
    script.stdin(Stdio::piped()).stdout(Stdio::piped());
    let script = test.world(&mut script).env("TERM", "xterm").env("SHELL", "/bin/sh");
    let mut child = script.spawn().expect("script is there");
    let (mut shown, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&shown).contains(at) {
        let read = child.stdout.as_mut().expect("a pipe").read(&mut byte).expect("it can be read");
        assert_eq!(read, 1, "no `{at}` in {}", String::from_utf8_lossy(&shown));
        shown.push(byte[0]);
    }
    let input = input(&String::from_utf8_lossy(&shown));
    child.stdin.as_mut().expect("a pipe").write_all(&input).expect("it can be written");
    child.stdout.as_mut().expect("a pipe").read_to_end(&mut shown).expect("it can be read");
    let code = child.wait().expect("it ends").code().unwrap_or(-1);
    (code, String::from_utf8_lossy(&shown).into_owned())
}

/// A command of OpenSSH as a shell reads it.
fn line(test: &Test, user: &str, args: &str) -> String {
    let options: Vec<String> = options(test).iter().map(|option| format!("'{option}'")).collect();
    format!("ssh {} {user}@127.0.0.1 {args}", options.join(" "))
}

#[test]
fn a_terminal_has_a_size_that_follows_and_keys() {
    let (test, id) = running("true");
    let script = r#"'stty size; tty; echo $TERM; trap "stty size; exit 5" WINCH; echo wait""ing; while :; do sleep 0.1; done'"#;
    let resize = |shown: &str| {
        let own = shown.lines().find(|line| line.starts_with("/dev/pts/")).expect("the terminal here").trim();
        let stty = Command::new("stty").args(["-F", own, "rows", "40", "cols", "90"]).status();
        assert!(stty.expect("stty is there").success());
        Vec::new()
    };
    let (code, shown) = on_terminal(&test, &line(&test, &id, &format!("-t {script}")), ("waiting", resize));
    assert_eq!(code, 5, "{shown}");
    assert!(["33 101", "/dev/pts/", "xterm", "40 90"].iter().all(|part| shown.contains(part)), "{shown}");
    // Ctrl-C is a key there, and a login shell is what one gets without a command.
    let keys = |text: &'static str| move |_: &str| text.as_bytes().to_vec();
    let script = r#"'trap "echo key; exit 6" INT; echo wait""ing; while :; do sleep 0.1; done'"#;
    let (code, shown) =
        on_terminal(&test, &line(&test, &id, &format!("-t {script}")), ("waiting", keys("\x03")));
    assert_eq!(code, 6, "{shown}");
    let (code, shown) = on_terminal(&test, &line(&test, &id, ""), ("#", keys("shopt login_shell; exit 4\n")));
    assert_eq!(code, 4, "{shown}");
    assert!(shown.contains("login_shell    \ton"), "{shown}");
    end(&test, &id);
}

#[test]
fn files_go_by_sftp_scp_and_rsync() {
    let (test, id) = running("mkdir -p /tmp/there && cd /tmp/there");
    let options = options(&test);
    let with = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(&options).args(args).stdin(Stdio::null());
        run(&test, command)
    };
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[1]).collect();
    test.file("up/big", &bytes);
    test.file("up/deep/small", "small\n");
    let there = |path: &str| format!("{id}@127.0.0.1:{path}");
    with("scp", &["-pr", "up", &there("/tmp/there/")]).ok();
    with("scp", &["-r", &there("/tmp/there/up"), "down"]).ok();
    assert!(std::fs::read(test.path("down/big")).unwrap() == bytes);
    assert_eq!(std::fs::read(test.path("down/deep/small")).unwrap(), b"small\n");
    with("scp", &[&there("/tmp/no-such-file"), "x"]).says(&["No such file"]);
    let batch = "ls -l up\nrename up/deep/small up/deep/renamed\nchmod 600 up/deep/renamed\nln -s deep/renamed up/link\n\
                 mkdir up/new\nrm up/big\nget up/link got\nput got up/new/put\ndf\n";
    test.file("batch", batch.replace("ls -l up", "cd /tmp/there\nls -l up"));
    let done = with("sftp", &["-b", "batch", &there("")]).ok();
    assert!(done.stdout.contains("3000000") && done.stdout.contains("deep"), "{}", done.stdout);
    assert_eq!(std::fs::read(test.path("got")).unwrap(), b"small\n");
    let look = "cd /tmp/there/up; ls; stat -c %a deep/renamed; readlink link; cat new/put";
    let done = run(&test, ssh(&test, &id, &["--", look])).ok();
    assert_eq!(done.stdout, "deep\nlink\nnew\n600\ndeep/renamed\nsmall\n");
    let remote = format!("ssh {}", options.join(" "));
    let rsync = |from: &str, to: &str| {
        let mut rsync = Command::new("rsync");
        rsync.args(["-a", "-e", &remote, from, to]).stdin(Stdio::null());
        run(&test, rsync).ok();
    };
    rsync("up/", &there("/tmp/there/synced"));
    rsync(&there("/tmp/there/synced/"), "synced");
    assert!(std::fs::read(test.path("synced/big")).unwrap() == bytes);
    end(&test, &id);
}

/// A server that answers every connection with what it got and ` over`, at a port or a unix socket.
const ECHO: &str = r#"cat > /tmp/echo.py <<'EOF'
import os, socket, sys
where = sys.argv[1]
if where.startswith("/"):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(where)
    listener.listen(1000)
else:
    listener = socket.create_server(("127.0.0.1", int(where)), backlog=1000)
print("listening", flush=True)
while True:
    way, _ = listener.accept()
    if os.fork() == 0:
        data = b""
        while piece := way.recv(65536):
            data += piece
        way.sendall(data + b" over")
        os._exit(0)
    way.close()
EOF
"#;

/// Asks the echo something, to the end in both directions.
fn ask<S: Read + Write>(mut way: S, end: impl FnOnce(&S) -> std::io::Result<()>, question: &str) -> String {
    way.write_all(question.as_bytes()).expect("it can be written");
    end(&way).expect("it ends");
    let mut answer = Vec::new();
    way.read_to_end(&mut answer).expect("it can be read");
    String::from_utf8_lossy(&answer).into_owned()
}

fn ask_tcp(port: u16, question: &str) -> String {
    let way = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    ask(way, |way| way.shutdown(Shutdown::Write), question)
}

fn ask_unix(path: &Path, question: &str) -> String {
    let way = UnixStream::connect(path).expect("it listens");
    ask(way, |way| way.shutdown(Shutdown::Write), question)
}

/// A port of this machine that is free now.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}

fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn ports_and_sockets_are_forwarded_both_ways() {
    let page = "mkdir /tmp/web && cd /tmp/web && echo through socks > page && python3 -um http.server 7003 --bind 127.0.0.1 &";
    let (test, id) =
        running(&format!("{ECHO}python3 /tmp/echo.py 7001 & python3 /tmp/echo.py /tmp/echo.sock &\n{page}"));
    test.until_log(&id, "Serving HTTP");
    let (local, socks) = (free_port(), free_port());
    let socket = test.path("local.sock");
    let args = [
        "-N".to_owned(),
        "-L".to_owned(),
        format!("{local}:localhost:7001"),
        "-L".to_owned(),
        format!("{}:/tmp/echo.sock", socket.display()),
        "-D".to_owned(),
        format!("{socks}"),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let forward = stays(&test, ssh(&test, &id, &args));
    until("the ports are not forwarded", || listens(local) && socket.exists() && listens(socks));
    let long = "x".repeat(500_000);
    for _ in 0..3 {
        assert_eq!(ask_tcp(local, &long), format!("{long} over"));
        assert_eq!(ask_unix(&socket, &long), format!("{long} over"));
    }
    let mut curl = Command::new("curl");
    let proxy = format!("socks5h://127.0.0.1:{socks}");
    curl.args(["-s", "--max-time", "20", "-x", &proxy, "http://localhost:7003/page"]).stdin(Stdio::null());
    assert_eq!(run(&test, curl).ok().stdout, "through socks\n");
    forward.signal(Signal::SIGTERM);
    drop(forward);
    end(&test, &id);
}

#[test]
fn the_run_reaches_what_listens_here() {
    let (test, id) = running("true");
    let here = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = here.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for way in here.incoming().flatten() {
            let (mut from, mut to) = (way.try_clone().unwrap(), way);
            std::thread::spawn(move || {
                let mut text = String::new();
                let _ = from.read_to_string(&mut text);
                let _ = to.write_all(format!("{text} from here").as_bytes());
            });
        }
    });
    let ask = |family: &str, at: &str| {
        format!(
            "python3 -c 'import socket; s = socket.socket(socket.{family}); s.connect({at}); s.sendall(b\"hello\"); \
             s.shutdown(1); print(s.recv(100).decode())'"
        )
    };
    let tcp = ask("AF_INET", "(\"127.0.0.1\", 7002)");
    let there = format!("7002:127.0.0.1:{port}");
    let done = run(&test, ssh(&test, &id, &["-R", &there, "--", &tcp])).ok();
    assert_eq!(done.stdout, "hello from here\n");
    let unix = ask("AF_UNIX", "\"/tmp/forwarded.sock\"");
    let there = format!("/tmp/forwarded.sock:127.0.0.1:{port}");
    for _ in 0..2 {
        // The socket is gone with the connection, so the next one can make it again.
        let done =
            run(&test, ssh(&test, &id, &["-o", "ExitOnForwardFailure=yes", "-R", &there, "--", &unix])).ok();
        assert_eq!(done.stdout, "hello from here\n");
        until("the socket stays", || {
            run(&test, ssh(&test, &id, &["--", "test -e /tmp/forwarded.sock"])).code == 1
        });
    }
    // A port of the run's that the system chooses.
    let done = run(&test, ssh(&test, &id, &["-v", "-R", &format!("0:127.0.0.1:{port}"), "--", "true"])).ok();
    assert!(done.stderr.contains("Allocated port") || done.stderr.contains("forwarding"), "{}", done.stderr);
    end(&test, &id);
}

#[test]
fn the_agent_of_the_client_is_reached_from_the_run() {
    let (test, id) = running("true");
    let agent = test.path("agent.sock");
    let mut command = Command::new("ssh-agent");
    command.args(["-D", "-a"]).arg(&agent).stdin(Stdio::null());
    let keeps = stays(&test, command);
    until("there is no agent", || agent.exists());
    let mut add = Command::new("ssh-add");
    add.arg(test.path("key")).env("SSH_AUTH_SOCK", &agent).stdin(Stdio::null()).stderr(Stdio::null());
    assert!(add.status().unwrap().success());
    let mut look = ssh(&test, &id, &["-A", "--", "ssh-add -l; dirname $SSH_AUTH_SOCK"]);
    let done = test.world(&mut look).env("SSH_AUTH_SOCK", &agent).output().unwrap();
    let shown = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(shown.contains("anna@laptop"), "{shown}{}", String::from_utf8_lossy(&done.stderr));
    let dir = shown.lines().last().unwrap().to_owned();
    assert!(dir.starts_with("/tmp/vessl-ssh-"), "{dir}");
    until("the socket stays", || run(&test, ssh(&test, &id, &["--", &format!("test -e {dir}")])).code == 1);
    keeps.signal(Signal::SIGTERM);
    drop(keeps);
    end(&test, &id);
}

#[test]
fn two_runs_are_two_places_and_a_session_outlives_the_server() {
    let (test, first) = running("echo first > /tmp/which");
    let second = start(&test, "echo second > /tmp/which");
    let script = "cat /tmp/which; echo listening; read line; echo $VESSL_RUN_ID got $line; exit 9";
    let talk = |id: &str| {
        let mut command = ssh(&test, id, &["--", script]);
        command.stdin(Stdio::piped());
        let mut child = test.world(&mut command).stdout(Stdio::piped()).spawn().unwrap();
        let mut shown = Vec::new();
        let mut byte = [0];
        while !shown.ends_with(b"listening\n") {
            assert_eq!(child.stdout.as_mut().unwrap().read(&mut byte).unwrap(), 1);
            shown.push(byte[0]);
        }
        (child, String::from_utf8(shown).unwrap())
    };
    let mut talks = [talk(&first), talk(&second)];
    assert_eq!([&talks[0].1, &talks[1].1], ["first\nlistening\n", "second\nlistening\n"]);
    test.vessl(["server", "stop"]).ok();
    for ((child, _), id) in talks.iter_mut().zip([&first, &second]) {
        child.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
        let mut shown = String::new();
        child.stdout.as_mut().unwrap().read_to_string(&mut shown).unwrap();
        assert_eq!((shown, child.wait().unwrap().code()), (format!("{id} got hello\n"), Some(9)));
    }
    // The next server is the same one to its clients.
    test.vessl(["run", "read", &first]).ok();
    assert_eq!(run(&test, ssh(&test, &first, &["--", "echo again"])).ok().stdout, "again\n");
    end(&test, &first);
    end(&test, &second);
}

#[test]
fn a_deleted_key_ends_its_sessions_and_others_stay_out() {
    let (test, id) = running("true");
    for (name, kind) in [("other", "ecdsa"), ("old", "rsa")] {
        make_key(&test, name, kind);
    }
    let with = |key: &str| {
        let mut ssh = Command::new("ssh");
        ssh.args(with_key(&test, key)).arg(format!("{id}@127.0.0.1")).arg("echo in").stdin(Stdio::null());
        run(&test, ssh)
    };
    with("other").code(255).says(&["Permission denied (publickey)"]);
    test.vessl(["ssh-key", "add", "-p", "other.pub", "--name", "second"]).ok();
    assert_eq!(with("other").ok().stdout, "in\n");
    // Keys of old kinds are not taken, and nobody comes in with one.
    test.vessl(["ssh-key", "add", "-p", "old.pub"])
        .code(5)
        .says(&["keys of the kind RSA are not taken", "ed25519"]);
    test.vessl(["ssh-key", "add", "-p", "old"]).code(5).says(&["this is a private key"]);
    with("old").code(255).says(&["Permission denied (publickey)"]);
    let listed = test.vessl(["ssh-key", "list"]).ok().stdout;
    assert!(listed.contains("mine") && listed.contains("second") && listed.contains("SHA256:"), "{listed}");
    // The same key again changes nothing; another one needs another name.
    test.vessl(["ssh-key", "add", "-p", "key.pub"]).ok().prints(&["mine"]);
    make_key(&test, "third", "ed25519");
    test.vessl(["ssh-key", "add", "-p", "third.pub", "--name", "mine"])
        .code(5)
        .says(&["another key is called `mine`"]);
    test.vessl(["ssh-key", "delete", "nobody"]).code(5).says(&["there is no key `nobody`", "mine, second"]);
    // A session ends with its key, and another one goes on.
    let mut mine = stays(&test, ssh(&test, &id, &["--", "echo listening; exec sleep 1000"]));
    mine.until("listening");
    test.vessl(["ssh-key", "delete", "second"]).ok();
    with("other").code(255).says(&["Permission denied"]);
    assert_eq!(run(&test, ssh(&test, &id, &["--", "echo still"])).ok().stdout, "still\n");
    test.vessl(["ssh-key", "delete", "mine"]).ok().says(&[]);
    mine.finish().code(255).says(&["the key was deleted on the server"]);
    end(&test, &id);
}

#[test]
fn a_run_that_cannot_be_reached_is_refused_in_words() {
    let test = world();
    let id = start(&test, "true");
    let refused = |user: &str, words: &[&str]| {
        run(&test, ssh(&test, user, &["--", "true"])).code(255).says(words);
    };
    refused("999999999999", &["there is no run `999999999999`", "vessl run list"]);
    refused("nobody-knows", &["there is no run `nobody-knows`"]);
    let other = start(&test, "true");
    refused("test", &["several runs are called `test`", &id]);
    end(&test, &other);
    // The one that has not ended is meant.
    assert_eq!(run(&test, ssh(&test, "test", &["--", "echo $VESSL_RUN_ID"])).ok().stdout, format!("{id}\n"));
    let mut open = stays(&test, ssh(&test, &id, &["-N"]));
    let mut busy = stays(&test, ssh(&test, &id, &["--", "echo listening; exec sleep 1000"]));
    busy.until("listening");
    end(&test, &id);
    // Its program was told of the end as by a terminal that is closed.
    assert!([129, 255].contains(&busy.finish().code));
    open.until("the run has ended");
    open.finish().code(255);
    refused(&id, &["the run has ended (terminated)"]);
}

#[test]
fn a_run_that_is_not_interactive_is_not_open_by_itself() {
    let test = Test::new().env("VESSL_SERVER_SSH_LISTEN", "127.0.0.1:0");
    make_key(&test, "key", "ed25519");
    let id = start(&test, "true");
    let read = test.read(&id);
    assert!(read["ssh"].is_null(), "{read}");
    test.vessl(["run", "ssh", &id, "--", "true"]).code(2).says(&["knows no public key", "vessl ssh-key add"]);
    test.vessl(["ssh-key", "add", "-p", "key.pub"]).ok().prints(&["anna-laptop"]);
    run(&test, ssh(&test, &id, &["--", "true"])).code(255).says(&["is not interactive", "ssh_all_runs"]);
    end(&test, &id);
}

#[test]
fn the_clients_of_vessl_lead_openssh_to_a_run() {
    let (test, id) = running("true");
    let key = test.path("key");
    let key = key.to_str().unwrap();
    let through = |args: &[&str]| test.vessl([&["run", "ssh", "test", "-p", key, "--"][..], args].concat());
    let done = through(&["echo $VESSL_RUN_ID; exit 3"]).code(3);
    assert_eq!((done.stdout, done.stderr.as_str()), (format!("{id}\n"), ""));
    let line = test.read(&id)["ssh"].as_str().unwrap().to_owned();
    assert_eq!(line, format!("ssh -p {} {id}@127.0.0.1", port(&test)));
    let about = test.vessl(["run", "read", &id]).ok().stdout;
    assert!(about.contains(&line), "{about}");
    // Entries for everything else.
    let entries = test.vessl(["ssh-config", "-p", key]).ok().stdout;
    assert!(entries.contains(&format!("Host vessl-{id} vessl-test\n")), "{entries}");
    test.file("entries", &entries);
    let by_entries = |options: &[&str]| {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "entries"])
            .args(options)
            .args(["vessl-test", "echo $VESSL_RUN_ID"])
            .stdin(Stdio::null());
        run(&test, ssh).ok()
    };
    let done = by_entries(&[]);
    assert_eq!((done.stdout, done.stderr.as_str()), (format!("{id}\n"), ""));
    // Where only the API is reached.
    let proxy = format!("ProxyCommand={} run ssh-proxy %r", test.program().display());
    let done = by_entries(&["-o", &proxy]);
    assert_eq!((done.stdout, done.stderr.as_str()), (format!("{id}\n"), ""));
    test.vessl(["ssh-config", "--write", "-p", key]).ok().says(&["wrote 1 entry"]);
    let home = test.path("../home/.ssh");
    assert!(std::fs::read_to_string(home.join("config")).unwrap().starts_with("Include vessl_config\n"));
    assert_eq!(std::fs::read_to_string(home.join("vessl_config")).unwrap(), entries);
    // The key of the server stays what it is.
    test.vessl(["server", "stop"]).ok();
    test.vessl(["run", "read", &id]).ok();
    through(&["true"]).ok();
    end(&test, &id);
}

#[test]
fn ssh_can_be_switched_off() {
    let test = Test::new().env("VESSL_SERVER_SSH_LISTEN", "");
    let id = test.create(&endless());
    test.until_log(&id, "ready");
    test.vessl(["run", "ssh", &id])
        .code(2)
        .says(&["are not reached by SSH", "`ssh_listen` in its settings is empty"]);
    end(&test, &id);
    let test = Test::new().env("VESSL_SERVER_SSH_LISTEN", "nowhere");
    test.vessl(["server", "run", "--print-config"])
        .code(2)
        .says(&["`ssh_listen` is wrong", "127.0.0.1:7322"]);
}

#[test]
fn who_speaks_something_else_or_nothing_keeps_nobody_out() {
    let (test, id) = running("true");
    let port = port(&test);
    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut web = connect();
    web.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut noise = connect();
    noise
        .write_all(&b"SSH-2.0-x\r\n".iter().copied().chain(vec![0xff; 70_000]).collect::<Vec<u8>>())
        .unwrap();
    for way in [&mut web, &mut noise] {
        way.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut said = Vec::new();
        // A reset is an end too.
        let _ = way.read_to_end(&mut said);
        assert!(said.starts_with(b"SSH-2.0-vessl"), "{said:?}");
    }
    // More silent ones than may come in at a time are given up after some seconds.
    let silent: Vec<TcpStream> = (0..80).map(|_| connect()).collect();
    assert_eq!(run(&test, ssh(&test, &id, &["--", "echo in"])).ok().stdout, "in\n");
    drop(silent);
    let mut password =
        ssh(&test, &id, &["-o", "PreferredAuthentications=password,keyboard-interactive", "--", "true"]);
    password.stdin(Stdio::null());
    run(&test, password).code(255).says(&["Permission denied (publickey)"]);
    end(&test, &id);
}

/// A server that takes connections and keeps them.
const HOLD: &str = r#"cat > /tmp/hold.py <<'EOF'
import socket
listener, kept = socket.create_server(("127.0.0.1", 7001), backlog=1000), []
print("listening", flush=True)
while True:
    kept.append(listener.accept())
EOF
python3 /tmp/hold.py &
"#;

#[test]
fn a_flood_of_channels_and_a_client_that_does_not_read_end_nothing() {
    let (test, id) = running(HOLD);
    test.until_log(&id, "listening");
    let (local, control) = (free_port(), test.path("control"));
    let master = format!("ControlPath={}", control.display());
    let to = format!("{local}:127.0.0.1:7001");
    let keeps = stays(&test, ssh(&test, &id, &["-N", "-M", "-o", &master, "-L", &to]));
    until("the connection is not there", || control.exists() && listens(local));
    // Every connection is held open by both sides; those that have no room are closed at once.
    let many: Vec<TcpStream> = (0..400).map(|_| TcpStream::connect(("127.0.0.1", local)).unwrap()).collect();
    let closed = || {
        let is_closed = |mut way: &TcpStream| {
            way.set_nonblocking(true).unwrap();
            way.read(&mut [0]).is_ok()
        };
        many.iter().filter(|way| is_closed(way)).count()
    };
    until("all of them have room", || closed() >= 100);
    assert!(closed() < 300, "{}", closed());
    drop(many);
    let shared = |args: &[&str]| ssh(&test, &id, &[&["-o", &master][..], args].concat());
    until("there is no room again", || run(&test, shared(&["--", "true"])).code == 0);
    // One channel that nobody reads, one whose program does not read, and others beside them.
    let mut deaf = test.world(&mut shared(&["--", "cat /dev/zero"])).stdout(Stdio::piped()).spawn().unwrap();
    let mut one = [0; 1];
    deaf.stdout.as_mut().unwrap().read_exact(&mut one).unwrap();
    test.file("much", vec![b'x'; 3_000_000]);
    let input = std::fs::File::open(test.path("much")).unwrap();
    let mut idle = test
        .world(shared(&["--", "echo on; exec sleep 1000"]).stdin(input))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    idle.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
    for _ in 0..3 {
        assert_eq!(run(&test, shared(&["--", "echo hi"])).ok().stdout, "hi\n");
    }
    for child in [&mut deaf, &mut idle] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    keeps.signal(Signal::SIGTERM);
    drop(keeps);
    end(&test, &id);
}

#[test]
fn typing_is_a_sign_of_use_and_being_connected_is_none() {
    let (test, id) = running("true");
    let sign = test.attempt(&id).join("activity");
    run(&test, ssh(&test, &id, &["--", "true"])).ok();
    assert!(!sign.exists());
    run_with(&test, ssh(&test, &id, &["-T"]), b"exit 0\n").ok();
    assert!(sign.exists());
    end(&test, &id);
}
