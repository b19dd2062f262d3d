//! The contract of components: whatever is asked of one is asked through the traits of its kind, and a component is its folder and
//! its row.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const KINDS: [&str; 5] = ["receivers", "processors", "exporters", "connectors", "extensions"];
const REGISTRY: &str = "service/registry.rs";

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
const NAMED: [&str; 1] = ["cli/tail.rs names processors::filter"];

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
                if is_own || name == REGISTRY || name == format!("{kind}.rs") {
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
