"""A search as a job: `ray job submit` to a new cluster with token authentication, from an empty folder.

    python -m benchmarks.ray_job

Afterwards: what the commands print with a wrong token, and without the cluster.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks._common import command_line, header

BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(*command: str, **environment: str) -> None:
    """Runs a command; prints its exit status and the last lines of its output."""
    start = time.monotonic()
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    print(f"$ {' '.join(command)}\n  exit status {done.returncode} after {time.monotonic() - start:.0f} s", flush=True)
    print("  " + "\n  ".join(lines[-3:]), flush=True)


@contextmanager
def cluster(port: int, dashboard: int, scratch: str) -> Iterator[None]:
    """A head of two cores in a process of its own, up to the end of the block."""
    start = [str(BIN / "ray"), "start", "--head", "--port", str(port), "--dashboard-port", str(dashboard)]
    start += ["--num-cpus", "2", "--temp-dir", f"{scratch}/r", "--block", "--disable-usage-stats"]
    with subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as head:
        for _ in range(120):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", dashboard)) == 0:
                    break
            time.sleep(0.5)
        time.sleep(5)
        yield
        head.terminate()
        head.wait()


def new_token(file: Path) -> str:
    file.write_text(secrets.token_hex(32))
    return str(file)


def main() -> None:
    command_line(__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="nj", ignore_cleanup_errors=True) as scratch:
        token = new_token(Path(scratch) / "token")
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token, "RAY_USAGE_STATS_ENABLED": "0"}
        os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
        port, dashboard, out, empty = free_port(), free_port(), f"{scratch}/run", f"{scratch}/empty"
        address = f"127.0.0.1:{port}"
        Path(empty).mkdir()
        search = ["nas", "search", "--budget", "params<=2.5M", "--evals", "32", "--ray", "auto"]
        search += ["--cpus-per-actor", "0.5", "--actors", "2", "--out", out]
        submit = ["ray", "job", "submit", "--address", f"http://127.0.0.1:{dashboard}", "--working-dir", empty, "--"]
        with cluster(port, dashboard, scratch):
            run(*submit, *search)
            run("nas", "status", out)
            other = new_token(Path(scratch) / "other")
            run("nas", "search", "--ray", address, "--out", f"{scratch}/b", RAY_AUTH_TOKEN_PATH=other)
        run("nas", "search", "--ray", address, "--out", f"{scratch}/c")
        run("nas", "search", "--ray", "auto", "--out", f"{scratch}/d", RAY_TMPDIR=f"{scratch}/r")
    print(header())


if __name__ == "__main__":
    main()
