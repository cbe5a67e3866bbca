"""How many codes arrive: text → espeak-ng → a telephone line → a recogniser with a grammar of digits → the code.

    python -m benchmarks.telephone [--codes 40]

Needs espeak-ng (Debian), and pocketsphinx and numpy (PyPI; pocketsphinx ships its English model). The line is 8 kHz,
300 to 3400 Hz, G.711 µ-law, with street noise at a stated distance below the speech. All of it is seeded: the same
codes give the same rates.

Three forms are compared: the bare number (``482913``), digits with spaces (``4 8 2 9 1 3``), and what
:func:`otpvoice.speech.compose.compose` says, which is two readings of the code. The listener is the same for all: it
knows the sentences and that a code has six digits, and cuts long silences short. Where it heard several readings and
they differ, it goes back over all of them, as a person does who hears a thing again: of the codes that are made of the
digits it heard at each place, it takes the one that is likeliest for all the readings together. So a digit that was
lost in one reading is taken from another, and one that always sounds wrong stays wrong.

Its model is of speech at 16 kHz; on a telephone the hiss of "six" is gone, so its dictionary has that word without the
hiss, too. It does not tire, and it needs no pause to write: what pauses do for people, it cannot show.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import tempfile
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from otpvoice.speech import render
from otpvoice.speech.compose import compose
from otpvoice.speech.wordings import bundled
from otpvoice.types import Capabilities, Code, Medium

VOICE = "en-us+klatt2"
"""Of espeak-ng's variants one that the recogniser, trained on people, understands without a telephone."""
WORDS_PER_MINUTE = 130
LINE_RATE, MODEL_RATE = 8000, 16000
BAND = (300.0, 3400.0)
DIGITS = bundled().by_tag["en"].voice.spelling.digits  # type: ignore[union-attr]
CALM, NOISY = 30.0, 20.0
"""Decibels of speech over noise on the line: a room, a street."""
GAP, GAP_EVERY = 0.2, 2.0
"""Seconds that a line with gaps is dead, and how often on average: a tenth of a call is lost."""
LONGEST_SILENCE = 15
"""Hundredths of a second of silence that the listener keeps."""
MOST_CANDIDATES = 64
"""Codes that the listener weighs against each other when readings differ."""
UNHEARD = -50.0
"""The fit of a sentence that cannot be heard as a code at all; others are above -5, in the decoder's own small unit."""
NARROW_SIX = ("F IH K F", "TH IH K TH", "IH K")


def naive(code: str) -> list[str]:
    """The bare number, said once."""
    return [f"Your sign-in code is: {code}."]


def spaced(code: str) -> list[str]:
    """Digits with spaces, said once."""
    return [f"Your sign-in code is: {' '.join(code)}."]


def ours(code: str) -> list[str]:
    """The two readings of the shortest wording."""
    said = compose(
        Code(code),
        capabilities=Capabilities(medium=Medium.VOICE, max_text=150),
        purpose="login",
        valid_for=timedelta(minutes=5),
        locale="en",
    )
    readings = re.split(r"(?=Once more)", said.text)
    assert len(readings) == 2
    return readings


FORMS: dict[str, Callable[[str], list[str]]] = {"482913": naive, "4 8 2 9 1 3": spaced, "otpvoice": ours}


