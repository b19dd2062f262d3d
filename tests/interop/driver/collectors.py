"""Starts and ends collectors: the one under test, and real Go collectors behind, beside and in front of it.

Every process is owned by a `Bench`, which ends them all, by their id, when its case is over."""
import http.client, json, os, re, shutil, signal, socket, ssl, subprocess, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIGNALS = ("logs", "metrics", "traces")
READY_SECONDS = ARRIVAL_SECONDS = 15


class Failure(Exception):
    """A check that did not hold; its text says what was wanted and what was seen."""


class Skip(Exception):
    """A case that cannot run on this machine, and why."""


def check(holds, message):
    if not holds:
        raise Failure(message)


def await_true(condition, message, seconds=ARRIVAL_SECONDS):
    """Waits until `condition()` is true. `message` is a text, or a function that makes one."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"{message() if callable(message) else message} (waited {seconds} s)")
        time.sleep(0.02)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
        return True
    except OSError:
        return False


def clean_environment(**extra):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "MISAKI_"))}
    return dict(kept, NO_PROXY="127.0.0.1,localhost", no_proxy="127.0.0.1,localhost", **extra)


class Collector:
    """One running collector. Its output is `folder/stdout` and `folder/stderr`; debug exporters write `folder/<name>.txt`."""

    def __init__(self, command, folder, terminal=False, env=None):
        self.folder, self.name, self.screen = folder, os.path.basename(folder), bytearray()
        out = open(f"{folder}/stdout", "wb")
        err = open(f"{folder}/stderr", "wb")
        self.terminal = os.openpty() if terminal else None
        self.process = subprocess.Popen(command, cwd=folder, env=clean_environment(TERM="xterm", **(env or {})), stdin=subprocess.DEVNULL,
                                        stdout=self.terminal[1] if terminal else out, stderr=err, start_new_session=True)
        out.close()
        err.close()
        if terminal:
            os.close(self.terminal[1])
            self.reader = threading.Thread(target=self._read_terminal, daemon=True)
            self.reader.start()

    def await_ready(self, ports):
        await_true(lambda: self.process.poll() is not None or all(map(listens, ports)),
                   lambda: f"{self.name} does not listen on {ports}", READY_SECONDS)
        check(self.process.poll() is None,
              f"{self.name} ended with {self.process.returncode} at start: {self.read('stderr')[-1500:]}")

    def _read_terminal(self):
        try:
            while piece := os.read(self.terminal[0], 65536):
                self.screen += piece
        except OSError:
            pass  # the other end is closed: the process has ended

    def screen_text(self):
        """What a person sees on the terminal: colours removed, line ends normalised."""
        text = self.screen.decode(errors="replace").replace("\r\n", "\n")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)

    def read(self, name):
        path = f"{self.folder}/{name}"
        if not os.path.exists(path):
            return ""
        with open(path, encoding="utf-8", errors="replace", newline="") as f:
            return f.read()

    def texts(self):
        """The text of each signal, as its debug exporter wrote it."""
        return {s: self.read(f"{s}.txt") for s in SIGNALS}

    def stop(self):
        """Ends it the way an init system does, and checks that it went in good order."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} is still there 20 s after SIGTERM") from None
        if self.terminal:
            self.reader.join(5)
        check(self.process.returncode == 0, f"{self.name} ended with {self.process.returncode}: {self.read('stderr')[-1500:]}")

    def kill(self):
        """Ends its process group, which holds what it may have started itself."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.terminal:
            self.reader.join(5)
            os.close(self.terminal[0])
            self.terminal = None


class Recorder:
    """An OTLP/HTTP endpoint that keeps every request's exact bytes, so that they can be posted again elsewhere."""

    def __init__(self):
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                recorder.requests.append((self.path, self.headers["content-type"], body))
                self.send_response(200)
                self.send_header("content-type", self.headers["content-type"])
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.requests = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kill(self):
        self.server.shutdown()
        self.server.server_close()


class Site:
    """Serves one page with one script: an origin of its own, since its port is."""

    def __init__(self, script):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                kind, body = ("text/javascript", script) if self.path == "/page.js" else ("text/html", b"<!doctype html><title>open</title><script src=/page.js></script>")
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kill(self):
        self.server.shutdown()
        self.server.server_close()


class Client:
    """Posts over one kept-alive connection."""

    def __init__(self, port, ca_file=None):
        if ca_file:
            self.connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=ssl.create_default_context(cafile=ca_file))
        else:
            self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def post(self, path, content_type, body):
        """Returns the status and the body of the answer."""
        self.connection.request("POST", path, body, {"content-type": content_type})
        response = self.connection.getresponse()
        return response.status, response.read()

    def post_json(self, signal_name, payload):
        return self.post(f"/v1/{signal_name}", "application/json", json.dumps(payload).encode())

    def must(self, path, content_type, body):
        status, answer = self.post(path, content_type, body)
        check(status == 200, f"POST {path} answered {status}: {answer[:300]!r}")


class Bench:
    """What one case works with: a folder, the two collectors' paths, and everything started so far."""

    def __init__(self, folder, kind, under_test, go_collector):
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        self.folder, self.kind = folder, kind
        self.under_test_path, self.go_path = under_test, go_collector
        self.started = []

    def under_test(self, config, ports, name="under-test", **options):
        return self._collector(self.under_test_path, config, ports, name, **options)

    def go_collector(self, config, ports, name, **options):
        return self._collector(self.go_path, config, ports, name, **options)

    def refusal(self, config, env):
        """Starts the collector under test with a config that it must refuse. Returns its exit status and what it said."""
        collector = self._spawn(self.under_test_path, config, "refused", env=env)
        await_true(lambda: collector.process.poll() is not None, "it runs with a config that is wrong", READY_SECONDS)
        return collector.process.returncode, collector.read("stderr") + collector.read("stdout")

    def _collector(self, path, config, ports, name, **options):
        collector = self._spawn(path, config, name, **options)
        collector.await_ready(ports)
        return collector

    def _spawn(self, path, config, name, **options):
        folder = f"{self.folder}/{name}"
        os.makedirs(folder)
        command = [path]
        if config is not None:
            with open(f"{folder}/config.yaml", "w") as f:
                f.write(config)
            command += ["--config", f"{folder}/config.yaml"]
        collector = Collector(command, folder, **options)
        self.started.append(collector)
        return collector

    def prometheus(self, config, port):
        folder = f"{self.folder}/prometheus"
        os.makedirs(folder)
        with open(f"{folder}/prometheus.yml", "w") as f:
            f.write(config)
        program = f"{os.path.dirname(os.path.dirname(self.folder))}/prometheus/usr/bin/prometheus"
        options = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage", "--log.level=warn"]
        self.started.append(Collector([program, *options], folder))
        self.started[-1].await_ready([port])
        return self.started[-1]

    def recorder(self):
        self.started.append(Recorder())
        return self.started[-1]

    def site(self, script):
        self.started.append(Site(script))
        return self.started[-1]

    def end(self):
        for thing in reversed(self.started):
            thing.kill()
