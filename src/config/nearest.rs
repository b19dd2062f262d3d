//! The known name that a mistyped one was meant to be.

/// What to say about an unknown name: the nearest known one, or all there are.
pub fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, introduction: &str) -> Option<String> {
    let known: Vec<&str> = known.into_iter().filter(|name| !name.is_empty()).collect();
    guess(name, known.iter().copied()).or_else(|| listing(&known, introduction))
}

/// What to say where the nearest known name is near enough.
pub fn guess<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    Some(format!("did you mean \"{}\"?", nearest(name, known)?))
}

/// All names that there are.
pub fn listing(known: &[&str], introduction: &str) -> Option<String> {
    (!known.is_empty()).then(|| format!("{introduction}: {}", known.join(", ")))
}

/// The known name with the fewest typing errors, when they are few for its length; case counts nothing.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |text: &str| text.chars().flat_map(char::to_lowercase).take(64).collect::<Vec<_>>();
    let name = letters(name);
    let measured = known.into_iter().map(|known| (distance(&name, &letters(known)), known));
    let (distance, nearest) = measured.min_by_key(|(distance, _)| *distance)?;
    (distance <= (name.len() / 3).max(1) && name.len() > 1).then_some(nearest)
}

/// Damerau-Levenshtein (optimal string alignment): insert, delete, replace, swap neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut x_before = None;
    for (i, x) in a.iter().enumerate() {
        let (mut next, mut y_before) = (vec![i + 1], None);
        for (j, y) in b.iter().enumerate() {
            let mut cost = at(&row, j) + usize::from(x != y);
            cost = cost.min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            if x_before == Some(y) && y_before == Some(x) {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            next.push(cost);
            y_before = Some(y);
        }
        before = std::mem::replace(&mut row, next);
        x_before = Some(x);
    }
    at(&row, b.len())
}
