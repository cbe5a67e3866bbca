"""A spoken code survives a telephone line: espeak-ng, 300 to 3400 Hz, µ-law, noise, and a recogniser of digits."""

from __future__ import annotations

import importlib.util
from functools import cache

import pytest

from otpvoice.speech import render

missing = [name for name in ("numpy", "pocketsphinx") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(not render.available(), reason="espeak-ng is not installed (apt install espeak-ng)"),
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)} (pip install otpvoice[test])"),
]

CODES = ("482913", "750214", "318072", "947531", "205748", "834190", "571928", "490357")
"""Every digit but 6: its hiss is above 3400 Hz, and the recogniser's model is of speech with it."""


@pytest.fixture(scope="module")
def recovered():
    from benchmarks import telephone

    listener = telephone.Listener()

    @cache
    def count(form: str, snr: float):
        return telephone.experiment(CODES, snr=snr, form=form, plays=1, listener=listener)

    return count


def test_the_spelled_code_arrives_and_the_bare_number_does_not(recovered):
    ours, bare = recovered("otpvoice", 30.0), recovered("482913", 30.0)
    assert ours.calls >= 6
    assert bare.calls <= 2
    assert sum(ours.digits) / len(ours.digits) > 0.9


def test_noise_costs_digits_but_not_the_order(recovered):
    quiet, noisy = recovered("otpvoice", 30.0), recovered("otpvoice", 20.0)
    bare = recovered("482913", 20.0)
    assert noisy.calls <= quiet.calls
    assert noisy.calls >= bare.calls + 2


def test_what_one_reading_lost_is_taken_from_the_other():
    """A person who hears the code twice goes by the clearer reading: what repetition is for."""
    import numpy as np

    from benchmarks import telephone

    listener = telephone.Listener()
    lines = [telephone.telephone(*telephone.speak(text), snr=30.0, seed=1) for text in telephone.ours("482913")]
    lines[0][int(len(lines[0]) * 0.6) : int(len(lines[0]) * 0.9)] = 0
    readings = [listener.reading(line) for line in lines]
    assert readings[0] != "482913"
    assert listener.code(lines, readings) == "482913"
    assert listener.code(lines, ["482553", "482913"]) == "482913"
    assert listener.code([np.zeros(16000)], [""]) == ""


def test_gaps_take_away_a_tenth_of_the_line_and_the_same_each_time():
    from benchmarks import telephone

    lost = telephone._dead(8000 * 600, seed=3)
    assert 0.06 < lost.mean() < 0.13
    assert (telephone._dead(8000 * 600, seed=3) == lost).all()
    assert (telephone._dead(8000 * 600, seed=4) != lost).any()


def test_the_line_takes_away_what_a_telephone_takes_away():
    import numpy as np

    from benchmarks import telephone

    rate = 22050
    time = np.arange(rate) / rate
    tones = {pitch: np.sin(2 * np.pi * pitch * time) * 0.5 for pitch in (100, 1000, 5000)}
    line = telephone.telephone(sum(tones.values()), rate, snr=60, seed=1)
    power = np.abs(np.fft.rfft(line))
    pitches = np.fft.rfftfreq(len(line), 1 / telephone.MODEL_RATE)

    def level(pitch: float) -> float:
        return float(20 * np.log10(power[np.argmin(np.abs(pitches - pitch))] + 1e-9))

    assert level(1000) > level(100) + 30
    assert level(1000) > level(5000) + 30


def test_the_noise_is_as_loud_as_stated():
    import numpy as np

    from benchmarks import telephone

    rate = 8000
    speech = np.sin(2 * np.pi * 1000 * np.arange(rate * 2) / rate)
    clean = telephone.telephone(speech, rate, snr=90, seed=1)
    noisy = telephone.telephone(speech, rate, snr=10, seed=1)
    middle = slice(8000, -8000)
    measured = 10 * np.log10(np.mean(clean[middle] ** 2) / np.mean((noisy - clean)[middle] ** 2))
    assert 8 < measured < 13
