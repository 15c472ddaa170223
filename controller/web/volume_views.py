"""Volumes as JSON: place, size, and what uses each."""

from controller.operator.answers import VolumesSeen
from controller.planning.volumes.usage import Use, VolumeUse
from controller.web.values import Json, when


def volumes(seen: VolumesSeen) -> Json:
    """All volumes, by host; ``unseen`` are the hosts whose volumes cannot be listed."""
    return {
        "items": [_volume(host, use) for host in sorted(seen.uses) for use in seen.uses[host]],
        "unseen": [{"host": host, "why": why} for host, why in sorted(seen.unseen.items())],
    }


def _volume(host: str, use: VolumeUse) -> Json:
    volume = use.volume
    return {
        "name": volume.name,
        "pool": volume.pool,
        "host": host,
        "path": volume.path,
        "format": volume.format,
        "size": volume.capacity,
        "allocation": volume.allocation,
        "backing": volume.backing,
        "use": str(use.use),
        "orphaned": use.use is Use.ORPHANED,
        "why": use.why or None,
        "guest": use.guest or None,
        "disk": use.disk or None,
        "image": use.image or None,
        "overlays": use.overlays,
        "until": when(use.until),
    }
