//! What docs/ and the README say of configs, held to the code: each example validates, every key that a decoder asks for
//! is in docs/configuration.md with its default, and every key that a table there names is one.

use std::collections::{BTreeMap, BTreeSet};

use misaki::face::config::{self, emit};
use misaki::face::ottl::functions;
use misaki::face::service::{Plan, ROWS};
use serde_json::{Value, json};

/// No key has this name, nor one like it.
const NO_KEY: &str = "qqqqqqqqqqqqqqqq";

/// Where keys stand that only the value of another key opens: the section, and what to write for it to be asked for.
const OPENED: &[(&str, &str)] = &[
    ("receivers.host_metrics.scrapers.cpu", "{}"),
    ("receivers.host_metrics.scrapers.load", "{}"),
    ("receivers.host_metrics.scrapers.filesystem", "{}"),
    ("receivers.host_metrics.scrapers.network", "{}"),
    ("processors.transform.log_statements[]", "{statements: ['set(log.body, 1)']}"),
    ("processors.tail_sampling.policies[]", "{type: latency}"),
    ("processors.tail_sampling.policies[]", "{type: numeric_attribute, numeric_attribute: {max_value: 1}}"),
    ("processors.tail_sampling.policies[]", "{type: probabilistic}"),
    ("processors.tail_sampling.policies[]", "{type: status_code, status_code: {status_codes: [OK]}}"),
    ("processors.tail_sampling.policies[]", "{type: string_attribute}"),
    ("processors.tail_sampling.policies[]", "{type: boolean_attribute}"),
    ("processors.tail_sampling.policies[]", "{type: rate_limiting}"),
    ("processors.tail_sampling.policies[]", "{type: bytes_limiting}"),
    ("processors.tail_sampling.policies[]", "{type: span_count}"),
    ("processors.tail_sampling.policies[]", "{type: trace_state}"),
    ("processors.tail_sampling.policies[]", "{type: ottl_condition, ottl_condition: {span: ['true']}}"),
    ("processors.tail_sampling.policies[]", "{type: and}"),
    ("processors.tail_sampling.policies[]", "{type: not}"),
    ("processors.tail_sampling.policies[]", "{type: drop}"),
    ("processors.tail_sampling.policies[]", "{type: composite}"),
];

/// The keys that are asked for below a section of a config, by their path, each with its default where there is one.
type Keys = BTreeMap<String, Value>;

fn put(root: &mut Value, path: &[String], value: Value) {
    let Some((key, rest)) = path.split_first() else {
        *root = value;
        return;
    };
    if key == "[]" {
        if root.as_array().is_none_or(|list| list.is_empty()) {
            *root = json!([{}]);
        }
        put(&mut root[0], rest, value)
    } else {
        if !root.is_object() {
            *root = json!({});
        }
        put(root.as_object_mut().unwrap().entry(key).or_insert(Value::Null), rest, value)
    }
}

fn get<'v>(root: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(root, |value, key| if key == "[]" { value.get(0) } else { value.get(key) })
}

fn split(path: &str) -> Vec<String> {
    path.replace("[]", ".[]").split('.').map(str::to_owned).collect()
}

