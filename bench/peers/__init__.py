"""Programs that others have written for the same question, run as their manuals say."""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.engine import WARM_UP
from bench.farm import Farm, Target

PATIENCE = 600
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Measure:
    """One run: seconds, MiB above idle, and for each target the hash that was read or what came instead."""

    wall: float
    cpu: float
    seen: Sequence[str]
    inside: float = 0.0
    mib: float = 0.0
    lag: float = 0.0


Peer = Callable[[Farm, Sequence[Target], int], Measure]


@dataclass(frozen=True, slots=True)
class Tools:
    """Where the peers are, and for each that is absent how to install it."""

    folder: Path
    paths: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def look_for(self, name: str, remedy: str, *places: str) -> None:
        """Find a program on the path or at one of these places."""
        found = next((path for path in (shutil.which(place) for place in places) if path), None)
        if found:
            self.paths[name] = found
        else:
            self.absent[name] = remedy


@contextmanager
def tools(blackbox: str, sslyze: str) -> Iterator[Tools]:
    """Every peer that is there; C is compiled."""
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as folder:
        found = Tools(Path(folder))
        found.look_for("curl", "apt-get install curl", "curl")
        found.look_for("s_client", "apt-get install openssl", "openssl")
        found.look_for(
            "blackbox",
            "apt-get install prometheus-blackbox-exporter, or --blackbox PATH",
            *(blackbox, "prometheus-blackbox-exporter", "blackbox_exporter"),
        )
        remedy = "python3 -m venv .bench-venv && .bench-venv/bin/pip install sslyze, or --sslyze PATH"
        found.look_for("sslyze", remedy, sslyze, ".bench-venv/bin/sslyze", "sslyze")
        compiler = shutil.which("cc")
        program = found.folder / "probe"
        source = str(HERE / "probe.c")
        built = compiler and subprocess.run(
            [compiler, "-O2", "-o", str(program), source, "-lssl", "-lcrypto"],
            capture_output=True,
            check=False,
        )
        if built and not built.returncode:
            found.paths["c"] = str(program)
        else:
            found.absent["c"] = "apt-get install gcc libssl-dev"
        yield found


