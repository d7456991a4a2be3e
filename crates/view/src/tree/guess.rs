//! What will be asked for next, judged by what was asked for so far: names and files that were missing, near each other.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// How far above a directory a miss in it counts.
const HEIGHT: usize = 4;
/// Directories that are counted; all is forgotten when there are more.
const REGIONS: usize = 4096;
/// Kinds of files that are told apart; with more, every kind is wanted.
const KINDS: usize = 8;

/// File names' endings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kinds(BTreeSet<Box<[u8]>>);

impl Kinds {
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.0.len() > KINDS || self.0.contains(ending(name))
    }
}

fn ending(name: &[u8]) -> &[u8] {
    match name.iter().rposition(|&byte| byte == b'.') {
        Some(dot) => &name[dot..],
        None => &[],
    }
}

/// Misses of one sort.
#[derive(Default)]
pub(crate) struct Misses(HashMap<PathBuf, Region>);

#[derive(Default)]
struct Region {
    /// Which of its entries the misses were in, up to two of them; the empty name is the directory itself.
    within: BTreeSet<Box<[u8]>>,
    kinds: Kinds,
    /// How often it was brought along.
    brought: u32,
}

/// What to bring along.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Guess {
    pub(crate) region: PathBuf,
    pub(crate) kinds: Kinds,
    /// How often this was guessed before: each time more is worth bringing.
    pub(crate) before: u32,
}

impl Misses {
    /// A miss of the file `name` in a directory; for the directory itself the name is empty. The region is the lowest
    /// directory with misses in two of its entries, or the directory itself.
    pub(crate) fn add(&mut self, directory: &Path, name: &[u8]) -> Guess {
        if self.0.len() > REGIONS {
            self.0.clear();
        }
        let (mut chosen, mut within) = (None, Box::<[u8]>::default());
        for above in directory
            .ancestors()
            .take(HEIGHT)
            .filter(|path| path.parent().is_some())
        {
            let region = self.0.entry(above.to_owned()).or_default();
            if region.within.len() < 2 {
                region.within.insert(within);
            }
            if region.kinds.0.len() <= KINDS {
                region.kinds.0.insert(ending(name).into());
            }
            if chosen.is_none() && region.within.len() > 1 {
                chosen = Some(above);
            }
            within = above
                .file_name()
                .map_or_else(Box::default, |name| name.as_encoded_bytes().into());
        }
        let chosen = chosen.unwrap_or(directory);
        let region = self.0.entry(chosen.to_owned()).or_default();
        region.brought += 1;
        Guess {
            region: chosen.to_owned(),
            kinds: region.kinds.clone(),
            before: region.brought - 1,
        }
    }
}

/// Components that two paths have in common at their beginning.
pub(crate) fn shared(one: &Path, other: &Path) -> usize {
    let (one, other) = (one.iter(), other.iter());
    one.zip(other)
        .take_while(|(one, other): &(&OsStr, &OsStr)| one == other)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_beside_each_other_make_a_region() {
        let mut misses = Misses::default();
        let mut add = |directory: &str, name: &str| {
            let guess = misses.add(Path::new(directory), name.as_bytes());
            (guess.region.display().to_string(), guess.before, guess.kinds)
        };
        assert_eq!(add("/app/node_modules/a", "index.js").0, "/app/node_modules/a");
        let (region, before, kinds) = add("/app/node_modules/b", "index.js");
        assert_eq!((region.as_str(), before), ("/app/node_modules", 0));
        assert!(kinds.has(b"other.js") && !kinds.has(b"README.md") && !kinds.has(b"Makefile"));
        assert_eq!(add("/app/node_modules/c/lib", "x.cjs").1, 1);
        // Far away, nothing of it counts.
        assert_eq!(add("/srv/x", "y").0, "/srv/x");
        assert_eq!(add("/x", "y").0, "/x");
    }

    #[test]
    fn what_paths_share() {
        assert_eq!(shared(Path::new("/a/b/c"), Path::new("/a/b/d")), 3);
        assert_eq!(shared(Path::new("/a"), Path::new("/b")), 1);
    }
}