/// Asks each section for a key that is none: the answer lists those that are.
fn explore(path: &str, seed: &str, found: &mut Keys) {
    let node: Value = emit::json_value(&config::load(&[format!("yaml:{seed}")], &[], &|_| None).root);
    let mut root = json!({"receivers": {"otlp": {"protocols": {"grpc": {}}}}, "exporters": {"nop": {}},
        "service": {"pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["nop"]}}}});
    put(&mut root, &split(path), node);
    below(&mut root, path, found, 0);
}

fn below(root: &mut Value, path: &str, found: &mut Keys, depth: usize) {
    let trail = split(path);
    let before = root.clone();
    put(root, &[trail.clone(), vec![NO_KEY.to_owned()]].concat(), json!(1));
    let loaded = config::load(&[format!("yaml:{root}")], &[], &|_| None);
    Plan::read(&loaded);
    let unknown = format!("unknown key \"{NO_KEY}\"");
    let problems = loaded.problems.sorted();
    let place = path.replace("[]", "[0]");
    let said = problems.iter().find(|problem| problem.message == unknown && problem.path == place);
    let help = said.and_then(|problem| problem.help.as_deref()).and_then(|help| help.split_once(": "));
    let effective = emit::json_value(&loaded.problems.effective(false));
    *root = before;
    if depth > 7 || path.matches("_sub_policy").count() > 1 {
        return;
    }
    for key in help.iter().flat_map(|(_, keys)| keys.split(", ")) {
        let path = format!("{path}.{key}");
        let is_seed = get(root, &split(&path)).is_some();
        let default = get(&effective, &split(&path)).cloned().filter(|_| !is_seed).unwrap_or_default();
        found.entry(path.clone()).or_insert(default);
        for inner in [path.clone(), format!("{path}[]")] {
            let before = root.clone();
            below(root, &inner, found, depth + 1);
            *root = before;
        }
    }
}

fn all_keys() -> Keys {
    let mut found = Keys::new();
    for row in ROWS {
        explore(&format!("{}.{}", row.kind().section(), row.name), "{}", &mut found);
    }
    for (path, seed) in OPENED {
        explore(path, seed, &mut found);
    }
    explore("service", "{pipelines: {logs: {receivers: [otlp], exporters: [nop]}}}", &mut found);
    found
}

/// A table of docs/configuration.md: whose it is, and its rows.
struct Table {
    /// The component, as in `exporters.debug`, where one is named above it.
    owner: Option<String>,
    /// What its first column says before the keys: a component's name, a section's, or nothing.
    prefixes: Vec<String>,
    has_defaults: bool,
    rows: Vec<Vec<String>>,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn component(kind: Option<&str>, name: &str) -> Option<String> {
    let mut rows = ROWS.iter().filter(|row| kind.is_none_or(|kind| row.kind().section().starts_with(kind)));
    rows.find(|row| row.name == name).map(|row| format!("{}.{name}", row.kind().section()))
}

/// The reference by component (or `### …` and `## …` without one), and its tables.
fn reference() -> (BTreeMap<String, String>, Vec<Table>) {
    let text = read("docs/configuration.md");
    let (mut regions, mut tables) = (BTreeMap::<String, String>::new(), Vec::<Table>::new());
    let (mut region, mut owner, mut kind) = (String::new(), None, None);
    let mut is_inside = false;
    for line in text.lines() {
        let word = quoted(line).first().cloned().unwrap_or_default();
        if let Some(heading) = line.strip_prefix("##") {
            region = heading.trim_start_matches('#').trim().to_owned();
            let mut kinds = ["receivers", "processors", "exporters", "extensions", "service"].into_iter();
            kind = kinds.find(|kind| region.to_lowercase().starts_with(kind.trim_end_matches('s')));
            owner = component(kind, &word);
            if region == "Service" {
                owner = Some("service".to_owned());
            }
        } else if line.starts_with('`') {
            owner = component(kind, &word).or(owner);
        } else if line.starts_with("| `") && !is_inside {
            owner = component(kind, word.split('.').next().unwrap_or_default()).or(owner);
        }
        let place = owner.clone().filter(|_| kind.is_some()).unwrap_or_else(|| region.clone());
        let of_table = tables.last().filter(|_| is_inside).into_iter().flat_map(|table| &table.prefixes);
        let others = of_table.filter_map(|prefix| component(Some("processors"), prefix.split('.').next()?));
        for place in [place.clone(), region.clone()].into_iter().chain(others.filter(|other| *other != place)) {
            regions.entry(place).or_default().push_str(&format!("{line}\n"));
        }
        if !line.starts_with('|') {
            is_inside = false;
            continue;
        }
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        if !is_inside {
            let prefixes = quoted(&cells[0]).into_iter().filter(|prefix| prefix.ends_with('.')).collect();
            let has_defaults = cells.get(1).is_some_and(|cell| cell == "default");
            tables.push(Table { owner: owner.clone(), prefixes, has_defaults, rows: Vec::new() });
        } else if !cells[0].starts_with("---") {
            tables.last_mut().unwrap().rows.push(cells);
        }
        is_inside = true;
    }
    // Only tables of keys: with a prefix, or in a component's own place. Cases are no config.
    tables.retain(|table| table.prefixes != ["cases[]."]);
    tables.retain(|table| !table.prefixes.is_empty() || (table.owner.is_some() && table.has_defaults));
    (regions, tables)
}

impl Table {
    /// The names that a row gives to keys: `a.b`, `.c` is `a.c`.
    fn names(row: &[String]) -> Vec<String> {
        let mut names = Vec::<String>::new();
        for name in quoted(&row[0]) {
            let parent = names.last().and_then(|last| last.rsplit_once('.')).map_or("", |(parent, _)| parent);
            let name = if name.starts_with('.') { format!("{parent}{name}") } else { name };
            names.push(name.split(':').next().unwrap().trim_end_matches("[]").to_owned());
            if name.contains(':') {
                // What follows are its other values.
                break;
            }
        }
        names
    }

    /// The keys that are meant by a name, of those that there are; with a dot at its end, what they stand below.
    fn meant(&self, name: &str, row: &[String], keys: &Keys) -> Vec<String> {
        let prefixes = if self.prefixes.is_empty() { vec![String::new()] } else { self.prefixes.clone() };
        let is_meant = |key: &str| {
            prefixes.iter().any(|prefix| {
                let (first, rest) = prefix.split_once('.').unwrap_or_default();
                match (component(Some("processors"), first), &self.owner) {
                    // `batch.` is that processor's, `tls.` wherever there is one.
                    (Some(owner), _) if row[0].contains(" of a group") => {
                        key.starts_with(&owner) && key.ends_with(&format!(".{name}"))
                    }
                    (Some(owner), _) => key == format!("{owner}.{rest}{name}"),
                    (None, Some(owner)) if prefix.is_empty() => key == format!("{owner}.{name}"),
                    _ => key.ends_with(&format!(".{prefix}{name}")),
                }
            })
        };
        if name.ends_with('.') {
            let above = format!("{}.{name}", self.owner.as_deref().unwrap_or_default());
            return keys.keys().find(|key| key.starts_with(&above)).map(|_| above).into_iter().collect();
        }
        keys.keys().filter(|key| is_meant(key)).cloned().collect()
    }
}

/// A default as it is written, of a list of them or of one for all.
fn default_of(cell: &str, index: usize, count: usize) -> String {
    let plain = cell.replace(['`', '"'], "").replace("(*ours*)", "");
    let parts: Vec<&str> = plain.split(',').map(str::trim).collect();
    let part = if parts.len() == count && count > 1 { parts[index] } else { plain.trim() };
    part.to_owned()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => {
            // A duration without what is zero in it.
            let text = text.strip_suffix("0s").filter(|rest| rest.ends_with('m')).unwrap_or(text);
            text.to_lowercase()
        }
        Value::Number(number) => number.as_f64().map_or_else(String::new, |number| number.to_string()),
        other => other.to_string(),
    }
}

/// Whether a default is as it is written. One that stands for something else (0, nothing) may be said in words.
fn fits(written: &str, value: &Value, row: &[String]) -> bool {
    let is_nothing = matches!(value, Value::Null | Value::Bool(false) | Value::Array(_) | Value::Object(_))
        || matches!(shown(value).as_str(), "" | "0" | "0s");
    let is_word = !written.chars().next().is_some_and(|first| first.is_ascii_digit()) && written != "true";
    let stands_for =
        row.iter().any(|cell| cell.contains("0 is the default") || cell.contains("0 or less is the default"));
    let first = written.split(',').next().unwrap_or_default();
    [written, first].iter().any(|written| written.to_lowercase() == shown(value))
        || (is_nothing && (is_word || stands_for || value.is_null()))
}

#[test]
fn the_reference_names_every_key_with_its_default_and_no_other() {
    let (keys, (regions, tables)) = (all_keys(), reference());
    let (mut wrong, mut documented) = (Vec::new(), Vec::<(String, String)>::new());
    for table in &tables {
        for row in &table.rows {
            let names = Table::names(row);
            for (index, name) in names.iter().enumerate() {
                // A name that is the user's own.
                if name.contains("NAME") || name.contains("SIGNAL") {
                    continue;
                }
                let meant = table.meant(name, row, &keys);
                if meant.is_empty() {
                    wrong.push(format!("{:?} {:?}: no decoder asks for {name}", table.owner, table.prefixes));
                }
                for key in meant {
                    documented.push((key.trim_end_matches('.').to_owned(), row.join(" ")));
                    let written = default_of(row.get(1).map_or("", String::as_str), index, names.len());
                    let value = keys.get(&key).unwrap_or(&Value::Null);
                    if table.has_defaults && !fits(&written, value, row) {
                        wrong.push(format!("{key}: the default is {value}, not {written}"));
                    }
                }
            }
        }
    }
    let without_effect = regions.get("Keys without effect").unwrap();
    let shared = [
        (".tls.", "TLS"),
        (".include.", "Match properties"),
        (".exclude.", "Match properties"),
        (".auth.", "Extensions `bearertokenauth` and `basicauth`"),
    ];
    for key in keys.keys() {
        let words: Vec<&str> = key.split('.').collect();
        let leaf = words[words.len() - 1].trim_end_matches("[]");
        let owner = words.iter().take(if words[0] == "service" { 1 } else { 2 }).copied().collect::<Vec<_>>().join(".");
        let says = |text: &str| {
            let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            quoted(text).iter().any(|quoted| quoted.split(|letter| !is_word(letter)).any(|word| word == leaf))
        };
        // A metric or an attribute has dots in its name.
        let is_name =
            words.iter().any(|word| matches!(*word, "metrics" | "resource_attributes")) && words[0] != "service";
        let is_known = is_name && key.matches('.').count() > 3
            || documented.iter().any(|(known, _)| known == key)
            // Beside its section, in the row of that.
            || documented.iter().any(|(known, row)| key.starts_with(&format!("{known}.")) && says(row))
            || documented.iter().any(|(known, row)| key.starts_with(&format!("{known}[].")) && says(row))
            || without_effect.split("\n- ").any(|item| {
                let name = words.get(1).copied().unwrap_or_default();
                let is_own = quoted(item).iter().any(|word| word == name || words[..words.len() - 1].contains(&word.as_str()) || word.starts_with("service"));
                is_own && says(item)
            })
            || regions.get(&owner).is_some_and(|region| says(region))
            // Any section that may be left out has it.
            || leaf == "enabled"
            || shared.iter().any(|(part, region)| key.contains(part) && says(&regions[*region]));
        if !is_known {
            wrong.push(format!("{key} is not in docs/configuration.md"));
        }
    }
    assert!(keys.len() > 400 && documented.len() > 250, "{} keys, {} in tables", keys.len(), documented.len());
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

fn markdown() -> Vec<String> {
    let root = env!("CARGO_MANIFEST_DIR");
    let names = |folder: &str| {
        let entries = std::fs::read_dir(format!("{root}/{folder}")).unwrap();
        let name = move |entry: std::fs::DirEntry| format!("{folder}{}", entry.file_name().into_string().unwrap());
        entries.map(move |entry| name(entry.unwrap())).filter(|name| name.ends_with(".md")).collect::<Vec<_>>()
    };
    [names("docs/"), names("").into_iter().filter(|name| name.starts_with("README")).collect()].concat()
}

/// A config of a fragment: what it leaves out is added, as little as it takes.
fn completed(fragment: &str) -> Value {
    let mut config = emit::json_value(&config::load(&[format!("yaml:{fragment}")], &[], &|_| None).root);
    let mut given = |key: &str, default: Value| -> Vec<String> {
        let section = config.as_object_mut().unwrap().entry(key).or_insert(default);
        section.as_object().unwrap().keys().cloned().collect()
    };
    let receivers = given("receivers", json!({"otlp": {"protocols": {"grpc": {}}}}));
    let exporters = given("exporters", json!({"nop": {}}));
    given("service", json!({}));
    if config["service"]["pipelines"].is_null() {
        config["service"]["pipelines"] = json!({"logs": {"receivers": [receivers[0]], "exporters": [exporters[0]]}});
    }
    config
}

/// Every `yaml` block is a config, or a part of one, without a problem; behind `<!-- refused: … -->` one with that
/// problem, behind `<!-- no config -->` something else.
#[test]
fn every_example_validates() {
    let mut examples = 0;
    for file in markdown() {
        let text = read(&file);
        for (index, block) in text.split("\n```yaml\n").enumerate().skip(1) {
            let before = text.split("\n```yaml\n").nth(index - 1).unwrap().lines().last().unwrap_or_default();
            if before == "<!-- no config -->" {
                continue;
            }
            let refused = before.strip_prefix("<!-- refused: ").and_then(|rest| rest.strip_suffix(" -->"));
            let block = block.split("\n```").next().unwrap();
            let loaded = config::load(&[format!("yaml:{}", completed(block))], &[], &|_| Some("1".to_owned()));
            Plan::read(&loaded);
            let problems = loaded.problems.sorted();
            let said: Vec<String> =
                problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
            assert_eq!(said, Vec::from_iter(refused.map(str::to_owned)), "{file}:\n{block}");
            examples += 1;
        }
    }
    assert!(examples > 0);
}

/// Links lead to files that there are, and to headings in them.
#[test]
fn every_link_leads_somewhere() {
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect::<String>()
    };
    for file in markdown() {
        let text = read(&file);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") {
                continue;
            }
            let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
            let target = if path.is_empty() { file.clone() } else { format!("{folder}/{path}") };
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            let target = root.join(target.trim_start_matches('/'));
            assert!(target.exists(), "{file}: {link}");
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                assert!(headings.any(|line| anchor(line) == heading), "{file}: {link}");
            }
        }
    }
}

