"""The gateway that the benches load: routes to a scripted upstream, with key, limits, budget and prices on."""
from _common import start_program, stop

WHOLE = "gpt-mock?tokens=150"
STREAM = "gpt-mock?tokens=200"
KEY = "cap_benchbenchbenchbenchbench"


def configuration(upstream):
    return f"""
providers:
  mock:   {{ format: openai, base_url: "{upstream}/v1", api_key: sk-mock }}
  claude: {{ format: anthropic, base_url: "{upstream}", api_key: sk-mock }}
routes:
  whole:  {{ targets: [ {{ provider: mock, model: "{WHOLE}" }} ] }}
  stream: {{ targets: [ {{ provider: mock, model: "{STREAM}" }} ] }}
  whole-translated:  {{ targets: [ {{ provider: claude, model: "claude-mock?tokens=150" }} ] }}
  stream-translated: {{ targets: [ {{ provider: claude, model: "claude-mock?tokens=200" }} ] }}
prices: {{ mock: {{ "{WHOLE}": {{ input_tokens: 1.25, output_tokens: 10 }}, "{STREAM}": {{ input_tokens: 1.25, output_tokens: 10 }} }} }}
keys:
  - {{ name: bench, key: {KEY}, scopes: [call], models: ["*"],
      limits: {{ requests_per_minute: 1000000000, tokens_per_minute: 100000000000, parallel: 100000 }},
      budget: {{ day: 1000000 }} }}
"""


def serve(folder, text):
    """A second start, so that the first one's set-up is not measured."""
    folder.mkdir()
    (folder / "capstan.yaml").write_text(text)
    command = ("serve", "--config", str(folder / "capstan.yaml"), "--data", str(folder / "data"), "--listen", "127.0.0.1:0")
    stop(start_program(*command)[0])
    return start_program(*command)
