#!/usr/bin/env bash
# Run a command beside a SLURM of one node, started for it on the loopback and stopped whatever happened:
#   tests/cluster/with_slurm.sh COMMAND...
# As root on Debian, where missing packages are installed (and stay). A SLURM that is there already is left alone.
set -euo pipefail
home=/run/slurm-for-tests # sockets, pid files, state, logs
etc=/etc/slurm            # job steps drop SLURM_CONF, so the configuration must lie where SLURM looks by itself
command=""                # the process group of the command
mark="# Written by tests/cluster/with_slurm.sh, which removes it when it ends."

fail() {
	echo "with_slurm: $*" >&2
	exit 1
}

install_slurm() {
	command -v apt-get >/dev/null || fail "no slurmctld, slurmd or munged here, and no apt-get to install them with."
	apt-get update -qq
	# at runlevel 1 no package starts a daemon of its own
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends slurm-wlm munge >/dev/null
}

configure() {
	local host
	host=$(hostname -s)
	rm -rf "$home" # a run that was killed has left its key and its state
	mkdir -p "$etc" "$home"/{state,spool}
	# The node claims memory and cores that it need not have (config_overrides), so that jobs may ask for what the
	# profile says (the group 'report': a core for each of three jobs side by side);
	# nothing is held to it. Its GPU is a name with a file that is always there.
	cat >"$etc/slurm.conf" <<-END
		$mark
		ClusterName=tests
		SlurmctldHost=$host(127.0.0.1)
		SlurmUser=root
		SlurmdUser=root
		AuthType=auth/munge
		AuthInfo=socket=$home/munge.socket
		CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
		StateSaveLocation=$home/state
		SlurmdSpoolDir=$home/spool
		SlurmctldPidFile=$home/slurmctld.pid
		SlurmdPidFile=$home/slurmd.pid
		SlurmctldLogFile=$home/slurmctld.log
		SlurmdLogFile=$home/slurmd.log
		ProctrackType=proctrack/linuxproc
		TaskPlugin=task/none
		JobAcctGatherType=jobacct_gather/none
		AccountingStorageType=accounting_storage/none
		SwitchType=switch/none
		MpiDefault=none
		SelectType=select/cons_tres
		SelectTypeParameters=CR_Core_Memory
		SlurmdParameters=config_overrides
		ReturnToService=2
		JobRequeue=0
		MinJobAge=3600
		KillWait=5
		MessageTimeout=60
		GresTypes=gpu
		NodeName=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=256000 Gres=gpu:1 State=UNKNOWN
		PartitionName=tests Nodes=$host Default=YES MaxTime=INFINITE State=UP
	END
	printf '%s\n' "$mark" "NodeName=$host Name=gpu File=/dev/null" >"$etc/gres.conf"
}

start() {
	mungekey --create --keyfile="$home/munge.key"
	munged --key-file="$home/munge.key" --socket="$home/munge.socket" --pid-file="$home/munged.pid" \
		--log-file="$home/munged.log" --seed-file="$home/munged.seed"
	slurmctld
	slurmd
	for _ in {1..150}; do
		[ "$(sinfo --noheader --format=%T 2>/dev/null)" != idle ] || return 0
		sleep 0.2
	done
	tail --lines=20 "$home"/*.log >&2
	fail "the node did not become idle within 30 s."
}

stop() {
	local daemon pid
	[ -z "$command" ] || kill -KILL -- "-$command" 2>/dev/null || true # what it left running, or itself
	if timeout 10 scancel --user=root 2>/dev/null; then
		for _ in {1..100}; do
			[ -n "$(timeout 10 squeue --noheader)" ] || break
			sleep 0.2
		done
	fi
	for daemon in slurmd slurmctld munged; do
		pid=$(cat "$home/$daemon.pid" 2>/dev/null) || continue
		kill "$pid" 2>/dev/null || continue
		timeout 20 tail --pid="$pid" --sleep-interval=0.2 --follow /dev/null || kill -KILL "$pid"
	done
	rm -rf "$home" "$etc/slurm.conf" "$etc/gres.conf"
}

[ $# -gt 0 ] || fail "which command?"
[ "$(id --user)" = 0 ] || fail "SLURM's daemons need root: run this as root, in a container for example."
! pgrep --exact 'slurm(ctl)?d' >/dev/null || fail "a SLURM is running here already; stop it first."
for file in "$etc"/{slurm,gres}.conf; do
	[ ! -e "$file" ] || grep --quiet --fixed-strings "$mark" "$file" ||
		fail "$file is not this script's: the machine has a SLURM of its own."
done
command -v slurmctld slurmd munged mungekey >/dev/null || install_slurm
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
configure
start
set -o monitor # a process group of its own
"$@" &
command=$!
wait "$command"
