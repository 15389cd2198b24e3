"""Taking over a trained part of another network."""

from torch import nn


def copy_state(source: nn.Module, target: nn.Module, what: str) -> None:
    """Copy all parameters and buffers of `target` from the same names in `source`.

    `source` may go on where `target` ends, as a network does whose last layers were cut off. Layers in between that
    `target` does not have make it another network, though every tensor that is asked for is there: a ResNet-50 holds
    all of a ResNet-26.

    Args:
        source: The trained module.
        target: The module to set.
        what: What `target` is, for the message.

    Raises:
        ValueError: If one is missing, has another shape, or `source` holds others in between; nothing is copied then.
    """
    theirs, mine = source.state_dict(), target.state_dict()
    missing = [name for name in mine if name not in theirs]
    differing = [name for name in mine if name in theirs and theirs[name].shape != mine[name].shape]
    end = max((i for i, name in enumerate(theirs) if name in mine), default=0)
    more = [name for name in list(theirs)[:end] if name not in mine]
    if wrong := missing or differing or more:
        kind = "lacks" if missing else "has another shape of" if differing else "also holds"
        name, shapes = wrong[0], ""
        if kind.startswith("has"):
            shapes = f" ({tuple(theirs[name].shape)} where {tuple(mine[name].shape)} is wanted)"
        raise ValueError(
            f"{type(source).__name__} does not fit {what}: it {kind} {len(wrong)} tensors, such as {name}{shapes}; "
            "build both with the same arguments (`**source.pretrained_cfg['model_args']`: backbone, input_size, "
            "in_chans, num_classes)"
        )
    target.load_state_dict({name: theirs[name] for name in mine})
