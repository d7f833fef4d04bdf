#!/usr/bin/env bash
#
# virtual-pi.sh - a throw-away "Raspberry Pi": a container that boots a real
# systemd (PID 1, journald, dbus, polkit, nginx, git, python3), for tests that
# must see real units, real restarts, real reboots and real power cuts.
#
#   virtual-pi.sh build   [--rebuild]              build and cache the image
#   virtual-pi.sh up      [--name N] [--port P[:G]]... [--disk MB[:DIR[,DIR]...]]
#                         [--memory SIZE] [--cpus N] [--cgroup v1|v2]
#                         [--docker-arg ARG]...    create and boot (idempotent)
#   virtual-pi.sh exec    [--name N] [--user U] [--] CMD [ARG]...
#   virtual-pi.sh cp      [--name N] SRC... pi:DIR   copy into the Pi
#   virtual-pi.sh cp      [--name N] pi:PATH... DIR  copy out of the Pi
#   virtual-pi.sh logs    [--name N] [JOURNALCTL-ARG]...
#   virtual-pi.sh reboot  [--name N]               orderly shutdown, then boot
#   virtual-pi.sh power-cut [--name N] [--lossy] [--stay-off]
#                                                  SIGKILL everything, then boot
#   virtual-pi.sh start   [--name N]               boot one that is off
#   virtual-pi.sh unplug | plug [--name N]         pull / plug the network cable
#   virtual-pi.sh status  [--name N]               state, IP address, boot id
#   virtual-pi.sh ls                               every virtual Pi here
#   virtual-pi.sh down    [--name N]               remove it and its disk
#
# --name   default "pi1" (or $VPI_NAME).
# --port   127.0.0.1:P on the host reaches port G of the Pi (G defaults to 80).
# --disk   mounts an ext4 disk image of MB megabytes on DIR (default /data); with
#          several of them each is a directory of that one disk. What the image
#          has there is on it.
#          Only such a disk can lose un-synced writes: 'power-cut --lossy' puts
#          back exactly the blocks that had reached the disk at the moment of
#          the cut, so a missing fsync shows up as lost or torn data. Without
#          --lossy a power cut kills every process at once, but the page cache
#          survives (it tests crash consistency, not durability).
# --cgroup v1 gives the Pi the host's cgroup tree as it is (the default). v2, on
#          a host in hybrid mode, shows the Pi the unified tree alone: as on a
#          current Raspberry Pi OS, with no resource controllers in it.
#
# What the power cut keeps: the whole root filesystem (units, /var, /home, the
# journal) and --disk. What it loses: /run and /tmp (tmpfs), as on a real board.
#
# Needs: root, docker.io, debootstrap and e2fsprogs ('make e2e' installs them),
# and for the first build a Debian mirror. It starts dockerd if none answers.
# Everything is reached through 127.0.0.1 or the local Docker bridge.
#
# Settings (environment):
#   VPI_NAME      default name                    (pi1)
#   VPI_STATE     disk images, logs, build tree   (/var/lib/virtual-pi)
#   VPI_SUITE     Debian suite                    (bookworm)
#   VPI_MIRROR    Debian mirror                   (the one in this machine's apt sources)
#   VPI_PACKAGES  further packages for the image  (none)
#   VPI_BOOT_TIMEOUT  seconds to wait for a boot  (60)

set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin                # a user's PATH may lack them

VPI_NAME=${VPI_NAME:-pi1}
VPI_STATE=${VPI_STATE:-/var/lib/virtual-pi}
VPI_SUITE=${VPI_SUITE:-bookworm}
# The first Debian mirror of this machine's own apt sources.
apt_mirror() {
    { cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true; } |
        grep -Eo 'https?://[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' ' || true
}
VPI_MIRROR=${VPI_MIRROR:-$(apt_mirror)}
VPI_PACKAGES=${VPI_PACKAGES:-}
VPI_BOOT_TIMEOUT=${VPI_BOOT_TIMEOUT:-60}

# What the image holds beyond debootstrap's minbase. A change here (or of the
# other inputs in image_tag) gives a new tag, so the cache is never stale.
BASE_PACKAGES="systemd systemd-sysv dbus polkitd pkexec libpam-systemd libnss-systemd sudo ca-certificates curl \
acl git openssh-client openssl python3 python3-venv nginx-light iproute2 procps logrotate e2fsprogs"
RECIPE=4                            # raise it when build_image itself changes

