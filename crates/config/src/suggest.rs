//! "Did you mean": the candidate that a typing mistake away from what was written.

/// The nearest of `candidates` to `written`, when it is near enough to be meant.
pub(crate) fn nearest<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing costs length times length, and nothing so long is a typing mistake.
    if written.len() > 64 {
        return None;
    }
    let simple = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let written = simple(written);
    let distance = |candidate: &str| strsim::osa_distance(&written, &simple(candidate));
    let allowed = |candidate: &str| (simple(candidate).len() / 3).max(1);
    candidates
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed(candidate))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
