//! Files that a person names are read without trust: what stands there may be a pipe that nobody writes to, a device
//! without an end, or a mount that hangs. None of them may hold up who serves.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

/// How long a file may take where nothing is in force yet that could go on without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What may stand in the place of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// A file, or a link to one, as Kubernetes mounts secrets. To open it never waits for anybody.
    File,
    /// Also a pipe, which can be read once: `--config <(…)` at a start.
    #[default]
    Any,
}

/// The whole of a file of at most `most` bytes.
pub fn read(path: &Path, most: u64, place: Place) -> Result<Vec<u8>, String> {
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
    // A pipe without a writer is open at once with this; a terminal does not become ours.
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

/// A file that is made, for its owner alone, or appended to. A pipe is one that somebody reads: without a reader the call
/// would wait for one. A symbolic link may be another user's, who would choose the file; those in `/dev` are the system's.
#[cfg(unix)]
pub fn append(path: &Path) -> io::Result<File> {
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
pub fn append(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

/// An error as part of a sentence.
fn plain(error: io::Error) -> String {
    let text = error.to_string();
    let text = crate::diagnostics::columns::without_errno(&text);
    text.get(..1).map(str::to_lowercase).unwrap_or_default() + text.get(1..).unwrap_or_default()
}

/// Does what reads files beside the runtime, so that everything else goes on meanwhile; gives up on a mount that hangs.
/// The thread is left to itself then: a runtime does not wait for it when it ends.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(work)).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the files that it names gave no answer within {PATIENCE:?}")),
    }
}