say()  { printf 'virtual-pi: %s\n' "$*" >&2; }
die()  { say "$*"; exit 1; }
now()  { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f s", b - a }'; }

# The comment at the top of this file is the help text.
usage() { sed -n '2,/^set /p' "$0" | sed -e '$d' -e 's/^# \{0,1\}//'; exit "${1:-0}"; }

need_root() { [ "$(id -u)" = 0 ] || die "run it as root (it uses debootstrap, mount and dockerd)"; }

# ---------------------------------------------------------------- docker ----

need_program() { command -v "$1" >/dev/null 2>&1 || die "$1 is missing: 'make packages' installs it"; }

ensure_docker() {
    need_root
    mkdir -p "$VPI_STATE"
    docker info >/dev/null 2>&1 && return 0
    need_program docker
    need_program dockerd
    # Where systemd runs, the package has a unit.
    if [ -d /run/systemd/system ] && systemctl start docker 2>/dev/null; then :; else
        say "starting dockerd (log: $VPI_STATE/dockerd.log)"
        # setsid: the daemon must outlive this script and its terminal.
        setsid dockerd >>"$VPI_STATE/dockerd.log" 2>&1 </dev/null &
    fi
    for _ in $(seq 600); do
        docker info >/dev/null 2>&1 && return 0
        sleep 0.2
    done
    die "dockerd did not answer within 120 s; see $VPI_STATE/dockerd.log"
}

exists()  { docker container inspect "$1" >/dev/null 2>&1; }
paused()  { [ "$(docker container inspect -f '{{.State.Paused}}' "$1")" = true ]; }
running() { [ "$(docker container inspect -f '{{.State.Running}}' "$1" 2>/dev/null)" = true ]; }
label()   { docker container inspect -f "{{index .Config.Labels \"$2\"}}" "$1"; }

# Everything below acts on containers that this script made, and on no other.
ours() {
    exists "$1" || die "no virtual Pi named $1 (virtual-pi.sh up --name $1)"
    [ "$(label "$1" virtual-pi)" = 1 ] || die "container $1 was not made by virtual-pi.sh"
}

# On a cgroup v1 host the Pi's systemd mounts every controller that the host has
# but did not mount. From then on /proc/PID/cgroup names hierarchies that the host
# cannot see, and containerd gives up ("cannot find cgroup mount destination"):
# 'docker stats' shows only zeros. So mount all of them on the host beforehand.
mount_v1_controllers() {
    local c rw="" done_ro=""
    [ "$(stat -fc %T /sys/fs/cgroup 2>/dev/null)" = tmpfs ] || return 0     # pure v2
    for c in net_cls,net_prio $(awk '$4 == 1 { print $1 }' /proc/cgroups); do
        case ,$(awk '$3 == "cgroup" { print $4 }' /proc/mounts | tr '\n' ','), in *,"${c%%,*}",*) continue ;; esac
        if [ -z "$rw" ]; then
            rw=1
            case ,$(awk '$2 == "/sys/fs/cgroup" { print $4 }' /proc/mounts), in
                *,ro,*) mount -o remount,rw /sys/fs/cgroup; done_ro=1 ;;
            esac
        fi
        mkdir -p "/sys/fs/cgroup/$c"
        mount -t cgroup -o "$c" cgroup "/sys/fs/cgroup/$c" 2>/dev/null || rmdir "/sys/fs/cgroup/$c" 2>/dev/null || true
    done
    [ -z "$done_ro" ] || mount -o remount,ro /sys/fs/cgroup
}

# ----------------------------------------------------------------- image ----

image_tag() {
    printf '%s %s %s %s %s' "$RECIPE" "$VPI_SUITE" "$VPI_MIRROR" "$BASE_PACKAGES" "$VPI_PACKAGES" |
        sha256sum | cut -c1-12
}

