//! The reference of the documentation, from the tables.

use std::fmt::Write;

use crate::key::{KEYS, Takes};

/// The generated part of `docs/config.md`, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from("| key | value | default | variable and flag | meaning |\n|---|---|---|---|---|\n");
    for key in KEYS {
        let value = match key.takes {
            Takes::One(value) => value.to_owned(),
            Takes::List(items) | Takes::Lines(items) => format!("list: {items}"),
            Takes::Table(entries) => format!("table: {entries}"),
        };
        let names = [key.variable(), key.flag.map(str::to_owned)]
            .into_iter()
            .flatten()
            .map(|name| format!("`{name}`"));
        let names = names.collect::<Vec<_>>().join("<br>");
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {value} | {} | {names} | {} |",
            key.path, key.default, key.about
        );
    }
    for (title, list) in [
        (
            "Variables of the pod that are left out unless `env.include` or `env.map` names them",
            rules::EXCLUDED,
        ),
        ("Kernel interfaces, always local", rules::KERNEL),
        ("The pod's in mode `read`, whatever lies around them", rules::IDENTITY),
        (
            "The system's paths: local, but for volumes of the pod that are mounted deeper than the deepest of these",
            rules::SYSTEM,
        ),
        ("Developers' paths: local, but for volumes of the pod", rules::DEVELOPER),
        (
            "Of those, the ones where only volumes mounted deeper count",
            rules::SCRATCH,
        ),
        ("Hidden unless `dns.on` is false", rules::HIDDEN_NAME_SERVICES),
        ("Programs that `skip.build_tools` means", rules::BUILD_TOOLS),
    ] {
        let items: Vec<_> = list.iter().map(|item| format!("`{item}`")).collect();
        let _ = write!(text, "\n**{title}:** {}.\n", items.join(", "));
    }
    text
}
