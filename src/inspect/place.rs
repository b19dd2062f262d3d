//! Where the sockets of collectors are: in a directory that no other user can write to, each named by its process. In
//! `/tmp` any local user can take a name first, so the collector and its clients both check owners.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

const ENDING: &str = ".sock";

/// Directories that may hold sockets, the preferred one first.
pub(crate) fn directories() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    // A variable inherited through `su` or `sudo` belongs to the previous user.
    let is_own = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.uid() == own_user());
    let named = runtime.filter(is_own).map(|path| path.join("misaki"));
    let own = PathBuf::from(format!("/tmp/misaki-{}", own_user()));
    named.into_iter().chain([PathBuf::from("/run/misaki"), own]).collect()
}

/// The live sockets with their processes: of the first directory that has any, or of one process in any directory.
/// Directories that another user may have filled are left out.
pub(crate) fn sockets(process: Option<u32>) -> Vec<(u32, PathBuf)> {
    let listens =
        |(pid, path): &(u32, PathBuf)| process.is_none_or(|wanted| wanted == *pid) && UnixStream::connect(path).is_ok();
    let trusted = directories().into_iter().filter(|path| owner(path).is_ok());
    let found = trusted.map(|path| named_by_process(&path).into_iter().filter(listens).collect());
    let mut found: Vec<(u32, PathBuf)> = found.into_iter().find(|found: &Vec<_>| !found.is_empty()).unwrap_or_default();
    found.sort();
    found
}

/// Existing directories that are left out, each with the reason.
pub(crate) fn left_out() -> Vec<String> {
    let reason = |path: PathBuf| match owner(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Some(format!("{}: {error}", path.display())),
        _ => None,
    };
    directories().into_iter().filter_map(reason).collect()
}

/// Whether a process of the user `listener`, listening on this socket, may be trusted as a collector: it is our own
/// user, root, or the user for whom root made the directory.
pub fn trusts(socket: &Path, listener: u32) -> bool {
    let folder = socket.parent().and_then(|folder| folder.canonicalize().ok());
    [0, own_user()].contains(&listener)
        || folder.is_some_and(|folder| owner(&folder).is_ok_and(|user| user == listener))
}

/// Binds this process's socket in the first suitable directory, and removes stale ones there.
pub(super) fn bind_own() -> io::Result<(UnixListener, PathBuf)> {
    let mut failures = Vec::new();
    for directory in directories() {
        let path = directory.join(format!("{}{ENDING}", std::process::id()));
        match make_private(&directory).and_then(|()| bind(&path)) {
            Ok(listener) => {
                for (_, stale) in named_by_process(&directory).into_iter().filter(|(_, path)| is_stale(path)) {
                    // Another collector may clean up at the same time.
                    let _ = fs::remove_file(stale);
                }
                return Ok((listener, path));
            }
            Err(error) => failures.push(format!("{}: {error}", directory.display())),
        }
    }
    Err(io::Error::other(failures.join("; ")))
}

/// Binds a socket accessible to our own user only; replaces a stale one.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    if is_stale(path) {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The effective user of this process.
pub fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn make_private(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match owner(directory)? {
        user if user == own_user() => Ok(()),
        user => Err(belongs_to(user)),
    }
}

/// The one user whose sockets a directory can hold: our own, root, or the user for whom root made it.
fn owner(directory: &Path) -> io::Result<u32> {
    let found = fs::symlink_metadata(directory)?;
    let is_roots = |path: &Path| fs::metadata(path).is_ok_and(|found| found.uid() == 0 && found.mode() & 0o022 == 0);
    match found.uid() {
        _ if !found.is_dir() => Err(io::Error::other("it is not a directory")),
        _ if found.mode() & 0o022 != 0 => Err(io::Error::other("others can write to it")),
        user if [0, own_user()].contains(&user) || directory.ancestors().skip(1).all(is_roots) => Ok(user),
        user => Err(belongs_to(user)),
    }
}

fn belongs_to(user: u32) -> io::Error {
    io::Error::other(format!("it belongs to user {user}, and this process runs as {}", own_user()))
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
