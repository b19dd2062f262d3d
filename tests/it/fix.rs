//! `misaki validate --fix`: what it writes of configs that people have, what it says, and how it writes.

use std::path::{Path, PathBuf};
use std::process::Command;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/fix");

/// The exit status, stdout and stderr.
fn misaki(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_misaki"));
    let output = command.args(arguments).env_clear().current_dir(FIXTURES).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Those in which something is left for the user, so that they are refused afterwards, too.
const UNSURE: [&str; 2] = ["14-unsure", "15-anchors"];

#[test]
fn old_configs_become_new_ones() {
    let folder = std::fs::read_dir(FIXTURES).unwrap().map(|entry| entry.unwrap().path());
    let names = folder.filter_map(|path| Some(path.file_name()?.to_str()?.strip_suffix(".yaml")?.to_owned()));
    let mut names: Vec<String> = names.filter(|name| !name.ends_with(".fixed")).collect();
    names.sort();
    assert_eq!(names.len(), 32);
    for name in &names {
        let (old, fixed) = (format!("{name}.yaml"), format!("{name}.fixed.yaml"));
        let (status, written, said) = misaki(&["validate", "--fix", &old, "-o", "-"]);
        assert_eq!(status, 0, "{name}: {said}");
        let golden = Path::new(FIXTURES).join(&fixed);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &written).unwrap();
        }
        assert_eq!(written, std::fs::read_to_string(&golden).unwrap(), "{name}");
        let (_, again, said) = misaki(&["validate", "--fix", &fixed, "-o", "-"]);
        assert!(again == written && said.ends_with("nothing was changed\n"), "{name}: {said}");
        let (status, _, said) = misaki(&["validate", "--elsewhere", &fixed]);
        assert_eq!(status, if UNSURE.contains(&name.as_str()) { 78 } else { 0 }, "{name}: {said}");
        assert!(!said.contains("misaki validate --fix"), "{name}: {said}");
    }
}

#[test]
fn every_change_is_said_with_its_reason() {
    let (_, _, said) = misaki(&["validate", "--fix", "05-ballast.yaml", "-o", "-"]);
    assert_eq!(
        said,
        "05-ballast.yaml:3: extensions.memory_ballast -> nothing, also where it is named (1): the extension is gone \
         (since 0.108); memory_limiter sets the memory budget\n\
         05-ballast.yaml:16: processors.memory_limiter.ballast_size_mib -> nothing: there is no ballast (since 0.108)\n\
         05-ballast.yaml:19: exporters.otlp -> exporters.otlp_grpc, also where it is named (1): the name is deprecated\n\
         3 changes\n"
    );
    let (_, _, said) = misaki(&["validate", "--fix", "14-unsure.yaml", "-o", "-"]);
    assert_eq!(
        said,
        "14-unsure.yaml:7: exporters.logging -> exporters.debug, also where it is named (1): the exporter is gone \
         (since 0.111)\n\
         14-unsure.yaml:13: exporters.otlp -> exporters.otlp_grpc, also where it is named (1): the name is deprecated\n\
         left as they are, for you to decide:\n\
         14-unsure.yaml:8: exporters.debug.loglevel -> verbosity: debug has no loglevel\n\
         14-unsure.yaml:9: exporters.jaeger -> exporters.otlp_grpc/jaeger, its port 14250 -> 4317, also where it is \
         named (1): Jaeger takes OTLP (since 1.35), and the exporter is gone (since 0.86)\n\
         14-unsure.yaml:11: exporters.loki -> exporters.otlp_http, its endpoint to /otlp, also where it is named (1): \
         Loki takes OTLP (since 3.0), and the exporter is gone (since 0.131)\n\
         14-unsure.yaml:15: exporters.otlp_grpc.insecure -> tls: the place of these keys is below it\n\
         14-unsure.yaml:21: service.telemetry.metrics.address -> readers: the key has no effect (since 0.123)\n\
         2 changes\n"
    );
}

#[test]
fn validate_says_when_it_could_help() {
    for (name, status) in [("01-logging", 78), ("06-aliases", 0)] {
        let file = format!("{name}.yaml");
        let (found, _, said) = misaki(&["validate", &file]);
        let help = format!("help: `misaki validate --fix {file}` rewrites what older collectors wrote\n");
        assert!(found == status && said.ends_with(&help), "{name}: {found} {said}");
    }
    let (_, _, said) = misaki(&["validate", "20-clean.yaml"]);
    assert!(!said.contains("--fix"), "{said}");
}

/// A copy of a fixture in `folder`.
fn copied(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join("config.yaml");
    std::fs::copy(Path::new(FIXTURES).join(name), &path).unwrap();
    path
}

fn fixed(name: &str) -> String {
    std::fs::read_to_string(Path::new(FIXTURES).join(name)).unwrap()
}

#[cfg(unix)]
#[test]
fn a_file_is_rewritten_whole_and_stays_what_it_was() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let path = copied(folder.path(), "01-logging.yaml");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let link = folder.path().join("link.yaml");
    symlink("config.yaml", &link).unwrap();
    let (status, out, err) = misaki(&["validate", "--fix", link.to_str().unwrap()]);
    assert!(status == 0 && out.contains("is a link: ") && out.contains(" is valid: 2 pipelines"), "{out}{err}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), fixed("01-logging.fixed.yaml"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    // Nothing to do is nothing written.
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    assert!(misaki(&["validate", "--fix", path.to_str().unwrap()]).1.starts_with("nothing was changed\n"));
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), before);
    let names = std::fs::read_dir(folder.path()).unwrap();
    assert_eq!(names.count(), 2, "nothing else is left in the folder");
}

#[test]
fn another_file_takes_the_result() {
    let folder = tempfile::tempdir().unwrap();
    let (path, new) = (copied(folder.path(), "09-tls.yaml"), folder.path().join("new.yaml"));
    let (path, new) = (path.to_str().unwrap(), new.to_str().unwrap());
    let (status, out, err) = misaki(&["validate", "--elsewhere", "--fix", path, "-o", new]);
    assert!(status == 0 && out.ends_with(&format!("{new} is valid: 1 pipeline, 4 components\n")), "{out}{err}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), fixed("09-tls.yaml"));
    assert_eq!(std::fs::read_to_string(new).unwrap(), fixed("09-tls.fixed.yaml"));
    // The result is checked like any other.
    let (status, out, err) = misaki(&["validate", "--fix", path, "-o", new]);
    assert!(status == 78 && out.ends_with("6 changes\n") && err.contains("cannot read ca_file"), "{out}{err}");
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    let bad = folder.path().join("bad.yaml");
    std::fs::write(&bad, "exporters: {logging: \n").unwrap();
    for (arguments, status, expected) in [
        (&["--fix", "a.yaml", "b.yaml"][..], 64, "--fix rewrites one file: name only that"),
        (&["--fix", "yaml:exporters: {logging: }"], 64, "--fix rewrites one file: name only that"),
        (&["--fix", "/nowhere.yaml"], 1, "cannot read /nowhere.yaml: no such file or directory"),
        (&["--fix", "01-logging.yaml", "-o", "/nowhere/new.yaml"], 1, "cannot write /nowhere/new.yaml: "),
        (&["--fix", "01-logging.yaml", "-o", place], 1, "it is not a file"),
        (&["--fix", bad.to_str().unwrap()], 78, "this is not YAML"),
        (&["01-logging.yaml", "-o", "new.yaml"], 64, "--fix"),
    ] {
        let (found, _, said) = misaki(&[&["validate"], arguments].concat());
        assert!(found == status && said.contains(expected), "{arguments:?}: {found} {said}");
    }
}
