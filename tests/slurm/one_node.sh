#!/usr/bin/env bash
# A SLURM cluster of one node for the tests: this machine, with two pretended GPUs.
#
#   tests/slurm/one_node.sh start FOLDER   start munged, slurmctld and slurmd; all they write lies in FOLDER
#   tests/slurm/one_node.sh stop FOLDER    cancel what runs and stop the three
#
# For root, with Debian's packages slurmctld, slurmd, slurm-client and munge; no systemd, no cgroups, nothing in /etc.
# FOLDER/devices.log lists which pretended GPU every job was given, as "job id, CUDA_VISIBLE_DEVICES". FOLDER's path must
# be short: it holds a socket.
set -euo pipefail

command=${1:?start or stop}
folder=$(realpath "${2:?a folder}")
node=$(hostname -s)
# Where SLURM's commands look after /etc/slurm. Snakemake takes SLURM_CONF out of the environment in which a job calls srun.
link=/run/slurm/conf

free_ports() {
    python3 - <<'PYTHON'
import socket

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in sockets))
PYTHON
}

configure() {
    for configured in "${SLURM_CONF:-}" /etc/slurm/slurm.conf "$link"; do
        if [ -e "$configured" ]; then
            echo "one_node.sh: this machine belongs to a SLURM cluster already: $configured" >&2
            exit 77
        fi
    done
    local controller_port node_port
    read -r controller_port node_port < <(free_ports)
    mkdir -p "$folder/state" "$folder/spool"
    for gpu in 0 1; do # a device of its own for each, though only /dev/null stands behind it
        mknod "$folder/gpu$gpu" c 1 3
    done
    cat >"$folder/gres.conf" <<EOF
NodeName=$node Name=gpu File=$folder/gpu[0-1]
EOF
    cat >"$folder/report_devices.sh" <<EOF
#!/bin/sh
echo "\$SLURM_JOB_ID \${CUDA_VISIBLE_DEVICES-none}" >>$folder/devices.log
EOF
    chmod +x "$folder/report_devices.sh"
    # CPUs and memory are declared, not found: it is GPUs that jobs are to wait for, on any machine.
    cat >"$folder/slurm.conf" <<EOF
ClusterName=one-node
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$controller_port
SlurmdPort=$node_port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog=$folder/report_devices.sh
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
ReturnToService=2
MinJobAge=3600
OverTimeLimit=0
KillWait=5
GresTypes=gpu
NodeName=$node NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE State=UP
EOF
}

start() {
    configure
    (umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")
    # --force: the folder above the socket may be closed to other users, who do not matter here.
    munged --force --num-threads=2 --socket="$folder/munge.socket" --key-file="$folder/munge.key" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
    mkdir -p "$(dirname "$link")"
    ln -s "$folder" "$link"
    slurmctld -f "$folder/slurm.conf"
    slurmd -f "$folder/slurm.conf"
    for _ in $(seq 60); do
        if sinfo --noheader --states=idle --format=%N 2>/dev/null | grep -qx "$node"; then
            return
        fi
        sleep 0.5
    done
    tail -n 20 "$folder"/*.log >&2
    echo "one_node.sh: the node did not become idle" >&2
    return 1
}

stop() {
    [ "$(readlink "$link")" = "$folder" ] || return 0 # not started from here
    if scancel --user="$(id -un)" 2>/dev/null; then
        for _ in $(seq 30); do # their processes go before the daemon that would end them does
            [ -n "$(squeue --noheader 2>/dev/null)" ] || break
            sleep 0.5
        done
    fi
    for daemon in slurmd slurmctld munged; do
        [ -s "$folder/$daemon.pid" ] || continue
        pid=$(cat "$folder/$daemon.pid")
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 40); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.25
        done
        kill -9 "$pid" 2>/dev/null || true
    done
    rm "$link"
}

case $command in
    start)
        trap stop EXIT # where something goes wrong, nothing is left running
        start
        trap - EXIT
        ;;
    stop) stop ;;
    *) echo "one_node.sh: start or stop, not '$command'" >&2; exit 2 ;;
esac
