#!/usr/bin/env bash
# What is worth doing on a GPU that is lent for minutes: its tests, measurements of speed, and training of the pocket prior on
# real recordings. Each part has a time limit of its own, and one that fails does not stop the next.
#
#   OUT=runs/campaign RECORDINGS=/data/recordings scripts/gpu_campaign.sh [SECONDS]
#
# SECONDS     for everything (also SECONDS_TOTAL; 540); what the other parts leave of it goes to the training
# OUT         folder of the results: summary.md, campaign.log, bench.json, validation.json, and the training as weights.tar.NN,
#             parts of at most 15 MiB with their checksums in weights.sha256, written anew every PACK_SECONDS (120)
# FROM        folder of an earlier call's weights.tar.NN, to go on from (OUT)
# RECORDINGS  folder of recordings with a manifest.csv; without it nothing is trained
# DEVICE      cuda, or cpu to try the script (cuda)
# WHEELS      folder of wheels for packages that the machine lacks; PYTHON: the interpreter (python3)
# WORK        folder of what does not come back (a temporary one)
# TEST_SECONDS, BENCH_SECONDS, SCORE_SECONDS: for tests (60), measurements (300; 0 for none), scores after training (90)
# BENCH_OPTIONS instead of ours for `unasdiff-teach bench`; TRAIN, SCORE: the commands that train and score
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

die() {
    echo "error: $*" >&2
    exit 1
}

TOTAL=${1:-${SECONDS_TOTAL:-540}}
[[ $TOTAL =~ ^[0-9]+$ ]] || die "SECONDS is '$TOTAL'; accepted are whole seconds"
[[ -n ${OUT:-} ]] || die "OUT must name the folder of the results"
OUT=$(realpath -m "$OUT") FROM=$(realpath -m "${FROM:-$OUT}")
mkdir -p "$OUT" || die "the folder $OUT cannot be made"
DEVICE=${DEVICE:-cuda} PYTHON=${PYTHON:-python3}
case $DEVICE in
    cuda) bench=(--scale pocket --seconds 2 --mode forward --mode guided --mode training) ;;
    cpu) bench=(--scale pocket --seconds 0.25 --mode forward --batch 1 --repeats 1) ;;
    *) die "DEVICE is '$DEVICE'; accepted are cuda and cpu" ;;
esac
[[ -n ${BENCH_OPTIONS:-} ]] && read -ra bench <<<"$BENCH_OPTIONS"
read -ra train <<<"${TRAIN:-$PYTHON -m unasdiff_teach.training.pocket}"
read -ra score <<<"${SCORE:-$PYTHON -m unasdiff_teach.evaluation.search}"
: "${SCORE_SECONDS:=90}"
packer='' temporary=''
[[ -n ${WORK:-} ]] || WORK=$(mktemp -d) temporary=$WORK
mkdir -p "$WORK/bench"
: >"$WORK/parts.tsv"
export PYTHONUNBUFFERED=1 PYTHONPATH=$WORK/site:$PWD${PYTHONPATH:+:$PYTHONPATH}

finish() {
    [[ -n $packer ]] && kill "$packer" 2>/dev/null
    [[ -n $temporary ]] && rm -rf "$temporary"
}
trap finish EXIT

# ------------------------------------------------------------------------------------------------ log, limits, packages

stamped() { # lines with the time, on the terminal and in the log; a progress bar's are lines too
    stdbuf -oL tr '\r' '\n' | while IFS= read -r line || [[ -n $line ]]; do printf '%(%H:%M:%S)T %s\n' -1 "$line"; done | tee -a "$OUT/campaign.log"
}

say() { echo "== $*" | stamped; }

outcome() { # NAME SECONDS HOW: for the log and the summary
    say "$1: $3"
    printf '%s\t%s\t%s\n' "$@" >>"$WORK/parts.tsv"
}

left() { echo $((TOTAL - SECONDS - 10)); } # ten seconds for the last parts and the summary

lacks() { # MODULE...: those that cannot be found
    "$PYTHON" -c 'import sys, importlib.util as u; print(*(m for m in sys.argv[1:] if u.find_spec(m) is None))' "$@"
}

part() { # NAME LIMIT "MODULES" COMMAND...: run a command unless a module is missing, at most LIMIT seconds
    local name=$1 limit=$2 missing began=$SECONDS status how
    missing=$(lacks $3)
    shift 3
    ((limit < $(left))) || limit=$(left)
    if [[ -n $missing ]]; then
        outcome "$name" 0 "skipped: needs $missing; pip install them, or name a folder of their wheels in WHEELS"
        return 1
    elif ((limit < 1)); then
        outcome "$name" 0 "skipped: no time was left"
        return 1
    fi
    say "$name, at most $limit s: $*"
    timeout -k 5 "$limit" "$@" </dev/null 2>&1 | stamped
    status=${PIPESTATUS[0]}
    case $status in
        0) how="done" ;;
        124 | 137) how="stopped after its $limit s" ;;
        *) how="failed with status $status; its last lines in campaign.log say why" ;;
    esac
    outcome "$name" $((SECONDS - began)) "$how"
    return "$status"
}

# ---------------------------------------------------------------------------------------- the training, in and out of OUT

