//! Where the sockets of collectors are: in a directory that nobody else can write to, each named by its process.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

const ENDING: &str = ".sock";

/// The directories that may hold sockets, the preferred one first.
pub fn directories() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let named = runtime.map(|path| path.join("misaki"));
    let own = own_user().map(|user| PathBuf::from(format!("/tmp/misaki-{user}")));
    named.into_iter().chain([PathBuf::from("/run/misaki")]).chain(own).collect()
}

/// The sockets somebody listens on, with their processes: of the first directory that has any, or of one process wherever it is.
pub fn sockets(process: Option<u32>) -> Vec<(u32, PathBuf)> {
    let listens =
        |(pid, path): &(u32, PathBuf)| process.is_none_or(|wanted| wanted == *pid) && UnixStream::connect(path).is_ok();
    let found = directories().into_iter().map(|path| named_by_process(&path).into_iter().filter(listens).collect());
    let mut found: Vec<(u32, PathBuf)> = found.into_iter().find(|found: &Vec<_>| !found.is_empty()).unwrap_or_default();
    found.sort();
    found
}

/// Binds the socket of this process in the first directory that is fit for it, and tidies up there.
pub fn bind_own() -> io::Result<(UnixListener, PathBuf)> {
    let mut failure = io::Error::other("no directory for it");
    for directory in directories() {
        let path = directory.join(format!("{}{ENDING}", std::process::id()));
        match make_private(&directory).and_then(|()| bind(&path)) {
            Ok(listener) => {
                for (_, stale) in named_by_process(&directory).into_iter().filter(|(_, path)| is_stale(path)) {
                    // Another collector may tidy up at the same time.
                    let _ = fs::remove_file(stale);
                }
                return Ok((listener, path));
            }
            Err(error) => failure = io::Error::new(error.kind(), format!("{}: {error}", path.display())),
        }
    }
    Err(failure)
}

/// A socket for our own user alone, in the place of one that nobody listens on.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if is_stale(path) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The user this process acts as: the owner of its files under /proc, or of its home where there is no /proc.
pub fn own_user() -> Option<u32> {
    let home = || fs::metadata(std::env::home_dir()?).ok();
    fs::metadata("/proc/self").ok().or_else(home).map(|metadata| metadata.uid())
}

/// Somebody else's directory under a name of ours may be a trap.
fn make_private(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(directory)?;
    match found.is_dir() && Some(found.uid()) == own_user() && found.mode() & 0o022 == 0 {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "others can write to the directory")),
    }
}

fn named_by_process(directory: &Path) -> Vec<(u32, PathBuf)> {
    let process = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(ENDING)?.parse().ok();
    let paths = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter_map(|path| Some((process(&path)?, path))).collect()
}

fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).is_err_and(refused)
}
