"""What the code does not say of itself: a sentence for each field, condition and reason.

The names are checked against the code by tests: a new field or reason without words, and words
about one that is gone, fail.
"""

from typing import Final, NamedTuple

FIELDS: Final[dict[str, str]] = {
    "Metadata.name": "What the domain is called, and what other documents name.",
    "Metadata.labels": "For `guestkeeper get -l KEY=VALUE`; templates see them as `guest.labels`.",
    "Metadata.annotations": "Notes of your own; nothing reads them.",
    "SecretRef.file": "A file on the daemon's machine; only its owner (root or the daemon's user)"
    " may be able to write it; at most 64 KiB.",
    "SecretRef.credential": "A systemd credential of the daemon (`LoadCredential=`).",
    # --- probes
    "HttpGet.port": "The guest's port.",
    "HttpGet.path": "Path and query.",
    "HttpGet.scheme": "With `https` the certificate is not verified.",
    "HttpGet.headers": "Sent with the request. `Host` sets the virtual host.",
    "HttpGet.from": "`host`: asked by the daemon's machine, through a forward to that port, else"
    " to the guest's first address. `guest`: asked inside, through the guest agent.",
    "TcpSocket.port": "The guest's port.",
    "TcpSocket.from": "As for `httpGet`. Through a forward of user networking QEMU accepts the"
    " connection before it knows whether the guest will; a refusal shows within a quarter of a"
    " second on a loopback address, a guest that is silent does not show. `guest` asks the port"
    " itself.",
    "ExecProbe.command": "Program and arguments; no shell.",
    "SystemdUnitProbe.unit": "The unit, with its suffix.",
    "Probe.name": "Unique in its service.",
    "Probe.httpGet": "One of the five kinds.",
    "Probe.tcpSocket": "One of the five kinds.",
    "Probe.exec": "One of the five kinds.",
    "Probe.systemdUnit": "One of the five kinds.",
    "Probe.guestAgentPing": "One of the five kinds.",
    "Probe.periodSeconds": "Seconds between checks.",
    "Probe.timeoutSeconds": "Seconds that an answer may take.",
    "Probe.failureThreshold": "Failures in a row that make it a failure.",
    "Probe.successThreshold": "Successes in a row that make it a success.",
    "Probe.initialDelaySeconds": "Seconds without a check after each start of the domain.",
    "Probe.startupSeconds": "Seconds from the first check after a start in which a failure counts"
    " as still starting.",
    # --- services
    "File.path": "Where it stands in the guest.",
    "File.content": "The template's text. Either this or `source`.",
    "File.source": "A file with the template's text, relative to the document's directory, inside"
    " the desired-state directory.",
    "File.owner": "Its owner in the guest.",
    "File.group": "Its group in the guest.",
    "File.mode": "In quotes, or YAML makes a number of it.",
    "ServiceSpec.packages": "Installed if missing; never upgraded, never removed.",
    "ServiceSpec.files": "Written whole, moved into place; a changed one is put back.",
    "ServiceSpec.unit": "Enabled and kept active.",
    "ServiceSpec.validate": "A command that checks the configuration before it is used.",
    "ServiceSpec.onChange": "What the unit needs when one of the files changed.",
    "ServiceSpec.values": "For the templates. A guest's own `values` win, mappings are merged at"
    " every depth, lists are replaced.",
    "ServiceSpec.probes": "What tells that it works.",
    "GuestService.use": "A Service document's name. Beside it only `values` may stand.",
    "GuestService.name": "Begins a service that is written here, with the fields of a Service.",
    # --- images
    "ImageSource.file": "A qcow2 or raw disk, relative to the settings' `images_dir`.",
    "ImageSource.url": "Fetched into the settings' `cache_dir`. Needs `sha256`.",
    "ImageSource.sha256": "Of what `url` serves; checked before use.",
    "ImageSource.kickstart": "Unattended install of RHEL, its kin, or Fedora: Anaconda.",
    "ImageSource.preseed": "Unattended install of Debian: debian-installer.",
    "ImageSource.autoinstall": "Unattended install of Ubuntu: subiquity.",
    "Install.template": "The answer file's template: a file relative to the document, or one that"
    " comes with Guestkeeper, such as `rhel9-minimal.ks.j2`. The one beside the document wins.",
    "Install.location": "Where the installer comes from.",
    "Install.values": "What the template shows as `values`. One that neither it nor a snippet of it"
    " names is refused.",
    "Install.rootPasswordHashFrom": "A crypt(5) hash (`openssl passwd -6`) of root's password."
    " Without it root has none that fits.",
    "Install.sshAuthorizedKeysFrom": "Public keys that root of every guest of this image has.",
    "Kickstart.version": "Whose syntax the kickstart is checked by: `RHEL9`, `RHEL10`, `F42`, ….",
    "Kickstart.delivery": "`initrd`: as `/ks.cfg` in the installer's initrd. `oemdrv`: on a CD-ROM"
    " labelled `OEMDRV`.",
    "InstallLocation.tree": "An installation tree. Kernel, initrd and their sha256 are found by its"
    " `.treeinfo` (kickstart) or `SHA256SUMS` (preseed), and asked once. Not for autoinstall.",
    "InstallLocation.iso": "An installation ISO in a pool of the host; kernel and initrd are taken"
    " out of it.",
    "InstallLocation.kernel": "The installer's kernel, with `initrd`: an address, or a file"
    " relative to `images_dir`.",
    "InstallLocation.kernelSha256": "Of the kernel; needed for an address, checked of a file, too.",
    "InstallLocation.initrd": "The installer's initrd, as `kernel`.",
    "InstallLocation.initrdSha256": "Of the initrd, as `kernelSha256`.",
    "InstallLocation.repo": "Beside `kernel` or `iso`: the tree that a kickstart installs from"
    " (`inst.repo`).",
    "InstallLocation.args": "Kernel arguments behind those that the kind of install needs.",
    "IsoVolume.pool": "Its pool; the one that the image is built in where it is left out.",
    "IsoVolume.volume": "The volume. Known by its name and size, so give a new ISO a new name.",
    "ImageDisk.size": "Of the base; a guest's `systemDisk.size` may be larger.",
    "ImageBuilder.vcpus": "CPUs of the installer's machine.",
    "ImageBuilder.memory": "Memory of the installer's machine.",
    "ImageBuilder.firmware": "How the installed system boots; its guests say the same `firmware`.",
    "ImageBuilder.accelerator": "As that of a guest.",
    "ImageBuilder.network": "A libvirt network for the installer. Without it and `bridge`: QEMU's"
    " own NAT.",
    "ImageBuilder.bridge": "A bridge of the host for the installer.",
    "DirectBoot.kernel": "Relative to `images_dir`; copied into the pool.",
    "DirectBoot.initrd": "Relative to `images_dir`; copied into the pool.",
    "DirectBoot.args": "The kernel's command line.",
    "ImageSpec.osFamily": "How packages are handled: `debian` apt, `rhel` dnf (or yum).",
    "ImageSpec.source": "One of `file`, `url` with `sha256`, `kickstart`, `preseed`,"
    " `autoinstall`.",
    "ImageSpec.boot": "Direct kernel boot, for a ready disk without a boot loader.",
    "ImageSpec.cloudInit": "`true`: a NoCloud seed gives host name and SSH keys at the first boot."
    " `false`: the guest agent does.",
    "ImageSpec.disk": "The disk of an unattended install.",
    "ImageSpec.builder": "The machine of an unattended install.",
    "ImageSpec.timeout": "How long an attempt of an unattended install may take; 45m with KVM, 3h"
    " without, where it is left out.",
    "ImageSpec.stallTimeout": "How long the installer may be silent on all its ports.",
    "ImageSpec.retries": "Attempts of an unattended install beyond the first.",
    "ImageSpec.keepFailedBuilder": "`true`: when the last attempt has failed, its disk and, if it"
    " still runs, its domain stay as they are for you to look at.",
    "ImageSpec.rollout": "How a changed image goes round the guests that are replaced by"
    " themselves.",
    "Rollout.maxParallel": "How many guests of the image are replaced at a time. The first that"
    " fails stops the rest.",
    # --- guests
    "Cpu.vcpus": "CPUs that the guest has.",
    "Cpu.max": "CPUs that it could have; `vcpus` where it is left out.",
    "Memory.size": "At least 64Mi.",
    "Memory.max": "What it could be given by the balloon; `size` where it is left out.",
    "SystemDisk.size": "Of the overlay; the image's size where it is left out. Not smaller than"
    " the image.",
    "SystemDisk.pool": "Storage pool; the host's default pool where it is left out.",
    "SystemDisk.cache": "How the host caches it; the hypervisor's own choice where it is left out."
    " `none` and `directsync` need a file system that can do without a cache.",
    "SystemDisk.ioTune": "How much it may read and write.",
    "IoTune.totalBytesSec": "Bytes read and written, together.",
    "IoTune.readBytesSec": "Bytes read; not beside `totalBytesSec`.",
    "IoTune.writeBytesSec": "Bytes written; not beside `totalBytesSec`.",
    "IoTune.totalIopsSec": "Reads and writes, together.",
    "IoTune.readIopsSec": "Reads; not beside `totalIopsSec`.",
    "IoTune.writeIopsSec": "Writes; not beside `totalIopsSec`.",
    "Disk.name": "Unique in the guest; not `system` or `seed`.",
    "Disk.size": "An empty qcow2 volume of that size; it shows as `/dev/vdb`, `/dev/vdc`, ….",
    "Disk.pool": "Storage pool; the host's default pool where it is left out.",
    "Disk.cache": "As that of the system disk.",
    "Disk.ioTune": "As that of the system disk.",
    "Cdrom.name": "Unique in the guest; not `seed`.",
    "Cdrom.pool": "Storage pool of `volume`; the host's default pool where it is left out.",
    "Cdrom.volume": "The medium, such as an ISO; the drive is empty where it is left out. It is"
    " only read, and may be in the drives of several guests.",
    "UserNetwork.forwards": "`ADDRESS:HOSTPORT:GUESTPORT/tcp` or `/udp`: a port of the host that"
    " reaches one of the guest.",
    "Interface.name": "Unique in the guest.",
    "Interface.mac": "Derived from the guest's UUID and the interface's name where it is left out.",
    "Interface.user": "QEMU's own NAT; needs no bridge and no privileges.",
    "Interface.network": "A libvirt network of the host, by name.",
    "Interface.bridge": "A bridge of the host, by name.",
    "Interface.link": "`down`: as if its cable were pulled out. Not beside `user`.",
    "Interface.model": "The network card that the guest sees. Not beside `user`.",
    "MaintenanceWindow.cron": "When it opens: minute, hour, day of the month, month, day of the"
    " week (0 or 7 is Sunday), as Debian's cron reads them; `L` is a month's last day.",
    "MaintenanceWindow.duration": "How long it stays open.",
    "MaintenanceWindow.timeZone": "Whose clock `cron` means, such as `Europe/Berlin`.",
    "UpdatePolicy.restart": "`Staged`: a change that needs a cold boot waits for one, or for"
    " `guestkeeper restart NAME`. `Automatic`: the guest is restarted for it.",
    "UpdatePolicy.replace": "`Manual`: a change that needs a new system disk waits for"
    " `guestkeeper approve NAME`. `Automatic`: the disk is replaced by itself.",
    "UpdatePolicy.maintenanceWindows": "When the daemon may restart and replace unasked. Always,"
    " where there is none.",
    "UpdatePolicy.retiredDiskTTL": "How long a replaced system disk is kept for `guestkeeper"
    " rollback NAME`; with 0 it is deleted as soon as the guest is ready with the new one.",
    "UpdatePolicy.progressDeadline": "How long the guest may take to become ready with a new system"
    " disk. After that the old one is put back.",
    "GuestSpec.host": "A host of the settings (`[hosts.NAME]`).",
    "GuestSpec.image": "The Image document that the system disk is an overlay of.",
    "GuestSpec.title": "A line for people: what the domain is for. libvirt shows it, too.",
    "GuestSpec.description": "A text for people. libvirt shows it, too.",
    "GuestSpec.autostart": "`true`: libvirt itself starts it with the host, also where the daemon"
    " does not run.",
    "GuestSpec.runStrategy": "`Always`: started again whenever it is off. `RerunOnFailure`: unless"
    " it shut itself down. `Manual`: started and stopped by you only. `Halted`: shut down.",
    "GuestSpec.cpu": "CPUs.",
    "GuestSpec.memory": "Memory.",
    "GuestSpec.firmware": "How it boots.",
    "GuestSpec.accelerator": "`auto` takes KVM where the host offers it and its CPU shows `vmx` or"
    " `svm`, else TCG.",
    "GuestSpec.hostname": "The guest's name where it is left out.",
    "GuestSpec.sshAuthorizedKeysFrom": "Public keys for root. Only added, never removed.",
    "GuestSpec.systemDisk": "The system disk.",
    "GuestSpec.disks": "Data disks. Their volumes are never deleted.",
    "GuestSpec.cdroms": "CD-ROM drives.",
    "GuestSpec.interfaces": "Network interfaces; each is one of `user`, `network`, `bridge`.",
    "GuestSpec.services": "What runs in it.",
    "GuestSpec.driftInterval": "How often its inside is looked at without any other reason.",
    "GuestSpec.shutdownTimeout": "How long a guest that is asked to shut down has before it is"
    " powered off.",
    "GuestSpec.updatePolicy": "When changes are carried out.",
    "GuestSpec.remediation": "What is done about probes that fail.",
    "GuestSpec.deletionPolicy": "What becomes of it when its document is gone for longer than the"
    " settings' grace period. `Retain`: it stays as it is, and is listed as orphaned. `Stop`: it is"
    " shut down and kept. `Delete`: the domain and its system disk go, its data disks stay.",
    "GuestSpec.guestAccess": "How the daemon gets inside. `auto` and `agent` are the same so far.",
}

