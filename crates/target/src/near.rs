//! Names like a name that does not exist.

/// How many are worth showing.
const MOST: usize = 3;
/// How like a name must be (Jaro-Winkler, 1 is equal): one wrong letter of three is.
const LIKE: f64 = 0.78;

/// Of `known`, those most like `wanted`, best first; empty when none is like it.
pub(crate) fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .map(|name| {
            let within = wanted.len() >= 3 && (name.contains(wanted) || (name.len() >= 3 && wanted.contains(name)));
            // Swapped letters are the commonest slip of all, and of short names Jaro-Winkler makes nothing of them.
            let slip = wanted.len() >= 3 && strsim::osa_distance(wanted, name) <= 1;
            let score = strsim::jaro_winkler(wanted, name).max(if within || slip { 0.9 } else { 0.0 });
            (score, name)
        })
        .filter(|(score, _)| *score >= LIKE)
        .collect();
    scored.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(other.1)));
    scored.into_iter().map(|(_, name)| name.to_owned()).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_names() {
        let known = ["checkout", "checkout-worker", "payments", "web"];
        assert_eq!(nearest("chekout", known), ["checkout", "checkout-worker"]);
        assert_eq!(nearest("payment", known), ["payments"]);
        assert_eq!(nearest("worker", known), ["checkout-worker"]);
        assert_eq!(nearest("wob", known), ["web"]);
        assert_eq!(nearest("wbe", known), ["web"]);
        assert!(nearest("zzz", known).is_empty());
    }
}
