//! The agent's command line. The server types it, so it is strict and has no help: a verb, its options, its words.
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use vessl_container::network;
use vessl_core::network::{Network, Pool, Reach};
use vessl_core::text::chain;

use crate::record::run_dir::RunDir;
use crate::supervise::control;
use crate::{ahead, cache, images, machine, proof, remove, supervise};

const USAGE: &str = "usage: agent supervise --data DATA DIR --network NETWORK | network POOL beyond|everything | export --data DATA DIR | forget --data DATA DIR | session --data DATA DIR | proof DIR | listen DIR | remove --data DATA DIR | machine | \
                     images --data DATA list|prune|pull REF|check REF ROOT… | cache --data DATA list|prune BYTES | \
                     fetch --data DATA";

#[derive(Debug, PartialEq, Eq)]
enum Verb {
    Supervise { data: PathBuf, network: Network, dir: PathBuf },
    Network { pool: Pool, reach: Reach },
    Export { data: PathBuf, dir: PathBuf },
    Forget { data: PathBuf, dir: PathBuf },
    Proof { dir: PathBuf },
    Listen { dir: PathBuf },
    Remove { data: PathBuf, dir: PathBuf },
    Machine,
    Images { data: PathBuf, what: Images },
    Cache { data: PathBuf, what: Cache },
    Fetch { data: PathBuf },
    Session { data: PathBuf, dir: PathBuf },
}

#[derive(Debug, PartialEq, Eq)]
enum Cache {
    List,
    Prune(u64),
}

#[derive(Debug, PartialEq, Eq)]
enum Images {
    List,
    Prune,
    Pull(String),
    Check(String, Vec<PathBuf>),
}

type Failure = Box<dyn std::error::Error>;

/// Runs `vessl agent ARGS…`: JSON on standard output, a sentence on standard error and exit code 1 for a failure, 2 for
/// words that are no verb. `supervise` and `export` must be called before the process has a second thread.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let Some(verb) = parse(&args) else {
        report(USAGE);
        return ExitCode::from(2);
    };
    match run(verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn parse(args: &[OsString]) -> Option<Verb> {
    let path = |arg: &OsString| PathBuf::from(arg);
    let words: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    Some(match words.as_slice() {
        ["supervise", "--data", _, _, "--network", network] => {
            Verb::Supervise { data: path(&args[2]), network: network.parse().ok()?, dir: path(&args[3]) }
        }
        ["network", pool, reach] => Verb::Network { pool: pool.parse().ok()?, reach: reach_word(reach)? },
        ["export", "--data", _, _] => Verb::Export { data: path(&args[2]), dir: path(&args[3]) },
        ["forget", "--data", _, _] => Verb::Forget { data: path(&args[2]), dir: path(&args[3]) },
        ["remove", "--data", _, _] => Verb::Remove { data: path(&args[2]), dir: path(&args[3]) },
        ["session", "--data", _, _] => Verb::Session { data: path(&args[2]), dir: path(&args[3]) },
        ["proof", _] => Verb::Proof { dir: path(&args[1]) },
        ["listen", _] => Verb::Listen { dir: path(&args[1]) },
        ["machine"] => Verb::Machine,
        ["fetch", "--data", _] => Verb::Fetch { data: path(&args[2]) },
        ["images", "--data", _, what @ ..] => Verb::Images { data: path(&args[2]), what: images_verb(what)? },
        ["cache", "--data", _, "list"] => Verb::Cache { data: path(&args[2]), what: Cache::List },
        ["cache", "--data", _, "prune", limit] => {
            Verb::Cache { data: path(&args[2]), what: Cache::Prune(limit.parse().ok()?) }
        }
        _ => return None,
    })
}

fn reach_word(word: &str) -> Option<Reach> {
    match word {
        "beyond" => Some(Reach::Beyond),
        "everything" => Some(Reach::Everything),
        _ => None,
    }
}

fn images_verb(words: &[&str]) -> Option<Images> {
    match words {
        ["list"] => Some(Images::List),
        ["prune"] => Some(Images::Prune),
        ["pull", reference] if !reference.is_empty() => Some(Images::Pull((*reference).to_owned())),
        ["check", reference, roots @ ..] => {
            Some(Images::Check((*reference).to_owned(), roots.iter().map(PathBuf::from).collect()))
        }
        _ => None,
    }
}

fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Supervise { data, network, dir } => supervise::run(&data, &dir, network)?,
        Verb::Network { pool, reach } => {
            network::open(pool, reach)?;
            answer(&serde_json::json!({ "open": true }))?;
        }
        Verb::Export { data, dir } => supervise::again::export(&data, &dir)?,
        Verb::Forget { data, dir } => {
            remove::forget(&data, &dir)?;
            answer(&serde_json::json!({ "removed": true }))?;
        }
        Verb::Proof { dir } => answer(&proof::of(&RunDir::open(&dir)?)?)?,
        Verb::Listen { dir } => {
            answer(&serde_json::json!({ "told": control::renew(&RunDir::open(&dir)?)? }))?;
        }
        Verb::Remove { data, dir } => {
            remove::run(&data, &dir)?;
            answer(&serde_json::json!({ "removed": true }))?;
        }
        Verb::Session { data, dir } => vessl_jupyter::run(&data, &dir)?,
        Verb::Machine => answer(&machine::report())?,
        Verb::Cache { data, what: Cache::List } => answer(&cache::list(&data)?)?,
        Verb::Cache { data, what: Cache::Prune(limit) } => answer(&cache::prune(&data, limit)?)?,
        Verb::Fetch { data } => {
            end_with_the_reader();
            ahead::run(&data, answer)?;
        }
        Verb::Images { data, what: Images::List } => answer(&images::list(&data)?)?,
        Verb::Images { data, what: Images::Prune } => answer(&images::prune(&data)?)?,
        Verb::Images { data, what: Images::Check(reference, roots) } => {
            answer(&serde_json::json!({ "why": images::check(&data, &reference, &roots)? }))?;
        }
        Verb::Images { data, what: Images::Pull(reference) } => {
            end_with_the_reader();
            let image = images::pull(&data, &reference, &|progress| answer(progress))?;
            answer(&image)?;
        }
    }
    Ok(())
}

