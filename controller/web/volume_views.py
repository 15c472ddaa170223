"""Volumes as JSON: where each is, how large, and what it is there for."""

from controller.operator.answers import VolumesSeen
from controller.planning.volumes.usage import Use, VolumeUse
from controller.web.values import Json, when


def volumes(seen: VolumesSeen) -> Json:
    """By host, pool and name; and the hosts of which nothing can be told."""
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
