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
