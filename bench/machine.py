"""On what, and when, the figures were measured."""

import os
import platform
import re
import ssl
from datetime import UTC, datetime
from pathlib import Path


def describe() -> dict[str, str | int]:
    """Date, cores, processor, Python and OpenSSL."""
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.partition(": ")[2] for line in information.splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count() or 0,
        "processor": models[0] if models else platform.machine(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
    }


def most_resident() -> float:
    """MiB that this process has held at the most; ru_maxrss begins with what its parent held."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    kib = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert kib, "there is no VmHWM in /proc/self/status"
    return int(kib[1]) / 1024