/// Ends this process as soon as nobody can read its output any more, also while a registry keeps it waiting: then whoever
/// asked is gone, be it by SIGKILL. What is half done is left as after any other death.
fn end_with_the_reader() {
    std::thread::spawn(|| {
        let out = io::stdout();
        // Without events a poll returns for a reader that is gone, and else never.
        let mut looked = [PollFd::new(out.as_fd(), PollFlags::empty())];
        while poll(&mut looked, PollTimeout::NONE) == Err(Errno::EINTR) {}
        std::process::exit(1);
    });
}

/// One JSON line.
fn answer(document: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(document)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

fn report(text: &str) {
    // A caller that does not listen still has the exit code.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], expected: Option<&Verb>) {
        let args: Vec<OsString> = words.iter().map(OsString::from).collect();
        assert_eq!(parse(&args).as_ref(), expected, "{words:?}");
    }

    #[test]
    fn verbs_are_strict() {
        let (data, dir) = (PathBuf::from("/d"), PathBuf::from("/d/runs/1/1"));
        check(
            &["supervise", "--data", "/d", "/d/runs/1/1", "--network", "host"],
            Some(&Verb::Supervise { data: data.clone(), dir: dir.clone(), network: Network::Host }),
        );
        check(&["supervise", "--data", "/d", "/d/runs/1/1"], None);
        let pool = Pool::default();
        check(&["network", "10.246.0.0/16", "beyond"], Some(&Verb::Network { pool, reach: Reach::Beyond }));
        check(&["network", "8.8.8.8/16", "beyond"], None);
        check(
            &["remove", "--data", "/d", "/d/runs/1/1"],
            Some(&Verb::Remove { data: data.clone(), dir: dir.clone() }),
        );
        check(
            &["export", "--data", "/d", "/d/runs/1/1"],
            Some(&Verb::Export { data: data.clone(), dir: dir.clone() }),
        );
        check(
            &["forget", "--data", "/d", "/d/runs/1/1"],
            Some(&Verb::Forget { data: data.clone(), dir: dir.clone() }),
        );
        check(
            &["session", "--data", "/d", "/d/runs/1/1"],
            Some(&Verb::Session { data: data.clone(), dir: dir.clone() }),
        );
        check(&["proof", "/d/runs/1/1"], Some(&Verb::Proof { dir: dir.clone() }));
        check(&["listen", "/d/runs/1/1"], Some(&Verb::Listen { dir }));
        check(&["machine"], Some(&Verb::Machine));
        let images = |what| Verb::Images { data: data.clone(), what };
        check(&["images", "--data", "/d", "list"], Some(&images(Images::List)));
        check(&["images", "--data", "/d", "prune"], Some(&images(Images::Prune)));
        check(
            &["images", "--data", "/d", "pull", "busybox"],
            Some(&images(Images::Pull("busybox".to_owned()))),
        );
        check(
            &["images", "--data", "/d", "check", "oci:///i", "/r", "/s"],
            Some(&images(Images::Check("oci:///i".to_owned(), vec!["/r".into(), "/s".into()]))),
        );
        let cache = |what| Verb::Cache { data: data.clone(), what };
        check(&["cache", "--data", "/d", "list"], Some(&cache(Cache::List)));
        check(&["cache", "--data", "/d", "prune", "17"], Some(&cache(Cache::Prune(17))));
        check(&["fetch", "--data", "/d"], Some(&Verb::Fetch { data: data.clone() }));
        for wrong in [
            &[][..],
            &["fetch"],
            &["cache", "--data", "/d", "prune", "-1"],
            &["supervise"],
            &["supervise", "/d"],
            &["machine", "x"],
            &["images", "--data", "/d", "pull", ""],
            &["images", "list"],
            &["proof"],
            &["listen"],
        ] {
            check(wrong, None);
        }
    }
}
