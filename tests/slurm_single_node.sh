#!/usr/bin/env bash
# A SLURM cluster of this one machine, for as long as a command runs:
#
#     tests/slurm_single_node.sh python -m mnist_mlp.train -m hydra/launcher=submitit_slurm ...
#
# Needs root and Debian's packages (apt-get install slurm-wlm munge). Everything is in a folder of its own, which goes
# away with the cluster; no service is started, /etc is neither read nor written. One partition, `main`.
set -euo pipefail

[ $# -gt 0 ] || { echo "usage: $0 COMMAND [ARGUMENT ...]" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "$0: run me as root" >&2; exit 2; }
PATH=$PATH:/usr/sbin:/sbin
for program in munged slurmctld slurmd sbatch srun scontrol; do
    command -v "$program" > /dev/null || { echo "$0: no $program: apt-get install slurm-wlm munge" >&2; exit 2; }
done

work=$(mktemp -d)
daemons=()
finish() {
    local status=$?
    trap - EXIT INT TERM
    if [ -f "$work/slurm.conf" ]; then # of this cluster only, never of another that SLURM_CONF may name
        SLURM_CONF=$work/slurm.conf timeout 10 scancel --user=root --quiet 2> /dev/null || true
    fi
    for ((n = ${#daemons[@]} - 1; n >= 0; n--)); do
        kill "${daemons[n]}" 2> /dev/null && wait "${daemons[n]}" 2> /dev/null || true
    done
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

chmod 755 "$work" # munged insists that all may reach its socket
(umask 077 && head -c 1024 /dev/urandom > "$work/munge.key")
munged --foreground --key-file="$work/munge.key" --socket="$work/munge.socket" --seed-file="$work/munge.seed" \
    --pid-file="$work/munge.pid" --log-file="$work/munged.log" > "$work/munged.out.log" 2>&1 &
daemons+=($!)

node=$(hostname -s)
memory=$(awk '/^MemTotal:/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
read -r port_a port_b < <(python3 - <<'PYTHON'
import socket
doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(door.getsockname()[1] for door in doors))
PYTHON
)
mkdir "$work/state" "$work/spool"
cat > "$work/slurm.conf" <<CONF
ClusterName=single
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$port_a
SlurmdPort=$port_b
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
CredType=cred/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
PlugStackConfig=$work/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
KillWait=5
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF
: > "$work/plugstack.conf"
if [ "$(slurmd -V | sed 's/[^0-9]*\([0-9]*\).*/\1/')" -ge 23 ]; then
    echo "CgroupPlugin=disabled" > "$work/cgroup.conf" # 22.05 knows no such value and needs none
    sed -i '/^SwitchType=/d' "$work/slurm.conf"
fi
export SLURM_CONF=$work/slurm.conf

for _ in $(seq 50); do [ -S "$work/munge.socket" ] && break; sleep 0.1; done
slurmctld -D > "$work/slurmctld.out.log" 2>&1 &
daemons+=($!)
slurmd -D > "$work/slurmd.out.log" 2>&1 &
daemons+=($!)
for _ in $(seq 150); do
    sinfo --noheader --format=%t 2> /dev/null | grep -qx idle && break
    sleep 0.2
done
sinfo --noheader --format=%t | grep -qx idle || {
    tail -n 20 "$work"/*.log >&2
    echo "$0: the node did not come up" >&2
    exit 1
}

# submitit asks sacct how its jobs are; accounting would take a database, so squeue answers in its place. It knows states
# that sacct has not, and that submitit would take for an end: of a job that is being signalled or requeued
mkdir "$work/bin"
cat > "$work/bin/sacct" <<'SACCT'
#!/usr/bin/env bash
echo "JobID|State|NodeList"
while [ $# -gt 0 ]; do
    if [ "$1" = -j ]; then
        squeue --array --states=all --noheader --format="%i|%T|%N" --jobs="$2" |
            sed -E 's/\|(SIGNALING|STAGE_OUT)\|/|RUNNING|/; s/\|(REQUEUE_FED|SPECIAL_EXIT|CONFIGURING)\|/|PENDING|/'
        shift
    fi
    shift
done
SACCT
chmod +x "$work/bin/sacct"
PATH=$work/bin:$PATH "$@"
for _ in $(seq 150); do # a job is through a little after its result is there
    [ -n "$(squeue --noheader)" ] || break
    sleep 0.2
done
