//! `misaki validate --fix`: rewrites a config of an older collector, and says what it changed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::cli::{Failure, environment, failed, print, safe};
use crate::config::files::{self, Place};
use crate::config::mend::{MOST, Mended, mend};
use crate::config::{self, Loaded};
use crate::diagnostics::columns::counted;
use crate::diagnostics::log;
use crate::service::registry::Registry;

/// The largest file that is read, as of a config.
const LARGEST: u64 = 1 << 20;
/// The number of changes that are tried to find out whether there are any.
const FEW: usize = 8;

/// Rewrites the file in place or to `output`. Returns the name of the file that holds the result; none for stdout.
pub(super) fn fix(file: &str, output: Option<&str>) -> Result<Option<String>, Failure> {
    let cannot = |act: &str, name: &str, error: &dyn std::fmt::Display| failed(format!("cannot {act} {name}: {error}"));
    let text = files::read(Path::new(file), LARGEST, Place::Any).map_err(|error| cannot("read", file, &error))?;
    let text = String::from_utf8(text).map_err(|_| failed(format!("cannot read {file}: it is not UTF-8 text")))?;
    let mended = mend(&text, &Registry, MOST).map_err(|_| unreadable(file))?;
    let mut said = report(file, output.filter(|name| *name != "-").unwrap_or(file), &mended);
    match output {
        Some("-") => {
            log::write(said);
            print(&mended.text)?;
            return Ok(None);
        }
        None if mended.done.is_empty() => {}
        output => {
            let name = output.unwrap_or(file);
            let path = write(name, &mended.text).map_err(|error| cannot("write", name, &error))?;
            if fs::symlink_metadata(name).is_ok_and(|found| found.is_symlink()) {
                said.push_str(&format!(
                    "{} is a link: {} was written\n",
                    safe(name),
                    safe(&path.display().to_string())
                ));
            }
        }
    }
    print(&said)?;
    Ok(Some(output.unwrap_or(file).to_owned()))
}

/// The report of a text that is not YAML.
fn unreadable(file: &str) -> Failure {
    let loaded = config::load(&[file.to_owned()], &[], &environment);
    Failure { status: crate::cli::CONFIG, message: crate::cli::rendered(&loaded) }
}

fn report(file: &str, new: &str, Mended { done, left, .. }: &Mended) -> String {
    let lines = |file: &str, list: &[(u32, String)]| {
        list.iter().map(|(line, said)| safe(&format!("{file}:{line}: {said}")) + "\n").collect::<String>()
    };
    let mut out = lines(file, done);
    if !left.is_empty() {
        out.push_str(&format!("left as they are, for you to decide:\n{}", lines(new, left)));
    }
    match done.len() {
        0 => out.push_str("nothing was changed\n"),
        count => out.push_str(&format!("{}\n", counted(count, "change"))),
    }
    out
}

/// Writes a whole file, or leaves it as it was. Mode and owner of an earlier one stay, and a link leads where it led.
/// Returns the path of the file itself.
fn write(name: &str, text: &str) -> io::Result<PathBuf> {
    let path = match fs::canonicalize(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(name).is_err() => {
            PathBuf::from(name)
        }
        found => found?,
    };
    let before = fs::metadata(&path).ok();
    if before.as_ref().is_some_and(|before| !before.is_file()) {
        return Err(io::Error::other("it is not a file"));
    }
    let file = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?.to_string_lossy();
    let new = path.with_file_name(format!(".{file}.{}.new", std::process::id()));
    let written = whole(&new, before.as_ref(), text).and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.map(|()| path)
}

fn whole(path: &Path, before: Option<&fs::Metadata>, text: &str) -> io::Result<()> {
    let mut file = fs::File::options().write(true).create_new(true).open(path)?;
    #[cfg(unix)]
    if let Some(before) = before {
        use std::os::unix::fs::{MetadataExt, fchown};
        let now = file.metadata()?;
        let (user, group) = (before.uid(), before.gid());
        if (now.uid(), now.gid()) != (user, group) {
            fchown(&file, Some(user), Some(group))?;
        }
    }
    if let Some(before) = before {
        file.set_permissions(before.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Says that `--fix` could help, if it could.
pub(super) fn offer(loaded: &Loaded) -> Option<String> {
    let mut files = loaded.sources.iter();
    let (source, None) = (files.next()?, files.next()) else { return None };
    let helps = !mend(&source.text, &Registry, FEW).ok()?.done.is_empty() && Path::new(&source.name).is_file();
    let file = safe(&source.name);
    helps.then(|| format!("help: `misaki validate --fix {file}` rewrites what older collectors wrote\n"))
}
