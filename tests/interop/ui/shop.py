#!/usr/bin/env python3
"""A shop of three services that call one another over HTTP, each with the SDK and the instrumentation of its language:
frontend (Node) -> cart (Python) -> payment (Go). All send traces, logs and metrics by OTLP/HTTP.

  tests/interop/ui/shop.py [--to http://127.0.0.1:4318] [--requests 20] [--stay]

Sends requests to the frontend, in turn: products, a checkout (whose receipt is mailed after the answer), recommendations (slow:
one query of payment's), a checkout with an expired card (fails in payment). Then it ends; with `--stay` it prints the address
of the frontend and runs on until SIGTERM or Ctrl-C."""
import argparse, os, signal, subprocess, sys, threading, urllib.error, urllib.request

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "driver"))
from collectors import await_true, clean_environment, free_ports, listens
from programs import COMMANDS, prepare

REQUESTS = ((200, "GET", "/products"), (200, "POST", "/checkout?card=visa"), (200, "GET", "/recommendations"), (502, "POST", "/checkout?card=expired"))


def start(to):
    """Starts the services, the last first. Returns the processes, the frontend's last, and its address."""
    ports = dict(zip(("payment", "cart", "frontend"), free_ports(3)))
    url = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    running = []
    for name, port in ports.items():
        env = clean_environment(PORT=str(port), CART_URL=url["cart"], PAYMENT_URL=url["payment"], PYTHONDONTWRITEBYTECODE="1",
                                OTEL_EXPORTER_OTLP_ENDPOINT=to, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf", OTEL_SEMCONV_STABILITY_OPT_IN="http",
                                OTEL_BSP_SCHEDULE_DELAY="200", OTEL_BLRP_SCHEDULE_DELAY="200", OTEL_METRIC_EXPORT_INTERVAL="2000", OTEL_METRIC_EXPORT_TIMEOUT="1500")
        running.append(subprocess.Popen(COMMANDS[name], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        await_true(lambda: listens(port), f"{name} does not listen")
    return running, url["frontend"]


def ask(url, number):
    wanted, method, path = REQUESTS[number % len(REQUESTS)]
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, method=method), timeout=10) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    if status != wanted:
        sys.exit(f"{method} {path} answered {status}, wanted {wanted}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", default="http://127.0.0.1:4318", help="the collector's OTLP/HTTP address")
    parser.add_argument("--requests", type=int, default=20, metavar="N")
    parser.add_argument("--stay", action="store_true", help="run on after the requests")
    args = parser.parse_args()
    problems = prepare(["go", "js", "python"])
    if problems:
        sys.exit("\n".join(f"{name}: {problem}" for name, problem in problems.items()))
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    running, url = start(args.to)
    try:
        for number in range(args.requests):
            ask(url, number)
        if args.stay:
            print(f"the shop is open: {url}", flush=True)
            stopped.wait()
    finally:
        for process in reversed(running):
            process.terminate()
        statuses = [process.wait(20) for process in running]
    return 0 if statuses == [0, 0, 0] else f"the services ended with {statuses}"


if __name__ == "__main__":
    sys.exit(main())
