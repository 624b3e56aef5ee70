import csv
import io

import pytest

from ferpipe.io.csv_cells import plain_cell, safe_cell
from ferpipe.recognition.tables import RowWriter

FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "  =1",
    "'=1",
    "''=1",
    "\uff1d1",
    "-",
    "=",
    "+49 170",
]
HARMLESS = ["anger", "", "a=b", "'tis", "-0.5", "+3", "-1e-9", "3", "x-y", " a"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_marked_and_taken_back(text):
    assert safe_cell(text) == f"'{text}"
    assert plain_cell(safe_cell(text)) == text


@pytest.mark.parametrize("value", [*HARMLESS, 3, -0.5, None, True])
def test_anything_else_stays(value):
    assert safe_cell(value) is value
    assert plain_cell(safe_cell(value)) is value


def test_a_table_holds_no_formula_in_names_nor_in_cells():
    file = io.StringIO()
    writer = RowWriter(file, "csv")
    writer.write({"=class": 0.25, "input": "=HYPERLINK(1).mp4", "pose": -0.5})
    writer.close()
    rows = list(csv.reader(io.StringIO(file.getvalue())))
    assert rows == [
        ["'=class", "input", "pose"],
        ["0.25", "'=HYPERLINK(1).mp4", "-0.5"],
    ]
