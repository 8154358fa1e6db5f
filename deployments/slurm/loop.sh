#!/bin/bash
# Twenty clients, each of which processes one dataset after the other until none is left:
#
#     sbatch deployments/slurm/loop.sh PROJECT
#
#SBATCH --job-name=crunch
#SBATCH --array=1-20
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=12:00:00
#SBATCH --output=crunch-%A_%a.log
# SIGTERM a minute before the time is over: the client ends its workflow and gives the dataset back.
#SBATCH --signal=TERM@60
set -euo pipefail

project=${1:?"Usage: sbatch loop.sh PROJECT"}

# CRUNCH_URL, CRUNCH_TOKEN, CRUNCH_STORAGE_SETTINGS and, if there is a Prefect server, PREFECT_API_URL.
set -a
# shellcheck source=/dev/null
source "$HOME/.config/crunch/client.env"
set +a

# The node's own disk goes with the job, hence --cleanup, and what was not published is done again by others.
# srun does not take over from sbatch how many processors it has, since Slurm 22.05.
exec srun --cpus-per-task="$SLURM_CPUS_PER_TASK" crunch loop --project "$project" \
    --cores "$SLURM_CPUS_PER_TASK" --directory "${TMPDIR:-/tmp}/crunch-$SLURM_JOB_ID" --cleanup
