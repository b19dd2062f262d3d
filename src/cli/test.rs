//! `misaki test`: runs test cases of a config without a port. A case has the telemetry that enters the pipelines, and
//! the telemetry that must come out.

mod short;
pub(super) mod trial;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};
use similar::{Algorithm, capture_diff_slices};

use crate::config::emit;
use crate::config::files::Place;
use crate::config::nearest::suggestion;
use crate::config::section::Section;
use crate::config::tree::quoted;
use crate::config::{self, Entry, Loaded, Node, Outside};
use crate::order::Ordered;
use crate::service::plan::Plan;
use crate::telemetry::Reason;

use super::send::signal_of;
use super::{CONFIG, FAILED, Failure, block_on, environment, failed, print, rendered, safe};
use trial::Outcome;

const ABOUT: &str = "\
FILE is NAME.test.yaml, and lies beside its config, NAME.yaml:
  env: {SITE: tokyo}            # variables of the config
  cases:
    - name: DEBUG logs stay
      in:
        - log: {severity: 5, body: cache miss}
        - log: {severity: 9, body: paid, resource: {service.name: shop}}
      out:
        - log: {severity: 9, body: paid, resource: {service.name: shop}}
      dropped: {filter: 1}
`span` and `metric` go the same way; other keys are OTLP/JSON's.";

#[derive(Args)]
#[command(after_help = ABOUT)]
pub(super) struct Test {
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Write what comes out into the files
    #[arg(long)]
    update: bool,
    /// Write a report in JUnit's XML
    #[arg(long, value_name = "PATH")]
    junit: Option<PathBuf>,
}

struct Case<'a> {
    name: String,
    entries: &'a [Entry],
    input: Vec<Value>,
    /// The records that must come out.
    out: Result<Vec<Value>, String>,
    /// What must be dropped. `None` allows anything.
    dropped: Option<Map<String, Value>>,
}

/// The result of a case; a failure says why.
struct Verdict {
    file: String,
    case: String,
    failure: Option<String>,
}

pub(super) fn test(options: &Test) -> Result<(), Failure> {
    let mut verdicts = Vec::new();
    let mut out = String::new();
    for path in &options.files {
        for verdict in test_file(path, options.update)? {
            let state = if verdict.failure.is_some() { "FAILED" } else { "ok" };
            let _ = writeln!(out, "{state:<8}{}: {}", safe(&verdict.file), safe(&verdict.case));
            for line in verdict.failure.iter().flat_map(|failure| failure.lines()) {
                let _ = writeln!(out, "        {}", safe(line));
            }
            verdicts.push(verdict);
        }
    }
    let bad = verdicts.iter().filter(|verdict| verdict.failure.is_some()).count();
    let _ = writeln!(out, "{} passed, {bad} failed", verdicts.len() - bad);
    print(&out)?;
    if let Some(path) = &options.junit {
        let written = std::fs::write(path, junit(&verdicts));
        written.map_err(|error| failed(format!("cannot write {}: {error}", path.display())))?;
    }
    if bad == 0 { Ok(()) } else { Err(Failure { status: FAILED, message: String::new() }) }
}

