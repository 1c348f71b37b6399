"""Real chat templates, message sets for them, and Jinja2 as their readers set it up.

The templates come out of the source package of llama-cpp-python (PyPI): pip downloads it and stops before it
builds anything. They are kept in the build folder, not in the tree.
"""
import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = "llama-cpp-python==0.3.36"
FOLDER = pathlib.Path(os.environ.get("CAPSTAN_TEMPLATES", ROOT / ".cache/chat-templates"))


def fetch():
    """The templates' folder, filled on the first call."""
    if FOLDER.is_dir():
        return FOLDER
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as folder:
        # Without build isolation pip unpacks the package and then fails for want of its build tool; --no-clean
        # leaves what it unpacked.
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-clean",
             "--no-build-isolation", "--no-deps", "--no-binary", ":all:", "--no-cache-dir", "--progress-bar", "off",
             "--dest", folder + "/out", PACKAGE],
            env={**os.environ, "TMPDIR": folder}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)
        found = list(pathlib.Path(folder).rglob("llama.cpp/models/templates/*.jinja"))
        if not found:
            raise RuntimeError(f"pip could not fetch {PACKAGE}")
        filled = pathlib.Path(folder) / "filled"
        filled.mkdir()
        for file in found:
            shutil.copy(file, filled)
        filled.rename(FOLDER)
    return FOLDER


def templates():
    return {file.stem: file.read_text() for file in sorted(fetch().glob("*.jinja"))}


def environment():
    """Jinja2 as Hugging Face's transformers set it up for chat templates, but for lists, which may grow."""
    import jinja2
    import jinja2.ext
    import jinja2.nodes
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(line)

        @staticmethod
        def _run(caller):
            return caller()

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    made = jinja2.sandbox.SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                               extensions=["jinja2.ext.loopcontrols", Generation])
    made.filters["tojson"] = tojson
    made.filters["from_json"] = json.loads
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    return made


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Today's weather, \"now\" & <later>",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "Where: Zürich, São Paulo"},
        "days": {"type": "integer", "default": 3, "minimum": 1},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "near": {"type": "array", "items": {"type": "number"}},
        "options": {"type": "object", "properties": {"wind": {"type": "boolean"}}}},
        "required": ["city"]},
    "return": {"type": "string"}}}
NOW = {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {
    "type": "object", "properties": {}}}}


def call(name, arguments, number):
    return {"id": f"call{number:05d}", "type": "function", "function": {"name": name, "arguments": arguments}}


BASE = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>",
        "add_generation_prompt": True}
SETS = {
    "one": {"messages": [{"role": "user", "content": "Hello!"}]},
    "no prompt": {"messages": [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hi."}],
                  "add_generation_prompt": False},
    "system": {"messages": [{"role": "system", "content": "You are terse.\nVery. "},
                            {"role": "user", "content": " What is 2 + 2? \n"}]},
    "turns": {"messages": [{"role": "user", "content": "Eins"},
                           {"role": "assistant", "content": "<think>\nhm\n</think>\n\nOne"},
                           {"role": "user", "content": "Deux — ü 😀 'q' \"q\""},
                           {"role": "assistant", "content": "Two", "reasoning_content": "French, I think."},
                           {"role": "user", "content": "三"}]},
    "tools": {"messages": [{"role": "system", "content": "Use tools."},
                           {"role": "user", "content": "Weather in Zürich?"}],
              "tools": [WEATHER, NOW]},
    "called": {"messages": [{"role": "user", "content": "Weather?"},
                            {"role": "assistant", "content": "", "tool_calls": [
                                call("get_weather", {"city": "Zürich", "days": 2, "near": [1.5, 2]}, 1)]},
                            {"role": "tool", "name": "get_weather", "tool_call_id": "call00001",
                             "content": "{\"t\": 21.5}"},
                            {"role": "assistant", "content": "21.5 °C"},
                            {"role": "user", "content": "Thanks"}],
               "tools": [WEATHER]},
    "called, text": {"messages": [{"role": "user", "content": "Weather?"},
                                  {"role": "assistant", "content": None, "tool_calls": [
                                      call("get_weather", "{\"city\": \"Bern\"}", 2), call("now", "{}", 3)]},
                                  {"role": "tool", "name": "get_weather", "tool_call_id": "call00002",
                                   "content": "sun"},
                                  {"role": "tool", "name": "now", "tool_call_id": "call00003", "content": "12:00"}],
                     "tools": [WEATHER, NOW]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"},
                                                        {"type": "image"},
                                                        {"type": "text", "text": "And that?"}]}]},
    "documents": {"messages": [{"role": "user", "content": "Who?"}],
                  "documents": [{"title": "A", "text": "Ann.", "snippet": "Ann."},
                                {"title": "B", "text": "Bob.", "snippet": "Bob."}],
                  "enable_thinking": False, "thinking": True, "reasoning_effort": "high",
                  "custom_tools": None, "builtin_tools": ["web", "code_interpreter"]},
}


def cases():
    """(template's name, set's name, source, values)"""
    for name, source in templates().items():
        for key, values in SETS.items():
            yield name, key, source, {**BASE, **values}


def reference(compiled, values):
    """("output", text) or ("error", text) of Jinja2."""
    try:
        return "output", compiled.render(**json.loads(json.dumps(values)))
    except Exception as error:
        return "error", f"{type(error).__name__}: {error}"


def run(requests, program=None):
    program = program or str(ROOT / os.environ.get("BUILD", "build") / "bench/template_run")
    out = subprocess.run([program], input=json.dumps(requests).encode(), capture_output=True, check=True)
    return json.loads(out.stdout)
