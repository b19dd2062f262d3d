//! The picture of a row: when its spans ran, and when they did so themselves.

use std::collections::BTreeSet;

use maud::{Markup, html};

use crate::exporters::debug::layout::{Tone, duration};
use crate::exporters::debug::requests::Log;
use crate::exporters::debug::tree::{Row, Tree};

/// The picture's width in its own units, the least width of a span, and the gap below which pieces become one.
const WIDTH: u32 = 1000;
const LEAST: u32 = 3;
const GAP: u32 = 2;

type Piece = (u32, u32);

/// The row's spans, dark where their own time is, outlined where that is on the critical path, with a tick for each log.
pub(super) fn bar(tree: &Tree<'_>, row: &Row, logs: &[&Log]) -> Markup {
    let (mut whole, mut own, mut path) = (Vec::new(), Vec::new(), Vec::new());
    for at in &row.spans {
        let (_, node) = tree.at(*at);
        let start = place(tree, node.start).min(WIDTH - LEAST);
        let piece = (start, place(tree, node.end).max(start + LEAST));
        whole.push(piece);
        path.extend(tree.waits(*at).iter().map(|(start, end)| {
            let start = place(tree, *start).min(WIDTH - LEAST);
            (start, place(tree, *end).max(start + LEAST))
        }));
        let mut until = node.start;
        let waited_for = node.children.iter().map(|child| tree.at(*child).1).filter(|child| !child.is_detached);
        let mut has_children = false;
        for child in waited_for {
            has_children = true;
            if child.start > until {
                own.push((place(tree, until), place(tree, child.start.min(node.end))));
            }
            until = until.max(child.end);
        }
        match has_children {
            true if until < node.end => own.push((place(tree, until), place(tree, node.end))),
            true => {}
            false => own.push(piece),
        }
    }
    let (first, node) = tree.at(row.first());
    let shift = i64::try_from(i128::from(node.start) - i128::from(first.start)).unwrap_or_default();
    let ticks = |is_alarm: bool| {
        let is_of = |log: &&&Log| matches!(log.line.tone, Tone::Bad | Tone::Warning) == is_alarm;
        let places = logs.iter().filter(is_of).map(|log| place(tree, log.line.time.saturating_add_signed(shift)));
        let places: BTreeSet<u32> = places.collect();
        places.iter().map(|place| format!("M{place} 0v14")).collect::<String>()
    };
    let answer = place(tree, tree.at(tree.main).1.end);
    html! {
        svg class="shape" viewBox=(format!("0 0 {WIDTH} 14")) preserveAspectRatio="none" aria-hidden="true" {
            path class="whole" d=(boxes(whole)) {}
            path class="own" d=(boxes(own)) {}
            @if !path.is_empty() { path class="path" d=(boxes(path)) {} }
            @for (class, ticks) in [("tick", ticks(false)), ("alarm", ticks(true))] {
                @if !ticks.is_empty() { path class=(class) d=(ticks) {} }
            }
            @if answer < WIDTH { path class="answer" d=(format!("M{answer} 0v14")) {} }
        }
    }
}

/// The marks of the time axis, from the start of the request.
pub(super) fn axis(tree: &Tree<'_>) -> Markup {
    let all = tree.drawn_end().saturating_sub(tree.at(tree.main).1.start);
    html! {
        span class="scale" {
            @for quarter in 0..4u64 { span { (duration(all / 4 * quarter)) } }
        }
    }
}

/// Where a moment is drawn.
fn place(tree: &Tree<'_>, time: u64) -> u32 {
    let (start, end) = (tree.at(tree.main).1.start, tree.drawn_end());
    let all = u128::from(end.saturating_sub(start).max(1));
    let passed = u128::from(time.clamp(start, end.max(start)) - start);
    u32::try_from(passed * u128::from(WIDTH) / all).unwrap_or(WIDTH)
}

/// Boxes as one path, however many they are.
fn boxes(mut pieces: Vec<Piece>) -> String {
    pieces.sort_unstable();
    let mut joined: Vec<Piece> = Vec::new();
    for (start, end) in pieces.into_iter().filter(|(start, end)| start < end) {
        match joined.last_mut() {
            Some(last) if start <= last.1 + GAP => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined.iter().map(|(start, end)| format!("M{start} 2h{0}v10h-{0}z", end - start)).collect()
}