@cache
def speak(text: str) -> tuple[np.ndarray[Any, Any], int]:
    """espeak-ng's samples, −1 to 1, and their rate."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        render.render(text, voice=VOICE, path=path, words_per_minute=WORDS_PER_MINUTE)
        with wave.open(str(path)) as recording:
            rate = recording.getframerate()
            samples = np.frombuffer(recording.readframes(recording.getnframes()), dtype="<i2")
    return samples.astype(float) / 32768, rate


def telephone(
    samples: np.ndarray[Any, Any], rate: int, *, snr: float, seed: int, gaps: bool = False
) -> np.ndarray[Any, Any]:
    """The same speech at the other end of the line, at 16 kHz, as the recogniser's model wants it."""
    quiet = np.zeros(rate * 3 // 10)
    line = _band(_resample(np.concatenate([quiet, samples, quiet]), rate, LINE_RATE), LINE_RATE)
    line *= 0.5 / np.max(np.abs(line))
    loud = line[np.abs(line) > 0.01]
    noise = _street(len(line), seed)
    noise *= np.sqrt(np.mean(loud**2) / np.mean(noise**2)) / 10 ** (snr / 20)
    arriving = line + noise
    if gaps:
        arriving[_dead(len(arriving), seed)] = 0
    heard = _mu_law(np.clip(arriving, -1, 1))
    places = np.arange(2 * len(heard) - 1) / 2
    return np.interp(places, np.arange(len(heard)), heard)


def _street(length: int, seed: int) -> np.ndarray[Any, Any]:
    """Pink noise: as much power in each octave, like traffic and wind."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(length))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    return np.fft.irfft(spectrum, length)


def _dead(length: int, seed: int) -> np.ndarray[Any, Any]:
    """Which samples a mobile network loses: bursts of one length, at any time, none knowing of another."""
    draw = np.random.default_rng([seed, 1])
    dead = np.zeros(length, dtype=bool)
    for start in draw.integers(0, length, draw.poisson(length / LINE_RATE / GAP_EVERY)):
        dead[start : start + round(GAP * LINE_RATE)] = True
    return dead


def _band(samples: np.ndarray[Any, Any], rate: int) -> np.ndarray[Any, Any]:
    spectrum = np.fft.rfft(samples)
    pitch = np.fft.rfftfreq(len(samples), 1 / rate)
    spectrum[(pitch < BAND[0]) | (pitch > BAND[1])] = 0
    return np.fft.irfft(spectrum, len(samples))


def _resample(samples: np.ndarray[Any, Any], old: int, new: int) -> np.ndarray[Any, Any]:
    length = round(len(samples) * new / old)
    spectrum = np.fft.rfft(samples)
    kept = np.zeros(length // 2 + 1, dtype=complex)
    count = min(len(kept), len(spectrum))
    kept[:count] = spectrum[:count]
    return np.fft.irfft(kept, length) * (length / len(samples))


def _mu_law(samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Through G.711: 256 steps, finer for what is soft."""
    pressed = np.sign(samples) * np.log1p(255 * np.abs(samples)) / np.log(256)
    stepped = np.round(pressed * 127) / 127
    return np.sign(stepped) * np.expm1(np.abs(stepped) * np.log(256)) / 255


def _shorten_silences(samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    level = np.convolve(10 * np.log10(np.mean(frames**2, axis=1) + 1e-12), np.ones(5) / 5, "same")
    kept, silent = [], 0
    for frame, speech in zip(frames, level > np.percentile(level, 10) + 6, strict=True):
        silent = 0 if speech else silent + 1
        if silent <= LONGEST_SILENCE:
            kept.append(frame)
    return np.concatenate(kept)


class Listener:
    """pocketsphinx, with a grammar that knows the sentences and six digits in each."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder, get_model_path

        self._grammar = ""

        self._decoder = Decoder(
            lm=None,
            hmm=get_model_path("en-us/en-us"),
            dict=get_model_path("en-us/cmudict-en-us.dict"),
            samprate=MODEL_RATE,
            cmn="batch",
            logfn="/dev/null",
        )
        for number, sounds in enumerate(NARROW_SIX, 2):
            self._decoder.add_word(f"six({number})", sounds, True)

    def reading(self, samples: np.ndarray[Any, Any]) -> str:
        """The code that is heard in one sentence; empty where nothing is."""
        heard = self._hear(samples, "<digit> " * 6)
        words = [word.partition("(")[0] for word in heard.hypstr.split()] if heard else []
        code = "".join(str(DIGITS.index(word)) for word in words if word in DIGITS)
        return code if len(code) == 6 else ""

    def code(self, sentences: Sequence[np.ndarray[Any, Any]], readings: Sequence[str]) -> str:
        """The code that all the sentences of a call, heard as ``readings``, say together; empty where none does."""
        whole = sorted({reading for reading in readings if reading})
        places = [sorted(set(place)) for place in zip(*whole, strict=True)]
        mixed = ["".join(digits) for digits in product(*places)] if places else []
        candidates = mixed if len(mixed) <= MOST_CANDIDATES else whole
        if len(candidates) <= 1:
            return "".join(candidates)
        return max(candidates, key=lambda candidate: sum(self._fit(sentence, candidate) for sentence in sentences))

    def _fit(self, samples: np.ndarray[Any, Any], code: str) -> float:
        """How likely it is that a sentence says the code, as a logarithm."""
        heard = self._hear(samples, " ".join(DIGITS[int(digit)] for digit in code))
        return math.log(heard.score) if heard and heard.score > 0 else UNHEARD

    def _hear(self, samples: np.ndarray[Any, Any], digits: str) -> Any:
        grammar = (
            f"#JSGF V1.0; grammar call; <digit> = {' | '.join(DIGITS)} ;"
            f"public <call> = (your sign in code is | once more the code is) {digits};"
        )
        if self._grammar != grammar:
            self._decoder.add_jsgf_string("call", grammar)
            self._decoder.activate_search("call")
            self._grammar = grammar
        self._decoder.start_utt()
        self._decoder.process_raw((_shorten_silences(samples) * 32767).astype("<i2").tobytes(), full_utt=True)
        self._decoder.end_utt()
        return self._decoder.hyp()


@dataclass
class Score:
    """What became of some codes in one form."""

    codes: int = 0
    calls: int = 0
    readings: list[bool] = field(default_factory=list)
    digits: list[bool] = field(default_factory=list)


def experiment(
    codes: Sequence[str], *, snr: float, form: str, plays: int, listener: Listener, gaps: bool = False
) -> Score:
    """Call with each code, ``plays`` times the text, and count what arrives."""
    score = Score(codes=len(codes))
    for number, code in enumerate(codes):
        arriving = [
            telephone(*speak(sentence), snr=snr, seed=10_000 * play + 100 * place + number, gaps=gaps)
            for play in range(plays)
            for place, sentence in enumerate(FORMS[form](code))
        ]
        heard = [listener.reading(sentence) for sentence in arriving]
        score.readings += [reading == code for reading in heard]
        score.digits += [mine == its for reading in heard for mine, its in zip_longest(code, reading)]
        score.calls += listener.code(arriving, heard) == code
    return score


def some_codes(count: int, seed: int = 7) -> list[str]:
    """Six digits each, the same every time."""
    draw = random.Random(seed)
    return [f"{draw.randrange(10**6):06d}" for _ in range(count)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=int, default=40)
    codes = some_codes(parser.parse_args().codes)
    listener = Listener()
    print(f"{len(codes)} codes, {VOICE} at {WORDS_PER_MINUTE} words a minute, 300-3400 Hz, 8 kHz mu-law, street noise")
    print(f"{'line':<14}{'form':<14}{'plays':>6}{'digits':>8}{'readings':>10}{'calls':>8}")
    for snr, gaps in ((CALM, False), (NOISY, False), (CALM, True)):
        line = f"{snr:.0f} dB{', gaps' if gaps else ''}"
        for form, plays in (("482913", 1), ("4 8 2 9 1 3", 1), ("4 8 2 9 1 3", 2), ("otpvoice", 1)):
            score = experiment(codes, snr=snr, form=form, plays=plays, listener=listener, gaps=gaps)
            right = sum(score.digits) / max(len(score.digits), 1)
            each = sum(score.readings) / max(len(score.readings), 1)
            print(
                f"{line:<14}{form:<14}{plays:>6}{right:>8.0%}{each:>10.0%}{score.calls / score.codes:>8.0%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
