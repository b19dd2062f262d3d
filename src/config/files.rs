//! Reads files that the user names, without trusting them. Such a path may lead to a pipe without a writer, an endless
//! device, or a mount that hangs. None of these may block a worker.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

/// The time limit for reading files in [`aside`].
const PATIENCE: Duration = Duration::from_secs(5);

/// What a path may lead to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file, or a symbolic link to one, as in Kubernetes' mounted secrets. Opening it never blocks.
    File,
    /// Also a pipe, which can be read only once: `--config <(…)` at the start.
    #[default]
    Any,
}

/// Reads a whole file of at most `most` bytes.
pub(crate) fn read(path: &Path, most: u64, place: Place) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let opened = if place == Place::Any { File::open(path).map_err(plain) } else { open(path) };
    opened?.take(most + 1).read_to_end(&mut bytes).map_err(plain)?;
    if bytes.len() as u64 > most {
        let (size, unit) = if most >> 20 > 0 { (most >> 20, "MiB") } else { (most, "bytes") };
        return Err(format!("it is larger than {size} {unit}"));
    }
    Ok(bytes)
}

#[cfg(unix)]
fn open(path: &Path) -> Result<File, String> {
    use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
    // NONBLOCK: opening a pipe without a writer returns at once. NOCTTY: a terminal does not become our controlling
    // one.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path).map_err(plain)?;
    let kind = file.metadata().map_err(plain)?.file_type();
    match kind.is_file() {
        true => Ok(file),
        false if kind.is_dir() => Err("it is a directory".to_owned()),
        false if kind.is_fifo() => Err("it is a pipe, and must be a file".to_owned()),
        false => Err("it is a device, and must be a file".to_owned()),
    }
}

#[cfg(not(unix))]
fn open(path: &Path) -> Result<File, String> {
    File::open(path).map_err(plain)
}

/// Opens a file to append to, or creates it with mode 0600. A pipe must have a reader: otherwise opening it would
/// block. A symbolic link is refused, because another user may have made it to choose the file, except in `/dev`.
#[cfg(unix)]
pub(crate) fn append(path: &Path) -> io::Result<File> {
    use rustix::fs::OFlags;
    use rustix::io::Errno;
    use std::os::unix::fs::OpenOptionsExt;
    let is_systems = ["/dev", "/dev/fd"].map(Path::new).iter().any(|folder| path.parent() == Some(*folder));
    let links = if is_systems { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | links;
    let opened = File::options().append(true).create(true).mode(0o600).custom_flags(flags.bits() as i32).open(path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NXIO) => io::Error::other("it is a pipe, and nobody reads from it"),
        Some(Errno::LOOP) => io::Error::other("it is a symbolic link: name the file that it leads to"),
        _ => error,
    })?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

#[cfg(not(unix))]
pub(crate) fn append(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

/// The text of an error as part of a sentence.
fn plain(error: io::Error) -> String {
    let text = error.to_string();
    let text = crate::diagnostics::columns::without_errno(&text);
    text.get(..1).map(str::to_lowercase).unwrap_or_default() + text.get(1..).unwrap_or_default()
}

/// Runs `work`, which reads files, on a thread that may block. Gives up on a mount that hangs: the thread is then
/// abandoned, and the runtime must not wait for it at shutdown.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(work)).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the files that it names gave no answer within {PATIENCE:?}")),
    }
}