CONDITIONS: Final[dict[str, str]] = {
    "Ready": "Provisioned, and every service is ready. The one to wait for.",
    "Synced": "The definition, the inside and the running domain are as the document says.",
    "Provisioned": "It has its disks and its definition; cloud-init, where it is used, is done.",
    "Running": "The domain runs.",
    "AgentConnected": "The QEMU guest agent has its channel open.",
    "ServicesReady": "Every service is applied and all its probes succeed.",
    "RestartRequired": "A change is in the definition that a cold boot will apply.",
    "Stalled": "Every attempt to install its image failed; nothing is tried before"
    " `guestkeeper retry IMAGE` or a changed document.",
    "Orphaned": "Its document is gone: its `deletionPolicy` decides what becomes of it.",
    "Suspended": "An operator wants it left alone (`guestkeeper suspend`): it is only looked at.",
}

STATUSES: Final[dict[str, str]] = {
    "Terminating": "Its document is gone and its `deletionPolicy` is `Delete`: it is being"
    " deleted.",
    "Installing": "Its image is being brought into the pool, or installed.",
    "Replacing": "It gets another system disk, or its old one back.",
    "Starting": "It is being made or started, or its services are not all ready yet.",
    "Stopping": "It is shutting down.",
    "Paused": "Paused by QEMU (a disk could not be written) or by somebody.",
    "CrashLoopBackOff": "It stopped again; the next start waits.",
    "Stalled": "Every attempt to install its image failed: hands off.",
    "Degraded": "Something failed that needs a look, or a domain of that name is somebody else's.",
    "RestartRequired": "Healthy, but a change waits for a cold boot.",
    "Healthy": "As wanted, and every service ready.",
    "Stopped": "Off, as wanted.",
    "Unknown": "Nothing is known: its host gives no data, or its document is gone.",
}

