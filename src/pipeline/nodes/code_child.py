"""What runs in a code node's Python child; code_child.js says how it talks. The walls around the process
(io/sandbox) are what confines the scripts; nothing here is relied on."""
import io
import json
import os
import sys
import traceback

LOG_MAX = 16384
PIECE = 4000
compiled = None


class Log(io.TextIOBase):
    """What a script prints, up to a bound."""

    def __init__(self):
        self.parts, self.room = [], LOG_MAX

    def writable(self):
        return True

    def write(self, text):
        if self.room > 0:
            self.parts.append(text[: self.room])
            self.room -= len(text)
        return len(text)


def write_all(data):
    while data:
        data = data[os.write(1, data):]


def answer(value):
    text = json.dumps(value, allow_nan=False).encode("ascii")
    while len(text) > PIECE:
        write_all(b"+" + text[:PIECE] + b"\n")
        text = text[PIECE:]
    write_all(b"=" + text + b"\n")


def describe(error):
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "code.py"]
    if isinstance(error, SyntaxError) and error.filename == "code.py":
        lines.append(error.lineno)
    message = f"{type(error).__name__}: {error}"
    return (f"{message} (line {lines[-1]})" if lines else message)[:400]


def call(request):
    global compiled
    if compiled is None:
        compiled = compile(request["source"], "code.py", "exec")
    names = {"__name__": "code"}
    exec(compiled, names)
    if not callable(names.get("main")):
        raise ValueError("the code has no function main(...)")
    result = names["main"](**request["inputs"])
    if not isinstance(result, dict):
        raise ValueError("main must return a dict with the outputs")
    json.dumps(result, allow_nan=False)
    return result


source = sys.stdin.buffer
while True:
    line = source.readline()
    if not line:
        break
    log = Log()
    sys.stdout = sys.stderr = log
    try:
        reply = {"ok": True, "result": call(json.loads(line))}
    except BaseException as error:  # exit() of a script ends its call only
        reply = {"ok": False, "error": describe(error)}
    answer({**reply, "log": "".join(log.parts)})
