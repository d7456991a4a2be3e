//! Directories: pages of entries as the agent sends them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinHandle;
use wire::message::{Attributes, Entry, FileAnswer, FileOperation};

use super::node::Node;
use super::place::{Place, Places};
use super::{FRESH, PodTree};
use crate::remote::{ask, checked, is_link, is_name, to_bytes};
use crate::{Errno, Pod};

/// Entries of one directory that are remembered for lookups; of larger ones only the page at hand is kept.
const REMEMBERED: usize = 20_000;

/// Directories that are larger themselves, in bytes, do not come in one answer: 20 to 50 bytes an entry.
pub(super) const LARGE: u64 = 192 << 10;

/// A name in a directory of the view.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) name: Box<[u8]>,
    pub(crate) place: Place,
    pub(crate) attributes: Attributes,
    pub(crate) link: Option<Box<[u8]>>,
}

/// A directory to list.
pub(crate) struct At {
    /// As the app says it.
    pub(crate) path: PathBuf,
    /// In the pod.
    pub(crate) pod: PathBuf,
    pub(crate) place: Place,
}

impl At {
    fn node(node: &Node, places: &Places) -> Self {
        Self {
            path: node.path(),
            pod: node.in_pod(places),
            place: node.place,
        }
    }
}

/// A whole directory, for lookups while it is fresh.
pub(crate) struct Listing {
    pub(crate) fetched: Instant,
    names: HashMap<Box<[u8]>, Listed>,
}

impl Listing {
    pub(crate) fn get(&self, name: &[u8]) -> Option<&Listed> {
        self.names.get(name)
    }
}

/// One answer of the agent.
struct Page {
    /// The index of its first entry in the directory.
    first: usize,
    /// What the agent was asked with.
    cookie: u64,
    /// 0: it is the last one.
    next: u64,
    length: usize,
}

/// An open directory of the kernel.
pub(crate) struct Directory {
    pub(crate) node: Arc<Node>,
    pages: Vec<Page>,
    /// The entries of one page, and which.
    current: Option<(usize, Vec<Listed>, Instant)>,
    /// All entries so far, while they may become a [`Listing`].
    all: Option<HashMap<Box<[u8]>, Listed>>,
    begun: Instant,
    /// The page behind the last one, on its way.
    ahead: Option<Ahead>,
}

/// A page that was asked for before the app wanted it.
struct Ahead {
    cookie: u64,
    asked: Instant,
    answer: JoinHandle<Result<(Vec<Entry>, u64), Errno>>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

impl Directory {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            pages: Vec::new(),
            current: None,
            all: Some(HashMap::new()),
            begun: Instant::now(),
            ahead: None,
        }
    }

    /// Reading from the start sees the directory as it is now.
    pub(crate) fn rewind(&mut self) {
        *self = Self::new(Arc::clone(&self.node));
    }

    /// Entries from `index` on (not counting `.` and `..`) and when they were true; none at the end.
    ///
    /// # Errors
    /// The pod's; `EIO` when the link is gone.
    pub(crate) async fn from(&mut self, tree: &PodTree, index: usize) -> Result<(&[Listed], Instant), Errno> {
        loop {
            let at = self
                .pages
                .iter()
                .position(|page| (page.first..page.first + page.length).contains(&index));
            match (at, self.pages.last()) {
                (Some(at), _) => {
                    if self.current.as_ref().is_none_or(|(current, ..)| *current != at) {
                        let (entries, _, asked) = self.ask(tree, at, self.pages[at].cookie).await?;
                        self.current = Some((at, entries, asked));
                    }
                    break;
                }
                // The same offset again at the end.
                (None, Some(last)) if last.next == 0 => return Ok((&[], self.begun)),
                (None, last) => {
                    let (first, cookie) = last.map_or((0, 0), |last| (last.first + last.length, last.next));
                    let number = self.pages.len();
                    let (entries, next, asked) = self.ask(tree, number, cookie).await?;
                    if number == 0 {
                        self.begun = asked;
                    }
                    self.pages.push(Page {
                        first,
                        cookie,
                        next,
                        length: entries.len(),
                    });
                    self.remember(tree, &entries, next == 0);
                    self.current = Some((number, entries, asked));
                }
            }
        }
        let (at, entries, fetched) = self.current.as_ref().ok_or(Errno::IO)?;
        let skip = index - self.pages[*at].first;
        Ok((entries.get(skip..).unwrap_or(&[]), *fetched))
    }

    async fn ask(&mut self, tree: &PodTree, number: usize, cookie: u64) -> Result<(Vec<Listed>, u64, Instant), Errno> {
        let at = At::node(&self.node, &tree.places);
        if number == 0
            && at.place == Place::Pod
            && self.node.state().attributes.size < LARGE
            && let Some((entries, asked)) = tree.supply.entries(&at.pod).await
        {
            tree.note_lists(entries.iter().map(|entry| &entry.attributes));
            return Ok((shown(&tree.places, &at, number, entries), 0, asked));
        }
        let ahead = self.ahead.take().filter(|ahead| {
            let believed = ahead.asked.elapsed() < FRESH / 2 && !self.node.state().is_older(ahead.asked);
            ahead.cookie == cookie && believed
        });
        let (asked, from_pod) = match ahead {
            Some(mut ahead) => (ahead.asked, (&mut ahead.answer).await.unwrap_or(Err(Errno::IO))),
            None => (Instant::now(), page(&tree.pod, &at, cookie).await),
        };
        let (entries, next) = passed(&tree.places, &at, number, cookie, from_pod)?;
        tree.note_lists(entries.iter().map(|entry| &entry.attributes));
        if next != 0 {
            let pod = Arc::clone(&tree.pod);
            let asked = Instant::now();
            let answer = tokio::spawn(async move { page(&pod, &at, next).await });
            self.ahead = Some(Ahead {
                cookie: next,
                asked,
                answer,
            });
        }
        Ok((entries, next, asked))
    }

    fn remember(&mut self, tree: &PodTree, entries: &[Listed], last: bool) {
        let Some(all) = &mut self.all else { return };
        if all.len() + entries.len() > REMEMBERED {
            self.all = None;
            return;
        }
        all.extend(entries.iter().map(|entry| (entry.name.clone(), entry.clone())));
        if last && let Some(names) = self.all.take() {
            let listing = Listing {
                fetched: self.begun,
                names,
            };
            tree.remember_listing(&self.node, Arc::new(listing));
        }
    }
}

