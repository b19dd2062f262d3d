//! The contract of components: whatever is asked of one is asked through the traits of its kind, and a component is its folder and
//! its row.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const KINDS: [&str; 5] = ["receivers", "processors", "exporters", "connectors", "extensions"];
const REGISTRY: &str = "service/registry.rs";
/// What the tests, the benchmarks and the fuzz targets may use of the library.
const FACE: &str = "face.rs";

/// Modules of these folders that are no component, but what several of them share.
const SHARED: [(&str, &str); 8] = [
    ("processors", "action"),
    ("processors", "edit"),
    ("processors", "matching"),
    ("processors", "outbox"),
    ("exporters", "compress"),
    ("exporters", "settings"),
    ("exporters", "upstream"),
    // Text in the forms of `debug`, which the terminal shows as well.
    ("exporters", "debug"),
];

/// `tail` writes a rule for `filter`, under the keys of that.
const NAMED: [&str; 1] = ["cli/tail/query.rs names processors::filter"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => sources(&path, found),
            path => found.push(path),
        }
    }
}

/// The code of a file without its comments and its unit tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// No component's module is named outside of its own folder, the list of its kind's modules, and its row.
#[test]
fn a_component_is_its_folder_and_its_row() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut found = BTreeSet::new();
    for kind in KINDS {
        let list = code(&src.join(format!("{kind}.rs")));
        let modules = list.lines().filter_map(|line| line.trim().strip_suffix(';')?.split("mod ").nth(1));
        for module in modules.filter(|module| !SHARED.contains(&(kind, module))) {
            for file in &files {
                let name = file.strip_prefix(&src).unwrap().display().to_string();
                let is_own =
                    name.starts_with(&format!("{kind}/{module}.rs")) || name.starts_with(&format!("{kind}/{module}/"));
                if is_own || [REGISTRY, FACE].contains(&name.as_str()) || name == format!("{kind}.rs") {
                    continue;
                }
                let text = code(file);
                let mut paths = vec![format!("{kind}::{module}")];
                // One beside it.
                if Path::new(&name).parent() == Some(Path::new(kind)) {
                    paths.push(format!("super::{module}"));
                }
                let ends = |text: &str| !text.starts_with(|next: char| next.is_alphanumeric() || next == '_');
                let has =
                    |path: &String| text.match_indices(path.as_str()).any(|(at, _)| ends(&text[at + path.len()..]));
                let names_it = paths.iter().any(has)
                    || text.match_indices(&format!("{kind}::{{")).any(|(at, _)| {
                        let list = text[at..].split('}').next().unwrap();
                        list.split(|other: char| !other.is_alphanumeric() && other != '_').any(|word| word == module)
                    });
                if names_it {
                    found.insert(format!("{name} names {kind}::{module}"));
                }
            }
        }
    }
    let known = BTreeSet::from(NAMED.map(str::to_owned));
    assert_eq!(found, known);
}

/// The floors of docs/ARCHITECTURE.md, from the top.
const FLOORS: [&[&str]; 9] = [
    &["cli"],
    &["inspect"],
    &["service"],
    &["pipeline"],
    &["receivers", "processors", "connectors", "sending", "exporters", "extensions"],
    &["network"],
    &["ottl"],
    &["telemetry"],
    &["otlp"],
];
/// What serves all floors, and stands on none.
const GROUND: [&str; 2] = ["config", "diagnostics"];
/// Which edges go against the floors, and why.
const AGAINST: [(&str, &str, &str); 4] = [
    ("config", "diagnostics", "problems are shown in columns, and text of others safely"),
    ("config", "otlp", "the signal that the id of a pipeline names"),
    ("diagnostics", "config", "what is read of files, and times as they are written"),
    ("diagnostics", "telemetry", "plain types: signals, and the budget that is measured"),
];

/// Each floor uses what stands below it, or beside it among the components.
#[test]
fn imports_run_downwards() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let rank = |module: &str| FLOORS.iter().position(|floor| floor.contains(&module));
    let mut found = BTreeSet::new();
    for file in &files {
        let name = file.strip_prefix(&src).unwrap().display().to_string();
        let own = name.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        if rank(&own).is_none() && !GROUND.contains(&own.as_str()) {
            continue;
        }
        let text = code(file);
        for (at, before) in text.match_indices("crate::") {
            let rest = &text[at + before.len()..];
            let other = rest.split(|next: char| !next.is_alphanumeric() && next != '_').next().unwrap();
            let is_well = match (rank(&own), rank(other)) {
                _ if own == other => true,
                (Some(above), Some(below)) => above <= below,
                (Some(_), None) => true,
                (None, _) => rank(other).is_none() && !GROUND.contains(&other),
            };
            if !is_well {
                found.insert((own.clone(), other.to_owned()));
            }
        }
    }
    let known = AGAINST.iter().map(|(own, other, _)| ((*own).to_owned(), (*other).to_owned())).collect();
    assert_eq!(found, known, "{AGAINST:?}");
}

/// What a client is told is chosen in one place; what an upstream has told is passed on.
#[test]
fn statuses_are_chosen_in_one_place() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = vec![src.join("network/auth.rs"), src.join("pipeline.rs")];
    ["receivers", "processors", "pipeline", "telemetry"]
        .iter()
        .for_each(|folder| sources(&src.join(folder), &mut files));
    files.retain(|file| ["StatusCode::", "Status {", "from_u16("].iter().any(|made| code(file).contains(made)));
    files.sort();
    assert_eq!(files, ["telemetry/answer.rs", "telemetry/refusal.rs"].map(|name| src.join(name)));
}

/// The words of a text that may be names.
fn words(text: &str) -> BTreeSet<&str> {
    text.split(|next: char| !next.is_alphanumeric() && next != '_').filter(|word| !word.is_empty()).collect()
}

/// The face has nothing that nobody uses: rustc reports no unused code behind it.
#[test]
fn the_face_is_what_is_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("src/main.rs")];
    ["tests/it", "tests/hostile", "benches/load", "fuzz/fuzz_targets"]
        .iter()
        .for_each(|folder| sources(&root.join(folder), &mut files));
    let users = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect::<String>();
    let used = words(&users);
    let face = code(&root.join("src").join(FACE));
    for list in face.split("pub use ").skip(1).map(|rest| rest.split(';').next().unwrap()) {
        let names = list.rsplit("::").next().unwrap();
        for name in words(names).into_iter().filter(|name| *name != "self") {
            assert!(used.contains(name), "nothing outside src/ uses {name}, which face.rs lists");
        }
    }
}
