"""The state of an installed image on a host: its base, or the builder whose build stalled."""

import re
from dataclasses import replace

from controller.desired.effective import EffectiveImage
from controller.images.install.builder_resources import Tools, log_path
from controller.images.install.installer_source import UNREAD
from controller.images.install.log import tail_of
from controller.images.pool.base_volumes import install_base_name, install_base_stem
from controller.observed.base_names import marker_name
from controller.observed.build import BuilderView, Step, builder_name
from controller.observed.host import VolumeView
from controller.observed.image import ImageState, ImageView

_LOCATION = re.compile(r"[0-9a-f]{8}\.qcow2")


def look(tools: Tools, host: str, pool: str, image: EffectiveImage) -> ImageView:
    """The state by the volumes and builders there; raises what the host's calls raise."""
    missing = ImageView(image.name, host, pool, ImageState.MISSING, message="not built yet")
    location = tools.locations.known(host, pool, image)
    base = _base(tools, host, pool, image, location)
    if base is not None:
        return replace(
            missing,
            state=ImageState.READY,
            message="",
            base=base.name,
            base_path=base.path,
            base_format="qcow2",
            capacity=base.capacity,
            changed_at=tools.volumes.changed_at(host, pool, base.name),
        )
    stalled = _stalled(tools, host, pool, image, location)
    if stalled is None or stalled.record is None:
        return missing
    return replace(
        missing,
        state=ImageState.FAILED,
        reason=stalled.record.reason,
        message=stalled.record.message,
        stalled=True,
        log_tail=tail_of(log_path(tools.log_dir, host, stalled.name)),
    )


def _base(
    tools: Tools, host: str, pool: str, image: EffectiveImage, location: str | None
) -> VolumeView | None:
    if location == UNREAD:
        return None
    if location is not None:
        name = install_base_name(image.name, image.content, location)
        return tools.volumes.find(host, pool, name)
    # It is not known what the location holds (the cache is gone): any base of the content serves.
    stem = install_base_stem(image.name, image.content)
    volumes = {one.name: one for one in tools.builders.volumes(host, pool)}
    for name in sorted(volumes):
        whole = name.startswith(stem) and _LOCATION.fullmatch(name.removeprefix(stem))
        if whole and marker_name(name) in volumes:
            return tools.volumes.find(host, pool, name)
    return None


def _stalled(
    tools: Tools, host: str, pool: str, image: EffectiveImage, location: str | None
) -> BuilderView | None:
    """The builder of this content, if its last attempt failed and no retry is left."""
    if location:
        base = install_base_name(image.name, image.content, location)
        found = [tools.builders.builder(host, builder_name(image.name, pool, base))]
    else:
        found = list(tools.builders.builders(host))
    for view in found:
        record = view.record if view is not None else None
        if (
            record is not None
            and (record.image, record.pool) == (image.name, pool)
            and record.content == image.content
            and record.step is Step.FAILED
            and record.attempt > image.spec.retries
        ):
            return view
    return None
