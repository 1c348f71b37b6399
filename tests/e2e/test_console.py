"""The console in Chromium: its own tests (tests/e2e/console/, on Node's runner), before the mock of its API and
before the real server."""
import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NODE = os.environ.get("CAPSTAN_TEST_NODE") or shutil.which("node")
CHROMIUM = os.environ.get("CAPSTAN_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(not NODE, reason="no Node")
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium")
@pytest.mark.skipif(not (ROOT / "web/node_modules/playwright-core").exists(), reason="npm ci was not run in web/")
@pytest.mark.skipif(not (ROOT / "web/dist/index.html").exists(), reason="the console is not built")
@pytest.mark.parametrize("suite", ["test/lib.test.mjs", "../tests/e2e/console/console.test.mjs",
                                   "../tests/e2e/console/server.test.mjs",
                                   "../tests/e2e/console/knowledge.test.mjs",
                                   "../tests/e2e/console/tools.test.mjs"])
def test_console(suite):
    done = subprocess.run([NODE, "--test", suite], cwd=ROOT / "web", capture_output=True, text=True, timeout=900,
                          env={**os.environ, "CAPSTAN_TEST_CHROMIUM": CHROMIUM})
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
