"""An install's answer file: filled with its secrets, and packed so that the installer finds it.

Secrets enter here, into bytes that are uploaded at once and deleted after use; no other place holds
them together with an answer file.
"""

import base64
import gzip
import re
from collections.abc import Mapping

from controller.desired.effective import (
    AUTHORIZED_KEYS_BASE64,
    ROOT_PASSWORD_HASH,
    EffectiveInstall,
    InstallKind,
)
from controller.desired.schema.image import Delivery
from controller.errors import PermanentError
from controller.images.iso.write import build_iso
from controller.images.ports import Secrets

_CRYPT = re.compile(r"\$[0-9a-zA-Z]+\$[./0-9A-Za-z$=,_-]+")
"""A crypt(5) hash; its characters mean nothing special in a kickstart, a preseed or YAML."""


def fill(image: str, install: EffectiveInstall, secrets: Secrets) -> bytes:
    """The answer file with its secrets, as the installer gets it.

    Raises ``PermanentError``: ``SecretUnavailable``, or ``PasswordNotHashed`` where the file that
    should hold a hash holds something else.
    """
    text = install.answer
    if install.root_password_hash_from is not None:
        value = secrets.read(install.root_password_hash_from).strip()
        if _CRYPT.fullmatch(value) is None:
            source = install.root_password_hash_from.file or (
                f"credential {install.root_password_hash_from.credential}"
            )
            raise PermanentError(
                f"rootPasswordHashFrom of Image {image}: {source} holds no crypt(5) hash; a"
                " plaintext password is refused: write the output of openssl passwd -6",
                reason="PasswordNotHashed",
            )
        text = text.replace(ROOT_PASSWORD_HASH, value)
    if install.ssh_authorized_keys_from:
        keys = "".join(secrets.read(ref).strip() + "\n" for ref in install.ssh_authorized_keys_from)
        text = text.replace(AUTHORIZED_KEYS_BASE64, base64.b64encode(keys.encode()).decode())
    return text.encode()


def initrd_overlay(install: EffectiveInstall, answer: bytes) -> bytes:
    """The gzipped cpio to append to the installer's initrd; b'' where nothing is appended."""
    name = {
        (InstallKind.KICKSTART, Delivery.INITRD): "ks.cfg",
        (InstallKind.PRESEED, None): "preseed.cfg",
    }.get((install.kind, install.delivery))
    if name is None:
        return b""
    return gzip.compress(newc({name: answer}), mtime=0)


def answer_iso(install: EffectiveInstall, answer: bytes) -> bytes:
    """The ISO that carries the answer file; b'' where it goes into the initrd."""
    if install.kind is InstallKind.AUTOINSTALL:
        meta = b"instance-id: guestkeeper-build\n"
        return build_iso("CIDATA", {"user-data": answer, "meta-data": meta})
    if install.delivery is Delivery.OEMDRV:
        return build_iso("OEMDRV", {"ks.cfg": answer})
    return b""


def newc(files: Mapping[str, bytes]) -> bytes:
    """A cpio archive in the ``newc`` format (cpio(5)), as the kernel unpacks it; root owns all."""
    archive = bytearray()
    entries = [(name, content, 0o100600) for name, content in files.items()]
    for number, (name, content, mode) in enumerate([*entries, ("TRAILER!!!", b"", 0)], 1):
        encoded = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields)
        archive += encoded
        archive += b"\0" * (-len(archive) % 4)
        archive += content
        archive += b"\0" * (-len(archive) % 4)
    return bytes(archive)
