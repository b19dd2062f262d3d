//! Finds the known name that a mistyped one is closest to.

use strsim::osa_distance;

/// Help for an unknown name: the nearest known one, else all known names.
pub(crate) fn suggestion<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
    introduction: &str,
) -> Option<String> {
    let known: Vec<&str> = known.into_iter().filter(|name| !name.is_empty()).collect();
    guess(name, known.iter().copied()).or_else(|| listing(&known, introduction))
}

/// Help with the nearest known name, if it is near enough.
pub(crate) fn guess<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    Some(format!("did you mean \"{}\"?", nearest(name, known)?))
}

/// Help with all known names.
pub(crate) fn listing(known: &[&str], introduction: &str) -> Option<String> {
    (!known.is_empty()).then(|| format!("{introduction}: {}", known.join(", ")))
}

/// The known name with the fewest typing errors, if they are few for its length. Ignores case.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |text: &str| text.chars().flat_map(char::to_lowercase).take(64).collect::<String>();
    let name = letters(name);
    let measured = known.into_iter().map(|known| (osa_distance(&name, &letters(known)), known));
    let (distance, nearest) = measured.min_by_key(|(distance, _)| *distance)?;
    let length = name.chars().count();
    (distance <= (length / 3).max(1) && length > 1).then_some(nearest)
}
