//! Text of others on a person's terminal.

use std::borrow::Cow;

/// Without control characters but line feeds: messages and names come from clusters and programs, and an escape sequence in
/// one must not reach the terminal.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    let unwanted = |character: char| character.is_control() && character != '\n';
    match text.contains(unwanted) {
        true => Cow::Owned(
            text.replace("\r\n", "\n")
                .replace('\t', " ")
                .replace(unwanted, "\u{fffd}"),
        ),
        false => Cow::Borrowed(text),
    }
}

/// Aligned, a line for each row; the last column is as wide as it comes.
#[must_use]
pub fn columns<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
    let line = |row: &[String; COLUMNS]| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
