# One population of Palmer penguins: measurements -> cleaned -> summary and plot -> report.
rule all:
    input: "results/report.md"

rule clean:
    input: "penguins.csv"
    output: "results/measurements.csv"
    # A bird without a weight was not caught; it tells nothing about flippers and weight.
    shell: "awk -F, 'NR == 1 || $6 != \"NA\"' {input} > {output}"

rule summary:
    input: "results/measurements.csv"
    output: "results/summary.json"
    log: "logs/summary.log"
    shell:
        """
        python3 - {input} {output} <<'PY' 2> {log}
import csv, json, statistics, sys
with open(sys.argv[1]) as file:
    birds = list(csv.DictReader(file))
weights = [float(bird["body_mass_g"]) for bird in birds]
flippers = [float(bird["flipper_length_mm"]) for bird in birds]
summary = {{
    "birds": len(birds),
    "mean_body_mass_g": round(statistics.fmean(weights), 1),
    "mean_flipper_length_mm": round(statistics.fmean(flippers), 1),
    "correlation": round(statistics.correlation(flippers, weights), 3),
}}
with open(sys.argv[2], "w") as file:
    json.dump(summary, file, indent=2)
PY
        """

rule plot:
    input: "results/measurements.csv"
    output: "results/flipper_and_mass.png"
    log: "logs/plot.log"
    shell:
        """
        MPLBACKEND=Agg python3 - {input} {output} <<'PY' 2> {log}
import csv, sys
import matplotlib.pyplot as plt
with open(sys.argv[1]) as file:
    birds = list(csv.DictReader(file))
figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
for sex, colour in (("male", "#1b6ca8"), ("female", "#d9822b"), ("NA", "#888888")):
    some = [bird for bird in birds if bird["sex"] == sex]
    axes.scatter([float(b["flipper_length_mm"]) for b in some], [float(b["body_mass_g"]) for b in some],
                 s=18, color=colour, label=sex)
axes.set(xlabel="flipper length (mm)", ylabel="body mass (g)", title=f"{{birds[0]['species']}} on {{birds[0]['island']}}")
axes.legend(frameon=False)
figure.savefig(sys.argv[2], dpi=110)
PY
        """

rule report:
    input: summary="results/summary.json", plot="results/flipper_and_mass.png"
    output: "results/report.md"
    shell:
        """
        (echo '# Flippers and weight'; echo; echo '```json'; cat {input.summary}; echo; echo '```'; echo
         echo '![Flipper length against body mass](flipper_and_mass.png)') > {output}
        """
