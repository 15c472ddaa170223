#!/bin/sh
# Turns the bare Debian tree that mmdebstrap made into the demo image: the kernel beside it, DHCP on
# every NIC, nothing that slows a boot down, nothing that two guests must not share.
# mmdebstrap runs it (as root, or as root of a user namespace): customize.sh ROOT OUT FLAVOUR SIZE
set -eu
root=$1 out=$2 flavour=$3 size=$4
here=$(dirname "$0")

say() { echo "image: $*" >&2; }

# --- Kernel and modules ---------------------------------------------------------------------------
# Unpacked rather than installed: the guest boots the kernel from beside its disk, so a kernel package
# in it would only bring initramfs-tools and an upgrade that never takes effect.
say "adding the cloud kernel"
# apt of the outside, set up by mmdebstrap: inside, resolved has already taken over name resolution.
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
package=$(apt-cache depends --important linux-image-cloud-amd64 |
    sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)
mkdir -p "$root/var/tmp/kernel"
(cd "$root/var/tmp/kernel" && apt-get -qq -o APT::Sandbox::User=root download "$package") >&2
dpkg-deb --fsys-tarfile "$root"/var/tmp/kernel/*.deb | tar -x -C "$root" ./boot ./lib/modules --keep-directory-symlink
rm -r "$root/var/tmp/kernel"
version=${package#linux-image-}
depmod -b "$root" "$version"
cp "$root/boot/vmlinuz-$version" "$out/debian12.vmlinuz"
rm -r "${root:?}/boot"
mkdir "$root/boot"

say "making the initrd"
initrd=$(mktemp -d)
mkdir -p "$initrd/bin" "$initrd/lib/modules"
cp "$root/bin/busybox" "$initrd/bin/busybox"
cp "$here/init" "$initrd/init"
chmod 755 "$initrd/init"
while read -r module; do
    find "$root/lib/modules/$version/" -name "$module.ko" -exec cp {} "$initrd/lib/modules/" \;
done <"$here/modules"
cp "$here/modules" "$initrd/lib/modules/order"
(cd "$initrd" && find . | cpio --quiet -o -H newc -R 0:0) >"$out/debian12.initrd"
rm -r "$initrd"

# --- Network: DHCP on whatever Ethernet there is --------------------------------------------------
# busybox's udhcpc, started by udev for each NIC: systemd-networkd and -resolved do the same, but cost
# eight seconds of a boot under TCG.
cat >"$root/etc/udev/rules.d/81-dhcp.rules" <<'EOF'
ACTION!="remove", SUBSYSTEM=="net", SUBSYSTEMS=="pci", TAG+="systemd", ENV{SYSTEMD_WANTS}+="dhcp@$name.service"
EOF
cat >"$root/etc/systemd/system/dhcp@.service" <<'EOF'
[Unit]
Description=DHCP on %I
BindsTo=sys-subsystem-net-devices-%i.device
After=sys-subsystem-net-devices-%i.device

[Service]
# It identifies itself by the MAC, so that the lease follows a guest across a replaced disk.
ExecStart=/bin/busybox udhcpc -f -i %I -t 5 -T 2 -A 5 -s /usr/local/lib/dhcp-lease
Restart=always
EOF
mkdir -p "$root/usr/local/lib"
cat >"$root/usr/local/lib/dhcp-lease" <<'EOF'
#!/bin/busybox sh
# What udhcpc calls when a lease comes and goes ($1); it passes the lease in the environment.
case $1 in
    deconfig) ip link set "$interface" up && ip -4 address flush dev "$interface" ;;
    bound | renew)
        ip -4 address replace "$ip/$mask" dev "$interface"
        for gateway in $router; do
            ip -4 route replace default via "$gateway" dev "$interface"
            break
        done
        : >/run/resolv.conf.new
        [ -z "$domain" ] || echo "search $domain" >>/run/resolv.conf.new
        for server in $dns; do echo "nameserver $server" >>/run/resolv.conf.new; done
        mv /run/resolv.conf.new /run/resolv.conf
        ;;
esac
EOF
chmod 755 "$root/usr/local/lib/dhcp-lease"
rm -f "$root/etc/resolv.conf"
ln -s /run/resolv.conf "$root/etc/resolv.conf"

# --- File systems ---------------------------------------------------------------------------------
# growfs: a guest's disk may be larger than the image.
echo '/dev/vda / ext4 defaults,x-systemd.growfs 0 0' >"$root/etc/fstab"

# --- Services that the demo lets Guestkeeper manage: installed, off -------------------------------
systemctl --quiet --root="$root" disable nginx.service ssh.service 2>/dev/null

# Host keys are made when ssh is first started. Ed25519 only: an RSA key takes many seconds under TCG.
echo 'HostKey /etc/ssh/ssh_host_ed25519_key' >"$root/etc/ssh/sshd_config.d/10-hostkey.conf"
cat >"$root/etc/systemd/system/ssh-hostkeys.service" <<'EOF'
[Unit]
Description=Make this guest's own SSH host key
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
Before=ssh.service

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
RemainAfterExit=yes
EOF
mkdir -p "$root/etc/systemd/system/ssh.service.d"
cat >"$root/etc/systemd/system/ssh.service.d/hostkeys.conf" <<'EOF'
[Unit]
Wants=ssh-hostkeys.service
After=ssh-hostkeys.service
EOF

# --- A quick boot: under TCG every process started counts ------------------------------------------
mask() { for unit; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done; }
# Housekeeping that a demo guest does not need.
mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer systemd-tmpfiles-clean.timer systemd-update-utmp.service \
    systemd-update-utmp-runlevel.service systemd-pcrphase.service systemd-pcrphase-sysinit.service \
    systemd-hwdb-update.service systemd-network-generator.service systemd-binfmt.service \
    systemd-pstore.service systemd-rfkill.socket getty@tty1.service getty-static.service
# Hardware and file systems that it has not, or that the initrd has already set up.
mask modprobe@configfs.service modprobe@fuse.service modprobe@drm.service \
    modprobe@efi_pstore.service modprobe@loop.service modprobe@dm_mod.service \
    kmod-static-nodes.service systemd-modules-load.service systemd-remount-fs.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
    sys-kernel-config.mount dev-hugepages.mount dev-mqueue.mount
# The journal stays in memory; randomness comes from virtio-rng and the CPU.
mask systemd-journal-flush.service systemd-random-seed.service
# The power button is acpid's here; logind would also pull in D-Bus.
mask systemd-logind.service
mkdir -p "$root/etc/acpi/events"
printf 'event=button/power.*\naction=/usr/bin/systemctl poweroff\n' >"$root/etc/acpi/events/powerbtn"
# Generators run at every boot and at every daemon-reload; only fstab's has something to say here.
mkdir -p "$root/etc/systemd/system-generators"
for generator in "$root"/lib/systemd/system-generators/*; do
    case ${generator##*/} in
        systemd-fstab-generator | cloud-init-generator) ;;
        *) ln -sf /dev/null "$root/etc/systemd/system-generators/${generator##*/}" ;;
    esac
