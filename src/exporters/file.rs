//! `file`: writes telemetry to a file, as OTLP/JSON lines or protobuf; all signals of one id share the file.
//!
//! Success means that the operating system has the data: nothing is buffered here. A failed write is a failed export
//! and is retried; its partial output is truncated first (`file/output.rs`), so that no record is ever torn.

mod output;
mod rotation;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tonic::Code;

use crate::config::section::Section;
use crate::otlp::inflate::Coding;
use crate::telemetry::{Account, Budget, Signal, Status, Telemetry};

use super::compress::{Compression, Form};
use super::settings::Settings;
use super::{
    Accepted, Encoding, End, Exporter, ExporterParts, ExporterSettings, OpenExporter, Payload, SendError, Sending,
};
use output::{Output, Record};
use rotation::Rotation;

const MEBIBYTE: u64 = 1 << 20;
/// The suffix of a backup's name: `-`, the time, `-size` and a number.
const STAMPED: usize = "-2026-11-23T01-42-27.608-size-999".len();
/// The longest file name that filesystems accept.
const LONGEST_NAME: usize = 255;

#[derive(Clone, Debug)]
pub(crate) struct Config {
    path: PathBuf,
    append: bool,
    rotation: Option<Rotation>,
    json: bool,
    compressed: bool,
    level: Option<i32>,
    create_directory: Option<u32>,
    sending: Settings,
}

impl Config {
    pub(crate) fn decode(section: Section) -> Config {
        let path = section.text_or("path", "");
        if path.is_empty() {
            let help = "write `path: /var/log/telemetry.jsonl`";
            section.problem_with_help("path", "path must be non-empty", help);
        }
        let compressed = section.choice("compression", false, &[("zstd", true), ("", false), ("none", false)]);
        if section.text("compression").as_deref() == Some("none") {
            section.warning("compression", "the Go collector refuses \"none\": leave the key out");
        }
        let level = section.section("compression_params").map(|params| params.limited("level", 0, -2..=22) as i32);
        let rotation = section.section_or_default("rotation", false).map(|rotation| Rotation {
            max_bytes: match rotation.limited("max_megabytes", 100, 0..=1 << 40) as u64 {
                0 => 100 * MEBIBYTE,
                mebibytes => mebibytes * MEBIBYTE,
            },
            max_days: rotation.limited("max_days", 0, 0..=1 << 20),
            max_backups: rotation.limited("max_backups", 100, 0..=1 << 20) as usize,
            local_time: rotation.boolean("localtime", false),
        });
        let name = Path::new(&path).file_name().unwrap_or_default();
        if rotation.is_some() && name.len() + STAMPED > LONGEST_NAME {
            let message = format!("the names of its backups would be longer than {LONGEST_NAME} bytes");
            section.problem("path", message);
        }
        let append = section.boolean("append", false);
        if append && rotation.is_some() {
            let message = "append and rotation enabled at the same time is not supported";
            section.problem_with_help("append", message, "remove `append`: what rotates is appended to");
        }
        let mode = section.text("directory_permissions").filter(|mode| !mode.is_empty());
        let creates = section.boolean("create_directory", false);
        if mode.is_some() && !creates {
            section.problem("directory_permissions", "directory_permissions requires create_directory to be true");
        }
        let mode = u32::from_str_radix(mode.as_deref().unwrap_or("0755"), 8).ok().filter(|mode| *mode <= 0o7777);
        if mode.is_none() {
            section.problem("directory_permissions", "directory_permissions must be an octal number, as in \"0755\"");
        }
        if section.text("encoding").is_some() {
            let help = "remove it; `format` is json or proto";
            section.problem_with_help("encoding", "encoding extensions are not supported", help);
        }
        let groups = section.subsection("group_by");
        if groups.boolean("enabled", false) {
            let help = "use one exporter and pipeline for each file";
            groups.problem_with_help("enabled", "group_by is not supported", help);
        }
        groups.ignored(&["resource_attribute", "max_open_files"]);
        groups.finish();
        // Nothing is buffered, so nothing is flushed.
        section.ignored(&["flush_interval"]);
        let config = Config {
            path: path.into(),
            append,
            rotation,
            json: section.choice("format", true, &[("json", true), ("proto", false)]),
            compressed,
            level: level.filter(|level| *level != 0),
            create_directory: mode.filter(|_| creates),
            sending: Settings::decode_direct(&section),
        };
        let looked = config.clone();
        section.look_later("path", move || looked.look());
        section.finish();
        config
    }

