//! What imports brought is shared: fetched once for all that want it, and while they still wait.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::test::Test;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS: &str = "weights\n";
const LIMIT: Duration = Duration::from_mins(1);

/// A stand-in for Hugging Face with the dataset `acme/shared`, one commit and one file. It counts, and its file comes when enough have
/// asked which commit there is.
#[derive(Default)]
struct Face {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Default)]
struct Counts {
    /// Who asked for the commit.
    asked: usize,
    /// How often the file was asked for.
    files: usize,
    /// How often whoever asked for it was gone before it came.
    left: usize,
    /// The file comes when so many have asked for the commit.
    wanted: usize,
}

impl Face {
    /// Starts it; the settings of `test` name it.
    fn start(test: &Test, wanted: usize) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let face = Arc::new(Self::default());
        face.change(|counts| counts.wanted = wanted);
        test.file("../config/vessl/server.toml", format!("hf_endpoint = \"http://{address}\"\n{SMALL}"));
        let shared = face.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let face = shared.clone();
                std::thread::spawn(move || face.answer(stream));
            }
        });
        face
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until the counts are so.
    fn until(&self, what: &str, is_so: impl Fn(&Counts) -> bool) {
        let counts = self.counts.lock().unwrap();
        let waited = self.changed.wait_timeout_while(counts, LIMIT, |counts| !is_so(counts)).unwrap();
        assert!(!waited.1.timed_out(), "{what}");
    }

    fn files(&self) -> usize {
        self.counts.lock().unwrap().files
    }

    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut out = stream;
        while let Some(path) = asked(&mut reader)? {
            let oid = format!("{:x}", Sha256::digest(WEIGHTS));
            let size = WEIGHTS.len();
            let body = if path.starts_with("/api/datasets/acme/shared/revision/") {
                self.change(|counts| counts.asked += 1);
                format!("{{\"sha\": \"{COMMIT}\"}}")
            } else if path.starts_with(&format!("/api/datasets/acme/shared/tree/{COMMIT}")) {
                format!(
                    "[{{\"type\": \"file\", \"path\": \"w.bin\", \"size\": {size}, \"oid\": \"{COMMIT}\", \"lfs\": {{\"oid\": \"{oid}\", \"size\": {size}, \"pointerSize\": 130}}}}]"
                )
            } else {
                self.change(|counts| counts.files += 1);
                if !self.file_may_come(&out) {
                    return Ok(());
                }
                WEIGHTS.to_owned()
            };
            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
            out.flush()?;
        }
        Ok(())
    }

    /// Waits with the file until enough have asked; false if whoever wants it has gone.
    fn file_may_come(&self, stream: &TcpStream) -> bool {
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let began = Instant::now();
        while began.elapsed() < LIMIT {
            let enough = {
                let counts = self.counts.lock().unwrap();
                counts.asked >= counts.wanted
            };
            if enough {
                stream.set_read_timeout(None).unwrap();
                return true;
            }
            // This is also the pause between two looks.
            if matches!((&*stream).read(&mut [0]), Ok(0)) {
                break;
            }
        }
        self.change(|counts| counts.left += 1);
        false
    }
}

/// The path of the next request; `None` at the end.
fn asked(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut path = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line == "\r\n" {
            return Ok(path);
        }
        path.get_or_insert(line.split(' ').nth(1).unwrap_or_default().to_owned());
    }
}

fn file(memory: &str, rest: &str) -> String {
    let cluster = if memory == MOST { "small" } else { "local" };
    format!(
        "name: run\nimage: host://\nresources:\n  cluster: {cluster}\n  requests: {{cpu: 10m, memory: {memory}}}\n{rest}\n"
    )
}

/// A cluster in which one run that asks for [`MOST`] has room.
const SMALL: &str = "[[clusters]]\nname = \"small\"\ncpu = \"1\"\nmemory = \"256Mi\"\n";
const MOST: &str = "200Mi";

const IMPORT: &str = "import: {/i: hf://huggingface.co/datasets/acme/shared}\nrun: ['cat /i/w.bin']";

#[test]
fn runs_that_want_the_same_at_once_fetch_it_once() {
    const RUNS: usize = 8;
    let test = Test::new();
    let face = Face::start(&test, RUNS);
    let ids: Vec<String> = (0..RUNS).map(|_| test.create(&file("32Mi", IMPORT))).collect();
    for id in &ids {
        let run = test.until_end(id);
        assert_eq!(run["status"], "completed", "{run}");
        assert_eq!(test.vessl(["run", "logs", id]).ok().stdout, WEIGHTS);
    }
    assert_eq!(face.files(), 1);
    let copied = ids.iter().filter(|id| {
        !test.vessl(["run", "logs", id]).ok().stderr.contains("nothing copied: it is here already")
    });
    assert_eq!(copied.count(), 1);
}

