#!/usr/bin/env bash
# Two hosts without a scheduler; not yet run on GPUs.  Give the same line on both, within 10 minutes of each other:
#     scripts/two_hosts.sh HOST RUN_FOLDER --recipe NAME [--field value ...]
# HOST: the name of one of the two as the other sees it; its port 29500 (or $PORT) must be open.  Run from the
# repository's root, with .venv installed.  RUN_FOLDER must lie on a file system that both see; where it holds a
# checkpoint, the run goes on from it, with RESUME_ARGS in place of the settings.
#     GPUS=8  processes on each host
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: scripts/two_hosts.sh HOST RUN_FOLDER --recipe NAME [--field value ...]" >&2; exit 2; }
HOST=$1 RUN=$2
shift 2
if [ -e "$RUN/config.json" ] || compgen -G "$RUN/checkpoints/step-*[0-9d]" >/dev/null; then ARGS=(--resume "$RUN" ${RESUME_ARGS:-}); else ARGS=("$@" --out "$RUN"); fi
exec .venv/bin/torchrun --nnodes 2 --nproc-per-node "${GPUS:-8}" --max-restarts 0 --shutdown-timeout 1800 \
    --rdzv-backend c10d --rdzv-endpoint "$HOST:${PORT:-29500}" --rdzv-id "$(basename "$RUN")" \
    -m prorl_scale.train "${ARGS[@]}"
