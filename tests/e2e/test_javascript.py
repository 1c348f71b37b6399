"""The JavaScript SDKs (node/sdk.test.mjs) against a server of ours. scripts/test-assets installs them."""
import os
import pathlib
import subprocess

import pytest

NODE = os.environ.get("CAPSTAN_TEST_NODE")
FOLDER = pathlib.Path(__file__).parent / "node"


@pytest.mark.skipif(not NODE or not (FOLDER / "node_modules").exists(), reason="no Node or packages at hand")
@pytest.mark.parametrize("which", ["", "-before"])  # the newest, and the major version before
def test_javascript_sdks(server, which):
    run = subprocess.run([NODE, "--test", "--test-reporter=tap", "sdk.test.mjs"], cwd=FOLDER, capture_output=True,
                         text=True, timeout=300, env={**os.environ, "CAPSTAN_URL": server.url, "CAPSTAN_KEY": server.key,
                                            "CAPSTAN_SDK": which})
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
