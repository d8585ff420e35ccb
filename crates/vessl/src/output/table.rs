//! Aligned text: lists as columns, objects as `key  value` lines.
use std::fmt::Write;

use super::paint::Paint;
use super::words::{clean, width};

/// Columns of a list: heading and what stands in it.
pub(crate) type Columns<T> = [(&'static str, fn(&T) -> String)];

/// Lines of an object: name and value. A value of several lines is indented below its name.
pub(crate) type Rows = Vec<(&'static str, String)>;

/// Longest cell of a list, the last one apart, in columns of the terminal; longer text ends with `…`.
const CELL: usize = 60;

/// A list with its headings.
pub(super) fn list<T>(items: &[T], columns: &Columns<T>, paint: Paint) -> String {
    let heads: Vec<String> = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let body: Vec<Vec<String>> = items.iter().map(|item| row(item, columns)).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|n| std::iter::once(&heads).chain(&body).map(|row| width(&row[n])).max().unwrap_or(0))
        .collect();
    let mut text = paint.bold(line(&heads, &widths).trim_end());
    text.push('\n');
    for row in &body {
        text.push_str(line(row, &widths).trim_end());
        text.push('\n');
    }
    text
}

/// Cells of one line. Only the last may be long: nothing stands behind it.
fn row<T>(item: &T, columns: &Columns<T>) -> Vec<String> {
    let mut cells: Vec<String> = columns.iter().map(|(_, cell)| clean(&cell(item))).collect();
    if let Some((_, others)) = cells.split_last_mut() {
        for cell in others {
            *cell = cut(cell);
        }
    }
    cells
}

fn line(cells: &[String], widths: &[usize]) -> String {
    cells.iter().zip(widths).map(|(cell, &to)| padded(cell, to) + "  ").collect()
}

fn padded(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

fn cut(text: &str) -> String {
    if width(text) <= CELL {
        return text.to_owned();
    }
    let mut short = String::new();
    for letter in text.chars() {
        if width(&short) + 2 >= CELL {
            break;
        }
        short.push(letter);
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
        let text = list(&[("한글", 1), ("a\nb", 22)], columns, Paint::off());
        insta::assert_snapshot!(text, @r"
        NAME  N
        한글  1
        a b   22
        ");
    }

    #[test]
    fn long_cells_are_cut_and_objects_keep_lines() {
        assert_eq!(width(&cut(&"x".repeat(100))), CELL - 1);
        let rows =
            vec![("name", "x".to_owned()), ("yaml", "a: 1\nb: 2\n".to_owned()), ("empty", String::new())];
        insta::assert_snapshot!(object(&rows, Paint::off()), @r"
        name  x
        yaml  a: 1
              b: 2
        ");
    }
}