/// One page of the agent's, what the rules hide left out; with the first (`number` 0) come the names that only this view
/// has.
///
/// # Errors
/// The pod's; `EIO` when the link is gone.
pub(crate) async fn list_page(
    pod: &Pod,
    places: &Places,
    at: &At,
    number: usize,
    cookie: u64,
) -> Result<(Vec<Listed>, u64), Errno> {
    passed(places, at, number, cookie, page(pod, at, cookie).await)
}

/// As the agent has it.
async fn page(pod: &Pod, at: &At, cookie: u64) -> Result<(Vec<Entry>, u64), Errno> {
    if at.place == Place::Placeholder {
        return Ok((Vec::new(), 0));
    }
    let path = to_bytes(&at.pod);
    match ask(pod, FileOperation::List { path, cookie }).await? {
        FileAnswer::List { entries, next } => Ok((entries, next)),
        _ => Err(Errno::IO),
    }
}

fn passed(
    places: &Places,
    at: &At,
    number: usize,
    cookie: u64,
    from_pod: Result<(Vec<Entry>, u64), Errno>,
) -> Result<(Vec<Listed>, u64), Errno> {
    let (entries, next) = match from_pod {
        // A directory that only this view has.
        Err(Errno::NOENT) if places.made_up(&at.path).is_some() => (Vec::new(), 0),
        other => other?,
    };
    // An agent that does not get on would keep us here for ever.
    if next != 0 && (entries.is_empty() || next == cookie) {
        return Err(Errno::IO);
    }
    Ok((shown(places, at, number, entries), next))
}

/// What the rules leave of a page.
fn shown(places: &Places, at: &At, number: usize, entries: Vec<Entry>) -> Vec<Listed> {
    let (path, directory) = (at.path.as_path(), at.place);
    let mut made_up = places.made_up_below(path);
    let mut listed: Vec<Listed> = Vec::with_capacity(entries.len() + made_up.len());
    for Entry { name, attributes, link } in entries {
        if !is_name(&name.0) {
            continue;
        }
        let child = path.join(OsStr::from_bytes(&name.0));
        let Some(place) = places.decide(directory, &child) else {
            continue;
        };
        let shown_already = number > 0 && made_up.contains_key(&name.0);
        if place == Place::Placeholder || shown_already {
            continue;
        }
        made_up.remove(&name.0);
        let Ok(attributes) = checked(attributes) else { continue };
        listed.push(Listed {
            name: name.0.into(),
            place,
            attributes,
            link: link.filter(|link| is_link(&link.0)).map(|link| link.0.into()),
        });
    }
    if number == 0 {
        for (name, attributes) in made_up {
            let child = path.join(OsStr::from_bytes(&name));
            if let Some(place) = places.decide(directory, &child) {
                listed.push(Listed {
                    name: name.into(),
                    place,
                    attributes,
                    link: places.link(&child),
                });
            }
        }
    }
    listed
}