#[test]
fn what_a_waiting_run_imports_is_fetched_ahead() {
    let test = Test::new();
    let face = Face::start(&test, 0);
    let first = test.create(&file(MOST, "run: ['echo ready; sleep 1000']"));
    test.until_log(&first, "ready");
    let second = test.create(&file(MOST, IMPORT));
    face.until("its import is not fetched", |counts| counts.files == 1);
    let deadline = Instant::now() + LIMIT;
    let told = loop {
        let told = test.vessl(["run", "explain", &second, "--output", "json"]).ok().json();
        if told["ahead"].as_array().is_some_and(|ahead| !ahead.is_empty()) {
            break told;
        }
        assert!(Instant::now() < deadline, "{told}");
    };
    assert_eq!(told["status"], "queued", "{told}");
    let said = "`hf://huggingface.co/datasets/acme/shared` fetched ahead: 1 file, 8 bytes";
    assert_eq!(told["ahead"][0], said, "{told}");
    test.vessl(["run", "explain", &second]).ok().prints(&["Ahead", said]);
    assert!(!test.data().join("runs").join(&second).exists(), "it has no place");
    test.vessl(["run", "terminate", &first]).ok();
    assert_eq!(test.until_end(&second)["status"], "completed");
    assert_eq!(test.vessl(["run", "logs", &second]).ok().stdout, WEIGHTS);
    test.vessl(["run", "logs", &second]).ok().says(&["nothing copied: it is here already"]);
    assert_eq!(face.files(), 1);
}

#[test]
fn fetching_ahead_ends_with_the_run_and_goes_on_with_its_place() {
    let test = Test::new();
    // Nothing comes before the run itself asks as well.
    let face = Face::start(&test, 2);
    let first = test.create(&file(MOST, "run: ['echo ready; sleep 1000']"));
    test.until_log(&first, "ready");
    let second = test.create(&file(MOST, IMPORT));
    face.until("its import is not fetched", |counts| counts.files == 1);
    test.vessl(["run", "terminate", &second]).ok();
    assert_eq!(test.until_end(&second)["status"], "terminated");
    face.until("it is fetched although nobody wants it", |counts| counts.left == 1);
    face.change(|counts| counts.wanted = counts.asked + 2);
    let third = test.create(&file(MOST, IMPORT));
    face.until("the next is not fetched", |counts| counts.files == 2);
    test.vessl(["run", "terminate", &first]).ok();
    assert_eq!(test.until_end(&third)["status"], "completed");
    assert_eq!(test.vessl(["run", "logs", &third]).ok().stdout, WEIGHTS);
    // It waited for what was on its way.
    assert_eq!(face.files(), 2);
    test.vessl(["run", "logs", &third]).ok().says(&["nothing copied: it is here already"]);
}

#[test]
fn a_commit_is_fetched_once_from_its_server() {
    let test = Test::new();
    crate::data::repository(&test.path("repository"));
    let url = format!("file://{}", test.path("repository").display());
    let yaml = file(
        "64Mi",
        &format!(
            "import: {{/code-c: {{git: {{url: '{url}', ref: dev}}}}}}\nrun: ['cat /code-c/where; echo x > /code-c/where']"
        ),
    );
    for how in ["", ", nothing copied: it is here already"] {
        let run = test.wait(&yaml).ok().json();
        let id = run["id"].to_string();
        assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "dev\n");
        let commit = run["commit"].as_str().unwrap();
        test.vessl(["run", "logs", &id]).ok().says(&[&format!("commit {commit}, 1 file, 4 B{how}")]);
    }
    let cache = test.vessl(["cache", "list", "--output", "json"]).ok().json();
    assert_eq!((cache.as_array().unwrap().len(), cache[0]["source"].as_str().unwrap()), (1, url.as_str()));
}

#[test]
fn what_was_not_on_disk_when_the_machine_went_down_is_imported_again() {
    let test = Test::new();
    test.file("d/a", "first");
    test.vessl(["dataset", "create", "iris"]).ok();
    test.vessl(["dataset", "upload", "iris", "d/.", "/"]).ok();
    let import = || {
        let import = "import: {/i: vessl-dataset://default/iris}\nrun: ['cat /i/a']";
        let id = test.wait(&file("32Mi", import)).ok().json()["id"].to_string();
        test.until_removed(&id);
        let logs = test.vessl(["run", "logs", &id]).ok();
        assert_eq!(logs.stdout, "first");
        !logs.stderr.contains("nothing copied: it is here already")
    };
    assert!(import());
    let staged = test.data().join("staged");
    let names = || std::fs::read_dir(&staged).unwrap().map(|entry| entry.unwrap().path());
    let found = |path: &std::path::PathBuf| path.join("fs").exists();
    let entry = names().find(found).unwrap();
    let mark = entry.join("unsynced");
    assert!(!mark.exists(), "the agent has waited for the disk");
    // As a killed agent leaves it: what is whole in memory is used, and brought to disk.
    std::fs::write(&mark, std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim())
        .unwrap();
    assert!(!import());
    assert!(!mark.exists(), "the next agent has brought it to disk");
    // As another boot finds it: perhaps with holes.
    std::fs::write(&mark, "00000000-0000-4000-8000-000000000000").unwrap();
    std::fs::remove_file(entry.join("fs/a")).unwrap();
    assert!(import());
    assert!(!mark.exists() && entry.join("fs/a").exists());
    test.vessl(["cache", "prune"]).ok();
    assert_eq!(names().filter(found).count(), 0);
}
