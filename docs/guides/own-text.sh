# --8<-- [start:data]
# Your own file goes here; without one, this writes 3,000 short sentences.
test -f sentences.txt || python - > sentences.txt <<'END'
import random

random.seed(0)
sizes = "small big old young quiet loud clever tired".split()
animals = "dog cat fox owl bear duck mouse horse frog goat".split()
verbs = "sleeps sits waits sings reads eats hides dances".split()
places = "outside inside upstairs nearby here there alone today".split()
for _ in range(3000):
    print(*map(random.choice, (sizes, animals, verbs, places)))
END
# --8<-- [end:data]

# --8<-- [start:train]
lso train --method beta-vae:beta=0.1 --arch transformer --data sentences.txt --latent-dim 16 --width 64 --layers 2 \
  --dropout 0 --optimizer adam --learning-rate 0.003 --batch-size 64 --epochs 25 --out runs/sentences
# --8<-- [end:train]

# --8<-- [start:search]
cat > wanted.txt <<'END'
clever owl reads upstairs
tired bear sits alone
quiet goat sings outside
END
lso optimize --model runs/sentences --target wanted.txt --optimizer adam --starts 4 --out runs/wanted
# --8<-- [end:search]

# --8<-- [start:between]
lso interpolate runs/sentences "small dog sleeps inside" "loud horse eats today" --steps 6
# --8<-- [end:between]
