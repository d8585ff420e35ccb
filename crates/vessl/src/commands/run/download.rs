//! `vessl run download`.
use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use vessl_core::ids::RunId;
use vessl_core::spelling;
use vessl_core::wire::FileView;

use super::several::{RunName, find, run_name};
use crate::client::FileSource;
use crate::commands::{completion, download};
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::clean;
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

/// Fetches the files that were asked for.
pub(crate) async fn perform(args: &Download, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    let id = find(&mut client, &args.run).await?;
    let files = client.files_and_directories(id).await?;
    let chosen = choose(&files, args.path.as_deref());
    if chosen.is_empty() {
        return Err(nothing(id, args.path.as_deref(), &files));
    }
    is_meant_as_path(id, args, &files)?;
    let chosen = chosen.into_iter().map(|(file, place)| (file.clone(), place)).collect();
    download::bring(&client, FileSource::Run(id), chosen, (&args.dest, session)).await?;
    Ok(exit::OK)
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
    use vessl_core::wire::FileKind;

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
