//! Aligned text: lists as columns, objects as `key  value` lines.
use std::fmt::Write;

use super::format::{clean, width};
use super::paint::Paint;

/// Columns of a list: heading and what stands in it.
pub(crate) type Columns<T> = [(&'static str, fn(&T) -> String)];

/// Lines of an object: name and value. A value of several lines is indented below its name.
pub(crate) type Rows = Vec<(&'static str, String)>;

/// Columns of a list that are known only when it is made: headings, and the cells of each row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) heads: Vec<String>,
    pub(crate) body: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn of<T>(items: &[T], columns: &Columns<T>) -> Self {
        let heads = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
        let row = |item: &T| columns.iter().map(|(_, cell)| cell(item)).collect();
        Self { heads, body: items.iter().map(row).collect() }
    }
}

/// Headings of columns that are cut where the terminal is too narrow. Numbers, dates and ids stay whole.
const FREE: [&str; 12] = [
    "NAME",
    "REFERENCE",
    "ADDRESS",
    "EXPORT",
    "PATH",
    "FILE",
    "PRODUCTS",
    "RUNS",
    "TAGS",
    "DESCRIPTION",
    "IMAGE",
    "DIGEST",
];

/// The column that is cut when cutting others was not enough: it says what a person looks for.
const LAST: &str = "REASON";

/// Narrowest that columns are cut to: others while `LAST` is whole, and any.
const WIDE: usize = 16;
const NARROW: usize = 8;

/// A list with its headings, on lines of at most `room` columns of a terminal, if that is possible.
pub(super) fn list(table: &Table, room: Option<usize>, paint: Paint) -> String {
    let heads = &table.heads;
    let clean_row = |row: &Vec<String>| row.iter().map(|cell| clean(cell)).collect();
    let body: Vec<Vec<String>> = table.body.iter().map(clean_row).collect();
    let mut widths: Vec<usize> = (0..heads.len())
        .map(|n| std::iter::once(heads).chain(&body).map(|row| width(&row[n])).max().unwrap_or(0))
        .collect();
    shrink(&mut widths, heads, room.unwrap_or(usize::MAX));
    let mut text = paint.bold(line(heads, &widths, |_, cell| cell).trim_end());
    text.push('\n');
    for row in &body {
        let coloured = |n: usize, cell: String| match heads[n].as_str() {
            "STATUS" => paint.status(&cell),
            _ => cell,
        };
        text.push_str(line(row, &widths, coloured).trim_end());
        text.push('\n');
    }
    text
}

/// Makes columns narrower until the line fits: the widest of the free ones first.
fn shrink(widths: &mut [usize], heads: &[String], room: usize) {
    let is_free = |head: &str| FREE.contains(&head) || head.starts_with("env.");
    let gaps = 2 * widths.len().saturating_sub(1);
    // Others first, then the last one, then any.
    for (is_last, least) in [(false, WIDE), (true, NARROW), (false, NARROW)] {
        let may = |head: &str| if is_last { head == LAST } else { is_free(head) };
        while widths.iter().sum::<usize>() + gaps > room {
            let free = widths.iter_mut().zip(heads).filter(|(_, head)| may(head));
            match free.map(|(width, _)| width).max() {
                Some(width) if *width > least => *width -= 1,
                _ => break,
            }
        }
    }
}

fn line(cells: &[String], widths: &[usize], coloured: impl Fn(usize, String) -> String) -> String {
    let cell = |(n, (cell, &to)): (usize, (&String, &usize))| {
        let cell = cut(cell, to);
        let blanks = " ".repeat(to.saturating_sub(width(&cell)) + 2);
        coloured(n, cell) + &blanks
    };
    cells.iter().zip(widths).enumerate().map(cell).collect()
}

fn padded(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

fn cut(text: &str, to: usize) -> String {
    if width(text) <= to {
        return text.to_owned();
    }
    let mut short = String::new();
    for letter in text.chars() {
        short.push(letter);
        if width(&short) >= to {
            short.pop();
            break;
        }
    }
    short + "…"
}

/// An object. Empty values are left out.
pub(super) fn object(rows: &Rows, paint: Paint) -> String {
    let rows: Vec<_> = rows.iter().filter(|(_, value)| !value.is_empty()).collect();
    let to = rows.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in rows {
        let mut lines = value.trim_end().lines();
        let first = lines.next().unwrap_or_default();
        let _ = writeln!(text, "{}  {}", paint.bold(&padded(name, to)), clean(first));
        for more in lines {
            let _ = writeln!(text, "{}  {}", " ".repeat(to), clean(more));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_also_with_wide_letters() {
        let columns: &Columns<(&str, u32)> = &[("NAME", |x| x.0.to_owned()), ("N", |x| x.1.to_string())];
        let text = list(&Table::of(&[("한글", 1), ("a\nb", 22)], columns), None, Paint::off());
        insta::assert_snapshot!(text, @r"
        NAME  N
        한글  1
        a b   22
        ");
    }

    #[test]
    fn what_is_free_is_cut_where_there_is_no_room_and_the_reason_last() {
        type Row = (&'static str, &'static str, &'static str);
        let columns: &Columns<Row> =
            &[("ID", |x| x.0.to_owned()), ("NAME", |x| x.1.to_owned()), ("REASON", |x| x.2.to_owned())];
        let rows: [Row; 2] =
            [("100000000001", "a name of many words", "한글한글 and more words"), ("2", "a", "b")];
        let shown = |room: Option<usize>| list(&Table::of(&rows, columns), room, Paint::off());
        insta::assert_snapshot!(shown(Some(55)), @r"
        ID            NAME              REASON
        100000000001  a name of many …  한글한글 and more words
        2             a                 b
        ");
        insta::assert_snapshot!(shown(Some(44)), @r"
        ID            NAME              REASON
        100000000001  a name of many …  한글한글 an…
        2             a                 b
        ");
        let widest = |room: Option<usize>| shown(room).lines().map(width).max().unwrap();
        assert_eq!(widest(None), 59);
        assert_eq!((widest(Some(59)), widest(Some(58)), widest(Some(41))), (59, 58, 41));
        assert_eq!(widest(Some(10)), 31, "ids stay whole, and no wide letter is halved");
    }

    #[test]
    fn a_status_has_a_colour_and_stays_aligned() {
        let columns: &Columns<&str> = &[("STATUS", |x| (*x).to_owned()), ("N", |_| "1".to_owned())];
        let text = list(&Table::of(&["failed", "completed"], columns), None, Paint::on());
        assert!(text.contains("\u{1b}[31mfailed\u{1b}[0m     1\n"), "{text:?}");
        assert!(text.contains("\u{1b}[32mcompleted\u{1b}[0m  1\n"), "{text:?}");
    }

    #[test]
    fn objects_keep_lines() {
        let rows =
            vec![("name", "x".to_owned()), ("yaml", "a: 1\nb: 2\n".to_owned()), ("empty", String::new())];
        insta::assert_snapshot!(object(&rows, Paint::off()), @r"
        name  x
        yaml  a: 1
              b: 2
        ");
    }
}
