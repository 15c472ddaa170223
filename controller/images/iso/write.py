"""Write small ISO 9660 volumes with a few text files: seeds, answer files.

The bytes depend on the arguments alone (fixed dates), so that equal volumes are equal files.
"""

from collections.abc import Mapping
from io import BytesIO

from controller.images.iso.dates import fix_dates


def build_iso(label: str, files: Mapping[str, bytes]) -> bytes:
    """The ISO's bytes, with Joliet and Rock Ridge; ``files`` go to its root."""
    import pycdlib  # two megabytes that only these volumes need

    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=label)
    try:
        for name, content in files.items():
            plain = name.upper().replace("-", "_")
            iso.add_fp(
                BytesIO(content),
                len(content),
                f"/{plain if '.' in plain else plain + '.'};1",
                rr_name=name,
                joliet_path=f"/{name}",
                file_mode=0o100444,
            )
        out = BytesIO()
        iso.write_fp(out)
    finally:
        iso.close()
    return fix_dates(out.getvalue())
