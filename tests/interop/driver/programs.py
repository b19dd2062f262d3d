"""Makes the client programs ready (cached under `.work`) and runs them. What a machine lacks is a `Skip` that says so."""
import glob, hashlib, json, os, shutil, subprocess
from concurrent.futures import ThreadPoolExecutor

from collectors import Failure, Skip, clean_environment

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORK = f"{ROOT}/.work"
BUILD_SECONDS, RUN_SECONDS = 900, 60


def run_quietly(command, cwd, seconds=BUILD_SECONDS, env=None):
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, errors="replace", timeout=seconds, env=env, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise Failure(f"{' '.join(command)}: no end after {seconds} s") from None
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)} ended with {done.returncode}: {(done.stderr or done.stdout)[-1500:].strip()}")
    return done.stdout


def need(*tools):
    for tool in tools:
        if shutil.which(tool) is None:
            raise Skip(f"no {tool} on the PATH")


def unchanged(stamp, *inputs):
    """Whether `inputs` are what they were when `note` was last called; returns (answer, note)."""
    digest = hashlib.sha256(b"".join(open(i, "rb").read() for i in inputs)).hexdigest()
    path = f"{WORK}/{stamp}.stamp"

    def note():
        with open(path, "w") as f:
            f.write(digest)
    return os.path.exists(path) and open(path).read() == digest, note


def prepare_go():
    need("go")
    os.makedirs(f"{WORK}/bin", exist_ok=True)
    run_quietly(["go", "build", "-o", f"{WORK}/bin/", "./health-reporter", "./payment", "./steady", "./three-pillars"], f"{ROOT}/go")


def prepare_python():
    need("python3")
    fresh, note = unchanged("python", f"{ROOT}/python/requirements.txt")
    if not fresh:
        shutil.rmtree(f"{WORK}/python", ignore_errors=True)
        run_quietly(["python3", "-m", "venv", f"{WORK}/python"], WORK)
        run_quietly([f"{WORK}/python/bin/pip", "install", "-q", "--disable-pip-version-check", "-r", "python/requirements.txt"], ROOT)
        note()


def prepare_js():
    need("node", "npm")
    fresh, note = unchanged("js", f"{ROOT}/js/package-lock.json")
    os.makedirs(f"{WORK}/js", exist_ok=True)
    for name in ("package.json", "package-lock.json", "frontend.cjs", "sender.js", "server.cjs"):
        shutil.copy(f"{ROOT}/js/{name}", f"{WORK}/js/{name}")
    if not fresh:
        run_quietly(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], f"{WORK}/js")
        note()


def prepare_chromium():
    """From Debian's packages where it is missing and we may."""
    if shutil.which("chromium") is None:
        need("apt-get")
        if os.geteuid() != 0:
            raise Skip("no chromium on the PATH, and only root installs it")
        run_quietly(["apt-get", "update", "-qq"], ROOT)
        run_quietly(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"], ROOT)


def prepare_browser():
    """Chromium, and the page's script in one file."""
    need("node", "npm")
    prepare_chromium()
    fresh, note = unchanged("browser", f"{ROOT}/browser/package-lock.json", f"{ROOT}/browser/page.js")
    os.makedirs(f"{WORK}/browser", exist_ok=True)
    for name in ("package.json", "package-lock.json", "page.js"):
        shutil.copy(f"{ROOT}/browser/{name}", f"{WORK}/browser/{name}")
    if not fresh:
        run_quietly(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], f"{WORK}/browser")
        run_quietly(["node_modules/.bin/esbuild", "page.js", "--bundle", "--minify", "--format=iife", "--outfile=page.bundle.js"], f"{WORK}/browser")
        note()


def prepare_ui():
    """Chromium, and what drives it."""
    need("node", "npm")
    prepare_chromium()
    fresh, note = unchanged("ui", f"{ROOT}/ui/package-lock.json")
    os.makedirs(f"{WORK}/ui", exist_ok=True)
    if not fresh:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(f"{ROOT}/ui/{name}", f"{WORK}/ui/{name}")
        run_quietly(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], f"{WORK}/ui")
        note()


