//! Names that the Go collector has and Misaki lacks: they are not supported, with what to do instead, never unknown.

/// A line of names for each kind, and lines of help. Its head says where they come from.
const NAMES: &str = include_str!("contrib.txt");

/// Whether the Go collector has, or had, a thing of this kind and name.
pub(crate) fn is_known(kind: &str, name: &str) -> bool {
    said(kind, name).is_some()
}

/// Why there is no thing of this kind and name here, and help; `None` if the Go collector has none either.
pub(crate) fn absent(kind: &str, name: &str) -> Option<(String, String)> {
    let (removed, help) = said(kind, name)?;
    let message = match removed {
        Some(version) => format!("the {kind} \"{name}\" was removed from the Go collector in {version}"),
        None => format!("the {kind} \"{name}\" of the Go collector is not supported by Misaki"),
    };
    Some((message, help.to_owned()))
}

/// The version that removed it, and help.
fn said(kind: &str, name: &str) -> Option<(Option<&'static str>, &'static str)> {
    let is_it = |known: &str| known.replace('_', "") == name.replace('_', "");
    let lines = || NAMES.lines().filter_map(|line| line.strip_prefix(kind));
    let help = |is_it: &dyn Fn(&str) -> bool| {
        let mut rows = lines().filter_map(|line| line.strip_prefix('.')?.split_once(' '));
        rows.find(|(known, _)| is_it(known)).map(|(_, help)| match help.strip_prefix("< ") {
            Some(removed) => removed.split_once(' ').map_or((None, help), |(version, help)| (Some(version), help)),
            None => (None, help),
        })
    };
    let is_listed = || lines().filter_map(|line| line.strip_prefix(": ")).any(|names| names.split(' ').any(is_it));
    help(&is_it).or_else(|| help(&|known| known == "*").filter(|_| is_listed()))
}