fn test_file(path: &Path, update: bool) -> Result<Vec<Verdict>, Failure> {
    let file = path.display().to_string();
    std::fs::metadata(path).map_err(|error| failed(format!("cannot read {file}: {error}")))?;
    let loaded = config::load(&[format!("file:{file}")], &[], &environment);
    let refused = |loaded: &Loaded| Failure { status: CONFIG, message: rendered(loaded) };
    if loaded.root.get("service").is_some() {
        let (cases, way) = (path.with_extension("test.yaml"), "its cases stand in");
        let way = if cases.exists() { way } else { "write its cases into" };
        return Err(failed(format!("{file} is a config: {way} {} (see --help)", cases.display())));
    }
    if loaded.problems.has_errors() {
        return Err(refused(&loaded));
    }
    let section = Section::of(&loaded.root, "", &loaded.problems);
    let named = section.text("config");
    let variables = section.subsection("env").entries();
    let written = loaded.root.get("cases").map(Node::items).unwrap_or_default();
    let sections = section.sections("cases").unwrap_or_default();
    let cases: Vec<Case> = sections.iter().zip(written).map(|(section, node)| case(section, node)).collect();
    let folder = path.parent().unwrap_or(Path::new(""));
    let beside = || file.strip_suffix(".test.yaml").map(|stem| PathBuf::from(format!("{stem}.yaml")));
    let config = named.map(|named| folder.join(named)).or_else(beside).unwrap_or_default();
    if let Err(error) = std::fs::metadata(&config) {
        let message = match config.as_os_str().is_empty() {
            true => "it is required, and missing".to_owned(),
            false => format!("cannot read {}: {error}", config.display()),
        };
        section.problem_with_help("config", message, "it is the path of the config, from the folder of this file");
    }
    if loaded.problems.has_errors() {
        drop((sections, section));
        return Err(refused(&loaded));
    }
    let lookup = |name: &str| {
        let own = variables.iter().find(|entry| entry.key == name).map(|entry| &entry.node);
        own.map(|node| node.as_text().map_or_else(|| emit::json_value(node).to_string(), str::to_owned))
    };
    let outside = Outside { environment: &lookup, place: Place::File, is_elsewhere: false };
    let under_test = config::load_from(&[format!("file:{}", config.display())], &[], outside);
    let mut plan = Plan::read(&under_test);
    if under_test.problems.has_errors() {
        return Err(refused(&under_test));
    }
    if cases.is_empty() {
        return Err(failed(format!("{file}: there are no cases in it: write them under `cases:`")));
    }
    // With `--update`, `dropped` may be out of date.
    for section in sections.iter().filter(|_| !update) {
        check_dropped(section, &plan);
    }
    drop((sections, section));
    if loaded.problems.has_errors() {
        return Err(refused(&loaded));
    }
    plan.silence();
    let mut verdicts = Vec::new();
    let mut outcomes = Vec::new();
    for case in &cases {
        let outcome = block_on(async { Ok(trial::run(&plan, &case.input).await) })?;
        let failure = match (&case.out, &outcome) {
            (Err(error), _) => Some(located(&file, case, "out", error)),
            (_, Err(error)) => Some(located(&file, case, "in", error)),
            (Ok(_), Ok(_)) if update => None,
            (Ok(out), Ok(got)) => difference(out, case.dropped.as_ref(), got),
        };
        verdicts.push(Verdict { file: file.clone(), case: case.name.clone(), failure });
        outcomes.push(outcome);
    }
    if update {
        let text = std::fs::read_to_string(path).map_err(|error| failed(format!("cannot read {file}: {error}")))?;
        let new =
            updated(&text, &loaded.root, &cases, &outcomes).map_err(|error| failed(format!("{file}: {error}")))?;
        if new != text {
            std::fs::write(path, new).map_err(|error| failed(format!("cannot write {file}: {error}")))?;
        }
    }
    Ok(verdicts)
}

/// An error about a record of a case, with its place in the file.
fn located(file: &str, case: &Case, key: &str, error: &str) -> String {
    let Some(list) = case.entries.iter().find(|entry| entry.key == key) else { return error.to_owned() };
    let records: &[Node] = match &list.node.value {
        config::Value::List(records) => records,
        _ => std::slice::from_ref(&list.node),
    };
    let is_wrong = |record: &&Node| short::requests(&[emit::json_value(record)]).is_err();
    match records.iter().find(is_wrong) {
        Some(Node { place, .. }) => format!("{file}:{}:{}: {key}: {error}", place.line, place.column),
        None => error.to_owned(),
    }
}

fn case<'a>(section: &Section<'a>, node: &'a Node) -> Case<'a> {
    let name = section.text("name").or_else(|| section.missing("name")).unwrap_or_default();
    if section.is_null("in") || !section.has("in") {
        section.missing::<Value>("in");
    }
    let (input, out) = (records(section, "in"), normal(records(section, "out")));
    let names_dropped = section.has("dropped") && !section.is_null("dropped");
    let dropped = dropped(&section.subsection("dropped"));
    Case { name, entries: node.entries(), input, out, dropped: names_dropped.then_some(dropped) }
}

