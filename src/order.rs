//! Stable sorting with one compiled copy for all types and comparisons. The standard library compiles its own for each of
//! them, some 5 KiB; away from the way of a request that is not worth its room.

use std::cmp::Ordering;

pub(crate) trait Ordered<T> {
    fn order_by(&mut self, compare: impl FnMut(&T, &T) -> Ordering);

    fn order_by_key<K: Ord>(&mut self, mut key: impl FnMut(&T) -> K) {
        self.order_by(|one, other| key(one).cmp(&key(other)));
    }
}

impl<T> Ordered<T> for [T] {
    fn order_by(&mut self, mut compare: impl FnMut(&T, &T) -> Ordering) {
        let mut compare_at = |one: &usize, other: &usize| match (self.get(*one), self.get(*other)) {
            (Some(one), Some(other)) => compare(one, other),
            _ => Ordering::Equal,
        };
        for (one, other) in swaps(self.len(), &mut compare_at) {
            self.swap(one, other);
        }
    }
}

/// The pairs to swap, one after another.
fn swaps(count: usize, compare: &mut dyn FnMut(&usize, &usize) -> Ordering) -> Vec<(usize, usize)> {
    let mut places: Vec<usize> = (0..count).collect();
    places.sort_by(compare);
    let mut swaps = Vec::with_capacity(count);
    // What belongs to a place is fetched from where it is, and so on, until what stood in the first place is needed.
    for first in 0..count {
        let mut at = first;
        while let Some(place) = places.get_mut(at) {
            let from = std::mem::replace(place, at);
            if from == first {
                break;
            }
            swaps.push((at, from));
            at = from;
        }
    }
    swaps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the standard library does, equal ones in the order in which they were.
    #[test]
    fn it_is_stable() {
        for count in 0..200_u32 {
            let mut items: Vec<(u32, String)> = (0..count).map(|at| (at * 7919 % 13, at.to_string())).collect();
            let mut expected = items.clone();
            expected.sort_by_key(|(key, _)| *key);
            items.order_by_key(|(key, _)| *key);
            assert_eq!(items, expected);
        }
    }
}
