# shellcheck shell=bash
# Makes three hosts, as ansible/test wants them: containers that boot systemd and run sshd. Sourced by ../test.

PACKAGES=systemd,systemd-sysv,dbus,openssh-server,python3,iproute2,procps
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/trine
ROOT=$CACHE/host-bookworm-$(sha256sum <<<"$PACKAGES" | cut -c1-8).tar

if [[ ! -f $ROOT ]]; then
    step "a root of Debian 12, kept in $CACHE"
    mkdir -p "$CACHE"
    # From the mirror that this machine itself uses.
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' | awk '$2 == "bookworm" { print $1; exit }')
    [[ -n $mirror ]] || skip "apt knows no mirror of Debian 12 (bookworm)"
    mmdebstrap --quiet --variant=minbase --include="$PACKAGES" --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --format=tar bookworm "$ROOT.new" "$mirror" >"$WORK/log" 2>&1 || fail "mmdebstrap"
    mv "$ROOT.new" "$ROOT"
    done_in
fi

step "three fresh hosts"
docker import --change 'CMD ["/sbin/init"]' "$ROOT" "$RUN" >/dev/null
for third in $(seq 25 44); do
    NET=10.88.$third
    docker network create --subnet "$NET.0/24" "$RUN" >/dev/null 2>&1 && break
done
ssh-keygen -q -t ed25519 -N '' -f "$WORK/key"
number=10
declare -A ADDRESS
for host in "${HOSTS[@]}"; do
    number=$((number + 1))
    ADDRESS[$host]=$NET.$number
    # Not privileged: as a host it needs namespaces for its services (SYS_ADMIN), priorities (SYS_NICE), addresses (NET_ADMIN), and
    # locked memory that does not count against what every other root of this machine has locked (IPC_LOCK).
    # io_uring must be allowed, which newer engines' default profile does not.
    docker run --detach --name "$RUN-$host" --hostname "$host" --network "$RUN" --ip "$NET.$number" \
        --cap-add SYS_ADMIN --cap-add SYS_NICE --cap-add NET_ADMIN --cap-add IPC_LOCK \
        --security-opt seccomp=unconfined --security-opt apparmor=unconfined --cgroupns private \
        --stop-signal SIGRTMIN+3 --tmpfs /run --tmpfs /tmp --env container=docker "$RUN" >/dev/null
done
for host in "${HOSTS[@]}"; do
    for _ in $(seq 100); do
        [[ $(on "$host" 'systemctl is-system-running' 2>/dev/null) == running ]] && break
        sleep 0.1
    done
    on "$host" 'systemctl is-system-running' >/dev/null || fail "$host did not boot: $(on "$host" 'systemctl --failed --no-legend')"
    docker exec -i "$RUN-$host" sh -c 'mkdir -p /root/.ssh && cat > /root/.ssh/authorized_keys' <"$WORK/key.pub"
    # The kernel's settings are the host's own where they belong to its network, and only these may be written: the others are
    # this machine's. A governor it has in a folder of its own, and of Grafana and irqbalance what the playbooks look for.
    on "$host" 'mkdir /run/proc && mount -t proc proc /run/proc && mount --bind /run/proc/sys/net /proc/sys/net
        mkdir -p /srv/sys/devices/system/cpu/cpu0/cpufreq /srv/sys/devices/system/cpu/cpu1/cpufreq /srv/sys/kernel/mm/transparent_hugepage
        for cpu in 0 1; do echo powersave > /srv/sys/devices/system/cpu/cpu$cpu/cpufreq/scaling_governor; done
        mkdir -p /etc/grafana/provisioning /var/lib/grafana
        printf "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n" > /etc/systemd/system/irqbalance.service
        systemctl enable --now --quiet irqbalance'
done
mkdir -p "$WORK/known"
cat >"$WORK/inventory.yml" <<END
servers:
  hosts:
$(for host in "${HOSTS[@]}"; do echo "    $host: {ansible_host: ${ADDRESS[$host]}}"; done)
  vars:
    server_cores: 1
    server_settings: {max-memory: 512MiB}
load:
  hosts: {one: , two: }
metrics:
  hosts: {three: }
lab:
  children: {servers: , load: , metrics: }
  vars:
    ansible_user: root
    ansible_ssh_private_key_file: $WORK/key
    ansible_ssh_common_args: -o UserKnownHostsFile=$WORK/known/hosts -o StrictHostKeyChecking=accept-new
    ansible_python_interpreter: /usr/bin/python3
    trine_binaries: $BINARIES
    host_sys: /srv/sys
END
export ANSIBLE_INVENTORY=$WORK/inventory.yml ANSIBLE_NOCOLOR=1 ANSIBLE_SSH_CONTROL_PATH_DIR=$WORK/cp
done_in