build_image() {
    local image root t0; image="virtual-pi:$(image_tag)"
    if [ "${1:-}" != --rebuild ] && docker image inspect "$image" >/dev/null 2>&1; then
        printf '%s\n' "$image"
        return 0
    fi
    need_program debootstrap
    t0=$(now)
    root=$(mktemp -d "$VPI_STATE/build.XXXXXX")
    # shellcheck disable=SC2064
    trap "rm -rf '$root'" EXIT
    say "building $image with debootstrap (once; a few minutes)"
    debootstrap --variant=minbase --include=ca-certificates "$VPI_SUITE" "$root" "$VPI_MIRROR" \
        >"$VPI_STATE/build.log" 2>&1 || die "debootstrap failed; see $VPI_STATE/build.log"
    # The rest through apt: debootstrap cannot resolve virtual packages, which
    # polkitd depends on. policy-rc.d: no daemon is to start inside the chroot.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    # shellcheck disable=SC2086
    chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C sh -c '
        apt-get -qq update && apt-get -qq install -y --no-install-recommends "$@"' sh \
        $BASE_PACKAGES $VPI_PACKAGES >>"$VPI_STATE/build.log" 2>&1 </dev/null ||
        die "installing the packages failed; see $VPI_STATE/build.log"
    rm -f "$root/usr/sbin/policy-rc.d" "$root/etc/resolv.conf"

    # No hardware here: these would only fail at boot, or (systemd-sysctl) change
    # the host's kernel settings.
    local unit
    for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
        systemd-udev-trigger.service systemd-modules-load.service sys-kernel-config.mount \
        sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
        dev-hugepages.mount dev-mqueue.mount e2scrub_reap.service apt-daily.timer \
        apt-daily-upgrade.timer getty.target console-getty.service \
        systemd-timesyncd.service systemd-sysctl.service; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    : >"$root/etc/machine-id"                       # each Pi gets its own, once
    rm -f "$root/var/lib/dbus/machine-id"
    mkdir -p "$root/var/log/journal"                # the journal survives power cuts
    # A container shares the host's boot id. A board has a new one at each boot
    # (journalctl -b -1 and reboot detection need it), so give the Pi its own.
    cat >"$root/sbin/pi-init" <<'INIT'
#!/bin/sh
cat /proc/sys/kernel/random/uuid >/run/boot-id
mount --bind /run/boot-id /proc/sys/kernel/random/boot_id
mount -o remount,bind,ro /proc/sys/kernel/random/boot_id
# LoadCredential= and mounts made by units reach the others only where mounts are
# shared; systemd sets that itself on a board, but not in a container.
mount --make-rshared /
exec /lib/systemd/systemd "$@"
INIT
    chmod 755 "$root/sbin/pi-init"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    # The host's CA bundle, so that pip and git in the Pi trust what the host trusts.
    if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
        cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    fi
    tar -C "$root" -c . | docker import \
        -c 'ENV container=docker' -c 'CMD ["/sbin/pi-init"]' \
        - "$image" >/dev/null
    rm -rf "$root"
    trap - EXIT
    say "built $image in $(since "$t0")"
    printf '%s\n' "$image"
}

# ------------------------------------------------------------------ disk ----
# An optional ext4 image on a loop device, mounted on the host and bind-mounted
# into the Pi. Its backing file holds only what the filesystem really wrote.

disk_dir() { printf '%s/disks/%s' "$VPI_STATE" "$1"; }

disk_mount() {
    local d; d=$(disk_dir "$1")
    [ -f "$d/disk.img" ] || return 0
    mountpoint -q "$d/mnt" && return 0
    # Mounting replays the ext4 journal, as the kernel does after a power cut.
    # Another process may take the same free loop device at this moment: try again.
    for _ in $(seq 50); do
        mount -o loop "$d/disk.img" "$d/mnt" 2>"$d/mount.log" && return 0
        grep -q "loop device" "$d/mount.log" || break
        sleep 0.1
    done
    die "could not mount $d/disk.img: $(cat "$d/mount.log")"
}

disk_umount() {
    local d; d=$(disk_dir "$1")
    [ -d "$d/mnt" ] || return 0
    for _ in $(seq 300); do                 # until the last of its processes is gone
        mountpoint -q "$d/mnt" || return 0
        umount "$d/mnt" 2>/dev/null && return 0
        sleep 0.1
    done
    die "could not unmount $d/mnt"
}

