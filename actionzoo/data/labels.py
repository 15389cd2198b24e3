"""Class lists of the papers' public data sets, and maps that merge their classes.

The class list of a model comes from the folders it was trained on, see `read_samples`; these serve to lay such
folders out, and to merge classes with `ActionSamples.relabel` or `actionzoo train --label-map`.
"""

INSTRUMENTS = (
    "bassoon",
    "cello",
    "clarinet",
    "erhu",
    "flute",
    "french_horn",
    "guitar",
    "harp",
    "recorder",
    "saxophone",
    "trumpet",
    "violin",
)
"""The 12 instruments of PPMI, People Playing Musical Instruments (PRF-Net section 4.1)."""

PPMI_24 = tuple(f"{verb}_{name}" for verb in ("play", "with") for name in INSTRUMENTS)
"""PPMI-24: playing (PPMI+) or holding (PPMI-) each of 12 instruments."""

DAR_4 = ("drinking", "not_drinking", "not_reading", "reading")
"""DAR-4: drinking or not, reading or not (PRF-Net section 4.1)."""

PPMI_24_TO_12 = {name: name.split("_", 1)[1] for name in PPMI_24}
"""Each class of PPMI-24 -> its instrument, the 12-class task."""

PPMI_24_TO_PLAYING = {name: name.split("_", 1)[0] for name in PPMI_24}
"""Each class of PPMI-24 -> `play` or `with`, the 2-class task."""

LABEL_MAPS = {"ppmi12": PPMI_24_TO_12, "ppmi2": PPMI_24_TO_PLAYING}
"""Maps by the name that the command line takes."""