/// The records after a conversion to protobuf and back, sorted by signal: equal ones are then written equally.
fn normal(items: Vec<Value>) -> Result<Vec<Value>, String> {
    let mut records = Vec::new();
    for mut item in items {
        let exporter = fields(&mut item).and_then(|fields| fields.remove("exporter"));
        for (signal, wire) in short::requests(&[item])? {
            for mut record in short::records(signal, &wire) {
                if let (Some(fields), Some(exporter)) = (fields(&mut record), &exporter) {
                    fields.insert("exporter".into(), exporter.clone());
                }
                records.push((signal, record));
            }
        }
    }
    records.order_by_key(|(signal, _)| *signal);
    Ok(records.into_iter().map(|(_, record)| record).collect())
}

/// A list of records and requests, or one request.
fn records(section: &Section, key: &str) -> Vec<Value> {
    let request = section.node(key).map(emit::json_value).filter(|value| signal_of(value).is_some());
    if let Some(request) = request {
        return vec![request];
    }
    for record in section.sections(key).unwrap_or_default() {
        record.entries();
    }
    match section.node(key).map(emit::json_value) {
        Some(Value::Array(records)) => records,
        _ => Vec::new(),
    }
}

/// The dropped items by processor or reason: a number, or one for each rule.
fn dropped(section: &Section) -> Map<String, Value> {
    fn items(section: &Section, key: &str) -> Value {
        if section.is_null(key) {
            section.missing::<Value>(key);
        }
        section.integer(key, 0, 0..=i64::MAX).into()
    }
    let count = |entry: &Entry| match &entry.node.value {
        config::Value::Map(rules) => {
            let section = section.subsection(&entry.key);
            rules.iter().map(|rule| (rule.key.clone(), items(&section, &rule.key))).collect()
        }
        _ => items(section, &entry.key),
    };
    section.entries().iter().map(|entry| (entry.key.clone(), count(entry))).collect()
}

/// Reports names under `dropped` that are neither processors nor reasons.
fn check_dropped(section: &Section, plan: &Plan) {
    let processors = plan.pipelines.iter().flat_map(|pipeline| &pipeline.processors);
    let processors: BTreeSet<String> = processors.map(|processor| processor.id.to_string()).collect();
    let known = || processors.iter().map(String::as_str).chain(Reason::ALL.map(Reason::name));
    for entry in section.subsection("dropped").entries().iter().filter(|entry| known().all(|name| name != entry.key)) {
        let message = format!("{} is neither a processor of a pipeline nor a reason", quoted(&entry.key));
        let help = suggestion(&entry.key, known(), "it is one of");
        section.problem_at(entry.key_place, &format!("dropped.{}", entry.key), message, help);
    }
}

fn fields(record: &mut Value) -> Option<&mut Map<String, Value>> {
    record.as_object_mut()?.values_mut().next()?.as_object_mut()
}

/// The lines that differ from what is expected. An expected number of items is the sum over all rules.
fn difference(out: &[Value], dropped: Option<&Map<String, Value>>, got: &Outcome) -> Option<String> {
    let sum = |value: &Value| match value {
        Value::Object(rules) => rules.values().filter_map(Value::as_u64).sum(),
        value => value.as_u64().unwrap_or(0),
    };
    let mut expected = Outcome { out: out.to_vec(), dropped: dropped.unwrap_or(&got.dropped).clone() };
    for (name, value) in &mut expected.dropped {
        if let Some(found) = got.dropped.get(name).filter(|found| value.is_number() && sum(found) == sum(value)) {
            *value = found.clone();
        }
    }
    if expected == *got {
        return None;
    }
    let (before, after) = (lines(&expected), lines(got));
    let changes = capture_diff_slices(Algorithm::Myers, &before, &after);
    let changes = changes.iter().flat_map(|change| change.iter_changes(&before, &after));
    let lines = changes.map(|change| format!("{} {}\n", change.tag(), change.value()));
    Some(format!("- expected, + came out\n{}", lines.collect::<String>()))
}

/// An outcome as it is written in a file.
fn lines(outcome: &Outcome) -> Vec<String> {
    let mut lines = vec![if outcome.out.is_empty() { "out: []".to_owned() } else { "out:".to_owned() }];
    for record in &outcome.out {
        let (kind, fields) = record.as_object().and_then(|record| record.iter().next()).expect("a record has a kind");
        lines.push(format!("  - {kind}: {}", flow(fields)));
    }
    if !outcome.dropped.is_empty() {
        lines.push("dropped:".to_owned());
    }
    for (name, value) in &outcome.dropped {
        match value {
            Value::Object(rules) => {
                lines.push(format!("  {}:", key(name)));
                lines.extend(rules.iter().map(|(rule, items)| format!("    {}: {items}", key(rule))));
            }
            value => lines.push(format!("  {}: {value}", key(name))),
        }
    }
    lines
}

