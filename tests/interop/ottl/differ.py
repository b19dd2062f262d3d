"""The differential test of OTTL: random statements and conditions on random records, run by Misaki and by the Go collector.

Every record has the number of its case in the attribute `case`; a statement is run where the number is its own. What both
print is compared record by record, with the attributes of a record in the order of their keys."""
import os, re, shutil, subprocess, sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from collectors import Client, check, free_ports
from generate import Random

SEED, PAIRS, STATEMENTS, RECORDS = 20261122, 20_000, 250, 4

# What may differ: a name, what the texts have in common, what holds of the two outputs, why.
LISTED = [
    ("append nests", r"^append\(", lambda misaki, go: re.search(r"Slice\(\[.*[\[{]", misaki), "a map or a list that is appended becomes an item; the Go collector fails unless it is a literal"),
    ("into itself", r"^(?:set|merge_maps)\((\S+?\[\"\w+\"\]).*, \1[,)]", lambda misaki, go: True, "a map written into itself is what it was before; the Go collector reads what it has half written"),
    ("glob ?", r'"\?"', lambda misaki, go: True, "the glob ? alone is one character; the Go collector's library takes it for none as well"),
    ("format", r'Format\([^)]*\["[ml]\d"', lambda misaki, go: True, "Format prints maps and lists as JSON; the Go collector prints addresses"),
    ("format", r"Format\(", lambda misaki, go: re.search(r"-> [tidb]\d: (?:Slice|Map)|internal\.|\{[0-9A-F]+ ", misaki + go), "the same, where another key holds the map or list"),
]


def cases(first, count, root):
    """Returns [(case number, condition?, text)]."""
    made = []
    for number in range(first, first + count):
        random = Random(SEED, number, root)
        is_condition = random.r.random() < 0.35
        made.append((number, is_condition, random.condition() if is_condition else random.statement()))
    return made


def quoted(text):
    return "'" + text.replace("$", "$$").replace("'", "''") + "'"


def config(http, root, made):
    """A condition marks the records that it holds for; statements fail without a word."""
    signal = {"log": "logs", "span": "traces"}[root]
    lines = []
    for number, is_condition, text in made:
        here = f'{root}.attributes["case"] == {number}'
        statement = f'set({root}.attributes["holds"], true) where {here} and ({text})' if is_condition else f"{text} where {here}"
        lines.append(f"          - {quoted(statement)}")
    return f"""receivers:
  otlp:
    protocols:
      http: {{endpoint: "127.0.0.1:{http}"}}
processors:
  transform:
    error_mode: silent
    {root if root == 'log' else 'trace'}_statements:
      - context: {root}
        statements:
""" + "\n".join(lines) + f"""
exporters:
  debug: {{verbosity: detailed, use_internal_logger: false, output_paths: [out.txt], sampling_initial: 1000000}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    {signal}: {{receivers: [otlp], processors: [transform], exporters: [debug]}}
"""


def payload(root, made):
    records = []
    for number, _, _ in made:
        for copy in range(RECORDS):
            attributes = [{"key": "case", "value": {"intValue": str(number)}}] + Random(SEED, f"record {number} {copy}").attributes()
            identity = {"traceId": "0102030405060708090a0b0c0d0e0f10", "spanId": "0102030405060708", "attributes": attributes}
            times = {"timeUnixNano": "1700000000123456789"} if root == "log" else {"name": f"n{number}", "startTimeUnixNano": "1700000000123456789", "endTimeUnixNano": "1700000000223456789"}
            records.append({**identity, **times})
    if root == "log":
        return "logs", {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    return "traces", {"resourceSpans": [{"scopeSpans": [{"spans": records}]}]}


def records(text):
    """The text of each record, the lines of its attributes sorted."""
    # Misaki writes control characters as escapes, in all that it prints.
    text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|\\x[01789][0-9a-f]|\\u00[0189][0-9a-f]", "~", text)
    found = re.split(r"^(?:LogRecord|Span) #\d+\n", text, flags=re.M)[1:]
    return ["\n".join(line for line in record.splitlines() if not line.startswith("     -> ")) + "\n" +
            "\n".join(sorted(line for line in record.splitlines() if line.startswith("     -> "))) for record in found]


def accepted(bench, root, made, refused):
    """The cases that both load. One that only one of them loads is a difference: {text: who refuses it}."""
    path = f"{bench.folder}/validate.yaml"
    with open(path, "w") as f:
        f.write(config(4318, root, made))
    refusing = [name for name, binary in (("misaki", bench.under_test_path), ("go", bench.go_path))
                if subprocess.run([binary, "validate", "--config", path], capture_output=True, timeout=60).returncode != 0]
    if not refusing:
        return made
    if len(made) == 1:
        if len(refusing) == 1:
            refused[made[0][2]] = refusing[0]
        return []
    half = len(made) // 2
    return accepted(bench, root, made[:half], refused) + accepted(bench, root, made[half:], refused)


def printed(start, root, made, name):
    """What one collector makes of the records of these cases."""
    http, = free_ports(1)
    collector = start(config(http, root, made), [http], name)
    signal_name, request = payload(root, made)
    status, answer = Client(http).post_json(signal_name, request)
    check(status == 200, f"{name} answered {status}: {answer[:300]!r}")
    collector.stop()
    found = records(collector.read("out.txt"))
    check(len(found) == len(made) * RECORDS, f"{name} printed {len(found)} records of {len(made) * RECORDS}")
    return found


def reason(text, misaki, go):
    return next((name for name, pattern, holds, _ in LISTED if re.search(pattern, text) and holds(misaki, go)), None)


def differential(bench):
    """Random OTTL: both collectors print the same, save for the listed differences."""
    done, number, unexplained, explained, refused = 0, 0, [], Counter(), {}
    while done < PAIRS:
        root = "span" if number // STATEMENTS % 4 == 3 else "log"
        made = accepted(bench, root, cases(number, STATEMENTS, root), refused)
        with ThreadPoolExecutor(2) as both:
            misaki = both.submit(printed, bench.under_test, root, made, f"misaki-{number}")
            go = both.submit(printed, bench.go_collector, root, made, f"go-{number}")
            misaki, go = misaki.result(), go.result()
        for index, (one, other) in enumerate(zip(misaki, go)):
            text = made[index // RECORDS][2]
            if one != other and (why := reason(text, one, other)):
                explained[why] += 1
            elif one != other:
                unexplained.append((text, one, other))
        done += len(misaki)
        number += STATEMENTS
        for name in (f"misaki-{number - STATEMENTS}", f"go-{number - STATEMENTS}"):
            shutil.rmtree(f"{bench.folder}/{name}")
    with open(f"{bench.folder}/differences.txt", "w") as f:
        f.writelines(f"{text}\n--- misaki\n{one}\n--- go\n{other}\n\n" for text, one, other in unexplained)
        f.writelines(f"refused by {who} alone: {text}\n" for text, who in refused.items())
    texts = sorted({text for text, _, _ in unexplained})
    check(not texts, f"{len(texts)} of {number} texts differ on {len(unexplained)} of {done} pairs, as in {texts[:3]}; see differences.txt")
    check(not refused, f"{len(refused)} texts are refused by one alone, as {list(refused.items())[:3]}")
