"""A host of containers: this machine's programs in namespaces of their own, so that no container or file outlives it.

The host has its own processes and a network with loopback only. Its root is an overlay of this machine's root. What is
written stays in the overlay, in memory, and images and volumes in a folder of the test.
"""

import ctypes
import os
import re
import resource
import shutil
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

from machine import CA_CERTIFICATES, mirror
from needs import lack, need
from service import PROJECT, wait_until

BASE = "localhost/debian:12-slim"
SUITE = "bookworm"

# podman without systemd, and with the cgroups and limits of any container that these tests may run in.
CONFIGURATION = """
[containers]
cgroups = "disabled"
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
# crun refuses cgroups of version 1 next to those of version 2.
SETUP = """
umount --quiet /sys/fs/cgroup/unified || true
mount --types tmpfs tmpfs {folder}/memory
mkdir {folder}/memory/changes {folder}/memory/work
mount --types overlay --options lowerdir=/,upperdir={folder}/memory/changes,workdir={folder}/memory/work overlay {folder}/root
cd {folder}/root
mount --rbind /dev dev
mount --rbind /sys sys
mount --types proc proc proc
mount --types tmpfs tmpfs run
mount --types tmpfs tmpfs dev/shm
cp --remove-destination {folder}/resolv.conf etc/resolv.conf
mkdir --parents .{folder} var/lib/containers
mount --bind {folder} .{folder}
mount --bind {folder}/storage var/lib/containers
pivot_root . mnt
umount --lazy /mnt
ip link set lo up
touch {folder}/ready
exec sleep infinity
"""


class ContainerHost:
    """Runs shell scripts on the host of containers. A with block removes the host at its end."""

    def __init__(self, folder):
        for program in ("podman", "debootstrap", "iptables", "ip", "nsenter", "sqlite3", "curl", "git"):
            need(program)
        if os.geteuid() != 0:
            lack("the right to mount a file system")
        self.folder = folder
        self.storage = folder / "storage"
        self.checkout = folder / "checkout"

    def __enter__(self):
        for name in ("memory", "root", "storage", "checkout"):
            (self.folder / name).mkdir()
        shutil.copy("/etc/resolv.conf", self.folder / "resolv.conf")
        (self.folder / "pip.conf").write_text(_pip_settings())
        limits = {"files": "RLIMIT_NOFILE", "processes": "RLIMIT_NPROC"}
        limits = {name: _hard_limit(limit) for name, limit in limits.items()}
        (self.folder / "containers.conf").write_text(CONFIGURATION.format(**limits))
        spaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
        self._process = subprocess.Popen([*spaces, "bash", "-euc", SETUP.format(folder=self.folder)])
        wait_until(lambda: self._process.poll() is not None or (self.folder / "ready").exists())
        if self._process.poll() is not None:
            lack("namespaces with mounts of their own")
        # The files that git tracks, as they are in its index.
        subprocess.run(["git", "checkout-index", "--all", f"--prefix={self.checkout}/"], cwd=PROJECT, check=True)
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait(30)
        wait_until(self._is_removed)

    def run(self, script, seconds=120, online=False, check=True):
        """Run a shell script in the checkout and return the process. Online, it has this machine's network."""
        spaces = ["--mount", "--pid", *([] if online else ["--net"])]
        command = ["nsenter", f"--target={self._leader()}", *spaces, f"--wdns={self.checkout}"]
        environment = os.environ | {"CONTAINERS_CONF": str(self.folder / "containers.conf")}
        ended = subprocess.run(
            [*command, "bash", "-euo", "pipefail", "-c", script],
            env=environment, capture_output=True, text=True, timeout=seconds,
        )  # fmt: skip
        assert not check or ended.returncode == 0, f"{script}\n{ended.stdout}{ended.stderr}"
        return ended

    def make_base(self):
        """Create an image like Debian's own, from which no registry is needed."""
        root = self.folder / "base"
        command = ["debootstrap", "--variant=minbase", SUITE, root, mirror()]
        built = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert built.returncode == 0, built.stdout[-2000:] + built.stderr
        proxies = subprocess.run(["apt-config", "dump", "Acquire::http"], capture_output=True, text=True).stdout
        (root / "etc/apt/apt.conf.d/host").write_text(proxies)
        for unwanted in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(root / unwanted)
        self.run(f"tar --directory={root} --create . | podman import - {BASE}", seconds=300)
        shutil.rmtree(root)

    def build(self, command):
        """Run a `podman build` with the base image, and the network and pip's settings of this machine."""
        here = f"--network host --build-arg BASE={BASE} --volume {self.folder}/pip.conf:/etc/pip.conf:ro"
        here += f" --volume {CA_CERTIFICATES}:/certificates.pem:ro"
        return self.run(command.replace("podman build", f"podman build {here}"), seconds=900, online=True)

    @contextmanager
    def network(self):
        """Move this thread, and the threads and processes that it starts, into the host's network."""
        with open("/proc/thread-self/ns/net") as own, open(f"/proc/{self._leader()}/ns/net") as host:
            _enter(host)
            try:
                yield
            finally:
                _enter(own)

    def _leader(self):
        """Return the id of the host's first process."""
        assert self._process.poll() is None
        return Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().strip()

    def _is_removed(self):
        """Remove the folder, unless a process that is still ending holds a mount in it."""
        with suppress(OSError):
            shutil.rmtree(self.folder)
        return not self.folder.exists()


def _enter(namespace):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace.fileno(), 0):
        raise OSError(ctypes.get_errno(), "setns")


def _hard_limit(name):
    _, hard = resource.getrlimit(getattr(resource, name))
    return min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536


def _pip_settings():
    """Return this machine's settings of pip as a file for the build, with the certificates where it has them."""
    command = ["pip", "config", "list"]
    given = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    found = dict(re.findall(r"^(?:global|:env:)\.(index-url|extra-index-url|proxy|trusted-host)='(.*)'$", given, re.M))
    return "\n".join(["[global]", "cert = /certificates.pem", *(f"{name} = {value}" for name, value in found.items())])