SYNC: Final[dict[str, str]] = {
    "Synced": "What we own is as the documents say.",
    "OutOfSync": "It is not, or not yet.",
    "Unknown": "It cannot be seen.",
}

HEALTH: Final[dict[str, str]] = {
    "Healthy": "It does its work.",
    "Progressing": "It is on its way there.",
    "Degraded": "Something failed.",
    "Missing": "It has no domain of its own yet.",
    "Suspended": "It is off, stopping, paused by somebody, or an operator wants it left alone.",
    "Unknown": "It cannot be seen.",
}


class Reason(NamedTuple):
    """``remedy`` '' where nothing is to be done."""

    meaning: str
    remedy: str = ""


CONDITION_REASONS: Final[dict[str, Reason]] = {
    "AgentConnected": Reason("The guest agent is there."),
    "AgentNotConnected": Reason(
        "No guest agent for ten minutes after the start.",
        "Install and enable `qemu-guest-agent` in the image; `guestkeeper logs NAME -f`.",
    ),
    "AgentStarting": Reason("The guest agent has not connected yet."),
    "ApplyFailed": Reason(
        "A command of the apply failed in the guest; the message is what it printed.",
        "Correct the service; it is tried again with growing pauses, at once when its document"
        " changes.",
    ),
    "BaseChanged": Reason(
        "The base that the guest stands on, or is to stand on, was written to after it was made, or"
        " a running domain has it as its own disk. Looked for with the volumes: each minute before"
        " a guest is made from it, every ten minutes for those that run on it. It is told by its"
        " time of change, later than that of its marker `BASE.ok`.",
        "First give the domain that writes to it a disk of its own (`DiskIsBase`). Then"
        " `virsh vol-delete BASE.ok --pool POOL`: a ready disk is uploaded anew. An installed one:"
        " put it back from a backup, with its time of change (`cp --preserve`).",
    ),
    "Asleep": Reason(
        "The guest is suspended to RAM (libvirt: `pmsuspended`); it is left alone.",
        "`virsh dompmwakeup NAME`.",
    ),
    "ChangeRefused": Reason(
        "The document changed in a field that cannot be changed on an existing guest; the message"
        " says why.",
        "Put the old value back, or make a new guest.",
    ),
    "CloudInitFailed": Reason(
        "cloud-init ended with an error.", "See `/var/log/cloud-init.log` in the guest."
    ),
    "ConfigurationOutdated": Reason("Something inside is not as wanted; it is being applied."),
    "Configuring": Reason("The service is being applied."),
    "CrashLoopBackOff": Reason(
        "It stopped again soon after a start; the message says how long the next one waits.",
        "`guestkeeper logs NAME -f`; the log of QEMU is `/var/log/libvirt/qemu/NAME.log`.",
    ),
    "Creating": Reason("Its disks and its definition are being made."),
    "Defined": Reason("It has its disks and its definition."),
    "DefinitionChanged": Reason(
        "Changes of the definition wait for a cold boot; the message says for what else.",
        "`guestkeeper restart NAME`; `updatePolicy.restart: Automatic` does it by itself.",
    ),
    "DefinitionOutdated": Reason("The definition is not as wanted; it is being written anew."),
    "Deleting": Reason(
        "Its document is gone and its `deletionPolicy` is `Delete`: it is stopped, then its system"
        " disk and its domain are deleted. Data disks stay."
    ),
    "DeletionBlocked": Reason(
        "More guests would be stopped or deleted than `max_deletions` and `max_deletions_percent`"
        " allow, or a host was not heard since the daemon started, so none is. One that was held"
        " back once stays so.",
        "Put the documents back, or: `guestkeeper approve --deletions`.",
    ),
    "DeletionHeld": Reason(
        "Its `deletionPolicy` applies, but neither its power nor its disks may be touched now: it"
        " is paused, or a job of its domain runs.",
        "See the message.",
    ),
    "DirectoryUncertain": Reason(
        "The document is not there, but the directory was not read whole or often enough, may be"
        " unmounted, lost a place that had documents or is empty, so that is not believed.",
        "Mount or correct it; if that is meant: `guestkeeper approve --deletions`.",
    ),
    "DiskIsBase": Reason(
        "A disk of the guest is the base of an image itself, on which the disks of other guests"
        " stand: somebody merged into it, or put it there. What the guest writes spoils them. No"
        " guest is made from that base any more; this one is left running, and not started.",
        "Give it a file of its own: `virsh blockcopy NAME TARGET FILE --format qcow2"
        " --transient-job --wait --pivot`. While it is off: `qemu-img convert -O qcow2 BASE FILE`,"
        " then `virsh edit NAME`.",
    ),
    "DiskMoved": Reason(
        "A disk is on another volume than the daemon put it on: somebody made an external snapshot"
        " or a copy. It is left as it is, as what the guest wrote since is only there.",
        "Merge it while it runs, never without a base: `virsh blockcommit NAME TARGET --base"
        " FILE --active --wait --pivot`; FILE is the one it was put on, and is in the message.",
    ),
    "DocumentInvalid": Reason(
        "The document was never usable since the daemon runs. The domain is left as it is.",
        "`guestkeeper validate`.",
    ),
    "DocumentVanished": Reason(
        "The document is gone; the message says what its `deletionPolicy` does about it, and when.",
        "To keep the guest, put the document back.",
    ),
    "DomainOff": Reason("An orphan's domain is off."),
    "DomainRunning": Reason("The domain runs."),
    "HostChanged": Reason(
        "The document names another host than the one that has the domain; that is refused.",
        "Put the host back, or give the guest another name.",
    ),
    "HostUnreachable": Reason(
        "libvirt on its host does not answer. Nothing is done.",
        "`guestkeeper doctor`; `guestkeeper get hosts -o wide`.",
    ),
    "HostUnseen": Reason(
        "Another host has not answered since the daemon started, and may have this guest.",
        "Mend that host, or take it out of the settings.",
    ),
    "ImageFailed": Reason("The image could not be prepared.", "See the message."),
    "ImageOutdated": Reason(
        "Its system disk is not of the image, or the content of it, that is wanted now; that one is"
        " not ready yet.",
        "`guestkeeper describe image/IMAGE`; or put the document back.",
    ),
    "ImagePreparing": Reason(
        "The image is being fetched, checked, copied into the pool, or installed."
    ),
    "LookFailed": Reason("The look inside failed.", "See the message."),
    "NameConflict": Reason(
        "A domain of that name exists that is not Guestkeeper's. It is never touched.",
        "`guestkeeper adopt NAME` takes it over; or rename the guest, or the domain with `virsh"
        " domrename`.",
    ),
    "NoServices": Reason("The document names no services."),
    "NoState": Reason("libvirt does not know the domain's state."),
    "NotDefined": Reason("There is no domain yet."),
    "NotRunning": Reason("The domain is off."),
    "Off": Reason("Off, as its run strategy wants."),
    "Orphaned": Reason("As its document is gone, nothing is judged."),
    "NetworkInactive": Reason(
        "A libvirt network that the guest is on is not active.", "`virsh net-start NETWORK`."
    ),
    "NetworkMissing": Reason(
        "A libvirt network that the guest is on is gone.", "`virsh net-list --all`."
    ),
    "OtherController": Reason(
        "Another daemon looks after it, so its missing document means nothing here."
    ),
    "Paused": Reason("Somebody paused it; it is left alone.", "`virsh resume NAME`."),
    "PausedByIOError": Reason(
        "QEMU paused it because a disk could not be written.",
        "Make room in the pool (`guestkeeper get hosts -o wide`), then `virsh resume NAME`.",
    ),
    "MacTaken": Reason(
        "Another domain of the host has the MAC address; the message says which.",
        "Write another `mac`, or do as the message says.",
    ),
    "Personalising": Reason("cloud-init is at work in the guest."),
    "PoolElsewhere": Reason(
        "The host has a pool of that name at another path than `[hosts.NAME.pools]` says. It is not"
        " the one that is meant, so nothing is put into it, and it is not started.",
        "Write its path into the settings; or, if nobody needs it: `virsh pool-destroy POOL`, then"
        " `virsh pool-undefine POOL`, which keeps its files.",
    ),
    "PoolInactive": Reason(
        "A storage pool of the guest is not active, so what is in it cannot be told. Guests that"
        " run go on. One of the settings that could not be started is tried again by the daemon.",
        "See that its directory is there and mounted, then `virsh pool-start POOL`.",
    ),
    "PoolMissing": Reason(
        "The host has no such storage pool.",
        "`virsh pool-define-as POOL dir --target DIRECTORY`, then `virsh pool-start POOL`; or"
        " `[hosts.NAME.pools]` in the settings.",
    ),
    "PortTaken": Reason(
        "Another domain or program of the host has the port of a forward.",
        "Write another port, or do as the message says.",
    ),
    "ProbeFailed": Reason(
        "A probe failed as often as its `failureThreshold`.",
        "The inside is looked at and what drifted is repaired; else look at the service itself.",
    ),
    "ProbeUnknown": Reason("A probe has learnt nothing, or not yet.", "See the message."),
    "Provisioned": Reason("It has its disks and its definition."),
    "Ready": Reason("All is well."),
    "ReplaceFailed": Reason(
        "A replacement to that base failed, and the guest has its old system disk back; or an"
        " operator went back from it. It is not tried again unasked.",
        "Mend the image; to try once more: `guestkeeper approve NAME`.",
    ),
    "ReplaceHeld": Reason(
        "Its system disk will be replaced, but not yet: another guest of the image comes first,"
        " the roll-out stopped at a failure, or a job of its domain runs.",
        "See the message.",
    ),
    "ReplaceRequired": Reason(
        "Another system disk is wanted, and waits for an operator.",
        "`guestkeeper approve NAME`; `updatePolicy.replace: Automatic` does it by itself.",
    ),
    "Replacing": Reason(
        "Its system disk is being replaced, or its old one comes back; the message says how far it"
        " is."
    ),
    "RestartRequired": Reason(
        "Changes of the definition wait for a cold boot; or a cold boot that was asked for waits,"
        " since the guest would not start again after it: the message says why.",
        "`guestkeeper restart NAME`; `updatePolicy.restart: Automatic` does it by itself. Where it"
        " would not start again, first put back what the message names.",
    ),
    "Restarting": Reason("It is being shut down, to be started again."),
    "ServicesReady": Reason("Every service is ready."),
    "StepRepeated": Reason(
        "The same was done several times in a row and is needed again: it changes nothing, or"
        " something changes it back. Pauses grow, up to five minutes.",
        "See `guestkeeper events NAME`, and who else changes the domain. At once: `guestkeeper"
        " reconcile NAME`.",
    ),
    "Starting": Reason("It, or a service in it, is starting."),
    "Stopping": Reason("It is shutting down."),
    "Suspended": Reason(
        "An operator wants it left alone.",
        "`guestkeeper resume NAME`, or `guestkeeper resume --all`.",
    ),
    "Synced": Reason("As wanted."),
    "SystemDiskTooSmall": Reason(
        "`systemDisk.size` is smaller than the image's disk.", "Write at least what it says."
    ),
    "SystemDisksUnclear": Reason(
        "Its domain is gone, and several system disks of it are there: which one it ran on cannot"
        " be told, so none is taken.",
        "Keep the right one, as the message says.",
    ),
    "VolumeMissing": Reason(
        "A volume that the guest runs on, or the base under it, is gone; QEMU has it open still."
        " Looked for every ten minutes, and at each look until it is back.",
        "Put it back. What a running guest has open is saved by `virsh blockcopy NAME TARGET FILE"
        " --format qcow2 --transient-job --wait --pivot`.",
    ),
    "WaitingForAgent": Reason("Its inside is not configured yet: the guest agent is awaited."),
    "WindowClosed": Reason(
        "Its system disk is replaced when the next maintenance window opens.",
        "At once: `guestkeeper approve NAME --now`.",
    ),
}

