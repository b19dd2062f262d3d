//! What `tail` is asked for: the expression and the conditions, their mistakes, and the filter made from them.

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::diagnostics::columns::{cut, width};
use crate::inspect::wanted::{OPTIONS, Query, Rule, Wanted, in_shell};
use crate::ottl::meant;
use crate::ottl::syntax::Mistake;
use crate::processors::filter;

use super::super::default::quoted;
use super::super::page::{Page, WIDTH};
use super::super::{Failure, USAGE, safe, usage};

#[derive(Args, Default)]
pub(crate) struct Asked {
    /// An OTTL condition, a trace id or its first digits, a span id, or a traceparent [default: everything]
    #[arg(value_name = "EXPR", default_value = "", hide_default_value = true)]
    pub(crate) expression: String,
    /// Words that all occur in the text of an item, whatever the signal; small or capital letters do not matter
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    pub(crate) text: String,
    /// Logs for which this is true; other signals only with a condition of their own
    #[arg(long, value_name = "EXPR")]
    pub(crate) logs: Option<String>,
    /// Spans for which this is true
    #[arg(long, value_name = "EXPR")]
    pub(crate) spans: Option<String>,
    /// Data points for which this is true
    #[arg(long, value_name = "EXPR")]
    pub(crate) metrics: Option<String>,
}

impl Asked {
    fn query(&self) -> Query {
        let given = [&self.logs, &self.spans, &self.metrics];
        let given = OPTIONS.iter().zip(given).filter_map(|((_, signal), text)| Some((*signal, text.clone()?)));
        Query { expression: self.expression.clone(), conditions: given.collect(), text: self.text.clone() }
    }

    /// Whether everything is asked for.
    pub(super) fn is_empty(&self) -> bool {
        let Query { expression, conditions, text } = self.query();
        expression.trim().is_empty() && conditions.is_empty() && text.trim().is_empty()
    }

    pub(super) fn read(&self) -> Result<Wanted, Failure> {
        Wanted::of(&self.query()).map_err(|(expression, mistake)| {
            let is_option = expression != self.expression;
            refused(&expression, &mistake, &proposals(&expression, is_option, &mistake))
        })
    }

    /// The parameters for the collector's socket. An older collector knows the first one only.
    pub(super) fn parameters(&self) -> String {
        let Query { expression, conditions, text } = self.query();
        let name = |signal| OPTIONS.iter().find(|(_, known)| *known == signal).map_or("", |(name, _)| *name);
        let given = conditions.iter().map(|(signal, condition)| (name(*signal), condition));
        let text = Some(("text", &text)).filter(|(_, text)| !text.is_empty());
        let all = [("where", &expression)].into_iter().chain(given).chain(text);
        all.map(|(name, value)| format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))).collect()
    }
}

/// The config of a processor that drops everything that matches the expression.
pub(in super::super) fn as_rule(wanted: &Wanted) -> Result<String, Failure> {
    if wanted.words.is_some() {
        return Err(usage("--as-rule: a filter has no --text: write IsMatch(body, \"…\")"));
    }
    if wanted.rules.is_empty() {
        return Err(usage("--as-rule wants an expression"));
    }
    let is_alone = |rule: &Rule| wanted.rules.iter().filter(|other| other.signal == rule.signal).count() == 1;
    if !wanted.rules.iter().all(is_alone) {
        return Err(usage(
            "--as-rule: join the conditions about one signal with `and`: a filter drops what one of several is true for",
        ));
    }
    let mut out = "# Drops what this is true for; to keep nothing else, write not (…) around it. List\n# filter/tail in the `processors` of the pipelines it is for.\n".to_owned();
    out.push_str("processors:\n  filter/tail:\n    error_mode: ignore\n");
    for rule in &wanted.rules {
        let mut indent = "    ".to_owned();
        for key in filter::keys(rule.signal, rule.context, rule.is_qualified) {
            out.push_str(&format!("{indent}{key}:\n"));
            indent.push_str("  ");
        }
        out.push_str(&format!("{indent}- {}\n", quoted(&rule.text)));
    }
    Ok(out)
}

/// This command with the expression that may be meant.
fn proposals(expression: &str, is_option: bool, mistake: &Mistake) -> Vec<String> {
    let with = |proposal: &String| command(expression, &in_shell(proposal));
    let mut proposals: Vec<_> = mistake.meant.iter().map(with).collect();
    if meant::is_text(expression) && !expression.is_empty() {
        let everything = if is_option { "'' " } else { "" };
        proposals.insert(
            meant::place_of_text(&mistake.meant),
            command(expression, &format!("{everything}--text {}", in_shell(expression))),
        );
    }
    proposals
}

/// This command with other words in place of the expression.
fn command(expression: &str, others: &str) -> String {
    let words = std::env::args().skip(1);
    let words = words.map(|word| match word.split_once('=') {
        _ if word == expression => others.to_owned(),
        Some((option, value)) if option.starts_with("--") && value == expression => format!("{option}={others}"),
        _ => in_shell(&word),
    });
    format!("misaki {}", words.collect::<Vec<_>>().join(" "))
}

/// The error, and the part of the expression that fits, with its faulty part marked.
fn refused(expression: &str, mistake: &Mistake, proposals: &[String]) -> Failure {
    let text = expression.trim();
    let mut page = Page::default();
    page.hang("error: ", &safe(&mistake.message));
    let (start, end) = (mistake.span.start, mistake.span.end);
    if let (Some(before), Some(marked), Some(after)) = (text.get(..start), text.get(start..end), text.get(end..)) {
        let (mut before, marked) = (safe(before), cut(&safe(marked), WIDTH - 8));
        let left = WIDTH - 2 - width(&marked).max(1);
        // The text before the faulty part is more useful than the text after it.
        let most = left.saturating_sub(width(after).min(left / 3));
        if width(&before) > most {
            while width(&before) > most.saturating_sub(1) {
                before.remove(0);
            }
            before.insert(0, '…');
        }
        let after = cut(&safe(after), left - width(&before));
        let (indent, marks) = (" ".repeat(width(&before)), "^".repeat(width(&marked).max(1)));
        page.put(format!("  {before}{marked}{after}").trim_end());
        page.put(&format!("  {indent}{marks}"));
    }
    // Not folded: a command is pasted.
    for (index, proposal) in proposals.iter().enumerate() {
        page.put(&format!("{}{}", if index == 0 { "help: " } else { "  or: " }, safe(proposal)));
    }
    if let (Some(help), true) = (&mistake.help, proposals.is_empty()) {
        page.hang("help: ", &safe(help));
    }
    Failure { status: USAGE, message: page.out }
}
