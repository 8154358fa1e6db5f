#!/bin/bash
# Ten Prefect workers of the process work pool `crunch` (or of another one), each for one dataset at a time, for as long
# as the allocation lasts. Prefect's server must be reachable from the nodes:
#
#     sbatch deployments/slurm/worker.sh [POOL]
#
#SBATCH --job-name=crunch-worker
#SBATCH --array=1-10
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=12:00:00
#SBATCH --output=crunch-worker-%A_%a.log
set -euo pipefail

# CRUNCH_URL, CRUNCH_TOKEN, CRUNCH_STORAGE_SETTINGS, PREFECT_API_URL.
set -a
# shellcheck source=/dev/null
source "$HOME/.config/crunch/client.env"
set +a
export CRUNCH_DIRECTORY="${TMPDIR:-/tmp}/crunch-$SLURM_JOB_ID"
mkdir -p "$CRUNCH_DIRECTORY"

# srun does not take over from sbatch how many processors it has, since Slurm 22.05.
exec srun --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    prefect worker start --pool "${1:-crunch}" --type process --limit 1 --name "slurm-$SLURM_JOB_ID"
