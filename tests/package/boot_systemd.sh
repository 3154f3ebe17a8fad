#!/usr/bin/env bash
# Boot a systemd of its own and run the unit of deploy/ under it: boot_systemd.sh FOLDER VENV DEPLOY, as root, in new
# namespaces (mount, pid, net, ipc, uts, cgroup). It sees this machine's files through an overlay in memory, so that
# nothing outside of FOLDER/out changes. What it finds is written there.
set -eu
folder=$1 venv=$2 deploy=$3
root=$folder/overlay/root
mount --make-rprivate /
mkdir -p "$folder/overlay" "$folder/out"
mount -t tmpfs tmpfs "$folder/overlay"
mkdir -p "$folder/overlay/up" "$folder/overlay/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/overlay/up,workdir=$folder/overlay/work" "$root"

# As docs/how-to/systemd.md has it; the database is the embedded one, the cloud the simulated one.
rm -rf "$root/opt/vmsvc" "$root"/etc/systemd/system/* "$root"/etc/vmsvc "$root"/var/lib/vmsvc
cp -r "$venv" "$root/opt/vmsvc"
sed -i '1s,.*,#!/opt/vmsvc/bin/python,' "$root/opt/vmsvc/bin/vmsvc"
install -D -m 644 "$deploy/vmsvc.sysusers.conf" "$root/etc/sysusers.d/vmsvc.conf"
install -D -m 644 "$deploy/vmsvc.service" "$root/etc/systemd/system/vmsvc.service"
install -d -m 700 "$root/etc/vmsvc"
echo 'VMSVC_LOG_FORMAT=json' >"$root/etc/vmsvc/vmsvc.env"
echo 'clouds: {}' >"$root/etc/vmsvc/clouds.yaml"
systemd-sysusers "--root=$root" "$root/etc/sysusers.d/vmsvc.conf"

# There is no network and no journal here, and nothing else to start.
mkdir -p "$root/etc/systemd/system/vmsvc.service.d" "$root/out"
cat >"$root/etc/systemd/system/vmsvc.service.d/here.conf" <<'UNIT'
[Unit]
DefaultDependencies=no
Wants=
After=
[Service]
StandardOutput=append:/out/log
StandardError=append:/out/log
UNIT
cat >"$root/etc/systemd/system/look.service" <<'UNIT'
[Unit]
DefaultDependencies=no
Wants=vmsvc.service
After=vmsvc.service
[Service]
Type=oneshot
ExecStart=/bin/bash /look.sh
UNIT
cat >"$root/look.sh" <<'LOOK'
url=http://127.0.0.1:8888
for _ in $(seq 60); do
    curl -s -m 2 $url/readyz -o /out/ready && grep -q '"ready"' /out/ready && break
    systemctl is-failed --quiet vmsvc && break
    sleep 0.5
done
curl -s -m 30 -X POST -H 'Content-Type: application/json' $url/api/v1/vm -d '{"is_preemptible": true}' -o /out/created
ps -C vmsvc -o user= | sort -u >/out/users
systemctl stop vmsvc
systemctl show vmsvc -p Result -p ExecMainStatus -p ActiveState >/out/stopped
systemctl exit
LOOK

mount --bind "$folder/out" "$root/out"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
# Not chroot: in one the kernel grants no user namespace, which the unit's PrivateUsers= needs.
mkdir -p "$root/before"
cd "$root"
pivot_root . before
umount -l /before
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=look.service \
    --show-status=no --log-target=console