BUILD_REASONS: Final[dict[str, Reason]] = {
    "BuilderCrashed": Reason(
        "The installer's kernel panicked, or QEMU crashed or was killed.",
        "Look at the end of the log; the log of QEMU is `/var/log/libvirt/qemu/BUILDER.log`. Give"
        " it more `builder.memory`.",
    ),
    "BuilderDestroyed": Reason("Somebody destroyed the builder domain (`virsh destroy`)."),
    "BuilderLost": Reason(
        "The builder is off, and libvirt does not know why: the host was restarted, or QEMU ended"
        " while libvirtd was down."
    ),
    "DiskVanished": Reason("Somebody deleted the volume that was installed to."),
    "InstallFailed": Reason(
        "The installer said that it failed (`%onerror` and its like); the message is what it said.",
        "Correct what it complains of.",
    ),
    "InstallStalled": Reason(
        "Not a byte came from the installer for `stallTimeout`.",
        "Mostly a question that the answer file does not answer: see the end of the log.",
    ),
    "InstallTimedOut": Reason(
        "The attempt took longer than `timeout`.", "A larger `timeout`, or a nearer mirror."
    ),
    "NoSuccessMarker": Reason(
        "It powered off and had not said `success`.",
        "See the log for what ended it; an answer file of yours ends with the success snippet.",
    ),
    "NotSealed": Reason(
        "The disk has what no base may have, or nothing says that it was inspected.",
        "The message names what was found; include the sealing snippet last.",
    ),
    "PoolFull": Reason(
        "QEMU paused the builder, as its disk could not be written.", "Make room in the pool."
    ),
}

