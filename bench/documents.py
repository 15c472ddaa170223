"""The documents that benchmarks put into directories of their own."""

from pathlib import Path

IMAGE = """\
apiVersion: guestkeeper/v1alpha1
kind: Image
metadata: {{name: {name}}}
spec:
  osFamily: debian
  source: {{file: {file}}}
"""
DIRECT_BOOT = """\
  boot: {kernel: debian12.vmlinuz, initrd: debian12.initrd, args: root=/dev/vda rw console=ttyS0}
"""
GUEST = """\
apiVersion: guestkeeper/v1alpha1
kind: Guest
metadata: {{name: {name}}}
spec:
  image: {image}
  cpu: {{vcpus: 1}}
  memory: {{size: {memory}}}
"""
WEB_GUEST = """\
apiVersion: guestkeeper/v1alpha1
kind: Guest
metadata: {{name: {name}}}
spec:
  image: {image}
  cpu: {{vcpus: 1}}
  memory: {{size: 512Mi}}
  interfaces:
    - name: lan
      user: {{forwards: ["127.0.0.1:{port}:80/tcp"]}}
  services:
    - name: web
      packages: [nginx-light]
      files:
        - {{path: /var/www/html/index.html, content: "{content}\\n", mode: "0644"}}
      unit: nginx.service
      onChange: reload
      probes:
        - {{name: http, httpGet: {{port: 80, path: /}}, periodSeconds: 5}}
"""
PER_FILE = 50


def write_many(directory: Path, prefix: str, count: int) -> list[str]:
    """``count`` guests without services and the image ``tiny``; returns the guests' names."""
    (directory / "image.yaml").write_text(IMAGE.format(name="tiny", file="tiny.raw"))
    names = [f"{prefix}{number:05d}" for number in range(count)]
    for at in range(0, count, PER_FILE):
        chunk = names[at : at + PER_FILE]
        text = "---\n".join(GUEST.format(name=name, image="tiny", memory="64Mi") for name in chunk)
        (directory / f"guests-{at:05d}.yaml").write_text(text)
    return names