def engine(name: str) -> Peer:
    """One of ours, or plain Python, in a fresh process."""

    def run(farm: Farm, targets: Sequence[Target], in_flight: int) -> Measure:
        command = [sys.executable, "-m", "bench.engine", name, str(farm.root), str(in_flight)]
        asked = json.dumps([(target.name, target.address, target.port) for target in targets])
        ran = subprocess.run(
            command, input=asked, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        if ran.returncode:
            raise RuntimeError(f"{name}: {ran.stderr[-2000:]}")
        return Measure(**json.loads(ran.stdout))

    return run


def c_prober(path: str, *, verify: bool = True) -> Peer:
    """C and OpenSSL: probe.c."""

    def run(farm: Farm, targets: Sequence[Target], in_flight: int) -> Measure:
        lines = "".join(f"{target.address} {target.port} {target.name}\n" for target in targets)
        wall, cpu, out = _spent([path, str(farm.root) if verify else "-", str(in_flight)], lines)
        found = dict(line.split()[:2] for line in out.splitlines())
        return Measure(wall, cpu, [found.get(target.name, "nothing") for target in targets])

    return run


def curl(path: str) -> Peer:
    """`curl --parallel`, which writes the chain as PEM; its hash is made of it afterwards."""

    def run(farm: Farm, targets: Sequence[Target], in_flight: int) -> Measure:
        from cryptography.hazmat.primitives.hashes import SHA1
        from cryptography.x509 import load_pem_x509_certificate

        config = "next\n".join(
            f'url = "https://{target.name}:{target.port}/{number}"\n'
            f'connect-to = "{target.name}:{target.port}:{target.address}:{target.port}"\n'
            f'silent\ncacert = "{farm.root}"\noutput = "/dev/null"\n'
            'write-out = "== %{url}\\n%{certs}\\n"\n'
            for number, target in enumerate(targets)
        )
        command = [path, "--parallel", "--parallel-immediate", "--parallel-max", str(min(in_flight, 300))]
        wall, cpu, out = _spent([*command, "-K", "-"], config)
        seen = ["nothing"] * len(targets)
        for answer in out.split("== ")[1:]:
            number = re.match(r"https://[^/]+/(\d+)", answer)
            leaf = re.search("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", answer, re.DOTALL)
            if number and leaf:
                digest = load_pem_x509_certificate(leaf[0].encode()).fingerprint(SHA1())  # noqa: S303 - Azure's identity for it
                seen[int(number[1])] = digest.hex().upper()
        return Measure(wall, cpu, seen)

    return run


def s_client(path: str) -> Peer:
    """`openssl s_client | openssl x509` in a shell, sixteen at a time."""
    script = (
        f"{path} s_client -connect $1 -servername $2 -CAfile $0 </dev/null 2>/dev/null"
        f" | {path} x509 -noout -fingerprint -sha1 | sed s/^/$2=/"
    )

    def run(farm: Farm, targets: Sequence[Target], _: int) -> Measure:
        lines = "".join(f"{target.address}:{target.port} {target.name}\n" for target in targets)
        command = ["xargs", "-P", "16", "-L", "1", "sh", "-c", script, str(farm.root)]
        wall, cpu, out = _spent(command, lines)
        found = dict(re.findall(r"(?m)^([^=]+)=.*Fingerprint=(.*)$", out))
        return Measure(wall, cpu, [found.get(target.name, "nothing").replace(":", "") for target in targets])

    return run


def sslyze(path: str) -> Peer:
    """`sslyze --certinfo` of all targets in one process."""

    def run(farm: Farm, targets: Sequence[Target], _: int) -> Measure:
        answers = farm.root.parent / "sslyze.json"
        places = [f"{target.name}:{target.port}{{{target.address}}}" for target in targets]
        command = [path, "--certinfo", f"--json_out={answers}", "--quiet", *places]
        wall, cpu, _written = _spent(command)
        found: dict[str, str] = {}
        for server in json.loads(answers.read_text())["server_scan_results"]:
            scan = (server["scan_result"] or {}).get("certificate_info") or {}
            deployments = (scan.get("result") or {}).get("certificate_deployments") or []
            if deployments:
                leaf = deployments[0]["received_certificate_chain"][0]
                found[server["server_location"]["hostname"]] = _hex(leaf["fingerprint_sha1"])
        return Measure(wall, cpu, [found.get(target.name, "nothing") for target in targets])

    return run


def _hex(fingerprint: str) -> str:
    """In the way Azure writes it; sslyze writes Base64 where it wrote hex before."""
    try:
        raw = base64.b64decode(fingerprint, validate=True)
    except ValueError:
        return fingerprint.upper()
    return raw.hex().upper() if len(raw) == 20 else fingerprint.upper()


def blackbox(path: str) -> Peer:
    """blackbox_exporter and its tcp prober, asked by plain Python whose CPU time is not counted.

    Version 0.23 takes the name for the hello from the module only: there is one for each name.
    """

    def run(farm: Farm, targets: Sequence[Target], in_flight: int) -> Measure:
        config = farm.root.parent / "blackbox.yml"
        modules = "".join(
            f"  {name}: {{prober: tcp, timeout: 60s, tcp: {{tls: true, preferred_ip_protocol: ip4,"
            f' tls_config: {{ca_file: "{farm.root}", server_name: "{name}"}}}}}}\n'
            for name in {target.name for target in targets}
        )
        config.write_text(f"modules:\n{modules}")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        address = f"127.0.0.1:{port}"
        command = [path, f"--config.file={config}", f"--web.listen-address={address}", "--log.level=error"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _until_open(port)
            before = _cpu_of(server.pid)
            asked = engine(f"blackbox:{port}")(farm, targets, in_flight)
            warm_up = 1 + WARM_UP / len(targets)
            return Measure(asked.wall, (_cpu_of(server.pid) - before) / warm_up, asked.seen)
        finally:
            server.terminate()
            server.wait(10)

    return run


def available(found: Tools) -> dict[str, Peer]:
    """Those that are there, by name."""
    makers = {"c": c_prober, "curl": curl, "blackbox": blackbox, "sslyze": sslyze, "s_client": s_client}
    peers = {name: make(found.paths[name]) for name, make in makers.items() if name in found.paths}
    if "c" in found.paths:
        peers["c_unverified"] = c_prober(found.paths["c"], verify=False)
    return peers


def _spent(command: list[str], text: str = "") -> tuple[float, float, str]:
    """Wall and CPU seconds of a program with all its children, and what it wrote."""
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as written:
        given.write(text)
        given.seek(0)
        began = time.monotonic()
        process = subprocess.Popen(command, stdin=given, stdout=written, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        written.seek(0)
        return wall, used.ru_utime + used.ru_stime, written.read()


def _cpu_of(pid: int) -> float:
    """CPU seconds of a process that lives."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _until_open(port: int) -> None:
    for _ in range(100):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"nothing listens on 127.0.0.1:{port}")
