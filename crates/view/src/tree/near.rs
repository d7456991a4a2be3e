//! Attributes in directories that are too large to be renewed whole: what lapsed near the one that is asked for is renewed
//! with it, in one question, so that a listing that takes its time does not become a question a file.

use std::sync::Arc;
use std::time::Instant;

use super::lookup::same_file;
use super::place::Place;
use super::{Node, PodTree};
use crate::remote::{stat_all, to_bytes};

/// So many at a time: 50 to 100 bytes each.
const BATCH: usize = 512;
/// Fewer are asked for one by one.
const FEW: usize = 8;

impl PodTree {
    /// Whether the node was renewed; what fails is left to who asks for it alone.
    pub(super) async fn renewed_near(&self, node: &Arc<Node>) -> bool {
        let Some(parent) = node.parent().filter(|_| node.place == Place::Pod) else {
            return false;
        };
        if self.supply.renews(&parent.in_pod(&self.places)) {
            return false;
        }
        let lapsed = |other: &Arc<Node>| {
            other.id != node.id && other.place == Place::Pod && !other.is_gone() && other.state().fresh().is_none()
        };
        let mut others: Vec<_> = self.table.below(&parent).into_iter().filter(lapsed).collect();
        if others.len() < FEW {
            return false;
        }
        // Nodes are made in the order of the listing, in which most programs go on.
        others.sort_by_key(|other| (other.id < node.id, other.id));
        others.truncate(BATCH - 1);
        others.insert(0, Arc::clone(node));
        let asked = Instant::now();
        let paths = others
            .iter()
            .map(|other| to_bytes(&other.in_pod(&self.places)))
            .collect();
        let Ok(answers) = stat_all(&self.pod, paths).await else {
            return false;
        };
        for (other, answer) in others.iter().zip(answers) {
            let mut state = other.state();
            if let Ok(attributes) = answer
                && same_file(&state.attributes, &attributes)
            {
                state.refresh(attributes, asked.elapsed());
            }
        }
        node.state().fresh().is_some()
    }
}
