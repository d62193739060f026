"""deploy/tracklog runs a command as the service's user, with the settings as systemd reads them."""

import pytest
from host import set_up_host

pytestmark = pytest.mark.full

COMMAND = "/opt/tracklog/.venv/bin/tracklog"
SECRET = "s e c r e t"
SETTINGS = (
    rb"""
# comment
; comment
TRACKLOG_A=with blanks  and two
TRACKLOG_B="double \"quoted\" $HOME `id` \\ end"
TRACKLOG_C='single $x "in" it'
TRACKLOG_D=one\
two
TRACKLOG_E="line one
line two"
 TRACKLOG_F = spaced
export TRACKLOG_G=exported
TRACKLOG_H=a'b c'd"e f"
TRACKLOG_I=back\slash\ttab
TRACKLOG_J="""
    + "ünïcode ✓".encode()
    + rb"""
TRACKLOG_K=%n %% $$ ${HOME}
TRACKLOG_L=
TRACKLOG-M=bad name
TRACKLOG_N=a # no comment
TRACKLOG_O==x=y
TRACKLOG_P=*
TRACKLOG_Q=$(id); rm -rf x & | > <
TRACKLOG_R=--option
TRACKLOG_A=the last one counts
"""
)
SETTINGS += b"TRACKLOG_S=ends with blanks  \nTRACKLOG_T=carriage return\r\nTRACKLOG_U=\x01control\nTRACKLOG_V='no end\n"


@pytest.fixture(scope="module")
def host(new_machine):
    with new_machine() as machine:
        machine.install("procps", "strace")
        set_up_host(machine)
        machine.run(f"printf 'TRACKLOG_SECRET_X={SECRET}\\n' > /etc/tracklog-forward.env")
        yield machine


@pytest.fixture
def stand_in(host):
    """Return a function that replaces the command with a shell script."""
    host.run(f"mv {COMMAND} {COMMAND}.away; cp /etc/tracklog.env /etc/tracklog.env.away")
    path = host.root / COMMAND.lstrip("/")

    def replace(script):
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    yield replace
    host.run(f"mv {COMMAND}.away {COMMAND}; mv /etc/tracklog.env.away /etc/tracklog.env")


def environment(output):
    """Return the settings, the user's and the path's variables among those that `env -0` has printed."""
    variables = dict(each.partition("=")[::2] for each in output.split("\0")[:-1])
    return {name: value for name, value in variables.items() if name.startswith(("TRACKLOG", "USER", "HOME", "PATH"))}


def test_a_setting_means_what_it_means_in_the_service(host, stand_in):
    with open(host.root / "etc/tracklog.env", "ab") as settings:
        settings.write(SETTINGS)
    stand_in("exec env -0")
    unit = "[Service]\nUser=tracklog\nType=oneshot\nExecStart=/usr/bin/env -0\nStandardOutput=file:/odd\n"
    (host.root / "etc/systemd/system/odd.service").write_text(unit + "EnvironmentFile=/etc/tracklog.env\n")
    host.run("systemctl start odd")
    wrapped = environment(host.run("TRACKLOG_LEAKED=1 TRACKLOG_C=other tracklog events tail").stdout)
    assert wrapped == environment(host.run("cat /odd").stdout)
    assert len(wrapped) > 20
    assert wrapped["TRACKLOG_A"] == "the last one counts"


@pytest.mark.parametrize(
    ("arguments", "is_given"),
    [
        ("destinations list", True),
        ("forward", True),
        ("events tail", False),
        ("sources list", False),
        ("settings", False),
        ("", False),
    ],
)
def test_only_the_commands_of_destinations_get_the_secrets(host, stand_in, arguments, is_given):
    stand_in("exec env -0")
    assert (SECRET in host.run(f"tracklog {arguments}").stdout) == is_given


def test_no_secret_is_an_argument(host, stand_in):
    stand_in('ps -eo args >&2; test -n "$TRACKLOG_SECRET_X" && echo given')
    done = host.run("strace --follow-forks --trace=execve --string-limit=9999 tracklog destinations list")
    assert done.stdout == "given\n"
    assert "systemd-run" in done.stderr
    assert "ps -eo args" in done.stderr
    assert SECRET not in done.stderr
    assert SECRET not in host.run("journalctl").stdout


