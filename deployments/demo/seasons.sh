#!/usr/bin/env bash
# One island's nests in one season: how many clutches were complete, and when the eggs were laid.
set -euo pipefail

if ! head -n 1 nests.csv | grep -q 'Clutch Completion'; then
    echo "nests.csv has no column 'Clutch Completion'; is this a field record?" >&2
    exit 1
fi

mkdir -p results
python3 - <<'PY'
import csv
from collections import Counter
with open("nests.csv", newline="") as file:
    birds = list(csv.DictReader(file))
complete = Counter(bird["Species"].split()[0] for bird in birds if bird["Clutch Completion"] == "Yes")
total = Counter(bird["Species"].split()[0] for bird in birds)
with open("results/clutches.csv", "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["species", "birds", "complete_clutches"])
    writer.writerows([species, total[species], complete[species]] for species in sorted(total))
with open("results/laying_dates.txt", "w") as file:
    file.writelines(f"{date}\n" for date in sorted(bird["Date Egg"] for bird in birds))
PY
echo "$CRUNCH_DATASET: $(($(wc -l < nests.csv) - 1)) birds"
