//! Finds the place of a part of a scalar's text. The value is matched against the source, which also contains quotes,
//! escapes, indentation and line breaks.

use std::ops::Range;

use super::tree::Place;

/// A range of bytes in a scalar's text.
#[derive(Clone, Debug, PartialEq)]
pub struct Inside {
    pub(super) text: String,
    pub span: Range<usize>,
}

impl Inside {
    /// The place of the bytes within `scalar`; `None` if the source has another text, as with `${env:…}`.
    pub(super) fn place(&self, source: &str, scalar: Place) -> Option<Place> {
        let lines = source.split_inclusive('\n').skip(scalar.line.saturating_sub(1) as usize);
        let written: Vec<char> = lines.flat_map(str::chars).skip(scalar.column.saturating_sub(1) as usize).collect();
        let (opening, escapes) = match written.first()? {
            quote @ ('"' | '\'') => (1, Some(*quote)),
            '|' | '>' => (1 + written.iter().position(|character| *character == '\n')?, None),
            _ => (0, None),
        };
        let is_escape = |found| found == '\\' && escapes == Some('"');
        let (mut at, mut start, mut end) = (opening, None, opening);
        for (offset, wanted) in self.text.char_indices() {
            // Skip indentation, and the rest of a line break that was folded into one character.
            while !wanted.is_whitespace() && written.get(at)?.is_whitespace() {
                at += 1;
            }
            let length = match written.get(at..)? {
                ['\\', '\n', ..] if escapes == Some('"') => {
                    at += 1 + written.get(at + 1..)?.iter().take_while(|character| character.is_whitespace()).count();
                    usize::from(*written.get(at)? == wanted)
                }
                [found, ..] if wanted.is_whitespace() && !found.is_whitespace() && !is_escape(*found) => 0,
                ['$', '$', ..] if wanted == '$' => 2,
                ['\'', '\'', ..] if wanted == '\'' && escapes == Some('\'') => 2,
                ['\\', escape, ..] if escapes == Some('"') => match escape {
                    'x' => 4,
                    'u' => 6,
                    'U' => 10,
                    _ => 2,
                },
                [found, ..] if *found == wanted || wanted.is_whitespace() => 1,
                _ => return None,
            };
            if offset >= self.span.start {
                start = start.or(Some(at));
            }
            at += length;
            if offset < self.span.end {
                end = at;
            }
        }
        let start = start.unwrap_or(at);
        let before = written.get(..start)?;
        let line_start = before.iter().rposition(|character| *character == '\n').map(|at| at + 1);
        let lines = before.iter().filter(|character| **character == '\n').count() as u32;
        let column = line_start.map_or(scalar.column + start as u32, |line_start| 1 + (start - line_start) as u32);
        let length = end.saturating_sub(start).max(1) as u32;
        Some(Place { line: scalar.line + lines, column, length, ..scalar })
    }
}