def prepare_java():
    need("mvn", "javac", "java")
    source = f"{ROOT}/java/src/main/java/Sender.java"
    fresh, note = unchanged("java", f"{ROOT}/java/pom.xml", source)
    if not fresh:
        shutil.rmtree(f"{WORK}/java", ignore_errors=True)
        run_quietly(["mvn", "-B", "-q", f"-Dmaven.repo.local={WORK}/m2", f"-Dlibraries={WORK}/java/lib", "dependency:copy-dependencies"], f"{ROOT}/java")
        run_quietly(["javac", "--release", "17", "-cp", f"{WORK}/java/lib/*", "-d", f"{WORK}/java/classes", source], ROOT)
        note()


def prepare_prometheus():
    """Debian's package, unpacked: nothing is installed or started."""
    if os.access(f"{WORK}/prometheus/usr/bin/prometheus", os.X_OK):
        return
    need("apt-get", "dpkg-deb")
    os.makedirs(f"{WORK}/prometheus", exist_ok=True)
    run_quietly(["apt-get", "download", "-q", "prometheus"], f"{WORK}/prometheus")
    [package] = glob.glob(f"{WORK}/prometheus/prometheus_*.deb")
    run_quietly(["dpkg-deb", "-x", package, f"{WORK}/prometheus"], ROOT)


def prepare_collector():
    need("go")
    run_quietly([f"{ROOT}/build-collector.sh"], ROOT)


PREPARATIONS = {"browser": prepare_browser, "collector": prepare_collector, "go": prepare_go, "java": prepare_java, "js": prepare_js, "prometheus": prepare_prometheus, "python": prepare_python,
                "ui": prepare_ui}


def prepare(wanted):
    """Makes everything in `wanted` ready, two at a time. Returns what could not be made ready: name -> Skip or Failure."""
    os.makedirs(WORK, exist_ok=True)

    def attempt(name):
        try:
            PREPARATIONS[name]()
        except (Skip, Failure) as problem:
            return problem
    with ThreadPoolExecutor(2) as pool:
        problems = pool.map(attempt, wanted)
    return {name: problem for name, problem in zip(wanted, problems) if problem}


COMMANDS = {
    "health-reporter": [f"{WORK}/bin/health-reporter"],
    "slog-without-context": [f"{WORK}/bin/health-reporter", "-slog-without-context"],
    "three-pillars": [f"{WORK}/bin/three-pillars"],
    "steady-go": [f"{WORK}/bin/steady", "-service"],
    "steady-python": [f"{WORK}/python/bin/python", f"{ROOT}/python/steady.py"],
    "python": [f"{WORK}/python/bin/python", f"{ROOT}/python/sender.py"],
    "js": ["node", f"{WORK}/js/sender.js"],
    "frontend": ["node", f"{WORK}/js/frontend.cjs"],
    "cart": [f"{WORK}/python/bin/python", f"{ROOT}/python/cart.py"],
    "payment": [f"{WORK}/bin/payment"],
    "java": ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{WORK}/java/classes:{WORK}/java/lib/*", "Sender"],
}


def send(program, protocol, port, ca_file=None, compression="none"):
    """Runs one program against a local port and returns its report of what it sent."""
    env = clean_environment(OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
                            OTEL_EXPORTER_OTLP_ENDPOINT=f"{'https' if ca_file else 'http'}://127.0.0.1:{port}",
                            OTEL_EXPORTER_OTLP_TIMEOUT="10000", PYTHONUTF8="1")
    if compression != "none":  # a word that the Python SDK does not know for gRPC
        env["OTEL_EXPORTER_OTLP_COMPRESSION"] = compression
    if ca_file:
        env["OTEL_EXPORTER_OTLP_CERTIFICATE"] = ca_file
    return json.loads(run_quietly(COMMANDS[program], ROOT, RUN_SECONDS, env))
