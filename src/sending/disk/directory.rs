//! A real directory, locked by one process, with files only their owner can read. It is opened once, never through a
//! link, and only if it is ours. Its files are opened relative to that handle, and links are not followed.

use std::fs::{self, File, TryLockError};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Clock, Disk};
use handle::Handle;

const LOCK: &str = "lock";

pub struct Directory {
    path: PathBuf,
    handle: Handle,
    /// The lock; the operating system releases it when the process ends.
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
    /// Creates the directory if it is missing and locks it, waiting up to `wait` for another process to release it.
    pub fn take(path: &Path, wait: Duration) -> Result<Directory, LockError> {
        let failed = |error| LockError::Io(path.to_owned(), error);
        let (handle, lock) = enter(path).map_err(failed)?;
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
        Ok(Directory { path: path.to_owned(), handle, lock: Some(lock) })
    }

    /// Opens it for inspection. It may belong to another user, or be in use by another process.
    pub(crate) fn view(path: &Path) -> io::Result<Directory> {
        Ok(Directory { path: path.to_owned(), handle: Handle::of(path)?, lock: None })
    }
}

/// The directory, created if missing, with its lock.
fn enter(path: &Path) -> io::Result<(Handle, File)> {
    create(path)?;
    let handle = Handle::of(path)?;
    handle.trust(path)?;
    let lock = handle.open(LOCK, handle::CREATE)?;
    Ok((handle, lock))
}

/// Creates a directory and its parents, each with its name on stable storage.
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
    handle::sync(parent.unwrap_or(Path::new(".")))
}

#[cfg(unix)]
mod handle {
    use std::fs::{self, File};
    use std::io::{self, Error};
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use rustix::fs::{AtFlags, Dir, Mode, OFlags};

    pub(super) const READ: OFlags = OFlags::RDONLY;
    pub(super) const WRITE: OFlags = OFlags::RDWR;
    pub(super) const CREATE: OFlags = OFlags::RDWR.union(OFlags::CREATE);
    pub(super) const CREATE_NEW: OFlags = CREATE.union(OFlags::EXCL);

    /// An open directory. If its path is replaced later, the handle still refers to the old one.
    pub(super) struct Handle(File);

    impl Handle {
        pub(super) fn of(path: &Path) -> io::Result<Handle> {
            if fs::symlink_metadata(path)?.is_symlink() {
                return Err(Error::other("it is a link, and must be a directory"));
            }
            let flags = READ | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(Handle(rustix::fs::open(path, flags, Mode::empty())?.into()))
        }

        /// Checks that the files belong to us. Group write access is allowed, as on Kubernetes volumes with `fsGroup`.
        pub(super) fn trust(&self, path: &Path) -> io::Result<()> {
            let (us, found) = (rustix::process::geteuid().as_raw(), self.0.metadata()?);
            if found.uid() != us {
                let owner = found.uid();
                let text = format!(
                    "it belongs to user {owner}, and this process runs as {us}: run it as that user, or `chown -R {us}` what is its own"
                );
                return Err(Error::other(text));
            }
            if found.mode() & 0o002 != 0 {
                return Err(Error::other("everyone may write to it: `chmod o-w` it, once you know what is in it"));
            }
            let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
            for owner in [fs::symlink_metadata(parent)?.uid(), fs::metadata(parent)?.uid()] {
                if owner != us && owner != 0 {
                    let parent = parent.display();
                    return Err(Error::other(format!(
                        "{parent} belongs to user {owner}, who could put something else there: `chown {us}` it"
                    )));
                }
            }
            Ok(())
        }

        /// Opens a regular file; never blocks on a pipe.
        pub(super) fn open(&self, name: &str, how: OFlags) -> io::Result<File> {
            let flags = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let no_file = || Error::other(format!("{name} is a link, a pipe or a device, and must be a file"));
            let opened = rustix::fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR);
            let file = File::from(opened.map_err(|error| match error {
                rustix::io::Errno::LOOP => no_file(),
                error => error.into(),
            })?);
            if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
        }

