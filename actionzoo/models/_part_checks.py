"""What may take the place of a part of the part action parser."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..data.figures import PARTS
from ..layers import BoxGrower, PoseDotEncoder
from .csn import CSN
from .part_people import JOINT_PARTS
from .segments import PART_GROUPS

OF_CLIPS = ("input_size", "mean", "std", "frames", "stride")
"""What a network of clips says of the clips that it takes."""


def networks_of(part_nets: nn.Module) -> dict[str, Any]:
    """The networks of the part groups by name, six or one."""
    return dict(part_nets.items()) if isinstance(part_nets, nn.ModuleDict) else {"part_nets": part_nets}


def check_part_nets(part_nets: nn.Module, sizes: Mapping[str, int]) -> None:
    """Refuse networks that do not tell the states of the part groups.

    Args:
        part_nets: Six by group, or one.
        sizes: Labels of every group.

    Raises:
        ValueError: If a group is missing, or a network is of another kind or has another number of classes.
    """
    networks = networks_of(part_nets)
    if isinstance(part_nets, nn.ModuleDict) and set(networks) != set(PART_GROUPS):
        raise ValueError(f"part_nets are those of {', '.join(PART_GROUPS)}, got {', '.join(networks)}")
    for key, net in networks.items():
        check_network(key, net, sum(sizes.values()) if key == "part_nets" else sizes[key])


def check_network(name: str, net: nn.Module, classes: int) -> None:
    """Refuse what is no channel-separated network of so many classes that looks at square clips.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(net, CSN) or net.num_classes != classes:
        got = f"a {type(net).__name__} of {getattr(net, 'num_classes', 'no')} classes"
        raise ValueError(f"{name} is a channel-separated network of {classes} classes, got {got}")
    height, width = net.pretrained_cfg["input_size"][-2:]
    if height != width:
        raise ValueError(f"{name} is shown square crops, got one whose input_size is {height} x {width} pixels")


def check_same_clips(video_net: Any, part_nets: nn.Module) -> None:
    """Refuse networks that take different clips: all of them are shown the same ones.

    Raises:
        ValueError: If one of the part groups differs from that of the actions.
    """
    for key, net in networks_of(part_nets).items():
        for setting in OF_CLIPS:
            wanted, got = (_plain(each.pretrained_cfg[setting]) for each in (video_net, net))
            if wanted != got:
                raise ValueError(
                    f"all networks of a PCF are shown the same clips, but video_net has {setting}={wanted} and "
                    f"{key} {got}; build both alike, and replace both together by replace_networks(…)"
                )


def _plain(value: Any) -> Any:
    """Lists, as they come from JSON, as tuples."""
    return tuple(value) if isinstance(value, list | tuple) else value


def check_stage_part(name: str, value: nn.Module, pose: Any, dots: PoseDotEncoder | None) -> None:
    """Refuse what cannot be a detector, pose net, dots or grower.

    Args:
        name: Of the part.
        value: What is to take its place.
        pose: The pose net that there is, if there is one.
        dots: The dots that there are.

    Raises:
        ValueError: If it cannot.
    """
    kind, config = type(value).__name__, getattr(value, "pretrained_cfg", {})
    if name == "pose" and dots is not None and config.get("joints") not in JOINT_PARTS:
        raise ValueError(f"the joints of this {kind} are in neither COCO's nor MPII's order; set dots = None first")
    wanted = {"dots": PoseDotEncoder, "grower": BoxGrower}.get(name, nn.Module)
    if not isinstance(value, wanted):
        raise ValueError(f"{name} is a {wanted.__name__}, got a {kind}")
    if isinstance(value, PoseDotEncoder) and len(value.parts) != pose.pretrained_cfg["num_joints"]:
        joints = pose.pretrained_cfg["num_joints"]
        raise ValueError(f"the pose net gives {joints} joints, got dots for {len(value.parts)}")
    count = getattr(value, "num_classes", None)
    if name == "part_detector" and count is not None and count != len(PARTS):
        raise ValueError(f"part_detector has the {len(PARTS)} classes of PARTS, got {count}")
