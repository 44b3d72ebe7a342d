"""A search as a job: `ray job submit` to a fresh cluster with token authentication, from an empty folder.

    python benchmarks/ray_job.py

Then what happens without the token, and without the cluster.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._common import header

BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(*words: str, **environment: str) -> str:
    """What a command said, its exit status first."""
    before = time.monotonic()
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    print(f"$ {' '.join(words)}\n  exit status {done.returncode} after {time.monotonic() - before:.0f} s", flush=True)
    print("  " + "\n  ".join(lines[-3:]), flush=True)
    return done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="nj", ignore_cleanup_errors=True) as scratch:
        token = Path(scratch) / "token"
        token.write_text(secrets.token_hex(32))
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
        os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
        port, dashboard, out, empty = free_port(), free_port(), f"{scratch}/run", f"{scratch}/empty"
        Path(empty).mkdir()
        start = ["ray", "start", "--head", "--port", str(port), "--dashboard-port", str(dashboard), "--num-cpus", "2"]
        start += ["--temp-dir", f"{scratch}/r", "--block", "--disable-usage-stats"]
        with subprocess.Popen(
            [str(BIN / "ray"), *start[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as head:
            for _ in range(120):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", dashboard)) == 0:
                        break
                time.sleep(0.5)
            time.sleep(5)
            search = [
                "nas",
                "search",
                "--budget",
                "params<=2.5M",
                "--evals",
                "32",
                "--ray",
                "auto",
                "--cpus-per-actor",
                "0.5",
            ]
            submit = [
                "ray",
                "job",
                "submit",
                "--address",
                f"http://127.0.0.1:{dashboard}",
                "--working-dir",
                empty,
                "--",
            ]
            run(*submit, *search, "--actors", "2", "--out", out)
            run("nas", "status", out)
            address = f"127.0.0.1:{port}"
            other = Path(scratch) / "other"
            other.write_text(secrets.token_hex(32))
            run("nas", "search", "--ray", address, "--out", f"{scratch}/b", RAY_AUTH_TOKEN_PATH=str(other))
            head.terminate()
            head.wait()
        run("nas", "search", "--ray", address, "--out", f"{scratch}/c")
        run("nas", "search", "--ray", "auto", "--out", f"{scratch}/d", RAY_TMPDIR=f"{scratch}/r")
    print(header())


if __name__ == "__main__":
    main()
