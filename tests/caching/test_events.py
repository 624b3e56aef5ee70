import subprocess
import sys

from ferpipe.caching.events import Journal


def test_counts_events_of_several_processes(tmp_path):
    journal = Journal(tmp_path / "journal")
    code = (
        "import sys; from ferpipe.caching.events import Journal\n"
        "journal = Journal(sys.argv[1])\n"
        "for _ in range(500): journal.add('fit')\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(journal.path)]) for _ in range(2)
    ]
    for _ in range(500):
        journal.add("step_reused")
    assert [process.wait() for process in processes] == [0, 0]
    assert journal.count("fit") == 1000
    assert journal.count("step_reused") == 500
    assert journal.count("step") == 0


def test_an_event_may_occur_many_times_at_once(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.add("row_reused", 300)
    journal.add("row_reused")
    journal.add("row_reused", 0)
    assert journal.count("row_reused") == 301
    with journal.path.open("a") as file:
        file.write("row_reused 2")  # only half of the line is there yet
    assert journal.count("row_reused") == 301


def test_progress_ends_at_the_number_of_events(tmp_path, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, total, **options):
            self.total, self.n, self.options = total, 0, options
            bars.append(self)

        def update(self, count):
            self.n += count

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    monkeypatch.setattr("ferpipe.caching.events.tqdm", Bar)
    journal = Journal(tmp_path / "journal")
    with journal.progress("fit", 7, "name"):
        for _ in range(5):
            journal.add("fit")
        journal.add("other")
    assert (bars[0].n, bars[0].total) == (5, 7)