        pub(super) fn list(&self) -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in Dir::read_from(&self.0)? {
                names.extend(
                    entry?.file_name().to_str().ok().filter(|name| !matches!(*name, "." | "..")).map(str::to_owned),
                );
            }
            Ok(names)
        }

        pub(super) fn sync(&self) -> io::Result<()> {
            self.0.sync_all()
        }

        pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
        }

        pub(super) fn remove(&self, name: &str) -> io::Result<()> {
            Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
        }

        /// Whether the directory is still at its path, and this file in it under its name.
        pub(super) fn keeps(&self, path: &Path, file: &File, name: &str) -> io::Result<bool> {
            let (directory, ours) = (self.0.metadata()?, file.metadata()?);
            let found = fs::symlink_metadata(path).and_then(|found| {
                let here = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_same = (here.st_dev as u64, here.st_ino as u64) == (ours.dev(), ours.ino());
                Ok(is_same && (found.dev(), found.ino()) == (directory.dev(), directory.ino()))
            });
            match found {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                found => found,
            }
        }
    }

    pub(super) fn sync(path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    pub(super) fn has_name(file: &File) -> io::Result<bool> {
        Ok(file.metadata()?.nlink() > 0)
    }
}

/// On other systems a directory is its path, and an open file keeps its name.
#[cfg(not(unix))]
mod handle {
    use std::fs::{self, File, OpenOptions};
    use std::io;
    use std::path::{Path, PathBuf};

    /// Write access, create if missing, must be missing.
    type How = (bool, bool, bool);
    pub(super) const READ: How = (false, false, false);
    pub(super) const WRITE: How = (true, false, false);
    pub(super) const CREATE: How = (true, true, false);
    pub(super) const CREATE_NEW: How = (true, true, true);

    pub(super) struct Handle(PathBuf);

    impl Handle {
        pub(super) fn of(path: &Path) -> io::Result<Handle> {
            Ok(Handle(path.to_owned()))
        }

        pub(super) fn trust(&self, _: &Path) -> io::Result<()> {
            Ok(())
        }

        pub(super) fn open(&self, name: &str, (write, create, new): How) -> io::Result<File> {
            OpenOptions::new().read(true).write(write).create(create).create_new(new).open(self.0.join(name))
        }

        pub(super) fn list(&self) -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.0)? {
                names.extend(entry?.file_name().into_string());
            }
            Ok(names)
        }

        pub(super) fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            fs::rename(self.0.join(from), self.0.join(to))
        }

        pub(super) fn remove(&self, name: &str) -> io::Result<()> {
            fs::remove_file(self.0.join(name))
        }

        pub(super) fn keeps(&self, _: &Path, _: &File, _: &str) -> io::Result<bool> {
            Ok(true)
        }
    }

    pub(super) fn sync(_: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn has_name(_: &File) -> io::Result<bool> {
        Ok(true)
    }
}

impl Disk for Directory {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        self.handle.list()
    }

    fn create(&self, name: &str) -> io::Result<File> {
        self.handle.open(name, handle::CREATE_NEW)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        self.handle.open(name, if self.lock.is_some() { handle::WRITE } else { handle::READ })
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
        self.handle.sync()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.handle.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.handle.remove(name)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        space(&self.path).map(|(_, free)| free)
    }

    fn keeps<'a>(&self, mut files: impl Iterator<Item = &'a File>) -> io::Result<bool> {
        let Some(lock) = &self.lock else { return Ok(true) };
        Ok(self.handle.keeps(&self.path, lock, LOCK)?
            && files.try_fold(true, |all, file| Ok::<_, io::Error>(all && handle::has_name(file)?))?)
    }

    fn restore(&mut self) -> io::Result<()> {
        if self.keeps(std::iter::empty())? {
            return Ok(());
        }
        let (handle, lock) = enter(&self.path)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another process has taken its directory"),
            TryLockError::Error(error) => error,
        })?;
        (self.handle, self.lock) = (handle, Some(lock));
        Ok(())
    }
}

/// Total and available bytes of the filesystem of a path.
#[cfg(target_os = "linux")]
pub(crate) fn space(path: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(path)?;
    Ok((found.f_blocks.saturating_mul(found.f_frsize), found.f_bavail.saturating_mul(found.f_frsize)))
}

/// Other systems do not report this without `unsafe`: the quota alone bounds the log.
#[cfg(not(target_os = "linux"))]
pub(crate) fn space(_: &Path) -> io::Result<(u64, u64)> {
    Ok((u64::MAX, u64::MAX))
}

/// Why synced data on this path may still be lost, for filesystems known to do so (the numbers are from statfs(2)).
#[cfg(target_os = "linux")]
pub fn hazard(path: &Path) -> Option<&'static str> {
    // The type's signedness and width depend on the platform.
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
