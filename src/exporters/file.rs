//! `file`: telemetry in a file, as OTLP/JSON lines or protobuf (facts 8); all signals of one id share the file.
//!
//! Success means that the system has it: nothing is gathered here. A write that fails is a failed export, which is
//! attempted again; what it left of itself in the file is cut off first, so that no record is ever torn.

use std::fs::{DirBuilder, File as Handle};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use smallvec::{SmallVec, smallvec};

use crate::config::files;
use crate::config::section::Section;
use crate::otlp::inflate::Coding;
use crate::otlp::status::code;
use crate::telemetry::{Budget, Status, Telemetry};

use super::compress::Compression;
use super::settings::Settings;
use super::{Accepted, Encoding, Exporter, Payload, SendError, Sending};

const MEBIBYTE: u64 = 1 << 20;
/// How the time stands in the name of a backup.
const STAMP: &str = "%Y-%m-%dT%H-%M-%S%.3f";
/// What a backup's name has beside the file's: `-`, the time, `-size` and a number.
const STAMPED: usize = "-2026-11-23T01-42-27.608-size-999".len();
/// What filesystems take.
const LONGEST_NAME: usize = 255;

#[derive(Clone, Debug)]
pub struct Config {
    pub path: PathBuf,
    append: bool,
    rotation: Option<Rotation>,
    json: bool,
    compressed: bool,
    level: Option<i32>,
    create_directory: Option<u32>,
    pub sending: Settings,
}

#[derive(Clone, Debug)]
struct Rotation {
    max_bytes: u64,
    /// 0 keeps them whatever their age.
    max_days: i64,
    /// 0 keeps all.
    max_backups: usize,
    local_time: bool,
}

impl Config {
    pub fn decode(section: Section) -> Config {
        let path = section.text_or("path", "");
        if path.is_empty() {
            let help = "write `path: /var/log/telemetry.jsonl`";
            section.problem_with_help("path", "path must be non-empty", help);
        }
        let compressed = section.choice("compression", false, &[("zstd", true), ("none", false), ("", false)]);
        let level = section.section("compression_params").map(|params| params.integer("level", 0, -2..=22) as i32);
        let rotation = section.section_or_default("rotation", false).map(|rotation| Rotation {
            max_bytes: match rotation.integer("max_megabytes", 100, 0..=1 << 40) as u64 {
                0 => 100 * MEBIBYTE,
                mebibytes => mebibytes * MEBIBYTE,
            },
            max_days: rotation.integer("max_days", 0, 0..=1 << 20),
            max_backups: rotation.integer("max_backups", 100, 0..=1 << 20) as usize,
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
        // Nothing waits to be flushed.
        section.duration_opt("flush_interval");
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

    /// Whether the file can be there at all, and what to do where it cannot.
    pub fn look(&self) -> Result<(), (String, Option<String>)> {
        let (path, folder) = (self.path.display(), folder(&self.path));
        let wrong = match self.create_directory {
            _ if self.path.is_dir() => ("it is a directory".to_owned(), "name a file in it"),
            None if !folder.is_dir() => (format!("there is no directory {}", folder.display()), REMEDY),
            _ => return Ok(()),
        };
        Err((format!("cannot open {path}: {}", wrong.0), Some(wrong.1.to_owned())))
    }

    fn open(&self, truncates: bool) -> io::Result<Open> {
        if let (Some(mode), Some(folder)) = (self.create_directory, self.path.parent()) {
            create_directory(folder, mode)?;
        }
        let handle = files::append(&self.path)?;
        let is_regular = handle.metadata()?.is_file();
        if truncates && is_regular {
            handle.set_len(0)?;
        }
        Ok(Open { handle, is_regular })
    }
}

const REMEDY: &str = "make it, or write `create_directory: true`";

/// Where a file is, or will be.
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The file that is written to, for all signals.
pub struct Output {
    config: Config,
    /// None after a rotation that could not open the next one.
    open: Option<Open>,
}

struct Open {
    handle: Handle,
    is_regular: bool,
}

impl Output {
    /// `goes_on` keeps what is in the file, however the config has it.
    pub fn open(config: &Config, goes_on: bool) -> Result<Output, String> {
        let help = |(message, help): (String, Option<String>)| format!("{message}: {}", help.unwrap_or_default());
        config.look().map_err(help)?;
        let failed = |error: io::Error| format!("cannot open {}: {error}", config.path.display());
        let truncates = !config.append && !goes_on && config.rotation.is_none();
        let open = config.open(truncates).map_err(failed)?;
        Ok(Output { config: config.clone(), open: Some(open) })
    }

    pub fn path(&self) -> &Path {
        &self.config.path
    }

    /// Writes one record, whole or not at all.
    fn write(&mut self, record: &[Bytes]) -> io::Result<()> {
        let size: usize = record.iter().map(Bytes::len).sum();
        if let (Some(rotation), Some(open)) = (&self.config.rotation, &self.open)
            && let Some(length @ 1..) = open.length()?
            && length + size as u64 > rotation.max_bytes
        {
            self.open = None;
            match rotate(&self.config.path, rotation) {
                // Somebody took it away: there is nothing to keep.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                rotated => rotated?,
            }
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(self.config.open(false)?),
        };
        // Asked for each time: others may have cut it.
        let length = open.length()?;
        if let Err(error) = record.iter().try_for_each(|piece| open.handle.write_all(piece)) {
            // Where even this fails, a torn record stays, and nobody can do more.
            length.map(|length| open.handle.set_len(length)).transpose()?;
            return Err(error);
        }
        Ok(())
    }
}

impl Open {
    /// What is no regular file has none, and can't be cut.
    fn length(&self) -> io::Result<Option<u64>> {
        Ok(if self.is_regular { Some(self.handle.metadata()?.len()) } else { None })
    }
}

fn create_directory(path: &Path, mode: u32) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
    #[cfg(not(unix))]
    let _ = mode;
    builder.recursive(true).create(path)
}

/// Gives the file the name of a backup, `telemetry-2026-11-23T01-42-27.608-size.json`, and removes those that are too many
/// or too old.
fn rotate(path: &Path, rotation: &Rotation) -> io::Result<()> {
    let zone = if rotation.local_time { TimeZone::system() } else { TimeZone::UTC };
    let now = Timestamp::now();
    let (stem, end) = parts(path);
    let stamped = |time: Timestamp| format!("{stem}{}", time.to_zoned(zone.clone()).strftime(STAMP));
    let mut name = path.with_file_name(format!("{}-size{end}", stamped(now)));
    // Two within a millisecond.
    for number in 1..1000 {
        if !name.exists() {
            break;
        }
        name = path.with_file_name(format!("{}-size-{number}{end}", stamped(now)));
    }
    std::fs::rename(path, name)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut backups: Vec<String> = std::fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_backup(name, &stem, &end))
        .collect();
    // Their names sort by time.
    backups.sort_unstable_by(|left, right| right.cmp(left));
    let oldest = match rotation.max_days {
        0 => String::new(),
        days => now.checked_sub(SignedDuration::from_hours(24 * days)).map_or_else(|_| String::new(), stamped),
    };
    let kept = if rotation.max_backups == 0 { usize::MAX } else { rotation.max_backups };
    for (index, name) in backups.iter().enumerate() {
        if index >= kept || *name < oldest {
            // One that stays is removed the next time.
            let _ = std::fs::remove_file(path.with_file_name(name));
        }
    }
    Ok(())
}

/// What stands before and after the time in the names of backups.
fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map(|_| format!(".{}", text(path.extension())));
    (format!("{}-", text(path.file_stem())), extension.unwrap_or_default())
}

