//! Destinations for text: stdout, stderr, or a file.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::config::files;

/// The size of one write, after which progress is noted: a pipe's capacity.
pub(super) const WRITE_BYTES: usize = 64 << 10;

pub struct Sink {
    name: String,
    writer: Option<Box<dyn Write + Send>>,
    failing: bool,
}

impl Sink {
    pub fn new(name: impl Into<String>, writer: impl Write + Send + 'static) -> Sink {
        Sink { name: name.into(), writer: Some(Box::new(writer)), failing: false }
    }

    /// `stdout`, `stderr`, or a file (a path or a `file://` URL), created or appended to.
    pub fn open(path: &str) -> io::Result<Sink> {
        Ok(match path {
            "stdout" => Sink::new(path, stdout()?),
            "stderr" => Sink::new(path, io::stderr()),
            _ => {
                let file = path.strip_prefix("file://").unwrap_or(path);
                Sink::new(path, files::append(Path::new(file))?)
            }
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its reader is gone for good.
    pub(super) fn is_gone(&self) -> bool {
        self.writer.is_none()
    }

    /// Whether the whole text was written.
    pub(super) fn write(&mut self, text: &[u8], progress: &dyn Fn()) -> bool {
        let Some(writer) = &mut self.writer else { return false };
        match write_all(writer, text, progress) {
            Ok(()) => {
                self.failing = false;
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(output = %self.name, %error, "cannot write to an output, discarding what is for it");
                }
                if error.kind() == ErrorKind::BrokenPipe {
                    self.writer = None;
                }
                false
            }
        }
    }
}

/// Without the line buffer of `io::stdout`: a piece is one write.
#[cfg(unix)]
fn stdout() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

#[cfg(not(unix))]
fn stdout() -> io::Result<impl Write + Send + 'static> {
    Ok(io::stdout())
}

/// `write_all` that notes progress, and waits if another process made our terminal or pipe non-blocking.
fn write_all(writer: &mut dyn Write, mut rest: &[u8], progress: &dyn Fn()) -> io::Result<()> {
    while !rest.is_empty() {
        match writer.write(rest.get(..WRITE_BYTES).unwrap_or(rest)) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                rest = rest.get(written..).unwrap_or_default();
                progress();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            #[expect(clippy::disallowed_methods, reason = "the writer's thread is its own")]
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error),
        }
    }
    writer.flush()
}