disk_create() {
    local d; d=$(disk_dir "$1")
    need_program mkfs.ext4
    mkdir -p "$d/mnt"
    [ -f "$d/disk.img" ] && return 0
    truncate -s "${2}M" "$d/disk.img"
    # lazy_itable_init=0: no kernel thread still writing to it at the first cut.
    mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$d/disk.img"
}

# What the image has in a directory is on the disk from the start; a mount alone would hide it.
disk_fill() {
    local container; container=$(docker create "$1")
    docker cp -a "$container:$2/." "$3" 2>/dev/null || true      # most images have no such directory
    docker rm "$container" >/dev/null
}

# Copies the disk image as it is at this moment, without any flush. The kernel's
# write-back may write meanwhile, and a copy across a write is no real state of
# a disk: so take the copy again until the loop device's counters stood still.
disk_snapshot() {
    local d dev before after
    d=$(disk_dir "$1")
    dev=$(findmnt -n -o SOURCE "$d/mnt"); dev=${dev#/dev/}
    for _ in $(seq 20); do
        before=$(cat "/sys/block/$dev/stat")
        cp --sparse=always "$d/disk.img" "$d/cut.img"
        after=$(cat "/sys/block/$dev/stat")
        # fields 5-8: writes completed, merged, sectors written, time; 9: in flight
        [ "$(echo "$before" | awk '{print $5,$7,$9}')" = "$(echo "$after" | awk '{print $5,$7,$9}')" ] &&
            return 0
    done
    die "the disk was never still long enough to copy it"
}

# ------------------------------------------------------------------ boot ----

wait_boot() {
    local name=$1 t0 state
    t0=$(now)
    while :; do
        running "$name" || die "$name stopped during boot: $(docker logs --tail 20 "$name" 2>&1)"
        # 'degraded' means booted, with a failed unit: a test may want just that.
        state=$(docker exec "$name" systemctl is-system-running 2>/dev/null || true)
        case $state in
            running)  break ;;
            degraded) say "$name is degraded: $(docker exec "$name" systemctl --failed --plain --no-legend | awk '{print $1}' | tr '\n' ' ')"; break ;;
        esac
        awk -v a="$t0" -v b="$(now)" -v t="$VPI_BOOT_TIMEOUT" 'BEGIN { exit !(b - a > t) }' &&
            die "$name did not boot within $VPI_BOOT_TIMEOUT s (state: ${state:-unknown})"
        sleep 0.05
    done
    say "$name booted in $(since "$t0")"
}

boot() {
    mount_v1_controllers
    disk_mount "$1"
    docker start "$1" >/dev/null
    wait_boot "$1"
}

# -------------------------------------------------------------- commands ----

# Removes '--name N' / '--name=N' from the front options; sets NAME and ARGS.
NAME=$VPI_NAME
ARGS=()
take_name() {
    ARGS=()
    while [ $# -gt 0 ]; do
        case $1 in
            --name)   [ $# -ge 2 ] || die "--name needs a value"; NAME=$2; shift 2 ;;
            --name=*) NAME=${1#*=}; shift ;;
            -h|--help) usage ;;
            *) ARGS=("$@"); break ;;
        esac
    done
    case $NAME in ''|*[!a-zA-Z0-9_.-]*) die "bad name: $NAME" ;; esac
}

cmd_build() { ensure_docker; build_image "${1:-}"; }