fn is_backup(name: &str, stem: &str, end: &str) -> bool {
    let stamp = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(end));
    stamp.and_then(|stamp| stamp.split_once('T')).is_some_and(|(date, time)| {
        let is_date = date.len() == 10 && date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        is_date && time.contains("-size") && time.starts_with(|first: char| first.is_ascii_digit())
    })
}

/// One signal's way into the file.
pub struct File {
    json: bool,
    /// Records stand behind their length: four bytes, the most significant one first.
    framed: bool,
    compression: Compression,
    path: PathBuf,
    output: Arc<Mutex<Output>>,
}

impl File {
    pub fn new(config: &Config, output: Arc<Mutex<Output>>, budget: Arc<Budget>) -> File {
        let coding = if config.compressed { Coding::Zstd } else { Coding::Identity };
        File {
            json: config.json,
            framed: config.compressed || !config.json,
            compression: Compression::new(coding, config.level, budget),
            path: config.path.clone(),
            output,
        }
    }

    async fn record(&self, telemetry: &Telemetry) -> Payload {
        let mut payload = match self.json {
            false => self.compression.payload(telemetry).await,
            true => {
                let mut text = telemetry.to_json();
                if !self.framed {
                    text.push(b'\n');
                }
                let plain = Payload { body: smallvec![Bytes::from(text)], ..Payload::of(telemetry) };
                if self.compression.is_on() { self.compression.compressed(plain).await } else { plain }
            }
        };
        if self.compression.is_on() && payload.charge.is_none() {
            // It could not be compressed, and what is not must not stand among what is.
            payload.body = SmallVec::new();
        } else if self.framed {
            let length = u32::try_from(payload.length()).unwrap_or(u32::MAX).to_be_bytes();
            payload.body.insert(0, Bytes::copy_from_slice(&length));
        }
        payload
    }

    async fn write(&self, payload: &Payload) -> Result<Accepted, SendError> {
        let failed = |why: &dyn std::fmt::Display| {
            let message = format!("cannot write to {}: {why}", self.path.display());
            SendError::Retry { after: None, status: Status { code: code::UNAVAILABLE, message } }
        };
        if payload.body.is_empty() {
            return Err(failed(&"it cannot be compressed"));
        }
        let (output, record) = (self.output.clone(), payload.body.clone());
        let write = move || output.lock().unwrap_or_else(PoisonError::into_inner).write(&record);
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => Ok(Accepted::default()),
            Ok(Err(error)) => Err(failed(&error)),
            Err(error) => Err(failed(&error)),
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
        self.path.display().to_string()
    }
}
