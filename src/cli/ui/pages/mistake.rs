//! A mistaken condition: what is wrong, where, and links to what may be meant.

use maud::{Markup, html};

use super::Asked;
use crate::diagnostics::escape::safe;
use crate::ottl::meant;
use crate::ottl::syntax::Mistake;

/// With the expression, which is the parameter `q`.
pub(super) fn screen(asked: &Asked, expression: &str, mistake: &Mistake) -> Markup {
    let text = expression.trim();
    let (start, end) = (mistake.span.start, mistake.span.end);
    let parts = text.get(..start).zip(text.get(start..end)).zip(text.get(end..));
    let with = |query: &str, text: &str| asked.with(&[("q", query), ("text", text), ("before", ""), ("after", "")]);
    let condition = |condition: &String| (with(condition, asked.get("text")), "", safe(condition));
    let mut proposals: Vec<_> = mistake.meant.iter().map(condition).collect();
    if meant::is_text(text) && !text.is_empty() {
        let at = meant::place_of_text(&mistake.meant);
        proposals.insert(at, (with("", text), "the words ", safe(text)));
    }
    html! {
        div role="alert" {
            p class="bad" { (safe(&mistake.message)) }
            @if let Some(((before, marked), after)) = parts {
                pre class="mistake" {
                    (safe(before))
                    mark { @if marked.is_empty() { "?" } @else { (safe(marked)) } }
                    (safe(after))
                }
            }
            @if !proposals.is_empty() {
                p { "Perhaps:" }
                ul {
                    @for (address, kind, proposal) in proposals {
                        li { a href=(address) { (kind) code { (proposal) } } }
                    }
                }
            } @else if let Some(help) = &mistake.help {
                p { (safe(help)) }
            }
        }
    }
}