STEP_REASONS: Final[dict[str, Reason]] = {
    "Aborted": Reason("libvirt aborted the call."),
    "AccessDenied": Reason("libvirt refuses the daemon.", "Run it as root, or allow it in polkit."),
    "AdoptionOutdated": Reason(
        "The domain or the document changed since the adoption was shown.",
        "Look again: `guestkeeper adopt NAME`.",
    ),
    "AdoptionRefused": Reason("The domain cannot be taken over as it is.", "See the message."),
    "AgentRefused": Reason("The guest agent refuses a command.", "See the message."),
    "AgentRestarted": Reason("The guest agent was started anew in the middle of a command."),
    "AgentUnavailable": Reason("The guest agent does not answer."),
    "AlreadyRunning": Reason("Another daemon uses this `state_dir`.", "Stop it first."),
    "ApplyFailed": Reason(
        "Commands of an apply failed; the message is what they printed.", "Correct the service."
    ),
    "ApplyInProgress": Reason("An apply of an earlier daemon still runs in the guest."),
    "ApplyIneffective": Reason(
        "All commands went well, yet something is not as wanted after them.",
        "Look at the service in the guest: what changes it back?",
    ),
    "ApplyKilled": Reason("A signal ended the apply (the guest shut down)."),
    "ApplyTimedOut": Reason("The apply did not end within 15 minutes."),
    "BadRequest": Reason("What was asked for cannot be meant.", "See the message."),
    "BaseRefused": Reason(
        "A base volume's own header has a backing file, a data file or another format than it was"
        " made with: somebody changed it.",
        "The message has the command that lets it be made anew.",
    ),
    "BaseInUse": Reason(
        "The base is the disk of a domain that runs, so it is neither deleted nor made anew.",
        "Give that domain a disk of its own (`DiskIsBase`).",
    ),
    "BridgeMissing": Reason(
        "The host has no such bridge.", "Make it (`ip link add`), or name another."
    ),
    "Busy": Reason("libvirt, or another process that downloads, holds a lock."),
    "CacheUnusable": Reason("`cache_dir` cannot be written.", "Set `cache_dir`, or its mode."),
    "ChannelBlocked": Reason("A builder does not take what is written to its port."),
    "ChannelClosed": Reason("A builder's port was closed; it is opened again."),
    "ChecksumMismatch": Reason(
        "What was fetched is not what `sha256` says.", "Correct `sha256` or `url`."
    ),
    "DeadlineExceeded": Reason(
        "libvirt did not answer in time; whether the call took effect is not known."
    ),
    "DestroyFailed": Reason(
        "The domain could not be powered off.", "Look at its QEMU process on the host."
    ),
    "DeviceMissing": Reason("Somebody took the device away in the meantime; it is planned anew."),
    "DirectoryUncertain": Reason(
        "What is missing cannot be known to be gone: the directory is not there, may be unmounted,"
        " or was not read whole.",
        "Mount or correct it.",
    ),
    "DiskInUse": Reason(
        "Another running program or domain uses a disk of the guest.",
        "The message names the disk; `fuser --verbose FILE` says who.",
    ),
    "DiskFull": Reason("No room in `cache_dir`.", "Make room, or set `cache_dir`."),
    "DocumentInvalid": Reason("The guest's document has problems.", "`guestkeeper validate`."),
    "DocumentVanished": Reason("The guest's document went away in the middle of a step."),
    "DomainGone": Reason("The domain went away in the middle of a step."),
    "DomainMissing": Reason("libvirt does not know the domain."),
    "AnswerTooLong": Reason(
        "The guest agent's answer is longer than the 4 MiB that libvirt passes on.",
        "Have what is run in the guest (a probe, a `validate`) print less.",
    ),
    "DomainUnreadable": Reason(
        "libvirt has the domain, and what it says of it cannot be read; nothing is done.",
        "`virsh dumpxml NAME`.",
    ),
    "DownloadFailed": Reason("The download failed again and again.", "See the message."),
    "DownloadRefused": Reason("The server refuses the download.", "Correct `url`."),
    "FactsUnreadable": Reason("What the guest answered cannot be read."),
    "Failed": Reason("Something failed that has no word of its own."),
    "FileRefused": Reason(
        "A file or directory of documents cannot be used.", "See `guestkeeper get problems`."
    ),
    "FilesystemsFrozen": Reason(
        "A backup or snapshot has frozen the guest's file systems: it is left alone meanwhile.",
        "Wait for the backup; if none runs, `virsh domfsthaw NAME`.",
    ),
    "FirmwareMissing": Reason(
        "The host has no UEFI firmware for `firmware: efi`.", "Install `ovmf` (`edk2-ovmf`) there."
    ),
    "GuestExecDisabled": Reason(
        "The guest agent refuses `guest-exec`, as on RHEL by default.",
        "The message says which line of `/etc/sysconfig/qemu-ga` to change in the image.",
    ),
    "HostBusy": Reason("Calls to the host's domains do not come back; no more are sent for now."),
    "HostUnknown": Reason("The settings have no such host.", "Add `[hosts.NAME]`."),
    "HostUnreachable": Reason("libvirt on the host does not answer.", "`guestkeeper doctor`."),
    "ImageChanging": Reason("The image's file is being written."),
    "ImageNotFound": Reason("The image's file is not there.", "Put it into `images_dir`."),
    "ImageRefused": Reason(
        "The file is no usable disk: another format, compressed, incomplete, it names a"
        " backing file, or others than root and the directory's owner can write it.",
        "Convert it: `qemu-img convert -O qcow2`; `chmod go-w`, `chown`.",
    ),
    "ImageUnknown": Reason(
        "Of which image the domain's disk was made cannot be told.",
        "`guestkeeper export NAME --image IMAGE`.",
    ),
    "ImageUnreadable": Reason("The image's file cannot be read.", "Check its mode and the disk."),
    "InputTooLarge": Reason(
        "More than 4 MiB for one apply.", "Make the files smaller, or fetch them in the guest."
    ),
    "InternalError": Reason(
        "A bug of the daemon; it is tried again with growing pauses.", "Please report it."
    ),
    "Interrupted": Reason("Somebody else's preparation of the same image was cut short."),
    "InvalidArgument": Reason("libvirt refuses an argument.", "See the message."),
    "InvalidDomain": Reason("libvirt refuses the domain's XML.", "`guestkeeper render NAME`."),
    "InvalidSSHKey": Reason("A line is no public SSH key.", "Name the `.pub` file."),
    "InvalidSelector": Reason("`-l` is malformed.", "Write `-l KEY=VALUE`."),
    "InvalidSettings": Reason("The settings cannot be used.", "See the message."),
    "InvalidValue": Reason("A value has a newline where none can be."),
    "IsoMissing": Reason(
        "The pool has no such volume.",
        "Upload the ISO (`virsh vol-create-as`, `virsh vol-upload`), or correct `location.iso`.",
    ),
    "IsoUnusable": Reason(
        "The volume is no ISO, or has no installer of that kind on it.",
        "See the message; or give `kernel` and `initrd`.",
    ),
    "KsvalidatorUnusable": Reason(
        "`ksvalidator` is not there or did not answer, so no kickstart can be checked.",
        "`pip install pykickstart` beside Guestkeeper; `guestkeeper doctor`.",
    ),
    "KernelMissing": Reason(
        "The kernel or initrd that the domain boots from is not there.", "Put it back."
    ),
    "ListenFailed": Reason("`listen` or `socket` cannot be used.", "See the message."),
    "JobRunning": Reason(
        "A job of the domain runs (backup, migration, a copy of a disk), which a stop would cut"
        " off.",
        "It is tried again by itself; wait for the job, or end it.",
    ),
    "LiveChangeIneffective": Reason(
        "libvirt said that it changed the running domain, and a look says that it did not."
    ),
    "LookFailed": Reason("The look ended with an error.", "See the message."),
    "LookKilled": Reason("A signal ended the look (the guest shut down)."),
    "LookTimedOut": Reason("The look did not end within 30 seconds."),
    "NameConflict": Reason(
        "A domain of that name exists that is not Guestkeeper's.", "Rename one of them."
    ),
    "NetworkInactive": Reason("The libvirt network is stopped.", "`virsh net-start NETWORK`."),
    "NetworkMissing": Reason("The host has no such libvirt network.", "`virsh net-list --all`."),
    "NoChannel": Reason("The builder has no such port on this host."),
    "NoInstall": Reason("The image is a ready disk: there is nothing to build or to retry."),
    "NoMemory": Reason("libvirt ran out of memory."),
    "NoThread": Reason(
        "The daemon can have no further thread.", "Look at its `TasksMax` and its memory."
    ),
    "NotExported": Reason("The domain has something that no document can say.", "See the message."),
    "NotNow": Reason(
        "What was asked for does not fit how the guest is now.", "The message says what does."
    ),
    "NotRunning": Reason("The domain is off, so it has no console."),
    "NotSupported": Reason("libvirt or QEMU there cannot do it.", "See the message."),
    "NothingToAdopt": Reason("There is no foreign domain of that name."),
    "OutOfMemory": Reason(
        "The host has not the memory for the guest.",
        "Write less (`memory.max`), or stop other guests.",
    ),
    "PasswordNotHashed": Reason(
        "What `rootPasswordHashFrom` names is no crypt(5) hash; plain text is refused.",
        "Write the output of `openssl passwd -6` there.",
    ),
    "PermanentFailure": Reason("It will fail again until something changes.", "See the message."),
    "PoolBusy": Reason(
        "libvirt makes volumes in the pool and does not look through it meanwhile, so what is in it"
        " is not known: nothing is deleted for want of something, and it is tried again.",
    ),
    "PoolFull": Reason("The image does not fit into the pool.", "Make room."),
    "PoolInactive": Reason(
        "The pool is stopped, so what is in it cannot be told.", "`virsh pool-start POOL`."
    ),
    "PoolMissing": Reason("The host has no such pool.", "See the message."),
    "PortTaken": Reason(
        "Another program has the port of a forward, or the address is not the host's.",
        "End it, or write another port; the message says how to find it.",
    ),
    "ReadOnly": Reason("`guestkeeper plan` only looks: an act was refused."),
    "RemovalRefused": Reason(
        "The guest does not let go of a device.", "Unmount what is on it; it is tried again."
    ),
    "RemovalTimedOut": Reason(
        "The guest did not let go of a device in time.", "Unmount what is on it; it is tried again."
    ),
    "RunChanged": Reason(
        "It was started anew while its last run was to be ended: it is left alone."
    ),
    "SecretUnavailable": Reason("A file or credential cannot be read.", "See the message."),
    "SourceBound": Reason(
        "A disk that is encrypted, or a slice of a file, would be put on another volume.",
        "Do it by hand (`virsh edit`), or take that out of its definition first.",
    ),
    "StartFailed": Reason("QEMU ended before the guest ran.", "The message is what it said."),
    "StateDirUnusable": Reason("`state_dir` cannot be written.", "Set `state_dir`."),
    "Stopping": Reason("The daemon is stopping."),
    "Superseded": Reason("Another content of the image is wanted now; that is built instead."),
    "Suspended": Reason("Every guest is suspended.", "`guestkeeper resume --all`."),
    "TransientFailure": Reason("It may work later; it is tried again."),
    "TreeUnusable": Reason(
        "The tree does not name its kernel and initrd with their sha256.",
        "Correct `location.tree`, or give `kernel`, `initrd` and `repo`.",
    ),
    "UnknownGuest": Reason("No document has that name.", "`guestkeeper get guests`."),
    "UnknownImage": Reason("No document has that name.", "`guestkeeper get images`."),
    "UploadDisturbed": Reason(
        "Somebody else uploads the same image to the same pool.",
        "Let one `guestkeeper` manage that host.",
    ),
    "VolumeConflict": Reason(
        "A volume of that name is there and is something else.", "Rename or remove it."
    ),
    "VolumeMissing": Reason(
        "libvirt does not know the volume, or its file is gone.",
        "Put it back, then `virsh pool-refresh POOL`.",
    ),
    "VolumeVanished": Reason("A volume vanished while it was made."),
    "VolumeInUse": Reason(
        "A system disk that is not needed any more was to be deleted, and something else uses it:"
        " another domain, an overlay.",
        "Delete or move what uses it; the message names that.",
    ),
    "WouldShrink": Reason(
        "A disk would become smaller, which would cut off what is on it.",
        "Make a new disk and move the data.",
    ),
    "WrongState": Reason("The domain was in another state than expected."),
}

