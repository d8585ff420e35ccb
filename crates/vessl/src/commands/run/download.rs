//! `vessl run download`.
use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use http_body_util::BodyExt;
use serde::Serialize;
use vessl_core::ids::RunId;
use vessl_core::spelling;
use vessl_core::wire::{FileKind, FileView, Progress, ProgressKind};
use vessl_data::tree::climbs_first;

use super::download_dir::{DownloadDir, Existing, moved};
use super::several::{RunName, find, run_name};
use crate::client::Client;
use crate::commands::completion;
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::progress::Bars;
use crate::output::{Format, Out, clean, views};
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "Every export lands below DEST under its path in the container: `/output/model.json` \
becomes `DEST/output/model.json`. With the --path of a directory its content lands in DEST, with the \
--path of a file that file does. Every file is verified. A download that was interrupted goes on \
where it stopped when the same command is run again: a file that is here with the same content is \
not fetched again. One with other content is replaced, and what was replaced is said. Permissions \
and the time of the last modification are those of the export. Symbolic links that lead out of \
what is downloaded are named and left out.

Examples:
  vessl run download 100000000001
  vessl run download 100000000001 results
  vessl run download 100000000001 results --path /output
  vessl run download 100000000001 --path /output/model.json"
)]
pub(crate) struct Download {
    /// Id or name of the run
    #[arg(value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    run: RunName,
    /// Directory to put the files in; made if missing
    #[arg(default_value = ".")]
    dest: PathBuf,
    /// Only this file or directory in the container, as `vessl run files` shows it
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
}

/// One file that is here now.
#[derive(Serialize)]
struct Landed {
    file: String,
    size: u64,
    digest: String,
    /// Whether something else was here before.
    replaced: bool,
    /// Whether it was here before.
    #[serde(skip)]
    same: bool,
}

/// Fetches the files that were asked for, one after the other.
pub(crate) async fn perform(args: &Download, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    let id = find(&mut client, &args.run).await?;
    let files = client.files_and_directories(id).await?;
    let chosen = choose(&files, args.path.as_deref());
    if chosen.is_empty() {
        return Err(nothing(id, args.path.as_deref(), &files));
    }
    is_meant_as_path(id, args, &files)?;
    let download_dir = DownloadDir::open(&args.dest)?;
    let mut moving = Moving::new(&chosen, &session.out);
    let mut landed = Vec::new();
    for (file, relative) in &chosen {
        let before = match file.kind {
            FileKind::File => fetch(&mut client, id, file, (&download_dir, relative), &mut moving).await?,
            FileKind::Directory => {
                download_dir.make_dir(relative)?;
                Existing::Same
            }
            FileKind::Link => continue,
        };
        landed.push(here(&download_dir, file, relative, before));
    }
    moving.bars.clear();
    landed.extend(links(&chosen, &download_dir, session)?);
    settle(&chosen, &download_dir, session);
    // A directory goes without saying when something is in it.
    let full: HashSet<_> = chosen.iter().filter_map(|(_, relative)| relative.parent()).collect();
    let full: HashSet<_> = full.into_iter().map(|relative| shown(&download_dir, relative)).collect();
    landed.retain(|landed| !full.contains(&landed.file));
    match landed.iter().filter(|landed| landed.replaced).count() {
        0 => {}
        1 => session.out.note("replaced 1 file that was here with other content"),
        n => session.out.note(&format!("replaced {n} files that were here with other content")),
    }
    match session.out.format() {
        Format::Table => session.out.text(&(summary(&landed, moving.moved, &args.dest) + "\n"))?,
        _ => session.out.data(&landed)?,
    }
    Ok(exit::OK)
}

/// What came, in one line.
fn summary(landed: &[Landed], moved: u64, dest: &Path) -> String {
    let counted = |n: usize| if n == 1 { "1 file".to_owned() } else { format!("{n} files") };
    let bytes = |landed: &[&Landed]| views::size(landed.iter().map(|one| one.size).sum());
    // An empty directory is no file.
    let files = landed.iter().filter(|one| !one.digest.is_empty());
    let (here, came): (Vec<_>, Vec<_>) = files.partition(|one| one.same);
    if came.is_empty() {
        let were = if here.len() == 1 { "was" } else { "were" };
        return format!("{}, {}, {were} here already", counted(here.len()), bytes(&here));
    }
    let to = if dest == Path::new(".") {
        String::new()
    } else {
        format!(", to `{}`", clean(&dest.to_string_lossy()))
    };
    let rest =
        if here.is_empty() { String::new() } else { format!("; {} already here", counted(here.len())) };
    let begun = match bytes(&came) {
        all if all == views::size(moved) => String::new(),
        _ => format!(" ({} of them now)", views::size(moved)),
    };
    format!("downloaded {}, {}{begun}{to}{rest}", counted(came.len()), bytes(&came))
}

