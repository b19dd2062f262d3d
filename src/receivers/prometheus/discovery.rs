//! The groups of a job's targets: those in the config, and those that files name, which may change at any time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::config::{Node, files, yaml};
use crate::telemetry::clock;

use super::config::Job;
use super::target::Group;

/// The largest file with targets, and how many files are read.
const FILE: u64 = 1 << 20;
const FILES: usize = 1000;

pub(super) struct Discovery {
    job: Arc<Job>,
    known: Vec<Known>,
    read: Option<Instant>,
    /// What was said of targets and files, so that it is said once.
    pub(super) said: Vec<String>,
    said_of_files: Vec<String>,
}

/// A file, as it was read last without a fault.
#[derive(Clone)]
struct Known {
    path: PathBuf,
    changed: Option<(SystemTime, u64)>,
    groups: Vec<Group>,
}

impl Discovery {
    pub(super) fn new(job: &Arc<Job>) -> Discovery {
        Discovery { job: job.clone(), known: Vec::new(), read: None, said: Vec::new(), said_of_files: Vec::new() }
    }

    /// All groups. Files are read when they changed, and when it is time.
    pub(super) async fn groups(&mut self, receiver: &str) -> Vec<Group> {
        if !self.job.files.is_empty() {
            let refresh = self.job.files.iter().map(|files| files.refresh_interval).min().unwrap_or(Duration::MAX);
            let is_due = self.read.is_none_or(|read| clock().duration_since(read) >= refresh);
            if is_due {
                self.read = Some(clock());
            }
            let (job, known) = (self.job.clone(), self.known.clone());
            if let Ok((known, faults)) = files::aside(move || look(&job, known, is_due)).await {
                for fault in faults.iter().filter(|fault| !self.said_of_files.contains(fault)) {
                    tracing::error!(
                        receiver,
                        job = self.job.name,
                        fault,
                        "cannot read a file with targets: what was read before stays"
                    );
                }
                (self.known, self.said_of_files) = (known, faults);
            }
        }
        let of_files = self.known.iter().flat_map(|known| &known.groups);
        self.job.groups.iter().chain(of_files).cloned().collect()
    }
}

/// The files that there are now, and the faults of those that cannot be read.
fn look(job: &Job, known: Vec<Known>, is_due: bool) -> (Vec<Known>, Vec<String>) {
    let (mut now, mut faults) = (Vec::new(), Vec::new());
    for pattern in job.files.iter().flat_map(|files| &files.patterns) {
        for path in matching(pattern) {
            let before = known.iter().find(|known| known.path == path).cloned();
            let changed = std::fs::metadata(&path).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
            if let Some(before) = before.clone().filter(|before| !is_due && before.changed == changed) {
                now.push(before);
                continue;
            }
            match read(&path) {
                Ok(groups) => now.push(Known { path, changed, groups }),
                Err(why) => {
                    faults.push(format!("{}: {why}", path.display()));
                    now.extend(before);
                }
            }
        }
    }
    now.truncate(FILES);
    (now, faults)
}

/// The files of a path, whose last part may have `*`.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some((start, end)) = name.split_once('*') else { return vec![pattern.to_owned()] };
    let folder = pattern.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fits = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
    };
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).filter(fits).collect();
    paths.sort();
    paths
}

/// The groups of a file, in JSON or YAML.
fn read(path: &Path) -> Result<Vec<Group>, String> {
    let bytes = files::read(path, FILE, files::Place::File)?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not valid UTF-8")?;
    let document = yaml::parse(&text, 0, 0).map_err(|problem| problem.message)?;
    let texts = |node: &Node| -> Result<Vec<String>, String> {
        let text = |item: &Node| item.as_text().map(str::to_owned).ok_or("a target is a text".to_owned());
        node.items().iter().map(text).collect()
    };
    let mut groups = Vec::new();
    for item in document.root.items() {
        let mut group = Group::default();
        for entry in item.entries() {
            match entry.key.as_str() {
                "targets" => group.targets = texts(&entry.node)?,
                "labels" => {
                    let label = |label: &crate::config::Entry| {
                        let value = label
                            .node
                            .as_text()
                            .ok_or_else(|| format!("the value of label {} is a text", label.key))?;
                        Ok((label.key.clone(), value.to_owned()))
                    };
                    group.labels = entry.node.entries().iter().map(label).collect::<Result<_, String>>()?;
                }
                other => return Err(format!("unknown key {other:?}: a group has targets and labels")),
            }
        }
        group.labels.push(("__meta_filepath".to_owned(), path.display().to_string()));
        groups.push(group);
    }
    Ok(groups)
}
