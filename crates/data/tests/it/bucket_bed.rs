//! Real servers of buckets on loopback, each with its own port and storage, gone when dropped: s3s-fs, which checks signatures, moto,
//! which takes every key, and an emulator of Google Cloud Storage.
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use vessl_data::Watch;
use vessl_data::bucket::{
    BucketError, Empty, Export, Exported, Identity, Import, Imported, Location, ManifestUse, Outgoing,
    Previous, Provider, Session,
};
use vessl_data::dir::Dir;
use vessl_data::fetch::RetryPolicy;
use vessl_data::tree::{Bounds, Source};

/// How long a server may take to start on a busy machine.
const DEADLINE: Duration = Duration::from_mins(1);
pub(crate) const KEY: &str = "AKIATEST";
pub(crate) const SECRET: &str = "not-so-secret";

/// What `.ci/tools test` installs.
pub(crate) fn bed(program: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../buckets").join(program);
    assert!(path.exists(), "`{}` is needed by the tests; `.ci/tools test` installs it", path.display());
    path
}

/// A server that is a process.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    provider: Provider,
    _dir: tempfile::TempDir,
    pub(crate) root: PathBuf,
}

impl Server {
    /// s3s-fs with the bucket `bkt`; with signatures, it takes those of [`KEY`] alone.
    pub(crate) fn s3s(signed: Signed) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        std::fs::create_dir_all(root.join("bkt")).unwrap();
        let mut command = run(&bed("bin/s3s-fs"));
        command.args(["--host", "127.0.0.1", "--port", "0"]).env("RUST_LOG", "info");
        if signed == Signed::Checked {
            command.args(["--access-key", KEY, "--secret-key", SECRET]);
        }
        command.arg(&root);
        Self::start(command, Provider::S3, dir, root)
    }

    /// moto with the bucket `bkt`.
    pub(crate) fn moto() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = run(&bed("python/bin/python3"));
        let program = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])";
        command.args(["-u", "-c", program]);
        let root = dir.path().to_owned();
        let server = Self::start(command, Provider::S3, dir, root);
        assert_eq!(server.put("", b""), 200);
        server
    }

    /// The emulator of Google Cloud Storage with the bucket `bkt`.
    pub(crate) fn google() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = "import sys\n\
            from gcp_storage_emulator import server as emulator\n\
            read = emulator._read_data\n\
            # It falls over requests without a body.\n\
            emulator._read_data = lambda *asked: b'' if (got := read(*asked)) is None else got\n\
            server = emulator.create_server('127.0.0.1', 0, in_memory=True, default_bucket='bkt')\n\
            server.start()\n\
            print('http://127.0.0.1:%d' % server._api._httpd.server_address[1], flush=True)\n\
            sys.stdin.read()\n\
            server.stop()\n";
        let mut command = run(&bed("python/bin/python3"));
        command.args(["-u", "-c", program]);
        let root = dir.path().to_owned();
        Self::start(command, Provider::Gs, dir, root)
    }

    fn start(mut command: Command, provider: Provider, dir: tempfile::TempDir, root: PathBuf) -> Self {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.expect("`setpriv` is needed by the tests (Debian: util-linux)");
        let (found, address) = mpsc::channel();
        // What it says must be read, or it would stop at a full pipe.
        let out: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in out {
            let found = found.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if let Some((_, after)) = line.split_once("http://") {
                        let end = after.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
                        let _ = found.send(after[..end.unwrap_or(after.len())].to_owned());
                    }
                }
            });
        }
        let mut server = Self { child, address: String::new(), provider, _dir: dir, root };
        server.address = address.recv_timeout(DEADLINE).expect("the server did not start");
        server
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A place in its bucket.
    pub(crate) fn at(&self, prefix: &str) -> Location {
        location(self.provider, &self.endpoint(), prefix)
    }

    /// Puts an object as nobody, whatever its key is; returns the status.
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) -> u16 {
        let path = match (self.provider, key) {
            (Provider::S3, "") => "/bkt".to_owned(),
            (Provider::S3, key) => format!("/bkt/{}", escape(key)),
            (Provider::Gs, key) => {
                format!(
                    "/upload/storage/v1/b/bkt/o?uploadType=media&name={}",
                    escape(key).replace('/', "%2F")
                )
            }
        };
        let method = if self.provider == Provider::S3 { "PUT" } else { "POST" };
        self.ask(method, &path, bytes).0
    }

    /// Sends one request as nobody: status and body.
    pub(crate) fn ask(&self, method: &str, path: &str, bytes: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: application/octet-stream\r\n\r\n",
            self.address,
            bytes.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
        let body = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
        (status, answer[body..].to_vec())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a server looks at signatures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    Checked,
    Ignored,
}

