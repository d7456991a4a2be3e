//! All nodes that the kernel may name, and what is at which name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wire::message::Attributes;

use super::node::{Name, Node, Origin, ROOT, State};
use super::place::Place;

/// All nodes that the kernel may name.
pub(crate) struct Table {
    inner: Mutex<Inner>,
}

struct Inner {
    next: u64,
    nodes: HashMap<u64, Known>,
    /// By parent and name, the node that is there now.
    names: HashMap<(u64, Box<[u8]>), Arc<Node>>,
}

struct Known {
    node: Arc<Node>,
    /// How often the kernel was told of it and has not forgotten it.
    lookups: u64,
}

impl Table {
    pub(crate) fn new(root: Arc<Node>) -> Self {
        let known = Known { node: root, lookups: 1 };
        Self {
            inner: Mutex::new(Inner {
                next: ROOT + 1,
                nodes: HashMap::from([(ROOT, known)]),
                names: HashMap::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<Node>> {
        self.lock().nodes.get(&id).map(|known| Arc::clone(&known.node))
    }

    /// The node that is known at a name now.
    pub(crate) fn at(&self, parent: &Arc<Node>, name: &[u8]) -> Option<Arc<Node>> {
        self.lock().names.get(&(parent.id, name.into())).map(Arc::clone)
    }

    /// All that is known in a directory.
    pub(crate) fn below(&self, parent: &Node) -> Vec<Arc<Node>> {
        let inner = self.lock();
        let below = inner.names.iter().filter(|((above, _), _)| *above == parent.id);
        below.map(|(_, node)| Arc::clone(node)).collect()
    }

    /// The node for what was found at a name `age` ago. The caller hands it to the kernel ([`Table::hand_out`]).
    pub(crate) fn found(
        &self,
        parent: &Arc<Node>,
        name: &[u8],
        place: Place,
        attributes: Attributes,
        age: Duration,
    ) -> Arc<Node> {
        self.found_behind(parent, name, None, place, attributes, age)
    }

    /// The same behind a door.
    pub(crate) fn found_behind(
        &self,
        parent: &Arc<Node>,
        name: &[u8],
        origin: Option<Origin>,
        place: Place,
        attributes: Attributes,
        age: Duration,
    ) -> Arc<Node> {
        let mut inner = self.lock();
        let key = (parent.id, Box::from(name));
        if let Some(node) = inner.names.get(&key) {
            let mut state = node.state();
            if same_node(&state.attributes, &attributes) {
                state.refresh(attributes, age);
                drop(state);
                return Arc::clone(node);
            }
        }
        let id = inner.next;
        inner.next += 1;
        let named = Name {
            parent: Arc::clone(parent),
            name: Box::from(name),
        };
        let state = State::new(attributes, age);
        let node = Arc::new(Node::new(id, Some(named), origin, place, state));
        inner.names.insert(key, Arc::clone(&node));
        node
    }

    /// The kernel is told of a node once more.
    pub(crate) fn hand_out(&self, node: &Arc<Node>) {
        let mut inner = self.lock();
        inner
            .nodes
            .entry(node.id)
            .or_insert_with(|| Known {
                node: Arc::clone(node),
                lookups: 0,
            })
            .lookups += 1;
    }

    /// The kernel forgets a node `lookups` times, or never got to know it.
    pub(crate) fn forget(&self, id: u64, lookups: u64) {
        let mut inner = self.lock();
        let Some(known) = inner.nodes.get_mut(&id) else {
            return;
        };
        known.lookups = known.lookups.saturating_sub(lookups);
        if known.lookups > 0 || id == ROOT {
            return;
        }
        if let Some(Known { node, .. }) = inner.nodes.remove(&id) {
            inner.drop_names(&node);
        }
    }

    /// Drops what the kernel was never told of, such as names found in a listing that it did not ask for.
    pub(crate) fn forget_unknown(&self, node: &Arc<Node>) {
        let mut inner = self.lock();
        if !inner.nodes.contains_key(&node.id) {
            inner.drop_names(node);
        }
    }

    /// The app has given a node another name.
    pub(crate) fn linked(&self, node: &Arc<Node>, parent: &Arc<Node>, name: &[u8]) {
        self.lock().put(node, parent, name);
    }

    /// The app has removed a name. Gives the node that had it.
    pub(crate) fn removed(&self, parent: &Arc<Node>, name: &[u8]) -> Option<Arc<Node>> {
        self.lock().take(parent, name)
    }

    /// The app has moved a name, over another one if there was one. Gives the node that is gone by it.
    pub(crate) fn moved(&self, from: (&Arc<Node>, &[u8]), to: (&Arc<Node>, &[u8])) -> Option<Arc<Node>> {
        let mut inner = self.lock();
        let over = inner.take(to.0, to.1);
        if let Some(node) = inner.take(from.0, from.1) {
            inner.put(&node, to.0, to.1);
        }
        over
    }

    /// The app has exchanged two names.
    pub(crate) fn exchanged(&self, one: (&Arc<Node>, &[u8]), other: (&Arc<Node>, &[u8])) {
        let mut inner = self.lock();
        let (first, second) = (inner.take(one.0, one.1), inner.take(other.0, other.1));
        for (node, (parent, name)) in [(first, other), (second, one)] {
            if let Some(node) = node {
                inner.put(&node, parent, name);
            }
        }
    }
}

impl Inner {
    fn drop_names(&mut self, node: &Arc<Node>) {
        for key in node.names().all.iter().map(Name::key) {
            if self.names.get(&key).is_some_and(|there| there.id == node.id) {
                self.names.remove(&key);
            }
        }
    }

    fn put(&mut self, node: &Arc<Node>, parent: &Arc<Node>, name: &[u8]) {
        let new = Name {
            parent: Arc::clone(parent),
            name: name.into(),
        };
        self.names.insert(new.key(), Arc::clone(node));
        let mut names = node.names();
        if names.gone {
            names.all.clear();
            names.gone = false;
        }
        names.all.push(new);
    }

    fn take(&mut self, parent: &Arc<Node>, name: &[u8]) -> Option<Arc<Node>> {
        let node = self.names.remove(&(parent.id, name.into()))?;
        let mut names = node.names();
        match names.all.len() {
            1 => names.gone = true,
            _ => names.all.retain(|one| !one.is(parent, name)),
        }
        drop(names);
        Some(node)
    }
}

/// A symlink cannot change in place, and its target is cached, so any change of it is another one.
fn same_node(one: &Attributes, other: &Attributes) -> bool {
    one.inode == other.inode
        && one.device == other.device
        && one.mode & libc::S_IFMT == other.mode & libc::S_IFMT
        && (one.mode & libc::S_IFMT != libc::S_IFLNK || one.changed == other.changed)
}