/// Every function of OTTL stands in the reference, those that are refused too.
#[test]
fn the_reference_names_every_function() {
    let reference = read("docs/configuration.md");
    let known = [functions::TRANSFORM, functions::FILTER].concat().into_iter().flatten().map(|function| function.name);
    let refused = functions::REFUSED.iter().flat_map(|(names, _)| names.iter().copied());
    // An older name, for which the help says what to write.
    for name in known.chain(refused).filter(|name| *name != "Base64Decode") {
        assert!(reference.contains(&format!("`{name}`")), "{name}");
    }
}

/// The fuzz targets have a lock file of their own, which a new dependency leaves behind.
#[test]
fn the_fuzz_targets_lock_the_same_dependencies() {
    let dependencies = |file: &str| {
        let lock = read(file);
        let ours = lock.split("[[package]]").find(|package| package.contains("name = \"misaki\"\n")).unwrap();
        let (_, names) = ours.split_once("dependencies = [").unwrap();
        names.lines().map(|line| line.trim().trim_matches(['"', ',']).to_owned()).collect::<BTreeSet<_>>()
    };
    let (own, fuzz) = (dependencies("Cargo.lock"), dependencies("fuzz/Cargo.lock"));
    let plain = |name: &String| name.split(' ').next().unwrap_or_default().to_owned();
    let fuzz: BTreeSet<_> = fuzz.iter().map(plain).collect();
    let manifest = read("Cargo.toml");
    let (_, normal) = manifest.split_once("[dependencies]\n").unwrap();
    let (normal, _) = normal.split_once("[dev-dependencies]").unwrap();
    let is_normal = |name: &String| normal.lines().any(|line| line.starts_with(&format!("{name} = ")));
    for name in own.iter().map(plain).filter(is_normal) {
        assert!(fuzz.contains(&name), "{name}: run cargo check --manifest-path fuzz/Cargo.toml");
    }
}

/// The configs inside of the Kubernetes manifests are valid.
#[test]
fn configs_in_manifests_validate() {
    let folder = std::fs::read_dir("deploy/kubernetes").unwrap();
    let mut configs = 0;
    for file in folder {
        let file = file.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let indented = text.split_once("  config.yaml: |\n").unwrap().1;
        let lines = indented.lines().take_while(|line| line.starts_with("    "));
        let config: String = lines.map(|line| format!("{}\n", &line[4..])).collect();
        let queue = tempfile::tempdir().unwrap();
        let config = config.replace("/var/lib/misaki", queue.path().to_str().unwrap());
        let environment = |name: &str| match name {
            "NODE_NAME" => Some("node-1".to_owned()),
            "UPSTREAM" => Some("collector.example.org:4317".to_owned()),
            _ => None,
        };
        let loaded = config::load(&[format!("yaml:{config}")], &[], &environment);
        Plan::read(&loaded);
        assert!(!loaded.problems.has_errors(), "{file:?}: {}", loaded.problems.render(&loaded.sources, false));
        configs += 1;
    }
    assert_eq!(configs, 2);
}
