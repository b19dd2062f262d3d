"""The differential test of OTTL: random statements and conditions on random telemetry, run by Misaki and by the Go collector.

Every resource has the number of its case in the attribute `case`, and a text is run where the number is its own; the schema URL of a
resource says which one it is. What both print is compared resource by resource, with attributes in the order of their keys."""
import json, os, re, shutil, subprocess, sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from collectors import Client, check, free_ports
from generate import INNER, KEYS, MAPS, SIGNALS, Random

# Another seed finds other differences: OTTL_SEED=1 tests/interop/run --only random-ottl
SEED, STATEMENTS, RECORDS = int(os.environ.get("OTTL_SEED", 20261122)), 250, 4

# Each is one request to both: the processor, and the context of its texts. Those that are inferred have a group for each text, which
# speaks of a resource or scope and has a condition that only the context knows.
BATCHES = [("transform", root) for root in ("log", "metric", "span", "datapoint", "metric", "resource", "log", "scope", "metric", "spanevent", "span", "metric", "datapoint", "exemplar")] + [
    ("filter", root) for root in ("log", "metric", "datapoint", "span", "resource", "spanevent", "scope")] + [
    (kind, f"inferred-{root}") for kind in ("transform", "filter") for root in ("span", "log", "metric")]
# Every batch once.
PAIRS = len(BATCHES) * STATEMENTS * RECORDS
# The lists of the filter's older settings, for every other batch.
OLDER = {"log": "log_record", "span": "span", "spanevent": "spanevent", "metric": "metric", "datapoint": "datapoint"}

# What may differ: a name, what the texts have in common, what holds of the two outputs, why.
LISTED = [
    ("append nests", r"^append\(", lambda misaki, go: re.search(r"Slice\(\[.*[\[{]|\[\{", misaki), "a map or a list that is appended becomes an item; the Go collector fails unless it is a literal"),
    ("into itself", r"^(?:set|merge_maps)\(((\S+?)(?:\[\"\w+\"\])?).*, (?:\1|\2)[,)]", lambda misaki, go: True, "a map written into itself is what it was before; the Go collector reads what it has half written"),
    ("summary", "^aggregate_on_attribute_value", lambda misaki, go: "Quantile" in misaki or "DataType: Summary" in misaki, "a summary keeps its points; the Go collector loses them without a word"),
    ("glob ?", r'"\?"', lambda misaki, go: True, "the glob ? alone is one character; the Go collector's library takes it for none as well"),
    ("format", r'Format\([^)]*\["[ml]\d"', lambda misaki, go: True, "Format prints maps and lists as JSON; the Go collector prints addresses"),
    ("format", r"Format\(", lambda misaki, go: re.search(r"-> [tidbye]\d: (?:Slice|Map)|internal\.|\{(?:orig:)?[ 0xX]*[0-9A-Fa-f]{6}", misaki + go), "the same, where another key holds the map or list"),
]


def cases(first, count, kind, root):
    """Returns [(case number, condition?, text)]."""
    made = []
    inferred = root.removeprefix("inferred-")
    for number in range(first, first + count):
        outer = ("resource", "scope")[number % 2]
        random = Random(SEED, number, outer if inferred != root else root)
        if inferred != root:  # a name in capitals is taken for an enum there
            random.functions = [name for name in random.functions if not name.isupper()]
        is_condition = kind == "filter" or random.r.random() < 0.3
        text = random.condition(is_filter=kind == "filter") if is_condition else random.statement()
        if inferred != root:
            inner = random.r.choice(INNER[inferred])
            text = f"({text}) and {inner}" if is_condition else f"{text} and {inner}" if " where " in text else f"{text} where {inner}"
        made.append((number, is_condition, text))
    return made


def quoted(text):
    return "'" + text.replace("$", "$$").replace("'", "''") + "'"


def config(http, kind, root, made):
    """What fails, fails without a word. In a transform a condition marks what it holds for, and what every fifth statement says is also
    kept in the cache of its context, which a later group reads."""
    inferred = root.removeprefix("inferred-")
    signal, lines, caches = SIGNALS[inferred], [], ([], [])
    for number, is_condition, text in made:
        here = f'resource.attributes["case"] == {number}'
        marked = ("resource", "scope")[number % 2] if inferred != root else root
        if kind == "filter":
            text = f"{here} and ({text})"
        elif is_condition:
            text = f'set({MAPS.get(marked, marked + ".attributes")}["holds"], true) where {here} and ({text})'
        else:
            if number % 5 == 0 and inferred == root:
                attributes = MAPS.get(root, root + ".attributes")
                caches[0].append(f'set({root}.cache["{number}"], {attributes}["{KEYS[number % len(KEYS)]}"]) where {here}')
                caches[1].append(f'set({attributes}["cached"], {root}.cache["{number}"]) where {here}')
            text += f" and {here}" if " where " in text else f" where {here}"
        lines.append(text)
    key, signal_key = ("statements", f"{signal[:-1]}_statements") if kind == "transform" else ("conditions", f"{signal[:-1]}_conditions")
    listed = lambda texts: "".join(f"          - {quoted(text)}\n" for text in texts)
    group = lambda texts, *settings: "      - " + "\n        ".join([*settings, f"{key}:\n"]) + listed(texts)
    context = f"context: {root}"
    if inferred != root:
        settings = f"    {signal_key}:\n" + "".join(group([text]) for text in lines)
    elif kind == "transform":
        first, last = (group(texts, context, "shared_cache: true") if texts else "" for texts in caches)
        settings = f"    {signal_key}:\n{first}{group(lines, context)}{last}"
    elif root in OLDER and made[0][0] // STATEMENTS % 2:
        settings = f"    {signal}:\n        {OLDER[root]}:\n{listed(lines)}"
    else:
        settings = f"    {signal_key}:\n{group(lines, context)}"
    return f"""receivers:
  otlp:
    protocols:
      http: {{endpoint: "127.0.0.1:{http}"}}
processors:
  {kind}:
    error_mode: silent
{settings}exporters:
  debug: {{verbosity: detailed, use_internal_logger: false, output_paths: [out.txt], sampling_initial: 1000000}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    {signal}: {{receivers: [otlp], processors: [{kind}], exporters: [debug]}}
"""


