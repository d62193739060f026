"""Boot Debian with its own systemd in a container, and run commands in it.

A machine has two phases. Before `boot`, its commands run with the network of this host, to install packages. After it,
the machine has a network of its own, with nothing but loopback.
"""

import functools
import os
import re
import shlex
import shutil
import subprocess
import uuid
from pathlib import Path

from needs import lack, need
from service import PROJECT, wait_until

CA_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def need_machines():
    """Skip the test if this host cannot build and boot a machine. In CI, fail it."""
    need("debootstrap")
    need("systemd-nspawn")
    need("nsenter")
    if os.geteuid() != 0:
        lack("the right to boot a container")
    if not cgroups() or subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"]).returncode:
        lack("namespaces and cgroups of version 2")


def cgroups():
    """Return the folder of the cgroups of version 2, or None."""
    folders = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")]
    return next((folder for folder in folders if (folder / "cgroup.controllers").exists()), None)


def host_suite():
    """Return the name of this host's release of Debian, such as bookworm."""
    return re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)[1]


def mirror():
    """Return the address of the mirror that this host's apt uses for Debian."""
    lists = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    lines = "\n".join(path.read_text() for path in lists if path.is_file())
    found = re.search(r"^(?:URIs:|deb(?: \[.*?\])?) *(\S+/debian/?)(?:\s|$)", lines, re.MULTILINE)
    return found[1] if found else lack("a mirror of Debian in /etc/apt")


@functools.cache
def build_root(folder, suite):
    """Install a minimal Debian below a folder, once, and return its path.

    To build it once for several runs of pytest, set MACHINE_ROOTS to a folder that keeps it.
    """
    root = Path(os.environ.get("MACHINE_ROOTS", folder)) / suite
    if root.exists():
        return root
    partial = root.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = ["debootstrap", "--variant=minbase", "--include=ca-certificates,dbus,systemd,systemd-sysv"]
    built = subprocess.run([*command, suite, partial, mirror()], capture_output=True, text=True, timeout=900)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr
    for path in filter(Path.exists, (CA_CERTIFICATES, Path("/etc/pip.conf"))):
        shutil.copy(path, partial / path.relative_to("/"))
    proxies = subprocess.run(["apt-config", "dump", "Acquire::http"], capture_output=True, text=True).stdout
    (partial / "etc/apt/apt.conf.d/host").write_text(proxies)
    partial.rename(root)
    return root


