# --8<-- [start:train]
lso train --method ne-vae-se --task digits --latent-dim 8 --epochs 100 --out runs/killed &
until test "$(grep -c . runs/killed/metrics.jsonl 2> /dev/null)" -ge 5 2> /dev/null; do sleep 0.1; done  # five epochs
touch begun
until test runs/killed/last.pt -nt begun; do sleep 0.1; done  # until the next checkpoint, five seconds at most
kill -9 $!  # as a power cut would: nothing is saved at this moment
lso train --resume runs/killed
# --8<-- [end:train]

# --8<-- [start:same]
lso train --method ne-vae-se --task digits --latent-dim 8 --epochs 100 --out runs/whole --quiet
cmp runs/killed/model.safetensors runs/whole/model.safetensors && echo "the same model, bit by bit"
# --8<-- [end:same]

# --8<-- [start:search]
lso optimize --model runs/whole --task digits-preference --optimizer turbo --budget 30 --out runs/search-killed &
until test "$(grep -c . runs/search-killed/evaluations.jsonl 2> /dev/null)" -ge 16 2> /dev/null; do sleep 0.1; done
kill -9 $!
lso optimize --resume runs/search-killed
# --8<-- [end:search]

# --8<-- [start:same-search]
lso optimize --model runs/whole --task digits-preference --optimizer turbo --budget 30 --out runs/search-whole --quiet
python - <<'END'
import json
from pathlib import Path


def proposals(run):
    rows = map(json.loads, Path(run, "evaluations.jsonl").read_text().splitlines())
    return {row["call"]: (row["z"], row["value"]) for row in rows if "call" in row}


assert proposals("runs/search-killed") == proposals("runs/search-whole")
print("the same codes and values in", len(proposals("runs/search-whole")), "calls")
END
# --8<-- [end:same-search]
