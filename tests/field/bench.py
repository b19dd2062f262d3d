"""What the field tests share: network namespaces and mounts of their own, an upstream that answers as it is told, an edge
that is killed and started again, and the account of what was acknowledged and what arrived."""
import contextlib, gzip, http.client, http.server, os, re, shutil, signal, subprocess, sys, tempfile, threading, time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
sys.path.insert(0, f"{TOP}/tests/interop/driver")
from collectors import Failure, Skip, await_true, check, clean_environment, free_ports  # noqa: E402,F401

PROTOBUF = "application/x-protobuf"


# The wire, as far as it is needed.


def varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def logs(names, filler=0):
    """An export request with a log for each name, its body `<name>` and some filler that does not compress."""
    records = (message(2, message(5, message(1, f"<{name}>{os.urandom(filler // 2).hex()}".encode()))) for name in names)
    return message(1, message(2, b"".join(records)))


def names_in(body):
    return re.findall(rb"<([a-z0-9-]+)>", body)


# Peers.


class Upstream:
    """An OTLP/HTTP upstream. `answer(headers)` gives the status of an answer and its headers; what 200 was said to has arrived."""

    def __init__(self):
        upstream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
                status, headers = upstream.answer(self.headers)
                if status == 200:
                    with upstream.lock:
                        upstream.arrived += names_in(body)
                with upstream.lock:
                    upstream.statuses[status] = upstream.statuses.get(status, 0) + 1
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.arrived, self.statuses, self.lock = [], {}, threading.Lock()
        self.answer = lambda headers: (200, {})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Edge:
    """A Misaki that may be killed and started again; `said` has all that its lives wrote."""

    def __init__(self, command, before=(), env=None):
        self.command, self.env, self.said, self.process = [*before, *command], env or {}, [], None

    def start(self):
        environment = clean_environment(NO_COLOR="1", **self.env)
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", env=environment)
        self.ports = []
        for line in self.process.stderr:
            self.said.append(line)
            if "listening" in line:
                self.ports = [int(port) for port in re.findall(r":(\d+)\b(?!:)", line.split("listening", 1)[1])]
                break
        check(self.ports, f"the edge does not start: {''.join(self.said[-20:])}")
        self.reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self.reader.start()
        return self

    def _read(self, process):
        for line in process.stderr:
            self.said.append(line)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """Asks it to end, waits for it, and returns the balances of its closing line."""
        self.process.send_signal(signal.SIGTERM)
        check(self.process.wait(40) == 0, f"the edge ended with {self.process.returncode}: {''.join(self.said[-20:])}")
        self.reader.join(5)
        closing = next((line for line in reversed(self.said) if "Shutdown complete" in line), "")
        balances = {}
        for signal_name, exporter, accepted, rest in re.findall(r"(\w+) to (\S+): (\d+) accepted = ([^;\t]+)", closing):
            terms = {word: int(number) for number, word in re.findall(r"(?:^|\+ )(\d+) (\w+)", rest)}
            check(int(accepted) == sum(terms.values()), f"{signal_name} to {exporter} does not balance: {closing}")
            balances[signal_name, exporter] = tuple([int(accepted), *(terms[word] for word in ("exported", "dropped", "left"))])
        check(balances, f"there is no balance in the closing line: {closing}")
        return balances

    def status(self, name):
        """A figure of /proc/PID/status, in KiB."""
        with open(f"/proc/{self.process.pid}/status") as f:
            return int(re.search(rf"{name}:\s+(\d+)", f.read()).group(1))

    def lines(self, part):
        return [line.strip() for line in self.said if part in line]


class Client:
    """Posts named logs over one connection, and keeps which were acknowledged and how long each answer took."""

    def __init__(self, port):
        self.port, self.connection = port, None
        self.acknowledged, self.took, self.refused = [], [], {}

    def post(self, names, filler=0):
        """The status, 0 where there was none, and the headers of the answer."""
        body, begin = logs(names, filler), time.monotonic()
        try:
            self.connection = self.connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            self.connection.request("POST", "/v1/logs", body, {"content-type": PROTOBUF})
            answer = self.connection.getresponse()
            answer.read()
            status, headers = answer.status, answer.headers
            if answer.will_close:
                self.connection = None
        except (OSError, http.client.HTTPException):
            status, headers, self.connection = 0, {}, None
        self.took.append(time.monotonic() - begin)
        if status == 200:
            self.acknowledged += [name.encode() for name in names]
        else:
            self.refused[status] = self.refused.get(status, 0) + 1
        return status, headers

    def p99(self, since=0):
        took = sorted(self.took[since:])
        return took[len(took) * 99 // 100] * 1000


def lost(acknowledged, arrived):
    return sorted(set(acknowledged) - set(arrived))


# A machine of its own.


def need_root():
    if os.geteuid() != 0:
        raise Skip("it wants root, for namespaces and mounts")


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    check(done.returncode == 0, f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


@contextlib.contextmanager
def mounted(kind, megabytes):
    """A small filesystem: tmpfs, or ext4 on a file. What is left of it goes with the block."""
    need_root()
    folder = tempfile.mkdtemp(prefix="misaki-field-")
    place = f"{folder}/mount"
    os.mkdir(place)
    try:
        if kind == "tmpfs":
            command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "misaki-field", place]
        else:
            if shutil.which("mkfs.ext4") is None:
                raise Skip("no mkfs.ext4 on the PATH")
            with open(f"{folder}/image", "wb") as f:
                f.truncate(megabytes << 20)
            run("mkfs.ext4", "-q", "-F", f"{folder}/image")
            command = ["mount", "-o", "loop", f"{folder}/image", place]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Skip(f"cannot mount {kind}: {done.stderr.strip()}")
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", place], check=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def listens_in(network, port):
    """Whether something listens on a port in a network namespace."""
    found = subprocess.run(["ip", "netns", "exec", network, "cat", "/proc/net/tcp", "/proc/net/tcp6"], capture_output=True, text=True).stdout
    return re.search(rf":{port:04X} 0+:0000 0A ", found) is not None


def main(title, body, **more):
    """Runs one field test: prints its verdict, and gives its exit status. Options: `full`, --misaki PATH and those in `more`."""
    import argparse
    parser = argparse.ArgumentParser(description=title, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", nargs="?", choices=["full"], help="the long form")
    parser.add_argument("--misaki", default=f"{TOP}/target/release/misaki")
    for name, default in more.items():
        parser.add_argument(f"--{name}", default=default)
    options = parser.parse_args()
    options.misaki = os.path.abspath(options.misaki)
    name = os.path.basename(sys.argv[0])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if not os.access(options.misaki, os.X_OK):
            raise Failure(f"no program at {options.misaki}")
        body(options)
    except Skip as reason:
        print(f"{name}: skipped: {reason}")
        return 0
    except Failure as failure:
        print(f"{name}: FAILED: {failure}", file=sys.stderr)
        return 1
    print(f"{name}: passed")
    return 0
