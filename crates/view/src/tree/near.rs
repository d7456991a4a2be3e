//! Attributes in directories that are too large to be renewed whole: what lapsed near the one that is asked for is renewed
//! with it, in one question, so that a listing that takes its time does not become a question a file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wire::message::Attributes;

use super::listing::LARGE;
use super::lookup::same_file;
use super::place::Place;
use super::{Node, PodTree};
use crate::remote::{stat_all, to_bytes};

/// So many at a time: 50 to 100 bytes each.
const BATCH: usize = 512;
/// Fewer are asked for one by one.
const FEW: usize = 8;

impl PodTree {
    /// The node's attributes and how long they are believed, where they were renewed; what fails is left to who asks for it
    /// alone.
    pub(super) async fn renewed_near(&self, node: &Arc<Node>) -> Option<(Attributes, Duration)> {
        let parent = node.parent().filter(|_| node.place == Place::Pod)?;
        // All that is known is looked through below: for a directory that others renew that would be for nothing.
        let large = parent.state().attributes.size >= LARGE || self.supply.is_large(&parent.in_pod(&self.places));
        if !large {
            return None;
        }
        let lapsed = |other: &Arc<Node>| {
            other.id != node.id && other.place == Place::Pod && !other.is_gone() && other.state().fresh().is_none()
        };
        let mut others: Vec<_> = self.table.below(&parent).into_iter().filter(lapsed).collect();
        if others.len() < FEW {
            return None;
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
        let answers = stat_all(&self.pod, paths).await.ok()?;
        for (other, answer) in others.iter().zip(answers) {
            let mut state = other.state();
            if let Ok(attributes) = answer
                && same_file(&state.attributes, &attributes)
            {
                state.refresh(attributes, asked.elapsed());
            }
        }
        node.state().fresh()
    }
}