cmd_up() {
    local port disk="" image ports=() limits=() extra=() cgroup=v1 cgroup_root=/sys/fs/cgroup
    while [ $# -gt 0 ]; do
        case $1 in
            --name=*|--port=*|--disk=*|--memory=*|--cpus=*|--cgroup=*|--docker-arg=*)
                set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
        esac
        [ $# -ge 2 ] || { [ "$1" = -h ] || [ "$1" = --help ]; } || die "up: $1 needs a value, or is unknown"
        case $1 in
            --name)   NAME=$2; shift 2 ;;
            --port)   case $2 in *:*) port=$2 ;; *) port=$2:80 ;; esac
                      ports+=(-p "127.0.0.1:$port"); shift 2 ;;
            --disk)   disk=$2; shift 2 ;;
            --memory) limits+=(--memory "$2"); shift 2 ;;
            --cpus)   limits+=(--cpus "$2"); shift 2 ;;
            --cgroup) cgroup=$2; shift 2 ;;
            --docker-arg) extra+=("$2"); shift 2 ;;
            -h|--help) usage ;;
            *) die "up: unknown option $1" ;;
        esac
    done
    take_name                       # checks NAME
    ensure_docker
    if exists "$NAME"; then
        ours "$NAME"
        if running "$NAME"; then wait_boot "$NAME"; else boot "$NAME"; fi
        return 0
    fi
    image=$(build_image)
    if [ "$cgroup" = v2 ] && [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ]; then
        cgroup_root=/sys/fs/cgroup/unified
        [ "$(stat -fc %T $cgroup_root 2>/dev/null)" = cgroup2fs ] || die "this host has no cgroup v2 tree"
    fi
    if [ -n "$disk" ]; then
        local mb=${disk%%:*} dirs=/data dir from
        case $disk in *:*) dirs=${disk#*:} ;; esac
        disk_create "$NAME" "$mb"
        disk_mount "$NAME"
        for dir in ${dirs//,/ }; do
            from=$(disk_dir "$NAME")/mnt
            [ "$dir" = "$dirs" ] || from+=$dir
            mkdir -p "$from"
            disk_fill "$image" "$dir" "$from"
            extra+=(-v "$from:$dir")
        done
        sync -f "$(disk_dir "$NAME")/mnt"       # these directories survive the first cut
    fi
    # Why these flags:
    #  SYS_ADMIN       systemd mounts, and makes namespaces for its sandbox options
    #  NET_ADMIN       ip, nft, PrivateNetwork=
    #  SYS_NICE        Nice= below 0, CPUSchedulingPolicy=
    #  SYS_PTRACE      systemd reads /proc/PID/exe etc. of services of other users
    #  seccomp, apparmor unconfined  the default profiles block mount and unshare
    #  systempaths=unconfined  leaves /proc and /sys unmasked, so that
    #                  PrivateUsers=, ProtectProc= and DynamicUser= can mount a new /proc
    #  cgroup rw, host namespace  systemd puts each unit in its cgroup (v1 and v2)
    #  tmpfs           /run and /tmp are lost at power-off; exec, as on a real system
    # Not --privileged: it asks for every capability and fails where the host
    # itself was not given all of them (nested VMs and CI runners).
    docker create --name "$NAME" --hostname "$NAME" --label virtual-pi=1 \
        --cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add SYS_PTRACE --cap-add SYS_NICE \
        --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
        --security-opt systempaths=unconfined \
        --cgroupns=host -v "$cgroup_root:/sys/fs/cgroup:rw" \
        --tmpfs /run:rw,exec,nosuid,nodev,mode=755 --tmpfs /run/lock:rw,nosuid,nodev,noexec \
        --tmpfs /tmp:rw,exec,nosuid,nodev,mode=1777 \
        --tty --stop-signal SIGRTMIN+3 "${ports[@]}" "${limits[@]}" "${extra[@]}" "$image" >/dev/null
    boot "$NAME"
}

cmd_exec() {
    local opts=(-i)
    take_name "$@"; set -- "${ARGS[@]}"
    while [ $# -gt 0 ]; do
        case $1 in
            --user) opts+=(--user "$2"); shift 2 ;;
            --name) NAME=$2; shift 2 ;;
            --) shift; break ;;
            *) break ;;
        esac
    done
    [ $# -gt 0 ] || die "exec: no command"
    [ -t 0 ] && [ -t 1 ] && opts+=(-t)
    exec docker exec "${opts[@]}" "$NAME" "$@"
}

