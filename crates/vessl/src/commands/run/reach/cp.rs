//! `vessl run cp`: files between this machine and a run that runs. Init is the program there, so the image needs none.
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;

use bytes::{Buf, Bytes};
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde::Serialize;
use tokio::sync::mpsc;
use vessl_copy::{Copied, CopyError, pack, unpack};
use vessl_reach::frames::Begin;

use super::super::several::{RunName, find, run_name};
use super::session::{self, InputFrom, OutputTo};
use crate::commands::completion;
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::{self, Out};
use crate::session::Session;

/// Init, as it is seen in every run.
const INIT: &str = "/.vessl/init";
/// Pieces of an archive on their way.
const QUEUE: usize = 4;
/// Bytes of a piece.
const PIECE: usize = 64 << 10;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "One of the two is a place in a run, `ID:PATH`; a path there that does not begin with `/` is below the directory where the commands \
started. As with `cp -r`: what goes to a directory that is there goes into it, anything else takes the name that is given. Links stay \
links; modes and times are kept. Files are read and written as the run's user.

Examples:
  vessl run cp 100000000001:/out/model.pt .
  vessl run cp my-run:checkpoints ./checkpoints
  vessl run cp config.yaml my-run:/app/config.yaml
  vessl run cp data/ my-run:/data -u root"
)]
pub(crate) struct Copy {
    /// What is copied: a path here, or `ID:PATH`
    #[arg(value_name = "SRC", add = ArgValueCompleter::new(completion::runs))]
    from: String,
    /// Where it goes: `ID:PATH`, or a path here
    #[arg(value_name = "DEST")]
    to: String,
    /// User of the image that reads or writes: `user` or `user:group` [default: the run's]
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
}

/// A place in a run, if it is one: what stands before the first `:` is no path.
fn in_run(text: &str) -> Option<(RunName, &str)> {
    let (run, path) = text.split_once(':')?;
    (!run.contains('/') && !path.is_empty()).then(|| Some((run_name(run).ok()?, path)))?
}

#[derive(Serialize)]
struct View<'a> {
    files: u64,
    bytes: u64,
    left_out: &'a [String],
}

/// Copies.
pub(crate) async fn perform(args: Copy, session: &Session) -> Result<Exit> {
    let (run, verb, path) = match (in_run(&args.from), in_run(&args.to)) {
        (Some((run, path)), None) => (run, "pack", path),
        (None, Some((run, path))) => (run, "unpack", path),
        _ => {
            return Err(Error::Usage {
                message: "one of the two must be a place in a run, like `100000000001:/out`".to_owned(),
                hint: "write a path here that has a `:` as `./a:b`".to_owned(),
            });
        }
    };
    let mut client = session.client().await?;
    let id = find(&mut client, &run).await?;
    let argv = [INIT, verb, path].map(str::to_owned).to_vec();
    let begin = Begin { argv, user: args.user, ..Begin::default() };
    let way = client.exec(id).await?;
    let copied = if verb == "pack" {
        let to = PathBuf::from(&args.to);
        let (pieces, archive) = mpsc::channel(QUEUE);
        let here = std::thread::spawn(move || unpack(Pieces { archive, piece: Bytes::new() }, &to));
        let mut said = Vec::new();
        let there = session::run(way, begin, InputFrom::Nothing, OutputTo::Pieces(pieces, &mut said)).await;
        // What stopped here is why nobody took it from there.
        let here = here.join().map_err(|_| Error::Bug("the copying thread ended".to_owned()))?;
        both(here, there, &said, &session.out)?
    } else {
        let from = PathBuf::from(&args.from);
        let (pieces, archive) = mpsc::channel(QUEUE);
        let here = std::thread::spawn(move || pack(&from, BufWriter::with_capacity(PIECE, Sender(pieces))));
        let (mut said, (nothing, _)) = (Vec::new(), mpsc::channel(1));
        let there =
            session::run(way, begin, InputFrom::Pieces(archive), OutputTo::Pieces(nothing, &mut said)).await;
        let here = here.join().map_err(|_| Error::Bug("the copying thread ended".to_owned()))?;
        both(here, there, &said, &session.out)?
    };
    for sentence in &copied.left_out {
        session.out.warn(&format!("left out: {sentence}"));
    }
    let Copied { files, bytes, left_out } = &copied;
    let s = if *files == 1 { "" } else { "s" };
    let words = format!("copied {files} file{s}, {}", output::bytes(*bytes));
    session.out.outcome(&View { files: *files, bytes: *bytes, left_out }, &words)?;
    Ok(exit::OK)
}

/// What was copied, if it went well at both ends; else what went wrong first.
fn both(here: Result<Copied, CopyError>, there: Result<Exit>, said: &[u8], out: &Out) -> Result<Copied> {
    let said = String::from_utf8_lossy(said);
    let said = said.trim();
    match (there?, here) {
        (exit::OK, Ok(copied)) => {
            said.lines().for_each(|line| out.warn(line));
            Ok(copied)
        }
        // Who reads an archive to its end that was cut off there, or writes where nobody reads, only says so.
        (Exit(code), _) if code != 0 && !said.is_empty() => {
            Err(Error::Copy { why: format!("in the run: {said}") })
        }
        (_, Err(error)) => Err(Error::Copy { why: vessl_core::text::chain(&error) }),
        (Exit(code), _) => Err(Error::Copy { why: format!("in the run: it ended with exit code {code}") }),
    }
}

/// An archive that comes in pieces.
struct Pieces {
    archive: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.archive.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = self.piece.len().min(into.len());
        self.piece.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

/// Where the pieces of an archive go.
struct Sender(mpsc::Sender<Bytes>);

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_run_has_a_name_before_it() {
        let name = |text: &str| Some(run_name(text).unwrap());
        assert_eq!(
            in_run("100000000001:/out").map(|(run, path)| (Some(run), path)),
            Some((name("100000000001"), "/out"))
        );
        assert_eq!(in_run("my-run:a:b").map(|(run, path)| (Some(run), path)), Some((name("my-run"), "a:b")));
        for here in ["./a:b", "/a:b", "a", "a:", ":a", ""] {
            assert!(in_run(here).is_none(), "{here}");
        }
    }
}