/// Once the path was the second word. What is no directory here and a path of the run is told instead of made.
fn is_meant_as_path(id: RunId, args: &Download, files: &[FileView]) -> Result<()> {
    let (id, dest) = (id.0, args.dest.to_string_lossy());
    let is_of_run = dest.starts_with('/') && !choose(files, Some(&dest)).is_empty() && dest != "/";
    if args.path.is_some() || !is_of_run || args.dest.exists() {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!("`{}` is a path of the run, and no directory of this machine", clean(&dest)),
        hint: format!(
            "`vessl run download {id} DEST --path {0}` brings it; make the directory first to put everything into `{0}` here",
            clean(&dest)
        ),
    })
}

/// How far all of it is: one bar on a terminal.
struct Moving {
    bars: Bars,
    label: String,
    total: u64,
    /// Bytes of the files before.
    done: u64,
    /// Bytes that came over the wire.
    moved: u64,
}

impl Moving {
    fn new(chosen: &[(&FileView, PathBuf)], out: &Out) -> Self {
        let label = match chosen.len() {
            1 => chosen[0].0.path.clone(),
            n => format!("{n} files"),
        };
        let total = chosen.iter().map(|(file, _)| moved(file)).sum();
        Self { bars: Bars::new(out), label, total, done: 0, moved: 0 }
    }

    fn step(&mut self, of_file: u64) {
        let (kind, label, done) = (ProgressKind::Download, self.label.clone(), self.done + of_file);
        self.bars.step(&Progress { kind, label, done, total: Some(self.total) });
    }

    fn file_is_here(&mut self, file: &FileView) {
        self.step(moved(file));
        self.done += moved(file);
    }
}

/// Makes the links. They come last, so that nothing is written through one.
fn links(
    chosen: &[(&FileView, PathBuf)],
    download_dir: &DownloadDir,
    session: &Session,
) -> Result<Vec<Landed>> {
    let mut landed = Vec::new();
    for (file, relative) in chosen.iter().filter(|(file, _)| file.kind == FileKind::Link) {
        let target = file.target.as_deref().unwrap_or_default();
        let to = OsString::from_vec(spelling::read(target));
        let depth = Path::new(&file.path).components().count().min(relative.components().count());
        if climbs_first(Path::new(&to), depth.saturating_sub(1)) {
            let before = download_dir.link(relative, &to)?;
            landed.push(here(download_dir, file, relative, before));
        } else {
            let path = spelling::spell(relative.as_os_str().as_bytes());
            session.out.warn(&format!(
                "the link `{path}` is left out: it points to `{target}`, out of what is downloaded"
            ));
        }
    }
    Ok(landed)
}

/// Gives everything its permissions and time; what is in a directory comes before it, because it changes the directory's time.
fn settle(chosen: &[(&FileView, PathBuf)], download_dir: &DownloadDir, session: &Session) {
    let mut last_first: Vec<_> = chosen.iter().collect();
    last_first.sort_by(|(_, a), (_, b)| b.cmp(a));
    for (file, relative) in last_first {
        if let Err(why) = download_dir.settle(relative, file) {
            let path = shown(download_dir, relative);
            session.out.warn(&format!("`{path}` is here, but not with its permissions and time: {why}"));
        }
    }
}

fn shown(download_dir: &DownloadDir, relative: &Path) -> String {
    spelling::spell(download_dir.shown(relative).as_os_str().as_bytes())
}

fn here(download_dir: &DownloadDir, file: &FileView, relative: &Path, before: Existing) -> Landed {
    let (replaced, same) = (before == Existing::Other, before == Existing::Same);
    Landed {
        file: shown(download_dir, relative),
        size: file.size,
        digest: file.digest.clone(),
        replaced,
        same,
    }
}

async fn fetch(
    client: &mut Client,
    id: RunId,
    file: &FileView,
    (download_dir, relative): (&DownloadDir, &Path),
    moving: &mut Moving,
) -> Result<Existing> {
    let here = download_dir.inspect(relative, file)?;
    if here == Existing::Same {
        moving.file_is_here(file);
        return Ok(here);
    }
    let mut partial = download_dir.begin(relative, file)?;
    let begin = partial.offset()?;
    if begin < moved(file) {
        let (from, mut body) = client.file(id, file, begin).await?;
        if from == 0 && begin > 0 {
            partial.restart()?;
        }
        while let Some(frame) = body.frame().await {
            // A stream that is cut off is noticed by the size.
            let Ok(frame) = frame else { break };
            let data = frame.data_ref().map_or(&[][..], |data| data);
            partial.write(data)?;
            moving.moved += u64::try_from(data.len()).unwrap_or(u64::MAX);
            moving.step(partial.offset()?);
        }
    }
    moving.file_is_here(file);
    partial.commit(file)?;
    Ok(here)
}

