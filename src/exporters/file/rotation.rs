//! Backups of a full file: their names, and how many are kept.

use std::io;
use std::path::Path;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::folder;

/// The time format in a backup's name.
const STAMP: &str = "%Y-%m-%dT%H-%M-%S%.3f";

#[derive(Clone, Debug)]
pub(super) struct Rotation {
    pub(super) max_bytes: u64,
    /// 0 keeps backups of any age.
    pub(super) max_days: i64,
    /// 0 keeps all.
    pub(super) max_backups: usize,
    pub(super) local_time: bool,
}

/// Renames the file to a backup, `telemetry-2026-11-23T01-42-27.608-size.json`, and removes excess and old backups.
pub(super) fn rotate(path: &Path, rotation: &Rotation) -> io::Result<()> {
    let zone = if rotation.local_time { TimeZone::system() } else { TimeZone::UTC };
    let now = Timestamp::now();
    let (stem, end) = parts(path);
    let stamped = |time: Timestamp| format!("{stem}{}", time.to_zoned(zone.clone()).strftime(STAMP));
    let mut name = path.with_file_name(format!("{}-size{end}", stamped(now)));
    // For several within a millisecond.
    for number in 1..1000 {
        if !name.exists() {
            break;
        }
        name = path.with_file_name(format!("{}-size-{number}{end}", stamped(now)));
    }
    std::fs::rename(path, name)?;
    let mut backups: Vec<String> = std::fs::read_dir(folder(path))?
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
            // If removal fails, the next rotation tries again.
            let _ = std::fs::remove_file(path.with_file_name(name));
        }
    }
    Ok(())
}

/// The parts of a backup's name before and after the time.
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
