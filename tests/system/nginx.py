"""Run the shipped nginx.conf on ports of its own, before a service."""

import getpass
import re
import shutil
import socket
import subprocess

from service import PROJECT, free_port, wait_until

# What docs/deploy.md has an operator set for an nginx with many slow clients.
MAIN = """
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 2;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    types {{ text/html html; }}  # as Debian's nginx.conf has it
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/tracklog.conf;
}}
"""


class Nginx:
    """An nginx with the shipped configuration, its names set as an operator would; a process to be stopped."""

    def __init__(self, folder, upstream, changes=()):
        self.port, self.tls_port = free_port(), free_port()
        self.folder = folder / "nginx"
        self.folder.mkdir()
        certificate = self._certificate()
        configuration = (PROJECT / "deploy" / "nginx.conf").read_text()
        for shipped, here in [
            ("server unix:/run/tracklog.sock;", f"server {upstream};"),
            ("listen 443 ", f"listen 127.0.0.1:{self.tls_port} "),
            ("listen 80 ", f"listen 127.0.0.1:{self.port} "),
            ("[::]:443 ", f"[::1]:{self.tls_port} "),
            ("[::]:80 ", f"[::1]:{self.port} "),
            ("/var/log/nginx/", f"{self.folder}/"),
            ("/etc/ssl/tracklog/fullchain.pem", certificate),
            ("/etc/ssl/tracklog/privkey.pem", certificate),
            *changes,
        ]:
            assert shipped in configuration, shipped
            configuration = configuration.replace(shipped, str(here))
        (self.folder / "tracklog.conf").write_text(configuration)
        (self.folder / "nginx.conf").write_text(MAIN.format(folder=self.folder, user=getpass.getuser()))
        command = [find_nginx(), "-p", self.folder, "-c", self.folder / "nginx.conf", "-e", self.folder / "error.log"]
        self.process = subprocess.Popen(command)
        wait_until(lambda: self.process.poll() is not None or self._listens())
        assert self.process.poll() is None, (self.folder / "error.log").read_text()

    def stop(self):
        self.process.terminate()
        self.process.wait(10)

    def _listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def _certificate(self):
        path = self.folder / "certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", path, "-out", path],
            check=True, capture_output=True,
        )  # fmt: skip
        return path


def find_nginx():
    """Return the program, which Debian keeps out of a user's PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def commented(*names):
    """Return the changes that uncomment the shipped directives of these names."""
    shipped = (PROJECT / "deploy" / "nginx.conf").read_text()
    lines = [line.strip() for line in shipped.splitlines() if re.match(rf"\s*# ({'|'.join(names)}) ", line)]
    return [(line, line.removeprefix("# ")) for line in lines]
