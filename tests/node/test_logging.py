"""Log lines carry what went wrong, never what was in the variables."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap

import pytest
import structlog

from openledger.node.logging import configure_logging


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


def test_lines_go_where_standard_error_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", first)
    configure_logging("info", "console")
    logger = structlog.get_logger()
    logger.info("one")
    monkeypatch.setattr(sys, "stderr", second)
    first.close()
    logger.info("two")
    assert "two" in second.getvalue()


def test_a_line_that_does_not_fit_on_the_disk_stops_nothing() -> None:
    program = (
        "import structlog; from openledger.node.logging import configure_logging; configure_logging('info', 'console')\n"
        "for _ in range(500): structlog.get_logger().warning('the disk is full')\n"
        "print('still here')"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-P", "-c", program], stdout=subprocess.PIPE, stderr=full, text=True)
    assert done.stdout == "still here\n"