    /// Checks that the file can be written; the error comes with advice.
    fn look(&self) -> Result<(), (String, Option<String>)> {
        let (path, folder) = (self.path.display(), folder(&self.path));
        let wrong = match self.create_directory {
            _ if self.path.is_dir() => ("it is a directory".to_owned(), "name a file in it"),
            None if !folder.is_dir() => (format!("there is no directory {}", folder.display()), REMEDY),
            _ => return Ok(()),
        };
        Err((format!("cannot open {path}: {}", wrong.0), Some(wrong.1.to_owned())))
    }
}

impl ExporterSettings for Config {
    fn sending(&self) -> Option<&Settings> {
        Some(&self.sending)
    }

    fn file(&self) -> Option<&Path> {
        // A file that cannot be written is reported as a problem of the config.
        Some(self.path.as_path()).filter(|_| self.look().is_ok())
    }

    fn open(&self, opening: ExporterParts<'_>) -> Result<Arc<dyn OpenExporter>, String> {
        let goes_on = opening.before.iter().any(|(_, opened)| opened.file() == Some(&self.path));
        let output = Arc::new(Output::open(self, goes_on)?);
        Ok(Arc::new(Writing { config: self.clone(), output, budget: opening.budget.clone() }))
    }
}

/// The open file, for all signals.
struct Writing {
    config: Config,
    output: Arc<Output>,
    budget: Arc<Budget>,
}

impl OpenExporter for Writing {
    fn end(self: Arc<Self>, _: Signal, _: &Arc<Account>) -> Result<End, String> {
        Ok(End::Exporter(Arc::new(File::new(&self.config, self.output.clone(), self.budget.clone()))))
    }

    fn file(&self) -> Option<&Path> {
        Some(&self.config.path)
    }
}

const REMEDY: &str = "make it, or write `create_directory: true`";

/// The directory of a file, which may not exist yet.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// One signal's writer to the file.
struct File {
    /// Each record follows its length: four bytes, big-endian.
    framed: bool,
    compression: Compression,
    output: Arc<Output>,
}

impl File {
    fn new(config: &Config, output: Arc<Output>, budget: Arc<Budget>) -> File {
        let coding = if config.compressed { Coding::Zstd } else { Coding::Identity };
        // Uncompressed text is made while it is written.
        let json = config.json && config.compressed;
        File {
            framed: config.compressed || !config.json,
            compression: Compression::new(Form { json, coding, level: config.level }, budget),
            output,
        }
    }

    async fn record(&self, telemetry: &Telemetry) -> Payload {
        let mut payload = self.compression.payload(telemetry).await;
        if self.compression.is_on() && payload.charge.is_none() && payload.unsendable.is_none() {
            // Compressed and uncompressed records must not be mixed.
            return self.compression.too_large(payload);
        }
        if self.framed {
            let length = u32::try_from(payload.length()).unwrap_or(u32::MAX).to_be_bytes();
            payload.body.insert(0, Bytes::copy_from_slice(&length));
        }
        payload
    }

    async fn write(&self, payload: &Payload) -> Result<Accepted, SendError> {
        let record = match self.framed {
            true => Record::Encoded(payload.body.clone()),
            false => Record::Lines(payload.signal, payload.body.clone()),
        };
        match self.output.write(record).await {
            Ok(()) => Ok(Accepted::default()),
            Err(error) => {
                let message = format!("cannot write to {}: {error}", self.output.path().display());
                Err(SendError::Retry { after: None, status: Status { code: Code::Unavailable, message } })
            }
        }
    }
}

impl Exporter for File {
    fn encode<'a>(&'a self, telemetry: &'a Telemetry) -> Encoding<'a> {
        Box::pin(self.record(telemetry))
    }

    fn send<'a>(&'a self, payload: &'a Payload) -> Sending<'a> {
        Box::pin(self.write(payload))
    }

    fn destination(&self) -> String {
        self.output.path().display().to_string()
    }
}
