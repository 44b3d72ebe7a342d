#!/usr/bin/env bash
# A search on several nodes of a SLURM cluster: sbatch examples/slurm.sh
# Submitted again, or requeued, it continues: the ledger in the shared folder is the record of the run.
#SBATCH --job-name=nas
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --requeue
set -euo pipefail

run=${RUN:-$SLURM_SUBMIT_DIR/runs/a} # where all nodes see it
source "${VENV:-$SLURM_SUBMIT_DIR/.venv}/bin/activate" # with lighthubert-nas[ray]

# Ray's token, the same on all nodes: the home folder is shared
export RAY_AUTH_MODE=token
ray get-auth-token --generate > /dev/null

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
where=--out
[[ ! -f $run/run.json ]] || where=--resume

# starts Ray on every node, runs the command on the first, and stops Ray
srun ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_NNODES" --num-cpus "$SLURM_CPUS_PER_TASK" -- \
    nas search $where "$run" --budget 'params<=2.5M' --evals 300 --batch 256 --ray auto
