"""Network file systems give no events, wherever they are mounted."""

from controller.desired.files.mounts import network_mount

TABLE = r"""22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:50 / /srv/state rw shared:1 - nfs4 server:/x rw
31 22 0:51 / /srv/my\040state rw - fuse.sshfs server:/y rw
32 22 0:52 / /srv/state/local rw - tmpfs tmpfs rw
33 22 0:53 / /mnt/deep/nfs rw - nfs server:/z rw
"""


def test_the_nearest_mount_counts() -> None:
    assert network_mount("/srv/state/team", TABLE) == "nfs4"
    assert network_mount("/srv/state/local/x", TABLE) is None
    assert network_mount("/srv/statement", TABLE) is None
    assert network_mount("/srv/my state", TABLE) == "fuse.sshfs"


def test_a_network_mount_below_counts_too() -> None:
    assert network_mount("/mnt/deep", TABLE) == "nfs"


def test_a_table_that_makes_no_sense_is_no_network() -> None:
    assert network_mount("/x", "nonsense\n\n") is None
