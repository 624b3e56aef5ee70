"""The guide of docs/networks.md: its programs run, its table is that of the networks."""

import re
from pathlib import Path

from ferpipe.networks.backbones.registry import BACKBONES, find_backbone

TEXT = (Path(__file__).parents[1] / "docs" / "networks.md").read_text()


def test_the_programs_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    programs = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(programs) == 5
    for program in programs:
        exec(program, names)
    assert names["features"].shape[0] == 60
    again, tuned = (names[name].predict(names["images"]) for name in ("again", "tuned"))
    assert (again == tuned).mean() > 0.95
    assert (tmp_path / "smiles.safetensors").is_file()
    assert "train_loss" in capsys.readouterr().out


def test_the_table_of_networks():
    rows = re.findall(r"^\| (`.*?) \| ([\d, ]+) \| (\d+) \|", TEXT, flags=re.MULTILINE)
    told = {}
    for names, counts, codes in rows:
        for name, count in zip(names.split(", "), counts.split(", "), strict=True):
            told[name.strip("`")] = (count, int(codes))
    built = {name: find_backbone(name)(1, "relu") for name in BACKBONES}
    assert told == {
        name: (f"{sum(p.numel() for p in network.parameters()):,}", network.n_outputs)
        for name, network in built.items()
    }