def payload(root, made):
    root = root.removeprefix("inferred-")
    groups = [Random(SEED, f"record {number} {copy}").group(root, f"{number}/{copy}", number) for number, _, _ in made for copy in range(RECORDS)]
    signal, listed, _ = groups[0]
    return f"/v1/{signal}", "application/json", json.dumps({listed: [group for _, _, group in groups]}).encode()


def resources(text):
    """The text of each resource by its schema URL: runs of attributes sorted, and the data points of a metric."""
    # Misaki writes control characters as escapes, in all that it prints.
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|\\x[01789][0-9a-f]|\\u00[0189][0-9a-f]", "~", text)
    found = {}
    for group in re.split(r"^Resource(?:Log|Spans|Metrics) #\d+\n", text, flags=re.M)[1:]:
        name = re.search(r"^Resource SchemaURL: (\S*)$", group, flags=re.M)[1]
        group = re.sub(r"^(?: +-> .*\n)+", lambda run: "".join(sorted(run[0].splitlines(keepends=True))), group, flags=re.M)
        metrics = re.split(r"^(?=Metric #\d+\n)", group, flags=re.M)
        found[name] = "".join("".join(sorted(re.split(r"^\w+DataPoints #\d+\n", metric, flags=re.M))) for metric in metrics)
    return found


def accepted(bench, kind, root, made, refused):
    """The cases that both load. One that only one of them loads is a difference: {text: who refuses it}."""
    path = f"{bench.folder}/validate.yaml"
    with open(path, "w") as f:
        f.write(config(4318, kind, root, made))
    refusing = [name for name, binary in (("misaki", bench.under_test_path), ("go", bench.go_path))
                if subprocess.run([binary, "validate", "--config", path], cwd=bench.folder, capture_output=True, timeout=60).returncode != 0]
    if not refusing:
        return made
    if len(made) == 1:
        if len(refusing) == 1:
            refused[made[0][2]] = refusing[0]
        return []
    half = len(made) // 2
    return accepted(bench, kind, root, made[:half], refused) + accepted(bench, kind, root, made[half:], refused)


def printed(start, kind, root, made, request, name):
    """What one collector makes of the resources of these cases."""
    http, = free_ports(1)
    collector = start(config(http, kind, root, made), [http], name)
    status, answer = Client(http).post(*request)
    check(status == 200, f"{name} answered {status}: {answer[:300]!r}")
    collector.stop()
    found = resources(collector.read("out.txt"))
    check(kind == "filter" or len(found) == len(made) * RECORDS, f"{name} printed {len(found)} resources of {len(made) * RECORDS}")
    return found


def reason(text, misaki, go):
    return next((name for name, pattern, holds, _ in LISTED if re.search(pattern, text) and holds(misaki, go)), None)


def differential(bench):
    """Random OTTL: both collectors print the same, save for the listed differences."""
    done, number, unexplained, explained, refused = 0, 0, [], Counter(), {}
    while done < PAIRS:
        kind, root = BATCHES[number // STATEMENTS % len(BATCHES)]
        made = accepted(bench, kind, root, cases(number, STATEMENTS, kind, root), refused)
        names = [f"{name}-{number}-{kind}-{root}" for name in ("misaki", "go")]
        with ThreadPoolExecutor(2) as both:
            starts = zip((bench.under_test, bench.go_collector), names)
            request = payload(root, made)
            misaki, go = [found.result() for found in [both.submit(printed, start, kind, root, made, request, name) for start, name in starts]]
        for case, _, text in made:
            for copy in range(RECORDS):
                one, other = (found.get(f"{case}/{copy}", "dropped\n") for found in (misaki, go))
                if one != other and (why := reason(text, one, other)):
                    explained[why] += 1
                elif one != other:
                    unexplained.append((text, one, other))
        done += len(made) * RECORDS
        number += STATEMENTS
        for name in names:
            shutil.rmtree(f"{bench.folder}/{name}")
    with open(f"{bench.folder}/differences.txt", "w") as f:
        f.writelines(f"{text}\n--- misaki\n{one}\n--- go\n{other}\n\n" for text, one, other in unexplained)
        f.writelines(f"refused by {who} alone: {text}\n" for text, who in refused.items())
    texts = sorted({text for text, _, _ in unexplained})
    check(not texts, f"{len(texts)} of {number} texts differ on {len(unexplained)} of {done} pairs, as in {texts[:3]}; see differences.txt")
    check(not refused, f"{len(refused)} texts are refused by one alone, as {list(refused.items())[:3]}")
