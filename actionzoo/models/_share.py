"""Taking over a trained part of another network."""

from torch import nn


def copy_state(source: nn.Module, target: nn.Module, what: str) -> None:
    """Copy all parameters and buffers of `target` from the same names in `source`, which may hold more.

    Args:
        source: The trained module.
        target: The module to set.
        what: What `target` is, for the message.

    Raises:
        ValueError: If one is missing or has another shape; nothing is copied then.
    """
    theirs, mine = source.state_dict(), target.state_dict()
    missing = [name for name in mine if name not in theirs]
    differing = [name for name in mine if name in theirs and theirs[name].shape != mine[name].shape]
    if missing or differing:
        name = (missing or differing)[0]
        kind = "lacks" if missing else "has another shape of"
        raise ValueError(
            f"{type(source).__name__} does not fit {what}: it {kind} {len(missing or differing)} tensors, such as "
            f"{name}; build both with the same backbone and classes"
        )
    target.load_state_dict({name: theirs[name] for name in mine})