done
# With a SysV script beside the unit, each `systemctl enable` runs two Perl programs.
rm -f "$root/etc/init.d/nginx" "$root/etc/init.d/ssh" "$root"/etc/rc?.d/*nginx "$root"/etc/rc?.d/*ssh
# Cold-plug only what can matter to a guest, not the hundreds of ttys and CPU attributes.
mkdir -p "$root/etc/systemd/system/systemd-udev-trigger.service.d"
cat >"$root/etc/systemd/system/systemd-udev-trigger.service.d/few.conf" <<'EOF'
[Service]
ExecStart=
ExecStart=-udevadm trigger --action=add --type=devices --subsystem-match=block --subsystem-match=net --subsystem-match=virtio-ports --subsystem-match=pci --subsystem-match=virtio --subsystem-match=scsi --subsystem-match=input --subsystem-match=misc
ExecStart=-udevadm trigger --action=add /sys/class/tty/ttyS0
EOF
systemctl --quiet --root="$root" enable serial-getty@ttyS0.service

# --- Flavour --------------------------------------------------------------------------------------
if [ "$flavour" = cloudinit ]; then
    mkdir -p "$root/etc/cloud/cloud.cfg.d"
    cat >"$root/etc/cloud/cloud.cfg.d/90-guestkeeper.cfg" <<'EOF'
# NoCloud alone: no probing of the network for clouds that are not there.
datasource_list: [NoCloud]
# The image brings its own DHCP.
network: {config: disabled}
ssh_deletekeys: false
ssh_genkeytypes: [ed25519]
# Only what a seed of ours asks for; each module costs a tenth of a second and more under TCG.
cloud_init_modules: [write-files, set_hostname, update_hostname, update_etc_hosts, users-groups, ssh]
cloud_config_modules: [set-passwords, runcmd]
cloud_final_modules: [scripts-user, final-message]
EOF
fi

# --- Seal: nothing that two guests must not share -------------------------------------------------
say "sealing"
passwd --quiet --root "$root" --lock root 2>/dev/null || chroot "$root" passwd --quiet --lock root
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id" "$root/var/lib/systemd/random-seed"
# Empty, not missing: missing means "first boot", which presets every unit (and so would enable nginx).
: >"$root/etc/machine-id"
echo debian >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 debian\n::1 localhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb \
    "$root"/var/cache/debconf/*-old "$root"/var/log/*.log "$root"/var/log/apt "$root"/tmp/* "$root"/var/tmp/*
find "$root/etc/apt" -name '*mmdebstrap*' -delete
# mmdebstrap's guards against starting services inside a chroot must not travel with the image.
rm -f "$root/usr/sbin/policy-rc.d"
if [ -e "$root/sbin/start-stop-daemon.REAL" ]; then
    mv "$root/sbin/start-stop-daemon.REAL" "$root/sbin/start-stop-daemon"
fi
# Newer than /usr: otherwise ldconfig, hwdb and the journal catalogue are rebuilt at every first boot.
touch "$root/etc/.updated" "$root/var/.updated"

# --- The disk -------------------------------------------------------------------------------------
say "making the disk"
# A plain (not recursive) bind shows the tree without the /proc, /sys and /dev mounted over it now.
view=$(mktemp -d)
mount --bind "$root" "$view"
: >"$out/disk.ext4"
truncate -s "$size" "$out/disk.ext4"
mke2fs -q -t ext4 -L root -m 1 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard -d "$view" "$out/disk.ext4"
umount "$view"
rmdir "$view"
qemu-img convert -O qcow2 -o lazy_refcounts=off "$out/disk.ext4" "$out/debian12.qcow2"
rm "$out/disk.ext4"