class Machine:
    """A Debian in a folder of its own. A with block powers it off and removes it at its end."""

    def __init__(self, folder, suite=None):
        need_machines()
        self.name = f"tracklog-{uuid.uuid4().hex[:8]}"
        self.folder = folder / self.name
        self.root = self.folder / "root"
        self._cgroup = cgroups() / self.name
        self._nspawn = None
        base = build_root(folder, suite or host_suite())
        self.folder.mkdir()
        subprocess.run(["cp", "-a", "--reflink=auto", base, self.root], check=True, timeout=300)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.power_off()
        shutil.rmtree(f"/run/systemd/nspawn/propagate/{self.name}", ignore_errors=True)
        subprocess.run(["rm", "-rf", "--one-file-system", self.folder], check=True)

    def install(self, *packages):
        """Install Debian's packages, before `boot`."""
        self.prepare("apt-get update -qq && apt-get install -qq --no-install-recommends " + shlex.join(packages))

    def download(self, *packages):
        """Fetch packages, before `boot`, so that a booted machine without network can `apt install` them."""
        self.prepare("apt-get update -qq && apt-get install -qq --download-only " + shlex.join(packages))

    def copy_project(self, folder="/opt/tracklog"):
        """Copy the files that git does not ignore, as they are now, into a folder of the machine."""
        target = self.root / folder.lstrip("/")
        target.mkdir(parents=True)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=PROJECT,
            capture_output=True,
            check=True,
        ).stdout
        there = b"\0".join(name for name in listed.split(b"\0") if name and (PROJECT / os.fsdecode(name)).is_file())
        packed = subprocess.run(
            ["tar", "--create", "--null", "--files-from=-"], cwd=PROJECT, input=there, capture_output=True, check=True
        )
        unpack = ["tar", "--extract", "--no-same-owner", "--directory", target]
        subprocess.run(unpack, input=packed.stdout, check=True)

    def prepare(self, script, seconds=600):
        """Run a shell script in the root, before `boot`, with the network and the proxies of this host."""
        assert not self._nspawn
        kept = re.compile(r"(?i)(\w+_proxy|PIP_\w+)")
        given = [f"--setenv={name}={value}" for name, value in os.environ.items() if kept.fullmatch(name)]
        given += ["--setenv=DEBIAN_FRONTEND=noninteractive", f"--setenv=PIP_CERT={CA_CERTIFICATES}"]
        command = [*self._command(), "--console=pipe", *given, "bash", "-euc", script]
        return self._finish(subprocess.run(command, capture_output=True, text=True, timeout=seconds), script)

    def boot(self):
        """Start systemd and wait until it has started everything. Return the machine."""
        self._cgroup.mkdir()
        with open(self.folder / "console", "ab") as console:
            self._nspawn = subprocess.Popen(
                [*self._command(), "--private-network", "--console=read-only", "--boot"],
                env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                # In a cgroup of its own: two machines in one would share those of their units.
                preexec_fn=lambda: (self._cgroup / "cgroup.procs").write_text(str(os.getpid())),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        states = ("running", "degraded")
        wait_until(lambda: self._leader() and self.try_run("systemctl is-system-running").stdout.strip() in states, 120)
        return self

    def run(self, script, seconds=120, **options):
        """Run a shell script as root in the booted machine, and return the process. Fail if it fails."""
        return self._finish(self.try_run(script, seconds, **options), script)

    def try_run(self, script, seconds=120, **options):
        """Run a shell script as root in the booted machine, and return the process, whatever its status."""
        return subprocess.run(self.shell(script), capture_output=True, text=True, timeout=seconds, **options)

    def shell(self, script, *arguments):
        """Return the command that runs a shell script, with $0 and so on, as root in the booted machine."""
        enter = ["nsenter", f"--target={self._leader()}", "--all", "--root"]
        environment = ["env", "-i", "--chdir=/", f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8"]
        return [*enter, *environment, "bash", "-euc", script, *arguments]

    def power_off(self):
        """Shut down. The machine keeps its files; it can `boot` again."""
        if not self._nspawn:
            return
        self._nspawn.terminate()  # systemd-nspawn passes it on
        try:
            self._nspawn.wait(120)
        except subprocess.TimeoutExpired:
            self._kill()
        self._nspawn = None
        self._remove_cgroups()

    def reboot(self):
        """Shut down and boot again."""
        self.power_off()
        self.boot()

    def console(self):
        """Return what the machine has printed while it booted and shut down."""
        return (self.folder / "console").read_text(errors="replace")

    def _command(self):
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--link-journal=no"]
        return [*command, f"--machine={self.name}", f"--directory={self.root}", "--resolv-conf=replace-host"]

    def _leader(self):
        """Return the id of the machine's first process on this host, as text, or None."""
        if self._nspawn.poll() is not None:
            raise AssertionError(self.console()[-2000:])
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        for child in children:
            status = Path(f"/proc/{child}/status")
            if status.exists() and re.search(r"^NSpid:\t\d+\t1$", status.read_text(), re.MULTILINE):
                return child
        return None

    def _kill(self):
        subprocess.run(["kill", "-9", self._leader() or str(self._nspawn.pid)], check=True)
        self._nspawn.wait(30)

    def _remove_cgroups(self):
        for top in {cgroups(), Path("/sys/fs/cgroup/systemd")}:
            for folder, _, _ in os.walk(top / self.name, topdown=False):
                wait_until(functools.partial(self._remove_folder, folder))

    @staticmethod
    def _remove_folder(folder):
        """Remove a cgroup, unless a process in it is still ending. Return whether it was removed."""
        try:
            os.rmdir(folder)
        except OSError:
            return False
        return True

    def _finish(self, done, script):
        assert done.returncode == 0, (
            f"{script}\nexited with {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
        return done
