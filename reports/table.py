"""Run the experiments that have no report yet, and write the table of README.md.

``python reports/table.py [NAME...]`` with FERPIPE_DATA naming the folder that holds CK+48
and fer2013; what is named is run again. The table has every report that lies here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from ferpipe.wording import mean_spread

HERE = Path(__file__).parent
# report -> experiment and what its command adds
REPORTS = {
    "lstm_svm_ck48_5": ("lstm_svm", ["--set", "data.ck48.classes=5"]),
    **{
        f"{name}_ck48_7": (name, [])
        for name in (
            *("texture_svm", "texture_candide_svm", "hog_svm", "gabor_pca_svm"),
            *("gabor_pca_softmax", "gabor_ica_knn", "lbp_svm", "lbp_knn", "lbp_top_svm"),
            *("zernike_forest", "candide_svm"),
        )
    },
}
START, END = "<!-- table: python reports/table.py -->", "<!-- end of the table -->"
HEAD = (
    "| experiment | data | accuracy | 95 % interval | macro-F1 | plain split "
    "| time |\n|---|---|---|---|---|---|---|\n"
)


DATA = {"ck48": "CK+48", "fer2013": "FER2013"}
SPLITS = {"by_subject": "{} folds by subject", "official": "PublicTest"}


def run(report):
    """Run one experiment by the grid program."""
    name, more = REPORTS[report]
    command = [sys.executable, "-m", "ferpipe.grid", f"pipelines/{name}.yaml"]
    if "_ck48_" in report:
        command += ["--data", "ck48=$FERPIPE_DATA"]
    command += [*more, "--out", f"reports/{report}"]
    subprocess.run(command, cwd=HERE.parent, check=True)


def row(report):
    """Return a row of the table, and the accuracy that it is sorted by."""
    results = json.loads((HERE / report / "results.json").read_text())
    head = results["splits"][results["headline"]]
    plain = results["splits"].get("plain") if results["headline"] == "by_subject" else None
    score, interval = head["accuracy"], head["accuracy"]["interval"]
    cells = [
        f"[{results['name']}]({report}/results.json)",
        f"{DATA[results['data']['loader']]}, {len(results['classes'])} classes",
        f"{mean_spread(score)}, {SPLITS[results['headline']].format(head['n_folds'])}",
        f"{interval['low']:.3f} to {interval['high']:.3f}",
        f"{results['headline_scores']['f1_macro']:.3f}",
        mean_spread(plain["accuracy"]) if plain else "",
        f"{results['seconds'] / 60:.1f} min",
    ]
    return score["mean"], "| " + " | ".join(cells) + " |\n"


def main():
    """Run what is asked for or missing, and write the table."""
    wanted = sys.argv[1:]
    unknown = set(wanted) - set(REPORTS)
    if unknown:
        print(f"error: no report {sorted(unknown)}; expected some of {sorted(REPORTS)}")
        return 2
    missing = [name for name in REPORTS if not (HERE / name / "results.json").is_file()]
    if (wanted or missing) and "FERPIPE_DATA" not in os.environ:
        print(f"error: FERPIPE_DATA is not set; cannot run {wanted or missing}")
        return 2
    for report in wanted or missing:
        run(report)
    found = [name for name in REPORTS if (HERE / name / "results.json").is_file()]
    rows = "".join(text for _, text in sorted(map(row, found), reverse=True))
    readme = HERE / "README.md"
    before, _, rest = readme.read_text().partition(START)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{START}\n{HEAD}{rows}{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
