# shellcheck shell=bash disable=SC2016
# What ansible/test does with its hosts, step by step. Sourced by ../test.

# What a play may change and must put back: settings, files, users, services. Not the thousands of files in /usr/bin: some
# overlays leave one out of a long listing now and then.
snapshot() {
    for host in "${HOSTS[@]}"; do
        on "$host" 'cd /proc/sys/net && for knob in core/somaxconn ipv4/tcp_max_syn_backlog ipv4/ip_local_port_range \
            ipv4/tcp_slow_start_after_idle ipv4/ip_local_reserved_ports; do echo "'"$host"' $knob $(cat $knob)"; done
            cat /srv/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor
            systemctl is-active irqbalance; systemctl is-enabled irqbalance
            find /etc /home /opt /root /srv /usr/local /var/lib \( -path /root/.ansible -o -path /root/.ansible_async -o -path /var/lib/systemd \
                -o -path /var/lib/dpkg \) -prune -o -print | grep -v -e __pycache__ -e /var/lib/private | sort
            cut -d: -f1 /etc/passwd /etc/group' | sed "s/^/$host: /"
    done
}
ask() {
    redis-cli --no-auth-warning -h "${ADDRESS[$1]}" -p 7000 -a "$PASSWORD" "${@:2}"
}

step "check mode on bare hosts"
snapshot >"$WORK/bare"
play --check --diff site.yml
snapshot >"$WORK/checked"
diff "$WORK/bare" "$WORK/checked" >"$WORK/log" || fail "it has changed something"
done_in

step "three fresh hosts to a verified cluster"
play site.yml
PASSWORD=$(cat "$WORK/.trine/password")
for host in "${HOSTS[@]}"; do
    [[ $(ask "$host" ping) == PONG ]] || fail "$host does not answer"
    ask "$host" cluster info | tr -d '\r' | grep -qx 'cluster_state:ok' || fail "$host has no cluster"
done
done_in

step "three servers share the keys, strangers get none"
seq 3000 | sed 's/.*/SET key:& &/' | redis-cli --no-auth-warning -c -h "${ADDRESS[one]}" -p 7001 -a "$PASSWORD" >"$WORK/log"
total=0
for host in "${HOSTS[@]}"; do
    keys=$(ask "$host" dbsize)
    [[ $keys -gt 800 && $keys -lt 1200 ]] || fail "$host has $keys of 3000 keys"
    total=$((total + keys))
done
[[ $total -eq 3000 ]] || fail "$total keys instead of 3000"
redis-cli -h "${ADDRESS[one]}" -p 7000 dbsize 2>&1 | grep -q NOAUTH || fail "no password is asked for"
done_in

step "the unit is hardened, and pinned"
exposure=$(on one 'systemd-analyze security --no-pager trine.service | sed -n "s/.*Overall exposure level for trine.service: \([0-9.]*\).*/\1/p"')
awk -v exposure="$exposure" 'BEGIN { exit !(exposure != "" && exposure < 2) }' || fail "exposure $exposure, not below 2"
[[ $(on one 'ps -o ni= -p $(systemctl show --value --property MainPID trine)' | tr -d ' ') == -20 ]] || fail "its priority"
[[ $(on one 'stat -c %U:%a /var/lib/trine /etc/trine/trine.toml' | tr '\n' ' ') == 'trine:750 root:640 ' ]] || fail "its files' rights"
on one 'journalctl -u trine --no-pager' | grep -q . || fail "nothing in the journal"
done_in "exposure $exposure, nice -20"

step "the hosts are tuned"
[[ $(on one 'cat /proc/sys/net/ipv4/tcp_slow_start_after_idle /srv/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor' | tr '\n' ' ') == '0 performance ' ]] ||
    fail "settings were not made"
done_in

step "a Prometheus would find them"
on three 'python3 -c "
import json
targets = json.load(open(\"/etc/prometheus/trine-targets.json\"))[0][\"targets\"]
assert len(targets) == 3 and all(target.endswith(\":7000\") for target in targets), targets
" && grep -q trine-targets.json /etc/prometheus/scrape.d/trine.yml && grep -q trine /var/lib/grafana/dashboards/trine-dashboard.json' >"$WORK/log" 2>&1 || fail "its files"
done_in

step "a second run changes nothing"
play site.yml
recap | grep -q 'changed=0' || fail "no recap"
! recap | grep -q 'changed=[1-9]' || fail "$(recap | grep 'changed=[1-9]')"
done_in

step "isolated CPUs and interrupts, and back"
play site.yml --tags host --extra-vars '{"host_isolated_cpus": "1", "host_proc": "/proc"}'
on one 'grep -qx CPUAffinity=0 /etc/systemd/system.conf.d/60-trine.conf && ! systemctl is-active --quiet irqbalance' || fail "not isolated"
done_in

step "an experiment from two load hosts, and its charts here"
play bench.yml --extra-vars "experiment=$PWD/tests/bench.toml bench_out=$WORK/results"
[[ -s $WORK/results/index.html && -s $WORK/results/throughput-latency.svg ]] || fail "no charts: $(ls "$WORK/results")"
python3 - "$WORK/results/runs.jsonl" <<'END' >"$WORK/log" 2>&1 || fail "the merged runs"
import json, sys
runs = [json.loads(line) for line in open(sys.argv[1])]
assert len(runs) == 4, len(runs)
for run in runs:
    assert run["status"] == "measured", run
    load = run["load"]
    assert load["wrong_values"] == 0 and load["errors"]["total"] == 0, load
    assert load["latency_since_due_us"]["all"]["count"] == load["operations"] > 0, load
    hosts = [member["operations"] for member in load["members"]]
    assert len(hosts) == 2 and min(hosts) > 0 and sum(hosts) == load["operations"], hosts
END
done_in

step "an upgrade under load loses nothing"
mkdir "$WORK/newer" && cp "$BINARIES/trine" "$WORK/newer/" && printf 'newer' >>"$WORK/newer/trine"
coproc LEDGER { TRINE_PASSWORD=$PASSWORD exec python3 tests/ledger.py "${ADDRESS[one]}:7001" 2>&1; }
ledger_pid=$LEDGER_PID
play upgrade.yml --extra-vars "server_binary=$WORK/newer/trine server_planner=$BINARIES/trine"
eval "exec ${LEDGER[1]}>&-"
cat <&"${LEDGER[0]}" >"$WORK/ledger"
wait "$ledger_pid" || { cp "$WORK/ledger" "$WORK/log"; fail "the ledger"; }
[[ $(recap | grep -c 'changed=2') -eq 3 ]] || fail "not all three were upgraded"
for host in "${HOSTS[@]}"; do
    [[ $(on "$host" 'sha256sum </usr/local/bin/trine') == "$(sha256sum <"$WORK/newer/trine")" ]] || fail "$host has the old program"
done
done_in "$(cat "$WORK/ledger")"

step "untune puts everything back"
play untune.yml
snapshot | grep -e ' ipv4/' -e ' core/' -e 'powersave\|performance' -e active -e enabled >"$WORK/untuned"
grep -e ' ipv4/' -e ' core/' -e 'powersave\|performance' -e active -e enabled "$WORK/bare" | diff - "$WORK/untuned" >"$WORK/log" || fail "something is not as it was"
done_in

step "destroy keeps data, and then leaves nothing"
play destroy.yml
on one 'test -d /var/lib/trine' || fail "the data is gone without being asked for"
play destroy.yml --extra-vars destroy_data=true
snapshot >"$WORK/destroyed"
diff "$WORK/bare" "$WORK/destroyed" >"$WORK/log" || fail "something is left"
done_in
