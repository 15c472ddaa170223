"""The NoCloud seed: the small ISO from which cloud-init takes a guest's name and keys.

Format: cloud-init's "NoCloud" data source: a file system labelled ``cidata`` with ``meta-data`` and
``user-data``. All values go through a YAML writer, so a name or key cannot add directives.
The bytes depend on the arguments alone (fixed dates), so that equal seeds are equal files.
"""

import yaml

from controller.images.iso.write import build_iso

_AGENT = "qemu-guest-agent.service"
_START_AGENT = (
    f"if systemctl cat {_AGENT} >/dev/null 2>&1; then"
    f" systemctl enable {_AGENT} || true; systemctl start --no-block {_AGENT} || true; fi"
)


def meta_data(*, instance_id: str, hostname: str) -> bytes:
    """``meta-data``. A new ``instance_id`` makes cloud-init personalise again."""
    return _yaml({"instance-id": instance_id, "local-hostname": hostname})


def user_data(*, hostname: str, keys: list[str]) -> bytes:
    """``user-data``: the name, the keys for root and the image's default user, the guest agent."""
    config: dict[str, object] = {
        "hostname": hostname,
        "preserve_hostname": False,
        # With disable_root false, cloud-init gives the keys to root and to the default user.
        "disable_root": False,
        "ssh_authorized_keys": list(keys),
        # We do not install the agent, but get inside through it where an image has it.
        "runcmd": [["sh", "-c", _START_AGENT]],
    }
    if not keys:
        del config["ssh_authorized_keys"]
    return b"#cloud-config\n" + _yaml(config)


def build_seed(*, instance_id: str, hostname: str, keys: list[str]) -> bytes:
    """The ISO's bytes: ISO 9660 with Joliet and Rock Ridge, labelled ``cidata``."""
    return build_iso(
        "cidata",
        {
            "meta-data": meta_data(instance_id=instance_id, hostname=hostname),
            "user-data": user_data(hostname=hostname, keys=keys),
        },
    )


def _yaml(data: dict[str, object]) -> bytes:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=4096).encode()
