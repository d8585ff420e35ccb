//! `docs/cli.md`: the help of every command, written from the definition itself. `UPDATE=1` writes it anew; otherwise
//! the test fails when it is stale.
use std::fmt::Write;

use clap::Command;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");

const HEAD: &str = "\
# Command reference

Written from the program's own help (`UPDATE=1 cargo nextest run -p vessl reference`). Do not edit.
Every command also takes the global options that `vessl` itself shows.
";

#[test]
fn the_reference_is_up_to_date() {
    let text = reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(PATH, &text).unwrap();
    }
    let kept = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        kept == text,
        "docs/cli.md is stale; write it anew with `UPDATE=1 cargo nextest run -p vessl reference`"
    );
}

/// Every command that does something shows how it is used.
#[test]
fn every_command_has_examples() {
    let mut without = Vec::new();
    each(&definition(), &mut |command| {
        let help = command.clone().render_long_help().to_string();
        if !command.has_subcommands() && !help.contains("Example") {
            without.push(command.get_bin_name().unwrap_or_default().to_owned());
        }
        assert!(command.get_about().is_some(), "{command} says nothing about itself");
    });
    assert!(without.is_empty(), "without examples: {without:?}");
}

/// A line of prose that is broken here already, and that a terminal of 80 columns breaks once more, is hard to read.
#[test]
fn no_line_is_broken_twice() {
    let mut twice = Vec::new();
    each(&definition(), &mut |command| {
        for help in [command.get_after_help(), command.get_after_long_help()].into_iter().flatten() {
            let help = help.to_string();
            for paragraph in help.split("\n\n").filter(|paragraph| paragraph.contains('\n')) {
                twice.extend(paragraph.lines().filter(|line| line.chars().count() > 80).map(str::to_owned));
            }
        }
    });
    assert!(twice.is_empty(), "{}", twice.join("\n"));
}

/// The command lines that the pages show are ones that the program takes.
#[test]
fn the_pages_show_commands_that_there_are() {
    let root = std::path::Path::new(PATH).parent().unwrap();
    let pages = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let pages = pages.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let mut count = 0;
    for page in pages.chain([root.join("../README.md")]) {
        let text = std::fs::read_to_string(&page).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("$ ")) {
            let Some(words) = own_words(line) else { continue };
            count += 1;
            let taken = definition().try_get_matches_from(&words);
            assert!(taken.is_ok(), "{}: {line}: {}", page.display(), taken.unwrap_err());
        }
    }
    assert!(count > 20, "only {count} command lines were found");
}

/// The words of the call of this program that a line of shell text begins with, or that stands in its `$(…)`; a variable
/// stands for a number.
fn own_words(line: &str) -> Option<Vec<String>> {
    let line = line.split_once("$(").map_or(line, |(_, rest)| rest);
    let line = line.replace("2>", ">");
    let call = line.split(['|', '<', '>', '#', ')', ';', '&']).next()?;
    let words = call.split_whitespace().map(|word| word.trim_matches('"'));
    let words: Vec<String> =
        words.map(|word| if word.starts_with('$') { "1".to_owned() } else { word.to_owned() }).collect();
    (words.first()? == "vessl").then_some(words)
}

fn reference() -> String {
    let mut text = HEAD.to_owned();
    each(&definition(), &mut |command| {
        let name = command.get_bin_name().unwrap_or(command.get_name());
        let shown = if name == "vessl" { command.clone() } else { command.clone().mut_args(hide_global) };
        let help = shown.term_width(100).render_long_help().to_string();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        let _ = write!(text, "\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim());
    });
    let _ = write!(text, "\n## Exit codes\n\n```text\n{}\n```\n", crate::exit::HELP);
    text
}

fn hide_global(arg: clap::Arg) -> clap::Arg {
    let hidden = arg.is_global_set() || arg.is_hide_set();
    arg.hide(hidden)
}

fn definition() -> Command {
    let mut definition = super::definition();
    definition.build();
    definition
}

/// Calls `found` with the command and every one below it, in order.
fn each(command: &Command, found: &mut impl FnMut(&Command)) {
    found(command);
    for below in command.get_subcommands() {
        each(below, found);
    }
}
