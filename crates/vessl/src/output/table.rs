//! Aligned text: lists as columns, objects as `key  value` lines.
use std::fmt::Write;

use super::format::{clean, width};
use super::paint::Paint;

/// Columns of a list: heading and what stands in it.
pub(crate) type Columns<T> = [(&'static str, fn(&T) -> String)];

/// Lines of an object: name and value. A value of several lines is indented below its name.
pub(crate) type Rows = Vec<(&'static str, String)>;

/// Headings of columns that are cut where the terminal is too narrow. Numbers, dates and ids stay whole.
const FREE: [&str; 8] = ["NAME", "REASON", "REFERENCE", "EXPORT", "PATH", "FILE", "PRODUCTS", "RUNS"];

/// Narrowest a column is cut to.
const NARROW: usize = 8;

/// A list with its headings, on lines of at most `room` columns of a terminal, if that is possible.
pub(super) fn list<T>(items: &[T], columns: &Columns<T>, room: Option<usize>, paint: Paint) -> String {
    let heads: Vec<String> = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let row = |item: &T| -> Vec<String> { columns.iter().map(|(_, cell)| clean(&cell(item))).collect() };
    let body: Vec<Vec<String>> = items.iter().map(row).collect();
    let mut widths: Vec<usize> = (0..columns.len())
        .map(|n| std::iter::once(&heads).chain(&body).map(|row| width(&row[n])).max().unwrap_or(0))
        .collect();
    shrink(&mut widths, &heads, room.unwrap_or(usize::MAX));
    let mut text = paint.bold(line(&heads, &widths).trim_end());
    text.push('\n');
    for row in &body {
        text.push_str(line(row, &widths).trim_end());
        text.push('\n');
    }
    text
}

/// Makes the widest of the free columns narrower until the line fits.
fn shrink(widths: &mut [usize], heads: &[String], room: usize) {
    let gaps = 2 * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > room {
        let free = widths.iter_mut().zip(heads).filter(|(_, head)| FREE.contains(&head.as_str()));
        match free.map(|(width, _)| width).max() {
            Some(width) if *width > NARROW => *width -= 1,
            _ => return,
        }
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    cells.iter().zip(widths).map(|(cell, &to)| padded(&cut(cell, to), to) + "  ").collect()
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
        let text = list(&[("한글", 1), ("a\nb", 22)], columns, None, Paint::off());
        insta::assert_snapshot!(text, @r"
        NAME  N
        한글  1
        a b   22
        ");
    }

    #[test]
    fn the_widest_free_text_is_cut_where_there_is_no_room() {
        type Row = (&'static str, &'static str, &'static str);
        let columns: &Columns<Row> =
            &[("ID", |x| x.0.to_owned()), ("NAME", |x| x.1.to_owned()), ("REASON", |x| x.2.to_owned())];
        let rows: [Row; 2] = [("100000000001", "short name", "한글한글 and more words"), ("2", "a", "b")];
        insta::assert_snapshot!(list(&rows, columns, Some(38), Paint::off()), @r"
        ID            NAME        REASON
        100000000001  short name  한글한글 an…
        2             a           b
        ");
        let widest =
            |room: Option<usize>| list(&rows, columns, room, Paint::off()).lines().map(width).max().unwrap();
        assert_eq!(widest(None), 49);
        assert_eq!((widest(Some(49)), widest(Some(48)), widest(Some(40))), (49, 48, 40));
        assert_eq!(widest(Some(10)), 31, "ids stay whole, and no wide letter is halved");
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
