"""Log lines carry what went wrong, never what was in the variables."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_is_logged_without_the_values_of_variables(form: str) -> None:
    program = textwrap.dedent(
        f"""
        import structlog
        from openledger.node.logging import configure_logging
        configure_logging("info", "{form}")

        def sign(private_key: str) -> None:
            raise ValueError("cannot sign")

        try:
            sign("".join(["top", "secret"]))
        except ValueError:
            structlog.get_logger().exception("service failed", service="x")
        """
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert "cannot sign" in done.stderr
    assert "in sign" in done.stderr or '"sign"' in done.stderr
    assert "topsecret" not in done.stderr
    if form == "json":
        assert json.loads(done.stderr.splitlines()[-1])["event"] == "service failed"