pack() { # state, logs and exported weights into OUT, in parts
    [[ -d $WORK/training ]] || return 0
    local new
    new=$(mktemp -d "$WORK/new.XXXXXX") || return 1
    tar -C "$WORK" --exclude='step_*' --exclude='*.partial' --exclude=.lock --exclude=board --warning=no-file-changed -cf - training |
        split -b 15M -d -a 2 - "$new/weights.tar." || return 1
    (cd "$new" && sha256sum weights.tar.* >weights.sha256) || return 1
    rm -f "$OUT"/weights.tar.*
    mv "$new"/* "$OUT"/ && rmdir "$new"
}

pack_again_and_again() {
    while sleep "${PACK_SECONDS:-120}" && kill -0 $$ 2>/dev/null; do pack; done
}

unpack() { # parts of an earlier call; fails where they are damaged
    [[ -d $WORK/training || ! -e $FROM/weights.sha256 ]] && return 0
    if ! (cd "$FROM" && sha256sum --quiet -c weights.sha256) 2>&1 | stamped; then
        outcome training 0 "skipped: the weights.tar.NN in $FROM are not those of weights.sha256; move them away to start from nothing"
        return 1
    fi
    cat "$FROM"/weights.tar.* | tar -C "$WORK" -xf - || return 1
    # trainings on recordings were called pocket-joint once
    [[ -e $WORK/training/recorded-joint ]] || mv "$WORK/training/pocket-joint" "$WORK/training/recorded-joint" 2>/dev/null
    say "training: goes on from the parts in $FROM"
}

# ------------------------------------------------------------------------------------------------------------ the speed

measure() { # each form and precision in a call of its own, so that one that is stopped takes no other with it
    local seconds=$1 has form precision batch cases=() options began=$SECONDS
    read -ra has <<<"$("$PYTHON" -c 'from unasdiff_teach.bench import FORMS
print(*(f for f in FORMS if f not in ("plain", "checkpointed")))' 2>/dev/null)"
    bench+=(--profile)
    for form in "${has[@]:-fast}"; do
        for precision in bfloat16 float32; do
            [[ $DEVICE == cuda || $form-$precision == fast-float32 ]] && cases+=("$form $precision")
        done
    done
    for i in "${!cases[@]}"; do
        read -r form precision <<<"${cases[i]}"
        options=("${bench[@]}" --form "$form" --precision "$precision" --device "$DEVICE")
        if [[ -z ${BENCH_OPTIONS:-} && $DEVICE == cuda ]]; then # each number of sources is compiled anew
            for batch in $([[ $form == fast ]] && echo 1 2 4 8 16 32 64 || echo 1 8 64); do options+=(--batch "$batch"); done
        fi
        part "bench $form $precision" $(((seconds + began - SECONDS) / (${#cases[@]} - i))) \
            "torch torchaudio numpy safetensors pandas typer tqdm" \
            "$PYTHON" -m unasdiff_teach.cli bench "${options[@]}" --out "$WORK/bench/$form-$precision.json"
    done
}

# ------------------------------------------------------------------------------------------------------------- the parts

say "campaign of $TOTAL s on $DEVICE, $(date '+%Y-%m-%d'), $(git rev-parse --short HEAD 2>/dev/null || echo 'no git')"
if [[ -n ${WHEELS:-} ]]; then
    part wheels 90 pip "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$WORK/site" "$WHEELS"/*.whl
fi
if [[ $DEVICE == cuda ]] && ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>&1 | stamped; then
    die "torch finds no GPU of CUDA; DEVICE=cpu tries the script"
fi

everything="pytest torch torchaudio numpy soundfile safetensors lightning_fabric torchmetrics pesq pandas pyarrow typer tqdm filelock matplotlib"
part tests "${TEST_SECONDS:-60}" "$everything" "$PYTHON" -m pytest -q -p no:cacheprovider tests/test_gpu.py

((${BENCH_SECONDS:=300} > 0)) && measure "$BENCH_SECONDS"

if [[ -z ${RECORDINGS:-} ]]; then
    outcome training 0 "skipped: RECORDINGS names no folder"
elif unpack; then
    pack_again_and_again >/dev/null 2>&1 &
    packer=$!
    limit=$(left)
    ((SCORE_SECONDS < limit)) && limit=$((limit - SCORE_SECONDS))
    minutes=$(awk -v s=$((limit - 15)) 'BEGIN { printf "%.2f", (s > 6 ? s : 6) / 60 }')
    part training "$limit" "torch torchaudio numpy soundfile safetensors lightning_fabric tqdm filelock" "${train[@]}" joint \
        --recordings "$RECORDINGS" --folder "$WORK/training" --minutes "$minutes" --device "$DEVICE"
    kill "$packer" && wait "$packer" 2>/dev/null
    packer=''
    pack
    part validation "$SCORE_SECONDS" "torch torchaudio numpy soundfile safetensors filelock" "${score[@]}" \
        --recordings "$RECORDINGS" --score "$WORK/training/recorded-joint.safetensors" --out "$WORK/training" --device "$DEVICE"
    [[ -e $WORK/training/validation.json ]] && cp "$WORK/training/validation.json" "$OUT"
fi

say "everything took $SECONDS s"
"$PYTHON" scripts/campaign_summary.py "$WORK" "$OUT" || die "no summary could be written; campaign.log has everything"
