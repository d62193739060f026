"""nginx with the shipped configuration answers on every address and under every name, and Debian's files beside it."""

import json
import re
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from needs import need
from nginx import Nginx, find_nginx
from service import AUTHENTICATION, PROJECT

DEPLOY_PAGE = (PROJECT / "docs" / "deploy.md").read_text()
DEBIAN = Path("/etc/nginx")
BODY = '{"userId": "1", "event": "Posted"}'


@pytest.fixture(scope="module")
def front(shared, tmp_path_factory):
    need("nginx")
    need("openssl")
    nginx = Nginx(tmp_path_factory.mktemp("front"), f"127.0.0.1:{shared.port}")
    yield nginx
    nginx.stop()


def post(address, port, version, host, context, name):
    """Post an event and return the status line and the JSON of the answer."""
    lines = [f"POST /v1/track {version}", f"Authentication: {AUTHENTICATION['Authentication']}", "Connection: close"]
    lines += [f"Content-Length: {len(BODY)}", *([f"Host: {host}"] if host else []), "", BODY]
    with socket.create_connection((address, port), 30) as plain:
        connection = context.wrap_socket(plain, server_hostname=name) if context else plain
        with connection:
            connection.sendall("\r\n".join(lines).encode())
            head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
    return head.partition(b"\r\n")[0], json.loads(body)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("transport", ["plain", "tls"])
@pytest.mark.parametrize(
    ("version", "host"),
    [
        ("HTTP/1.0", None),
        ("HTTP/1.0", "api.segment.io"),
        ("HTTP/1.1", "events.example.com"),
        ("HTTP/1.1", "api.segment.io:443"),
        ("HTTP/1.1", "203.0.113.7"),
        ("HTTP/1.1", "[2001:db8::1]:80"),
        ("HTTP/1.1", "localhost"),
        ("HTTP/1.1", "_"),
    ],
)
def test_every_name_and_address_is_served(front, address, transport, version, host):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    name = host.partition(":")[0] if host and host[0] != "[" else None
    tls = transport == "tls"
    status, answer = post(address, front.tls_port if tls else front.port, version, host, context if tls else None, name)
    assert (status[8:], answer["success"]) == (b" 200 OK", True)


def check_configuration(path):
    """Return what `nginx -t` prints about a configuration, line by line."""
    command = [find_nginx(), "-t", "-p", path.parent, "-c", path, "-e", path.parent / "start.log"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stderr.splitlines()


def assert_without_warning(path):
    said = check_configuration(path)
    assert len(said) == 2, said
    assert said[0].endswith("syntax is ok"), said
    assert said[1].endswith("test is successful"), said


def test_the_configuration_has_no_warning(start_nginx):
    assert_without_warning(start_nginx("127.0.0.1:1").folder / "nginx.conf")


def http2_changes(nginx_version):
    """Return the changes to the shipped file that docs/deploy.md has for a version of nginx."""
    old, new = re.findall(r"^\| .*?nginx.*?1\.25\.1.*?\| `(.*?)`", DEPLOY_PAGE, re.MULTILINE)
    if nginx_version >= (1, 25, 1):
        return [("    server_tokens off;", f"    {new}\n    server_tokens off;")]
    assert old == "listen 443 ssl http2 default_server;"
    return [(" ssl default_server;", " ssl http2 default_server;")]


def test_http2_as_the_page_has_it_works_without_a_warning(service, start_nginx):
    need("curl")
    said = subprocess.run([find_nginx() or need("nginx"), "-v"], capture_output=True, text=True).stderr
    version = tuple(int(part) for part in re.search(r"(\d+)\.(\d+)\.(\d+)", said).groups())
    service.start()
    nginx = start_nginx(f"127.0.0.1:{service.port}", http2_changes(version))
    assert_without_warning(nginx.folder / "nginx.conf")
    command = ["curl", "-sk", "--http2", "-w", "%{http_version}", "-d", BODY, "-u", "ILoveData123:"]
    command += ["-H", "Cookie: " + "x" * 9000, f"https://127.0.0.1:{nginx.tls_port}/v1/track"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert (json.loads(said.splitlines()[0])["success"], said.splitlines()[-1]) == (True, "2")


def test_debian_s_own_site_conflicts_until_it_is_removed(start_nginx):
    """docs/deploy.md has an operator remove it."""
    if not (DEBIAN / "sites-available" / "default").exists():
        pytest.skip("Debian's files of nginx")
    nginx = start_nginx("127.0.0.1:1")
    folder = nginx.folder / "etc"
    shutil.copytree(DEBIAN, folder, symlinks=True)
    main = (folder / "nginx.conf").read_text().replace("/etc/nginx", str(folder))
    main = main.replace("/var/log/nginx", str(nginx.folder)).replace("/run/nginx.pid", str(nginx.folder / "debian.pid"))
    (folder / "nginx.conf").write_text(re.sub(r"(?m)^user .*|^include .*modules-enabled.*", "", main))
    shutil.copy(nginx.folder / "tracklog.conf", folder / "conf.d")
    site = (folder / "sites-available" / "default").read_text()
    site = site.replace("listen 80 ", f"listen 127.0.0.1:{nginx.port} ").replace("[::]:80 ", f"[::1]:{nginx.port} ")
    enabled = folder / "sites-enabled" / "default"
    enabled.unlink(missing_ok=True)
    enabled.write_text(site)
    assert "duplicate default server" in check_configuration(folder / "nginx.conf")[0]
    assert "\nrm /etc/nginx/sites-enabled/default\n" in DEPLOY_PAGE
    enabled.unlink()
    assert_without_warning(folder / "nginx.conf")