EVENT_REASONS: Final[dict[str, str]] = {
    "BaseCollected": "A base that nobody used for `unused_base_seconds` was deleted.",
    "ConfigurationApplied": "Host name, keys or services were applied inside.",
    "CrashLoopBackOff": "It stopped again soon after a start; the next start waits.",
    "DeletionApproved": "An operator approved that it is stopped or deleted.",
    "DeletionBlocked": "Too many guests would be stopped or deleted at once: none is, before an"
    " operator approves.",
    "DocumentVanished": "Its document is gone; the message says what becomes of the guest.",
    "DomainAdopted": "A domain that somebody else made was taken over.",
    "DomainChanged": "The running domain was changed.",
    "DomainDefined": "The domain was defined, or defined anew.",
    "DomainDestroyed": "The domain was powered off.",
    "DomainStarted": "The domain was started; the message says why.",
    "DomainUndefined": "The domain was removed; data disks stay.",
    "GuestReady": "The condition Ready became True.",
    "GuestResumed": "An operator wants it looked after again.",
    "GuestSuspended": "An operator wants it left alone.",
    "ImageBuilt": "An unattended install ended in a base.",
    "ImagePrepared": "The image is in the pool.",
    "ReplaceFailed": "A new system disk did not work, and the old one is back.",
    "ReplaceRequired": "Another system disk is wanted and waits for an operator.",
    "ReplacementApproved": "An operator approved a new system disk.",
    "RestartRequested": "An operator asked for a cold boot.",
    "RestartRequired": "A change waits for a cold boot.",
    "RetryRequested": "An operator wants something that failed tried again.",
    "RollbackRequested": "An operator wants the earlier system disk back.",
    "SeedCreated": "The cloud-init seed was made.",
    "SeedRemoved": "The used cloud-init seed was deleted.",
    "ShutdownRequested": "The guest was asked to shut down.",
    "SpecApplied": "A generation of the document is applied whole.",
    "VolumeCreated": "A disk was made.",
    "VolumeDeleted": "A volume was deleted; the message says why.",
}
