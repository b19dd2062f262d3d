//! The scraper `filesystem`: mounts and their usage.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::section::Section;

use super::Host;
use super::basics::ratio;
use super::names::Names;
use super::sheet::{Kind, Metric, Sheet};

pub(super) const METRICS: &[Metric] = &[
    Metric::on("system.filesystem.inodes.usage", Kind::Sum, "{inodes}", "FileSystem inodes used."),
    Metric::on("system.filesystem.usage", Kind::Sum, "By", "Filesystem bytes used."),
    Metric::off("system.filesystem.utilization", Kind::Gauge, "1", "Fraction of filesystem bytes used."),
];

#[derive(Clone, Debug)]
pub(super) struct Filter {
    virtual_filesystems: bool,
    devices: Names,
    types: Names,
    mount_points: Names,
}

impl Filter {
    pub(super) fn decode(section: &Section) -> Filter {
        Filter {
            virtual_filesystems: section.boolean("include_virtual_filesystems", false),
            devices: Names::decode(section, "include_devices", "exclude_devices", "devices"),
            types: Names::decode(section, "include_fs_types", "exclude_fs_types", "fs_types"),
            mount_points: Names::decode(section, "include_mount_points", "exclude_mount_points", "mount_points"),
        }
    }

    fn passes(&self, mount: &Mount) -> bool {
        self.devices.pass(&mount.device) && self.types.pass(&mount.kind) && self.mount_points.pass(&mount.point)
    }
}

#[derive(Debug, PartialEq)]
struct Mount {
    device: String,
    point: String,
    kind: String,
    mode: &'static str,
}

#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    used: u64,
    free: u64,
    reserved: u64,
    inodes_used: u64,
    inodes_free: u64,
}

pub(super) fn scrape(host: &Host, filter: &Filter, sheet: &mut Sheet) -> io::Result<()> {
    let mounts = host.read("1/mountinfo").or_else(|_| host.read("self/mountinfo"))?;
    let on_disk = if filter.virtual_filesystems { String::new() } else { host.read("filesystems")? };
    let is_on_disk = |kind: &str| {
        on_disk.lines().any(|line| line.trim() == kind && !line.starts_with("nodev")) || line_of_zfs(&on_disk, kind)
    };
    let mut seen: Vec<Mount> = Vec::new();
    for mount in mounts.lines().filter_map(Mount::read) {
        let counts = filter.virtual_filesystems || (mount.device != "none" && is_on_disk(&mount.kind));
        let known = seen.iter().any(|seen| (&seen.device, &seen.point) == (&mount.device, &mount.point));
        if !counts || known || !filter.passes(&mount) {
            continue;
        }
        // Unreadable mounts, such as another user's, are left out.
        if let Ok(usage) = usage(&host.root.join(mount.point.trim_start_matches('/'))) {
            mount.write(usage, sheet);
            seen.push(mount);
        }
    }
    Ok(())
}

/// ZFS uses disks but claims `nodev`.
fn line_of_zfs(filesystems: &str, kind: &str) -> bool {
    kind == "zfs" && filesystems.lines().any(|line| line == "nodev\tzfs")
}

impl Mount {
    /// `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue`
    fn read(line: &str) -> Option<Mount> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(4);
        let (point, options) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, device) = (right.next()?, right.next()?);
        let has = |wanted| options.split(',').any(|option| option == wanted);
        let mode = ["rw", "ro"].into_iter().find(|mode| has(*mode)).unwrap_or("unknown");
        // The familiar name of a device mapper's device.
        let device = unescape(device);
        let behind = Some(PathBuf::from(&device)).filter(|path| path.starts_with("/dev/mapper"));
        let behind = behind.and_then(|path| std::fs::canonicalize(path).ok());
        let device = behind.map_or(device, |path| path.display().to_string());
        Some(Mount { device, point: unescape(point), kind: kind.to_owned(), mode })
    }

    fn write(&self, usage: Usage, sheet: &mut Sheet) {
        let Mount { device, point, kind, mode } = self;
        let plain = [("device", device.as_str()), ("mode", mode), ("mountpoint", point), ("type", kind)];
        let with = |state| [plain.as_slice(), &[("state", state)]].concat();
        let bytes = [("used", usage.used), ("free", usage.free), ("reserved", usage.reserved)];
        for (state, bytes) in bytes {
            sheet.int("system.filesystem.usage", bytes, &with(state));
        }
        for (state, inodes) in [("used", usage.inodes_used), ("free", usage.inodes_free)] {
            sheet.int("system.filesystem.inodes.usage", inodes, &with(state));
        }
        sheet.double("system.filesystem.utilization", ratio(usage.used, usage.used + usage.free), &plain);
    }
}

/// Decodes `\040`, the kernel's escape for a space.
fn unescape(text: &str) -> String {
    let mut pieces = text.split('\\');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let octal =
            piece.split_at_checked(3).and_then(|(digits, rest)| Some((u8::from_str_radix(digits, 8).ok()?, rest)));
        match octal {
            Some((byte, rest)) => plain.extend([char::from(byte).to_string().as_str(), rest]),
            None => plain.extend(["\\", piece]),
        }
    }
    plain
}

#[cfg(target_os = "linux")]
fn usage(path: &Path) -> io::Result<Usage> {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    let used = bytes(stat.f_blocks.saturating_sub(stat.f_bfree));
    let free = bytes(stat.f_bavail);
    Ok(Usage {
        used,
        free,
        reserved: bytes(stat.f_blocks).saturating_sub(used + free),
        inodes_used: stat.f_files.saturating_sub(stat.f_ffree),
        inodes_free: stat.f_ffree,
    })
}

#[cfg(not(target_os = "linux"))]
fn usage(_: &Path) -> io::Result<Usage> {
    Err(io::ErrorKind::Unsupported.into())
}
