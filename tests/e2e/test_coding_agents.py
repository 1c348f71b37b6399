"""Claude Code and Codex, headless and unmodified. `make test-agents` installs them (700 MB) and names
their folder in CAPSTAN_TEST_AGENTS; else there is nothing to test with."""
import os
import pathlib
import subprocess

import pytest

AGENTS = os.environ.get("CAPSTAN_TEST_AGENTS")
pytestmark = pytest.mark.skipif(not AGENTS, reason="no agents: make test-agents")

CODEX = """model = "smart"
model_provider = "capstan"
[model_providers.capstan]
name = "Capstan"
base_url = "{url}/v1"
env_key = "CAPSTAN_KEY"
wire_api = "responses"
"""


def run(home, command, **env):
    program = pathlib.Path(AGENTS) / "node_modules/.bin" / command[0]
    done = subprocess.run([program, *command[1:]], cwd=home, env={**os.environ, "HOME": str(home), **env},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("model", ["smart", "claude/claude-mock"])  # translated, and passed through
def test_claude_code(server, tmp_path, model):
    said = run(tmp_path, ["claude", "-p", "Say hello."], ANTHROPIC_BASE_URL=server.url, ANTHROPIC_AUTH_TOKEN=server.key,
               ANTHROPIC_MODEL=model, CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1")
    call = server.get("/api/calls?limit=1")["items"][0]
    assert call["door"] == "anthropic_messages" and call["status"] == "ok" and call["session"]
    assert said.strip()


def test_codex(server, tmp_path):
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex/config.toml").write_text(CODEX.format(url=server.url))
    said = run(tmp_path, ["codex", "exec", "--skip-git-repo-check", "Say hello."], CAPSTAN_KEY=server.key)
    call = server.get("/api/calls?limit=1")["items"][0]
    assert call["door"] == "openai_responses" and call["status"] == "ok" and call["stream"]
    assert said.strip()
