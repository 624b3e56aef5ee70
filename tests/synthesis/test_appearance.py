from dataclasses import replace

import numpy as np

from ferpipe.synthesis.appearance import random_appearance


def test_a_person_is_kept():
    rng = np.random.default_rng(0)
    person = random_appearance(rng)
    other = random_appearance(rng, person=person)
    picture = (
        *("background", "background_tone", "background_range", "background_seed"),
        *("light", "ambient", "brightness", "contrast", "blur", "noise"),
    )
    kept = {name: getattr(person, name) for name in picture}
    assert replace(other, **kept) == person
    assert other.light != person.light
    assert other.background_tone != person.background_tone


def test_appearances_follow_the_seed():
    first, same, other = (
        random_appearance(np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == same != other


def test_all_people_differ():
    rng = np.random.default_rng(0)
    people = [random_appearance(rng) for _ in range(200)]
    assert len({replace(person, background_seed=0) for person in people}) == 200
    bald = [person.hair_line > 1.5 for person in people]
    assert 2 < sum(bald) < 40
