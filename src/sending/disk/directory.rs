//! A real directory: one process at a time, files that only their owner reads.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Clock, Disk};

const LOCK: &str = "lock";

pub struct Directory {
    path: PathBuf,
    /// Held while it lives; the system gives it back when the process ends, however it ends.
    lock: Option<File>,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
}

impl Directory {
    /// Makes the directory where it is missing and takes it for this process, waiting up to `wait` for another to leave.
    pub fn take(path: &Path, wait: Duration) -> Result<Directory, LockError> {
        let failed = |error| LockError::Io(path.to_owned(), error);
        let lock = lock_file(path).map_err(failed)?;
        let until = Instant::now() + wait;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::park_timeout(Duration::from_millis(20));
                }
                Err(TryLockError::WouldBlock) => return Err(LockError::InUse(path.to_owned())),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        Ok(Directory { path: path.to_owned(), lock: Some(lock) })
    }

    /// For looking at it only, while another process may use it.
    pub fn view(path: &Path) -> Directory {
        Directory { path: path.to_owned(), lock: None }
    }
}

fn lock_file(path: &Path) -> io::Result<File> {
    create(path)?;
    options().create(true).truncate(false).open(path.join(LOCK))
}

/// Makes a directory with all above it, each with its name on stable storage.
fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create(parent)?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    sync_directory(parent.unwrap_or(Path::new(".")))
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

impl Disk for Directory {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        options().create_new(true).open(self.path.join(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        match self.lock {
            Some(_) => options().open(self.path.join(name)),
            None => File::open(self.path.join(name)),
        }
    }

    fn length(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn read(&self, mut file: &File, at: u64, into: &mut [u8]) -> io::Result<usize> {
        file.seek(SeekFrom::Start(at))?;
        file.read(into)
    }

    fn write(&self, mut file: &File, at: u64, mut pieces: &mut [IoSlice]) -> io::Result<()> {
        file.seek(SeekFrom::Start(at))?;
        IoSlice::advance_slices(&mut pieces, 0);
        while !pieces.is_empty() {
            match file.write_vectored(pieces) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut pieces, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        space(&self.path).map(|(_, free)| free)
    }

    /// The lock stands for its directory: it is open, so no other file can be taken for it.
    #[cfg(unix)]
    fn keeps<'a>(&self, files: impl Iterator<Item = &'a File>) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let Some(lock) = &self.lock else { return Ok(true) };
        let ours = lock.metadata()?;
        match fs::metadata(self.path.join(LOCK)) {
            Ok(found) if (found.dev(), found.ino()) == (ours.dev(), ours.ino()) => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(false),
        }
        for file in files {
            if file.metadata()?.nlink() == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Elsewhere a file that is open keeps its name.
    #[cfg(not(unix))]
    fn keeps<'a>(&self, _: impl Iterator<Item = &'a File>) -> io::Result<bool> {
        Ok(true)
    }

    fn restore(&mut self) -> io::Result<()> {
        if self.keeps(std::iter::empty())? {
            return Ok(());
        }
        let lock = lock_file(&self.path)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another process has taken its directory"),
            TryLockError::Error(error) => error,
        })?;
        self.lock = Some(lock);
        Ok(())
    }
}

/// How large the filesystem of a path is, and how much of it is free for us.
#[cfg(target_os = "linux")]
pub fn space(path: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(path)?;
    Ok((found.f_blocks.saturating_mul(found.f_frsize), found.f_bavail.saturating_mul(found.f_frsize)))
}

/// Elsewhere nobody says so without `unsafe`: the quota alone bounds the log.
#[cfg(not(target_os = "linux"))]
pub fn space(_: &Path) -> io::Result<(u64, u64)> {
    Ok((u64::MAX, u64::MAX))
}

/// Why what is synced on this path may still be lost, where its filesystem is known for it (the numbers are statfs(2)'s).
#[cfg(target_os = "linux")]
pub fn hazard(path: &Path) -> Option<&'static str> {
    // Signed or not, and how wide, depends on the machine.
    match rustix::fs::statfs(path).ok()?.f_type as u32 {
        0x0102_1994 | 0x8584_58f6 => Some("memory (tmpfs): a queue here ends with the machine, and fills its memory"),
        0x794c_7630 => {
            Some("a container's own layer (overlayfs): a queue here ends with the container, mount a volume")
        }
        0x6969 | 0xff53_4d42 | 0xfe53_4d42 => {
            Some("on the network (NFS or SMB): it is lost when the network is, and locks may not hold")
        }
        _ => None,
    }
}

#[cfg(not(target_os = "linux"))]
pub fn hazard(_: &Path) -> Option<&'static str> {
    None
}

impl Clock for Instant {
    fn now(&self) -> Duration {
        self.elapsed()
    }
}
