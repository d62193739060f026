"""The machines that other tests boot work, and are isolated from this host."""

import pytest

pytestmark = pytest.mark.full


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_machine_boots_and_reboots_on_a_network_of_its_own(new_machine, suite):
    with new_machine(suite) as machine:
        machine.install("jq")
        machine.copy_project()
        machine.boot()
        first = machine.run("cat /proc/sys/kernel/random/boot_id /proc/1/comm; date +%s > /root/kept").stdout
        machine.reboot()
        assert machine.run("systemctl is-system-running").stdout == "running\n"
        assert machine.run("jq -n 1; ls /opt/tracklog/wsgi.py /root/kept").stdout.split()[0] == "1"
        assert machine.run("grep -c : /proc/net/dev").stdout == "1\n", "only lo"
        assert machine.try_run("exit 3").returncode == 3
        assert "systemd" in first
        folder = machine.folder
    assert not folder.exists()