# Through tar rather than 'docker cp', which does not see the Pi's /run and /tmp.
cmd_cp() {
    take_name "$@"; set -- "${ARGS[@]}"
    [ $# -ge 2 ] || die "cp: needs SRC... pi:DIR or pi:PATH... DIR"
    ours "$NAME"
    local dst=${!#} src; local srcs=("${@:1:$#-1}")
    case $dst in
        pi:*)
            docker exec "$NAME" mkdir -p "${dst#pi:}"
            for src in "${srcs[@]}"; do
                tar -C "$(dirname "$src")" -c --owner=0 --group=0 "$(basename "$src")" |
                    docker exec -i "$NAME" tar -x -C "${dst#pi:}"
            done ;;
        *)
            mkdir -p "$dst"
            for src in "${srcs[@]}"; do
                src=${src#pi:}
                docker exec "$NAME" tar -C "$(dirname "$src")" -c "$(basename "$src")" | tar -x --no-same-owner -C "$dst"
            done ;;
    esac
}

cmd_logs() {
    take_name "$@"; set -- "${ARGS[@]}"
    ours "$NAME"
    if running "$NAME"; then docker exec "$NAME" journalctl --no-pager "$@"
    else docker logs "$NAME"; fi
}

cmd_reboot() {
    take_name "$@"; ours "$NAME"
    docker stop -t 90 "$NAME" >/dev/null    # sends SIGRTMIN+3: systemd halts
    boot "$NAME"
}

cmd_power_cut() {
    local lossy="" off=""
    while [ $# -gt 0 ]; do
        case $1 in
            --name) NAME=$2; shift 2 ;;
            --name=*) NAME=${1#*=}; shift ;;
            --lossy) lossy=1; shift ;;
            --stay-off) off=1; shift ;;
            -h|--help) usage ;;
            *) die "power-cut: unknown option $1" ;;
        esac
    done
    take_name; ours "$NAME"
    running "$NAME" || die "$NAME is off already"
    local d; d=$(disk_dir "$NAME")
    if [ -n "$lossy" ]; then
        [ -f "$d/disk.img" ] || die "power-cut --lossy needs a Pi made with --disk"
        paused "$NAME" || docker pause "$NAME" >/dev/null   # the instant of the cut
        disk_snapshot "$NAME"
    fi
    docker kill -s KILL "$NAME" >/dev/null  # PID 1 dies, and with it every process
    while running "$NAME"; do sleep 0.05; done
    if [ -f "$d/disk.img" ]; then
        disk_umount "$NAME"
        [ -z "$lossy" ] || mv "$d/cut.img" "$d/disk.img"
    fi
    say "$NAME lost power${lossy:+ (un-synced writes to its disk are gone)}"
    [ -n "$off" ] || boot "$NAME"
}

cmd_start()  { take_name "$@"; ours "$NAME"; if running "$NAME"; then wait_boot "$NAME"; else boot "$NAME"; fi; }
cmd_unplug() { take_name "$@"; ours "$NAME"; docker network disconnect bridge "$NAME"; }
cmd_plug()   { take_name "$@"; ours "$NAME"; docker network connect bridge "$NAME"; }

cmd_status() {
    take_name "$@"; ours "$NAME"
    printf 'name=%s running=%s ip=%s' "$NAME" \
        "$(docker container inspect -f '{{.State.Running}}' "$NAME")" \
        "$(docker container inspect -f '{{.NetworkSettings.Networks.bridge.IPAddress}}' "$NAME" 2>/dev/null || true)"
    if running "$NAME"; then
        printf ' system=%s boot=%s' "$(docker exec "$NAME" systemctl is-system-running || true)" \
            "$(docker exec "$NAME" cat /proc/sys/kernel/random/boot_id)"
    fi
    printf '\n'
}

cmd_ls() { docker ps -a --filter label=virtual-pi=1 --format '{{.Names}}\t{{.Status}}\t{{.Image}}\t{{.Ports}}'; }

cmd_down() {
    take_name "$@"
    if exists "$NAME"; then
        ours "$NAME"
        docker rm -f -v "$NAME" >/dev/null
    fi
    disk_umount "$NAME"
    rm -rf "$(disk_dir "$NAME")"
}

[ $# -gt 0 ] || usage 2
command=$1; shift
case $command in
    build)     cmd_build "$@" ;;
    up)        cmd_up "$@" ;;
    exec)      cmd_exec "$@" ;;
    cp)        cmd_cp "$@" ;;
    logs)      cmd_logs "$@" ;;
    reboot)    cmd_reboot "$@" ;;
    power-cut) cmd_power_cut "$@" ;;
    start)     cmd_start "$@" ;;
    unplug)    cmd_unplug "$@" ;;
    plug)      cmd_plug "$@" ;;
    status)    cmd_status "$@" ;;
    ls)        cmd_ls "$@" ;;
    down)      cmd_down "$@" ;;
    -h|--help|help) usage ;;
    *) die "unknown command: $command (virtual-pi.sh --help)" ;;
esac