def test_the_command_has_the_caller_s_folder_and_streams(host, stand_in):
    stand_in('id -un; id -Gn; pwd; umask; cat; echo "$@" >&2; exit 42')
    done = host.try_run("cd /tmp; tracklog a 'b  c'", input="line\n")
    assert done.stdout.splitlines() == ["tracklog", "tracklog", "/tmp", "0027", "line"]
    assert (done.stderr, done.returncode) == ("a b  c\n", 42)


def test_the_command_has_the_caller_s_terminal(host, stand_in):
    stand_in('test -t 0 && test -t 1 && test -t 2 && echo "$TERM"')
    assert "vt220" in host.run("TERM=vt220 script --quiet --return --command 'tracklog x' /dev/null").stdout


def test_the_command_ends_with_its_caller_s_signal_and_pipe(host, stand_in):
    stand_in("exec sleep 4711")
    assert host.try_run("timeout --signal=INT 2 tracklog x").returncode == 124
    assert host.try_run("pgrep --full 'sleep 4711'").returncode == 1
    stand_in("exec yes")
    assert host.run("set +o pipefail; tracklog x | head -n 1").stdout == "y\n"
    assert host.try_run("pgrep --exact yes").returncode == 1


def test_a_call_leaves_nothing_in_the_journal(host):
    before = host.run("journalctl --output=cat").stdout
    host.run("tracklog sources list")
    assert host.run("journalctl --output=cat").stdout == before


def test_another_user_is_told_to_use_sudo(host):
    done = host.try_run("setpriv --reuid=www-data --clear-groups tracklog events tail")
    assert (done.returncode, done.stderr) == (
        1,
        "tracklog: only root can read /etc/tracklog.env. Use: sudo tracklog events tail\n",
    )


def test_another_user_s_shell_completes_commands(host):
    completing = "COMP_WORDS='tracklog so' COMP_CWORD=1 _TRACKLOG_COMPLETE=bash_complete"
    done = host.run(f"setpriv --reuid=www-data --clear-groups env {completing} tracklog")
    assert done.stdout == "plain,sources\n"


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("rm /etc/tracklog.env", "tracklog: there is no /etc/tracklog.env. docs/deploy.md says what to write into it"),
        ("printf 'A=\\xff\\n' >> /etc/tracklog.env", "tracklog: systemd cannot read the settings as the user tracklog"),
        (f"rm {COMMAND}", f"tracklog: there is no {COMMAND}. Install it with: make -C /opt/tracklog install"),
    ],
    ids=["settings", "bytes", "command"],
)
def test_a_failure_is_reported_in_one_line(host, stand_in, trouble, said):
    stand_in("echo never")
    host.run(trouble)
    done = host.try_run("tracklog events tail")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


def test_a_second_service_has_a_command_and_units_of_its_own(host):
    host.run("""
        for unit in tracklog.socket tracklog.service tracklog-forward.service; do
            cp /opt/tracklog/deploy/$unit /etc/systemd/system/${unit/./@.}
        done
        systemctl daemon-reload
        echo TRACKLOG_DATABASE=/var/lib/tracklog2/tracklog.db > /etc/tracklog2.env
        echo 'TRACKLOG_SECRET_X=of the second' > /etc/tracklog-forward2.env
        install -d -o tracklog -g tracklog -m 750 /var/lib/tracklog2
        ln -s tracklog /usr/local/bin/tracklog2
        tracklog2 sources add second --source-id second
        systemctl enable --now tracklog@2.socket tracklog@2.service tracklog-forward@2.service
        curl --fail --unix-socket /run/tracklog2.sock http://x/v1/track --user second: \\
            --data '{"userId": "1", "event": "Second"}'
    """)
    assert "Second" in host.run("tracklog2 events tail").stdout
    assert "Second" not in host.run("tracklog events tail").stdout
    environment = host.run("xargs -0n1 < /proc/$(systemctl show --value -p MainPID tracklog-forward@2)/environ").stdout
    assert "TRACKLOG_SECRET_X=of the second" in environment
