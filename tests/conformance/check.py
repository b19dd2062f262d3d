#!/usr/bin/env python3
"""Runs a collector over the cases in fixtures/, recorded from the Go collector 0.161, and compares.

  tests/conformance/check.py [--only PART] [--jobs N] [--show] [--dir FOLDER] [-- COMMAND...]    default: target/release/misaki

debug/NAME/{input.json,basic.txt,normal.txt,detailed.txt}     what the debug exporter prints, byte for byte
pipelines/NAME/{config.yaml,input.json,expected.txt}          the same behind processors; tail_*: as a multiset of lines
bad-config/NAME.yaml                                          `validate` refuses it, with the words of its first line

A case that names a component which is not there yet is skipped, and the last line says how many. Exit status 1 when one failed."""
import argparse, difflib, os, re, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.request
from concurrent.futures import ThreadPoolExecutor

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VERBOSITIES = ("basic", "normal", "detailed")
DEBUG = """receivers:
  otlp:
    protocols:
      http: {endpoint: "${env:OTLP_HTTP}"}
exporters:
""" + "".join(
    f'  debug/{v}: {{verbosity: {v}, use_internal_logger: false, output_paths: ["${{env:OUTDIR}}/{v}.txt"], sampling_initial: 100000}}\n'
    for v in VERBOSITIES
) + """service:
  telemetry: {metrics: {level: none}}
  pipelines:
    SIGNAL: {receivers: [otlp], exporters: [debug/basic, debug/normal, debug/detailed]}
"""
# What later releases bring; a case that needs one of these is skipped as long as it is refused by name.
PLANNED = set("filter transform attributes resource probabilistic_sampler tail_sampling redaction resourcedetection file_storage hostmetrics".split())
UNKNOWN = re.compile(r'(?:unknown \w+ type|the \w+) "(\w+)"')


def read(path):
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return file.read()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def validate(command, config, environment):
    done = subprocess.run(command + ["validate", "--config", config], env=environment, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def missing(said):
    """The component that a refusal names, when it is one that is yet to come."""
    return next((name for name in UNKNOWN.findall(said) if name in PLANNED), None)


def collect(command, config, signal_name, body, linger):
    """Starts the collector, posts one request, stops it; returns what it wrote, its own log, and the component it lacks."""
    folder, port = tempfile.mkdtemp(), free_port()
    path = f"{folder}/config.yaml"
    with open(path, "w") as file:
        file.write(config)
    environment = dict(os.environ, OTLP_HTTP=f"127.0.0.1:{port}", OUT=f"{folder}/expected.txt", OUTDIR=folder)
    with open(f"{folder}/log", "w") as log:
        process = subprocess.Popen(command + ["--config", path], env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 0.1).close()
                break
            except OSError:
                time.sleep(0.01)
        if process.poll() is None:
            headers = {"content-type": "application/json"}
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/{signal_name}", data=body, headers=headers)
            try:
                urllib.request.urlopen(request, timeout=10).read()
            except OSError:
                pass  # what it wrote, or not, decides
            time.sleep(linger)
            process.send_signal(signal.SIGTERM)
        status = process.wait(20)
        written = {name: read(f"{folder}/{name}") for name in os.listdir(folder) if name.endswith(".txt")}
        said = read(f"{folder}/log")
        return written, said, missing(said) if status else None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def signal_of(body, name):
    return next((s for word, s in ((b"resourceLogs", "logs"), (b"resourceSpans", "traces"), (b"resourceMetrics", "metrics")) if word in body), name.split("_")[0])


def compare(path, want, got, unordered):
    a, b = want.splitlines(), got.splitlines()
    if unordered:
        a, b = (sorted(line for line in lines if "Span #" not in line and "spans" not in line) for lines in (a, b))
    if a == b and (unordered or want == got):
        return None
    return "\n".join(difflib.unified_diff(a, b, path, "got", n=1, lineterm="")) or "only the final newline differs"


def run_text_case(command, kind, folder, name):
    with open(f"{folder}/input.json", "rb") as file:
        body = file.read()
    signal_name = signal_of(body, name)
    config = DEBUG.replace("SIGNAL", signal_name) if kind == "debug" else read(f"{folder}/config.yaml")
    linger = 2.6 if name.startswith("tail_") else 0.5 if name.startswith("batch_") else 0.05
    got, said, lacks = collect(command, config, signal_name, body, linger)
    if lacks:
        return lacks, []
    wanted = sorted(f for f in os.listdir(folder) if f.endswith(".txt"))
    faults = (compare(f"{folder}/{f}", read(f"{folder}/{f}"), got.get(f, ""), name.startswith("tail_")) for f in wanted)
    return None, [f"{fault}\n  log: {said[-500:]}" for fault in faults if fault]


def run_bad_config(command, path):
    words = [word.strip() for word in read(path).partition("\n")[0].partition("must mention:")[2].split(",")]
    status, said = validate(command, path, dict(os.environ, OTLP_HTTP="127.0.0.1:0", OUT=os.devnull))
    lacks = missing(said)
    if lacks or (status != 0 and all(word in said for word in words)):
        return lacks, []
    return None, [f"status {status}, wanted the words: {words}\n{said[-1500:]}"]



def main():
    argv = sys.argv[1:]
    split = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", default=f"{TOP}/fixtures", help="the folder of cases")
    parser.add_argument("--only", default="", help="cases whose name has this part")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="print the difference of each failed case")
    args, command = parser.parse_args(argv[:split]), argv[split + 1:] or [f"{TOP}/target/release/misaki"]
    cases = [(kind, name) for kind in ("debug", "pipelines", "bad-config") if os.path.isdir(f"{args.dir}/{kind}") for name in sorted(os.listdir(f"{args.dir}/{kind}"))]
    cases = [case for case in cases if args.only in "/".join(case)]

    def run(case):
        kind, name = case
        path = f"{args.dir}/{kind}/{name}"
        return run_bad_config(command, path) if kind == "bad-config" else run_text_case(command, kind, path, name)

    passed, failed, skipped = 0, 0, {}
    with ThreadPoolExecutor(args.jobs) as pool:
        for case, (lacks, faults) in zip(cases, pool.map(run, cases)):
            if lacks:
                skipped[lacks] = skipped.get(lacks, 0) + 1
            elif not faults:
                passed += 1
            else:
                failed += 1
                print("FAILED", "/".join(case))
                if args.show:
                    print("\n".join(faults)[:3000])
    without = ", ".join(f"{count} for {name}" for name, count in sorted(skipped.items()))
    print(f"{passed} passed, {failed} failed" + (f", {sum(skipped.values())} skipped ({without}: not there yet)" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
