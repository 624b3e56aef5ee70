"""Run the experiments that have no report yet, and write the tables of README.md.

``python reports/table.py [NAME...] [--all]`` runs the experiments that are named, or those
that have no report. FERPIPE_DATA must name the folder that holds CK+48 and fer2013.
``--all`` includes those that take hours; remove the folders of reports to run all of them
again. A run that was stopped continues with what it has computed. The tables list every
report in this folder.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from ferpipe.experiments.report.formatting import mean_spread

HERE = Path(__file__).parent
FIVE_SEEDS = ["--set", "evaluate.seeds=[0,1,2,3,4]"]
# report -> experiment and what its command adds
REPORTS = {
    "lstm_svm_ck48_5": ("lstm_svm", ["--set", "data.ck48.classes=5"]),
    "lstm_svm_pretrained_ck48_5": (
        "lstm_svm_pretrained",
        ["--set", "data.ck48.classes=5"],
    ),
    **{
        f"{name}_ck48_7": (name, [])
        for name in (
            *("texture_svm", "texture_candide_svm", "hog_svm", "gabor_pca_svm"),
            *("gabor_pca_softmax", "gabor_ica_knn", "lbp_svm", "lbp_knn", "lbp_top_svm"),
            *("zernike_forest", "candide_svm", "pretrained_lstm", "cnn_lstm"),
        )
    },
    "pixels_lstm_ck48_7": (
        "pretrained_lstm",
        [
            *("--set", "name=pixels_lstm"),
            *("--set", "pipeline.describe.PerFrame.transformer=PixelFeatures"),
        ],
    ),
    **{
        f"candide_{objective}_ck48_7": (
            "candide_svm",
            [
                *("--set", f"name=candide_{objective}"),
                *("--set", f"pipeline.fit.CandideFitter.objective={objective}"),
            ],
        )
        for objective in ("learned", "edges")
    },
    "pretrained_svm_ck48_7": ("pretrained_svm", FIVE_SEEDS),
    "best_ck48": ("best_ck48", FIVE_SEEDS),
    **{
        f"{name}_ck48_6": (name, ["--set", "data.ck48.classes=6"])
        for name in ("candide_blstm", "candide_lstm", "candide_rnn", "cnn", "cnn_lstm")
    },
}
# runs that write weights: the networks that ship are distilled from them or start from them
TEACHER = "fer2013_teacher"
FIRST = "fer2013_first"
# these take hours on 2 cores: they run only when named or with --all
LONG = {
    TEACHER: (TEACHER, []),
    "fer2013_small": ("fer2013_small", []),
    FIRST: (FIRST, []),
    "fer2013_cnn": ("fer2013_cnn", []),
    "fer2013_taught": ("fer2013_taught", []),
    "stn_cnn_lstm_svm": ("stn_cnn_lstm_svm", []),
    "paper_000_ck48_5": ("paper_000", ["--set", "data.ck48.classes=5"]),
}
# paper, its system, its accuracy and how it was evaluated, the report here
PAPERS = (
    (
        "Radharapu et al.",
        "CNN, BiLSTM, SVM, as published",
        "85 %, stratified folds",
        "paper_000_ck48_5",
    ),
    (
        "Radharapu et al.",
        "the same chain, small",
        "85 %, stratified folds",
        "lstm_svm_ck48_5",
    ),
    (
        *("Radharapu et al.", "the same chain, pretrained CNN", "85 %, stratified folds"),
        "lstm_svm_pretrained_ck48_5",
    ),
    (
        *("Radharapu et al.", "wireframe by a learned objective, SVM", "not given"),
        "candide_learned_ck48_7",
    ),
    (
        "Radharapu et al.",
        "wireframe by a designed one, SVM",
        "not given",
        "candide_edges_ck48_7",
    ),
    (
        "Sharma and Jain",
        "wireframe, BLSTM",
        "86.8 ± 0.8 %, 5 folds",
        "candide_blstm_ck48_6",
    ),
    ("Sharma and Jain", "wireframe, LSTM", "85.4 ± 0.7 %, 5 folds", "candide_lstm_ck48_6"),
    ("Sharma and Jain", "wireframe, RNN", "compared, not given", "candide_rnn_ck48_6"),
    ("Sharma and Jain", "CNN", "compared, not given", "cnn_ck48_6"),
    ("Sharma and Jain", "CNN, LSTM", "compared, not given", "cnn_lstm_ck48_6"),
    (
        *("Wu and Pan", "pretrained CNN, LSTM"),
        *("39 to 43 % on frames of CK+ with neutral", "pretrained_lstm_ck48_7"),
    ),
    ("Wu and Pan", "raw pixels, LSTM", "16 % on the same frames", "pixels_lstm_ck48_7"),
    ("Wu and Pan", "CNN not pretrained, LSTM", "not given", "cnn_lstm_ck48_7"),
    ("Wu and Pan", "pretrained CNN, SVM", "not given", "pretrained_svm_ck48_7"),
    ("Lonkar", "CNN on FER2013", "70.1 % on PrivateTest", TEACHER),
    ("Lonkar", "the same CNN, distilled from it", "70.1 % on PrivateTest", "fer2013_small"),
    ("Lonkar", "a wider CNN, distilled from both", "70.1 % on PrivateTest", FIRST),
    ("Lonkar", "the same, trained further", "70.1 % on PrivateTest", "fer2013_cnn"),
    (
        "Lonkar",
        "the same CNN, cross-fitted distillation",
        "70.1 % on PrivateTest",
        "fer2013_taught",
    ),
    (
        *("hybrid CNN and RNN", "spatial transformer, CNN, LSTM, SVM"),
        *("94.1 % on a random tenth of FER2013", "stn_cnn_lstm_svm"),
    ),
    ("hybrid CNN and RNN", "HOG, SVM", "not given", "hog_svm_ck48_7"),
    ("hybrid CNN and RNN", "LBP, SVM", "not given", "lbp_svm_ck48_7"),
    ("hybrid CNN and RNN", "LBP, nearest neighbors", "not given", "lbp_knn_ck48_7"),
    ("hybrid CNN and RNN", "Gabor, PCA, SVM", "not given", "gabor_pca_svm_ck48_7"),
    (
        "hybrid CNN and RNN",
        "Gabor, ICA, nearest neighbors",
        "not given",
        "gabor_ica_knn_ck48_7",
    ),
    (
        "hybrid CNN and RNN",
        "Zernike moments, random forest",
        "not given",
        "zernike_forest_ck48_7",
    ),
)
PAPERS_HEAD = (
    "| paper | system | its accuracy | ours by subject | ours on a stratified split "
    "| report |\n|---|---|---|---|---|---|\n"
)
HEAD = (
    "| experiment | data | accuracy | 95 % interval | macro-F1 | stratified split "
    "| time |\n|---|---|---|---|---|---|---|\n"
)
DATA = {"ck48": "CK+48", "fer2013": "FER2013"}
SPLITS = {
    "subject_independent": "{} folds by subject",
    "stratified": "{} stratified folds",
    "official": "PublicTest",
}


def run(report):
    """Run one experiment by the grid program."""
    name, more = (REPORTS | LONG)[report]
    makes_weights = report in (TEACHER, FIRST)
    program = ["ferpipe.train", "expressions"] if makes_weights else ["ferpipe.grid"]
    command = [sys.executable, "-m", *program, f"pipelines/{name}.yaml"]
    if "ck48" in report:
        command += ["--data", "ck48=$FERPIPE_DATA"]
    command += [*more, "--out", f"reports/{report}"]
    subprocess.run(command, cwd=HERE.parent, check=True)


def read(report):
    """Return the results of a report, or None."""
    path = HERE / report / "results.json"
    return json.loads(path.read_text()) if path.is_file() else None


def stratified_score(results):
    """Return the accuracy on the stratified split beside the primary result, if any."""
    if results["primary"] != "subject_independent" or "stratified" not in results["splits"]:
        return ""
    return mean_spread(results["splits"]["stratified"]["accuracy"])


def row(report):
    """Return a row of the table of reports, and the accuracy by which it is sorted."""
    results = read(report)
    head = results["splits"][results["primary"]]
    score, interval = head["accuracy"], head["accuracy"]["interval"]
    split = SPLITS[results["primary"]].format(head["n_folds"])
    seeds = head.get("seeds") or {}
    spread = ""
    if seeds:
        spread = f", {len(results['seeds'])} seeds ± {seeds['accuracy']['spread']:.3f}"
    cells = [
        f"[{results['name']}]({report}/results.json)",
        f"{DATA[results['data']['loader']]}, {len(results['classes'])} classes",
        f"{mean_spread(score)}, {split}{spread}",
        f"{interval['low']:.3f} to {interval['high']:.3f}",
        f"{results['primary_scores']['f1_macro']:.3f}",
        stratified_score(results),
        f"{results['seconds'] / 60:.1f} min",
    ]
    return score["mean"], "| " + " | ".join(cells) + " |\n"


def paper_row(paper, system, theirs, report):
    """Return a row of the table of papers."""
    results = read(report)
    cells = [paper, system, theirs]
    if results is None:
        experiment, _ = (REPORTS | LONG)[report]
        cells += ["not run yet", "", f"`pipelines/{experiment}.yaml`"]
    else:
        head = results["splits"][results["primary"]]
        official = results["primary"] == "official"
        cells += [
            mean_spread(head["accuracy"]) + (" on PublicTest" if official else ""),
            stratified_score(results),
            f"[{results['name']}]({report}/results.json)",
        ]
    return "| " + " | ".join(cells) + " |\n"


def replace_table(text, name, table):
    """Replace the table between its marks in the text."""
    start, end = f"<!-- {name}: python reports/table.py -->", f"<!-- end of {name} -->"
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n{table}{end}{after}"


def write_tables():
    """Write both tables of README.md from the reports in this folder."""
    readme = HERE / "README.md"
    papers = PAPERS_HEAD + "".join(paper_row(*entry) for entry in PAPERS)
    found = [name for name in REPORTS | LONG if read(name) is not None]
    reports = HEAD + "".join(text for _, text in sorted(map(row, found), reverse=True))
    hours = sum(read(name)["seconds"] for name in found) / 3600
    reports += f"\nTheir times add up to {hours:.1f} hours on 2 cores.\n"
    text = replace_table(readme.read_text(), "papers", papers)
    readme.write_text(replace_table(text, "reports", reports))


def main():
    """Run the experiments that are named or missing, and write the tables."""
    wanted = [word for word in sys.argv[1:] if word != "--all"]
    missing_may_be = REPORTS | LONG if "--all" in sys.argv else REPORTS
    known = REPORTS | LONG
    unknown = set(wanted) - set(known)
    if unknown:
        print(f"error: no report {sorted(unknown)}; expected some of {sorted(known)}")
        return 2
    wanted = wanted or [name for name in missing_may_be if read(name) is None]
    if wanted and "FERPIPE_DATA" not in os.environ:
        print(f"error: FERPIPE_DATA is not set; cannot run {wanted}")
        return 2
    for report in wanted:
        run(report)
        write_tables()
    write_tables()
    return 0


if __name__ == "__main__":
    sys.exit(main())