/// A program that dies with the test.
fn run(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

pub(crate) fn location(provider: Provider, endpoint: &str, prefix: &str) -> Location {
    Location {
        provider,
        bucket: "bkt".to_owned(),
        prefix: prefix.to_owned(),
        endpoint: Some(endpoint.to_owned()),
        region: None,
    }
}

pub(crate) fn keys() -> Identity {
    Identity::Keys { id: KEY.into(), secret: SECRET.into(), session_token: None }
}

/// One that gives up soon.
pub(crate) fn session(at: Location, identity: Identity) -> Session {
    let policy = RetryPolicy {
        stall: Duration::from_secs(20),
        retries: 3,
        pause: Duration::from_millis(5),
        ..RetryPolicy::default()
    };
    Session::open_with(at, identity, &policy).unwrap()
}

fn escape(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    key.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A directory to import into.
pub(crate) struct Into {
    dir: tempfile::TempDir,
    pub(crate) handle: Dir,
}

impl Into {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let handle = Dir::open(dir.path()).unwrap();
        Self { dir, handle }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Every file by its path, with what is in it; a directory ends in `/`, a link has its target.
    pub(crate) fn content(&self) -> BTreeMap<String, Vec<u8>> {
        content(self.path())
    }
}

pub(crate) fn content(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut all, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                all.insert(format!("{name}/"), Vec::new());
                open.push(path);
            } else if kind.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                all.insert(name, format!("-> {}", target.display()).into_bytes());
            } else {
                all.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    all
}

/// Imports into a new directory.
pub(crate) fn import(session: &Session) -> Result<(Imported, Into), BucketError> {
    import_as(session, None, ManifestUse::Follow)
}

pub(crate) fn import_as(
    session: &Session,
    previous: Option<(&Imported, &Into)>,
    manifest: ManifestUse,
) -> Result<(Imported, Into), BucketError> {
    let into = Into::new();
    let previous =
        previous.map(|(imported, into)| Previous { picture: &imported.picture, dir: &into.handle });
    let imported = session.import(&Import {
        into: &into.handle,
        previous,
        owner: None,
        manifest,
        empty: Empty::IsError,
        watch: &Watch::NONE,
    })?;
    Ok((imported, into))
}

/// Exports a directory; the journal lies beside it.
pub(crate) fn export(session: &Session, dir: &Path, who: &str) -> Result<Exported, BucketError> {
    let root = Dir::open(dir).unwrap();
    let what = Outgoing::Tree(Source { root: &root, path: Path::new(""), reader: None });
    let journal = journal(dir);
    session.export(&Export { what, bounds: Bounds::FORMAT, journal: &journal, who, watch: &Watch::NONE })
}

pub(crate) fn journal(dir: &Path) -> PathBuf {
    dir.with_extension("journal")
}

/// A directory with these files.
pub(crate) fn files(files: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("out");
    std::fs::create_dir(&dir).unwrap();
    for (name, bytes) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    (temp, dir)
}

/// Bytes that are nowhere the same.
pub(crate) fn bytes(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..size.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(size).collect()
}

pub(crate) fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

pub(crate) fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}