/// A value as one line of YAML, in which nothing is expanded.
fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let entries: Vec<_> = map.iter().map(|(name, value)| format!("{}: {}", key(name), flow(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) => scalar(text),
        value => value.to_string(),
    }
}

/// A YAML string in which nothing is expanded.
fn scalar(text: &str) -> String {
    key(&text.replace('$', "$$"))
}

/// A YAML string. Keys are never expanded.
fn key(text: &str) -> String {
    let quoted = || format!("'{}'", text.replace('\'', "''"));
    let written = emit::text(text);
    let special = text.contains([',', '[', ']', '{', '}', ':', '#', '\'', '"']) || text.is_empty();
    if written == text && special { quoted() } else { written }
}

/// The file with actual outcomes in place of the expected ones. Everything else stays the same.
fn updated(text: &str, root: &Node, cases: &[Case], outcomes: &[Result<Outcome, String>]) -> Result<String, String> {
    let mut all: Vec<String> = text.lines().map(str::to_owned).collect();
    let line = |entry: &Entry| (entry.key_place.line as usize).saturating_sub(1);
    let column = |entry: &Entry| entry.key_place.column.saturating_sub(1) as usize;
    let keys = root.entries().iter().chain(cases.iter().flat_map(|case| case.entries));
    let starts: Vec<usize> = keys.map(line).collect();
    // From the last case to the first, so that line numbers above stay valid.
    for (case, outcome) in cases.iter().zip(outcomes).rev() {
        let Ok(outcome) = outcome else { continue };
        let opens = |entry: &Entry| {
            let line = all.get(line(entry)).map(String::as_str).unwrap_or_default();
            line.chars().take(column(entry)).all(|char| char == ' ' || char == '-')
        };
        if !case.entries.iter().all(opens) {
            return Err(format!("cannot update \"{}\": write each key of a case on a line of its own", case.name));
        }
        // An entry ends at the next key, without the blank lines and comments before that key.
        let span = |entry: &Entry| {
            let start = line(entry);
            let next = starts.iter().copied().filter(|next| *next > start).min().unwrap_or(all.len());
            let is_of_it = |line: &String| !matches!(line.trim(), "" | "-" | "...") && !line.trim().starts_with('#');
            let rest = all.get(start + 1..next).unwrap_or_default();
            start..start + 1 + rest.iter().rposition(is_of_it).map_or(0, |last| last + 1)
        };
        let end = case.entries.iter().map(|entry| span(entry).end).max().unwrap_or(all.len());
        let is_outcome = |entry: &&Entry| entry.key == "out" || entry.key == "dropped";
        let old: Vec<_> = case.entries.iter().filter(is_outcome).map(span).collect();
        let indent = case.entries.first().map_or(0, column);
        let new = lines(outcome).into_iter().map(|line| format!("{:indent$}{line}", ""));
        let first = old.first().map_or(end, |span| span.start);
        for span in old.into_iter().rev() {
            all.drain(span);
        }
        all.splice(first..first, new);
    }
    Ok(all.join("\n") + "\n")
}

fn junit(verdicts: &[Verdict]) -> String {
    let escaped = |text: &str| {
        let text = safe_xml(text);
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
    };
    let bad = verdicts.iter().filter(|verdict| verdict.failure.is_some()).count();
    let count = verdicts.len();
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"misaki\" tests=\"{count}\" failures=\"{bad}\">\n"
    );
    for Verdict { file, case, failure } in verdicts {
        let _ = write!(out, "  <testcase classname=\"{}\" name=\"{}\"", escaped(file), escaped(case));
        let _ = match failure {
            None => writeln!(out, "/>"),
            Some(failure) => writeln!(out, "><failure>{}</failure></testcase>", escaped(failure)),
        };
    }
    out + "</testsuite>\n"
}

/// XML allows hardly any control characters.
fn safe_xml(text: &str) -> String {
    text.split('\n').map(safe).collect::<Vec<_>>().join("\n")
}