/// The files that `path` names, each with where it lands below the destination.
fn choose<'a>(files: &'a [FileView], path: Option<&str>) -> Vec<(&'a FileView, PathBuf)> {
    let wanted = Path::new("/").join(path.unwrap_or_default().trim_start_matches('/'));
    let has_more = files.iter().any(|file| listed(file) != wanted && listed(file).starts_with(&wanted));
    let mut seen = HashSet::new();
    let placed = files.iter().filter_map(|file| Some((file, place(file, &wanted)?)));
    // The content of a directory lands, the directory itself does not.
    let placed = placed.filter(|(file, _)| !has_more || listed(file) != wanted);
    // An export may lie in another one, whose files it has as well.
    placed.filter(|(file, place)| seen.insert((place.clone(), &file.digest, file.size))).collect()
}

/// Where a file is in the container, as it is listed.
fn listed(file: &FileView) -> PathBuf {
    Path::new("/").join(&file.export).join(file.path.trim_start_matches('/'))
}

fn place(file: &FileView, wanted: &Path) -> Option<PathBuf> {
    let listed = listed(file);
    if !listed.starts_with(wanted) {
        return None;
    }
    let above = wanted.components().count() - usize::from(listed == wanted);
    let name = OsString::from_vec(spelling::read(file.path.trim_start_matches('/')));
    let whole = Path::new("/").join(spelling::path(&file.export)).join(name);
    Some(whole.components().skip(above).collect())
}

fn nothing(id: RunId, path: Option<&str>, files: &[FileView]) -> Error {
    let id = id.0;
    let (message, hint) = match path {
        Some(path) if !files.is_empty() => (
            format!("run {id} has no file or directory `{}`", clean(path)),
            format!("`vessl run files {id}` lists what there is"),
        ),
        _ => (
            format!("run {id} has no files"),
            "files come from the run's `export` section and are here when the run has ended".to_owned(),
        ),
    };
    Error::not_found(message, &hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_land_where_the_help_says() {
        let file = |export: &str, path: &str| FileView {
            path: path.to_owned(),
            export: export.to_owned(),
            ..FileView::default()
        };
        let check = |export: &str, path: &str, asked: Option<&str>, expected: Option<&str>| {
            let files = [file(export, path)];
            let found = choose(&files, asked).pop().map(|(_, place)| place);
            assert_eq!(found, expected.map(PathBuf::from), "{export} {path} {asked:?}");
        };
        check("/output", "a/m.json", None, Some("output/a/m.json"));
        check("/output", "a/m.json", Some("/output"), Some("a/m.json"));
        check("/output", "a/m.json", Some("output/"), Some("a/m.json"));
        check("/output", "a/m.json", Some("/output/a"), Some("m.json"));
        check("/output", "a/m.json", Some("/output/a/m.json"), Some("m.json"));
        check("/output", "a/m.json", Some("/"), Some("output/a/m.json"));
        check("/output", "a%2580", Some("/output/a%2580"), Some("a%80"));
        check("/%2580", "a%2580", None, Some("%80/a%80"));
        check("/output", "../../x", None, Some("output/../../x"));
        check("/output", "a/m.json", Some("/out"), None);
        check("/output", "a/m.json", Some("/output/b"), None);
    }

    #[test]
    fn of_a_directory_that_is_named_the_content_lands() {
        let view = |path: &str, kind| FileView {
            path: path.to_owned(),
            export: "/out".to_owned(),
            kind,
            ..FileView::default()
        };
        let files =
            [view("d", FileKind::Directory), view("d/f", FileKind::File), view("e", FileKind::Directory)];
        let check = |path: Option<&str>, expected: &[&str]| {
            let places: Vec<_> = choose(&files, path).into_iter().map(|(_, place)| place).collect();
            assert_eq!(places, expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{path:?}");
        };
        check(None, &["out/d", "out/d/f", "out/e"]);
        check(Some("/out/d"), &["f"]);
        check(Some("/out/e"), &["e"]);
        check(Some("/out/d/f"), &["f"]);
    }

    #[test]
    fn a_file_of_two_exports_lands_once() {
        let file = |export: &str, path: &str, digest: &str| FileView {
            path: path.to_owned(),
            export: export.to_owned(),
            digest: digest.to_owned(),
            ..FileView::default()
        };
        let check = |digest: &str, expected: usize| {
            let files = [file("/output", "sub/a", "one"), file("/output/sub", "a", digest)];
            assert_eq!(choose(&files, None).len(), expected, "{digest}");
        };
        check("one", 1);
        check("two", 2);
    }
}
