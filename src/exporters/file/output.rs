//! The output file, shared by all signals: each record is written whole or not at all.

use std::fs::{DirBuilder, File as Handle, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::Mutex;

use crate::config::files;
use crate::otlp::json;
use crate::otlp::pieces::Pieces;
use crate::telemetry::Signal;

use super::Config;
use super::rotation::rotate;

/// A text up to this length is written at once; at most this much of a longer one is held.
const PIECE: usize = 1 << 20;
/// Telemetry larger than this takes long to convert to text.
const LONG: usize = 128 << 10;

pub(super) struct Output {
    path: PathBuf,
    /// Locked while a record is written; others wait in order of arrival.
    open: Arc<Mutex<Open>>,
    /// Locked by a long record: other long ones wait here, so that a short one waits for at most one of them.
    long: Mutex<()>,
}

struct Open {
    config: Config,
    /// `None` after a rotation that failed to open the next file.
    file: Option<File>,
    /// A new file after a rotation gets the permissions of the previous one.
    permissions: Option<Permissions>,
}

struct File {
    handle: Handle,
    is_regular: bool,
}

/// A batch to write.
pub(super) enum Record {
    /// Encoded already.
    Encoded(SmallVec<[Bytes; 4]>),
    /// To be written as a line of JSON.
    Lines(Signal, SmallVec<[Bytes; 4]>),
}

impl Output {
    /// With `goes_on`, the existing content is kept, whatever the config says.
    pub(super) fn open(config: &Config, goes_on: bool) -> Result<Output, String> {
        let help = |(message, help): (String, Option<String>)| format!("{message}: {}", help.unwrap_or_default());
        config.look().map_err(help)?;
        let failed = |error: io::Error| format!("cannot open {}: {error}", config.path.display());
        let truncates = !config.append && !goes_on && config.rotation.is_none();
        let file = File::open(config, truncates).map_err(failed)?;
        let open = Open { config: config.clone(), file: Some(file), permissions: None };
        Ok(Output { path: config.path.clone(), open: Arc::new(Mutex::new(open)), long: Mutex::default() })
    }

    /// Writes one record, whole or not at all. It waits for its turn first, so a slow disk blocks one thread and not
    /// one for each request.
    pub(super) async fn write(&self, record: Record) -> io::Result<()> {
        let _long = if record.is_long() { Some(self.long.lock().await) } else { None };
        let mut open = self.open.clone().lock_owned().await;
        tokio::task::spawn_blocking(move || open.write(&record)).await.unwrap_or_else(|error| Err(error.into()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Open {
    /// Writes one record, whole or not at all.
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let (mut text, mut is_whole) = (Vec::new(), false);
        // Only rotation needs the length of a long text in advance: computing it makes all of the text.
        if self.config.rotation.is_some() || !record.is_long() {
            let size;
            (size, is_whole) = record.measure(&mut text);
            self.make_room(size)?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = File::open(&self.config, false)?;
                self.permissions.take().map(|permissions| file.handle.set_permissions(permissions)).transpose()?;
                none.insert(file)
            }
        };
        // Read each time: other processes may have truncated the file.
        let length = file.length()?;
        let written = if is_whole { file.handle.write_all(&text) } else { record.write(&mut file.handle) };
        if written.is_err() {
            // If truncating fails too, a torn record stays.
            length.map(|length| file.handle.set_len(length)).transpose()?;
        }
        written
    }

    /// Rotates a file that has no room for `size` more bytes.
    fn make_room(&mut self, size: u64) -> io::Result<()> {
        if let (Some(rotation), Some(file)) = (&self.config.rotation, &self.file)
            && let Some(length @ 1..) = file.length()?
            && length + size > rotation.max_bytes
        {
            self.permissions = Some(file.handle.metadata()?.permissions());
            self.file = None;
            match rotate(&self.config.path, rotation) {
                // The file was removed: there is nothing to back up.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                rotated => rotated?,
            }
        }
        Ok(())
    }
}

impl Record {
    fn is_long(&self) -> bool {
        match self {
            Record::Encoded(_) => false,
            Record::Lines(_, parts) => parts.iter().map(Bytes::len).sum::<usize>() > LONG,
        }
    }

    /// The record's length, and whether all its text is in `text`: short texts are made once.
    fn measure(&self, text: &mut Vec<u8>) -> (u64, bool) {
        match self {
            Record::Encoded(pieces) => (pieces.iter().map(|piece| piece.len() as u64).sum(), false),
            Record::Lines(signal, parts) => {
                let mut before = 0;
                let mut take = |text: &mut Vec<u8>, _| {
                    before += text.len() as u64;
                    text.clear();
                    true
                };
                put_line(*signal, parts, &mut Pieces::new(text, PIECE, &mut take));
                (before + text.len() as u64, before == 0)
            }
        }
    }

    fn write(&self, handle: &mut Handle) -> io::Result<()> {
        match self {
            Record::Encoded(pieces) => pieces.iter().try_for_each(|piece| handle.write_all(piece)),
            Record::Lines(signal, parts) => {
                let (mut rest, mut written) = (Vec::new(), Ok(()));
                let mut take = |text: &mut Vec<u8>, _| {
                    written = handle.write_all(text);
                    text.clear();
                    written.is_ok()
                };
                put_line(*signal, parts, &mut Pieces::new(&mut rest, PIECE, &mut take));
                written.and_then(|()| handle.write_all(&rest))
            }
        }
    }
}

fn put_line(signal: Signal, parts: &[Bytes], to: &mut Pieces) {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_ref()).collect();
    json::put_requests(signal, &parts, to);
    to.out.push(b'\n');
}

impl File {
    fn open(config: &Config, truncates: bool) -> io::Result<File> {
        if let (Some(mode), Some(folder)) = (config.create_directory, config.path.parent()) {
            create_directory(folder, mode)?;
        }
        let handle = files::append(&config.path)?;
        let is_regular = handle.metadata()?.is_file();
        if truncates && is_regular {
            handle.set_len(0)?;
        }
        Ok(File { handle, is_regular })
    }

    /// The length; `None` for special files, which cannot be truncated.
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
