"""PCF: a video parsed into its action, its people, their ten body parts and what each part does.

Paper: "Part-level Action Parsing via a Pose-guided Coarse-to-Fine Framework" (section II, Fig. 2).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data.figures import PARTS
from ..data.part_videos import sample_frames
from ..layers import BoxGrower, PoseDotEncoder
from ..registry import create, register_model
from ..weights import HubMixin
from ._clip_views import check_pixels, clip_views
from ._clip_views import scale_frames as scale_frames
from ._detectors import check_channels
from ._origins import grower_args_of, is_default_dots, origin_of
from ._part_checks import OF_CLIPS, check_network, check_part_nets, check_same_clips, check_stage_part
from ._part_settings import Coarse as Coarse
from ._part_settings import check_part_settings
from .csn import CSN
from .parsed_video import MAX_PEOPLE, ParsedSegment, ParsedVideo, PartState
from .part_people import JOINT_PARTS, PartPeople, find_part_people
from .part_people import dotted_crop as cut_dotted
from .segments import PART_GROUPS, SegmentLabel, SegmentLabeler, segment_bounds

__all__ = ["PCF", "PCFOutput", "pcf_ipcsn152", "pcf_tiny"]

AUTHORS_LABELS = {"head": 55, "arm": 334, "hand": 276, "hip": 78, "leg": 315, "foot": 173}
"""How many labels the authors' lists have for every part group of Kinetics-TPS."""

_FROZEN = ("person_detector", "part_detector", "pose")
_SETTINGS = ("threshold", "max_people", "every", "seconds", "clips", "video_clips", "crops", "coarse")


class PCFOutput(NamedTuple):
    """Logits of a batch of clips: of the action, and of every part group's labels."""

    logits: Tensor
    """`(B, K)`."""
    head: Tensor
    """`(B, K_head)`, in the order of the vocabulary; the other groups likewise."""
    arm: Tensor
    hand: Tensor
    hip: Tensor
    leg: Tensor
    foot: Tensor


class PCF(HubMixin, nn.Module):
    """Part-level action parser of three stages: people and parts, the action, the states of the parts (section II).

    1. `detect`: a detector finds people, a pose net their joints, boxes grow to hold these, coloured dots mark them,
       and a second detector finds the parts of each person in the dotted crop (Eqs 1-4).
    2. `recognise_video`: a channel-separated network tells the action of the video.
    3. `recognise` and `decide`: six more, or one with six heads, tell the state of each part group in every segment of
       about three seconds, for all people and frames of the segment.

    `parse` does all of it. Every stage is learned on its own (section III-A), so every part can be replaced by
    assignment: `person_detector`, `pose`, `part_detector`, `dots`, `grower`, `video_net`, `part_nets`. Those of the
    first stage are frozen here: in eval mode, without gradients; train them outside. All parts are modules, also
    detectors and the pose net: a mere function could not be frozen, moved to a device or saved; wrap it in one. A pose
    net whose joints are in another order brings fresh dots for them. All networks of clips are shown the same ones, so
    that those of another size or stride are replaced together: `replace_networks`.
    """

    classifier_names = ("video_net.classifier",)

    def __init__(
        self,
        *,
        num_classes: int = 24,
        vocabulary: Mapping[str, Iterable[Sequence[Any]]] | None = None,
        person_detector: str = "yolof_resnet101",
        person_detector_args: dict[str, Any] | None = None,
        part_detector: str = "yolof_resnet101",
        part_detector_args: dict[str, Any] | None = None,
        pose: str = "pose_hrnet_w48",
        pose_args: dict[str, Any] | None = None,
        video_net: str = "ipcsn_152",
        video_net_args: dict[str, Any] | None = None,
        part_net: str = "ipcsn_152",
        part_net_args: dict[str, Any] | None = None,
        shared: bool = False,
        grower_args: dict[str, Any] | None = None,
        dots: bool = True,
        threshold: float = 0.05,
        max_people: int = 10,
        every: int = 5,
        seconds: float = 3.0,
        clips: int = 7,
        video_clips: int = 8,
        crops: int = 3,
        coarse: Coarse = "independent",
        in_chans: int = 3,
    ) -> None:
        """Build the parser with random weights; the defaults are those of the paper and the authors' configuration.

        Args:
            num_classes: Actions K of a video.
            vocabulary: Labels of every part group, as `SegmentLabeler.to_dict` gives them; they are saved with the
                weights. None is as many labels as the authors have, whose meaning is not known: `set_vocabulary`.
            person_detector: Name of a detector of people.
            person_detector_args: Its arguments; likewise below.
            part_detector: Name of a detector of 10 classes, the parts.
            part_detector_args: See above.
            pose: Name of a pose net.
            pose_args: See above.
            video_net: Name of the network for the action.
            video_net_args: See above.
            part_net: Name of the networks for the part groups.
            part_net_args: See above.
            shared: One network with six heads instead of six, which is this library's option (section II-C: "without
                sharing parameters").
            grower_args: Arguments of `BoxGrower`.
            dots: Whether joints are painted into the crops in which parts are looked for (Eq. 3).
            threshold: Least score of a person.
            max_people: The surest people of a frame, 10 in the paper and at most.
            every: Step between the frames that are looked at; the challenge asks for frames 1, 6, 11 ...
            seconds: Length of a segment.
            clips: Clips of a segment whose probabilities are averaged, 7 in the paper.
            video_clips: Likewise of a whole video, 8 in the authors' configuration.
            crops: Square crops of each clip: 3 along the longer side, or 1 from the middle.
            coarse: Whether part states are read from the labels of all actions (`"independent"`, "respectively" in the
                paper), or from those of the action that was recognised (`"conditioned"`).
            in_chans: Channels of the frames, which the detectors want to be 3.

        Raises:
            ValueError: If a setting is out of range, a part is of the wrong kind, the networks of clips differ in the
                clips that they take or these are not square, or the vocabulary is malformed.
        """
        super().__init__()
        check_channels(type(self), in_chans)
        self.labeler = None if vocabulary is None else SegmentLabeler(vocabulary)
        self.sizes = dict(AUTHORS_LABELS) if self.labeler is None else _sizes(self.labeler)
        self.num_classes, self.in_chans, self.shared = num_classes, in_chans, shared
        self.threshold, self.max_people, self.every, self.seconds = threshold, max_people, every, seconds
        self.clips, self.video_clips, self.crops, self.coarse = clips, video_clips, crops, coarse
        self.check_settings()

        self.person_detector: Any = create(person_detector, **(person_detector_args or {}))
        self.part_detector: Any = create(part_detector, num_classes=len(PARTS), **(part_detector_args or {}))
        self.pose: Any = create(pose, **(pose_args or {}))
        self.grower = BoxGrower(**(grower_args or {}))
        layout = self.pose.pretrained_cfg.get("joints")
        if dots and layout not in JOINT_PARTS:
            raise ValueError(f"the joints of {pose} are in neither COCO's nor MPII's order; give dots=False")
        self.dots = PoseDotEncoder(JOINT_PARTS[layout]) if dots else None
        self.video_net: Any = create(video_net, num_classes=num_classes, **(video_net_args or {}))
        args = part_net_args or {}
        self.part_nets: Any = (
            create(part_net, num_classes=sum(self.sizes.values()), **args)
            if shared
            else nn.ModuleDict({group: create(part_net, num_classes=k, **args) for group, k in self.sizes.items()})
        )
        own = self.video_net.pretrained_cfg
        self.pretrained_cfg = self.default_cfg = {
            **{key: own[key] for key in OF_CLIPS},
            "num_classes": num_classes,
            "classifier": "video_net.classifier",
            "first_conv": "video_net.stem.conv",
        }

    def check_settings(self) -> None:
        """Refuse settings that are out of range; they may be changed at any time.

        Raises:
            ValueError: If one is.
        """
        check_part_settings(
            self.threshold,
            self.seconds,
            self.coarse,
            every=self.every,
            clips=self.clips,
            video_clips=self.video_clips,
            max_people=self.max_people,
        )
        if self.max_people > MAX_PEOPLE or self.crops not in (1, 3):
            raise ValueError(
                f"max_people is at most {MAX_PEOPLE} and crops 1 or 3, got {self.max_people} and {self.crops}"
            )

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, nn.Module):
            self._check_part(name, value)
        super().__setattr__(name, value)
        if name in _FROZEN:
            value.requires_grad_(False).eval()
        if "pretrained_cfg" in self.__dict__:
            self._replaced(name, value)

    def _replaced(self, name: str, value: Any) -> None:
        """Record what is set after the network was built, which is saved, too; and what follows from it."""
        if name in _SETTINGS:
            self._note({name: value})
        elif name in (*_FROZEN, "video_net"):
            self._note(origin_of(name, value))
        elif name == "part_nets":
            self._note({**origin_of("part_net", *self._networks()), "shared": isinstance(value, CSN)})
            object.__setattr__(self, "shared", isinstance(value, CSN))
        elif name == "grower":
            self._note({"grower_args": grower_args_of(value)})
        elif name == "dots":
            self._note({"dots": value is not None})
        if name == "video_net":
            self.pretrained_cfg.update({key: value.pretrained_cfg[key] for key in OF_CLIPS})
        elif name == "pose" and self.dots is not None:
            parts = JOINT_PARTS[value.pretrained_cfg["joints"]]
            if parts != self.dots.parts:
                self.dots = PoseDotEncoder(parts).to(self.dots.colors.device)

    def _note(self, changed: dict[str, Any]) -> None:
        """Record arguments with which a network like this one would be built."""
        config = self.pretrained_cfg
        config["model_args"] = {**config.get("model_args", {}), **changed}

    def _check_part(self, name: str, value: Any) -> None:
        """Refuse a part that cannot take the place.

        Raises:
            ValueError: If it cannot.
        """
        if name == "video_net":
            check_network(name, value, self.num_classes)
            if (other := getattr(self, "part_nets", None)) is not None:
                check_same_clips(value, other)
        elif name == "part_nets":
            check_part_nets(value, self.sizes)
            check_same_clips(self.video_net, value)
        check_stage_part(name, value, getattr(self, "pose", None), getattr(self, "dots", None))

    def replace_networks(self, video_net: nn.Module, part_nets: nn.Module) -> None:
        """Replace all networks of clips together, by others that may be meant for another kind of clips.

        Args:
            video_net: Tells the action.
            part_nets: Tell the part states: an `nn.ModuleDict` of six by group, or one.

        Raises:
            ValueError: If one cannot take its place, or they differ in the clips that they take.
        """
        check_network("video_net", video_net, self.num_classes)
        check_part_nets(part_nets, self.sizes)
        check_same_clips(video_net, part_nets)
        del self.part_nets
        self.video_net = video_net
        self.part_nets = part_nets

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """As every model's; a part from elsewhere cannot be named in a file, so that saving is refused.

        Raises:
            ValueError: If a part was not built by `create`, dots are not painted as they are by default, or the
                networks of the part groups were built differently or do not fit.
        """
        # one of six may have been replaced, which is not seen from here
        self._check_part("part_nets", self.part_nets)
        parts = {name: [getattr(self, name)] for name in (*_FROZEN, "video_net")} | {"part_net": self._networks()}
        for name, built in parts.items():
            self._note(origin_of(name, *built))
        self._note({"shared": self.shared, "grower_args": grower_args_of(self.grower)})
        given = self.pretrained_cfg["model_args"]
        for name in parts:
            if given[name] is None:
                raise ValueError(
                    f"{name} was not built by actionzoo.create, or not all of it in the same way, so that what is "
                    "saved could not be built again; save the state dicts of the other parts instead"
                )
        if self.dots is not None and not is_default_dots(self.dots, self.pose.pretrained_cfg.get("joints")):
            raise ValueError(
                "dots of other settings than the default ones cannot be saved; set model.dots = None to save the rest"
            )
        return super().save_pretrained(*args, **kwargs)

    def train(self, mode: bool = True) -> "PCF":
        """Put the channel-separated networks in training mode; detectors and pose net stay in eval mode."""
        super().train(mode)
        for name in _FROZEN:
            getattr(self, name).eval()
        return self

    @property
    def num_features(self) -> int:
        """Channels of the last map of the network of actions."""
        return self.video_net.num_features

    @property
    def head_hidden_size(self) -> int:
        """Width of what the classifier of actions takes."""
        return self.video_net.head_hidden_size

    def get_classifier(self) -> nn.Module:
        """The linear classifier of actions."""
        return self.video_net.get_classifier()

    def reset_classifier(self, num_classes: int) -> None:
        """Give the network of actions a fresh classifier of `num_classes` rows; those of parts stay as they are.

        The classes have no names then: set `pretrained_cfg["classes"]`.
        """
        self.num_classes = num_classes
        self.video_net.reset_classifier(num_classes)
        self.pretrained_cfg.pop("classes", None)
        self.pretrained_cfg["num_classes"] = num_classes

    def set_vocabulary(self, vocabulary: SegmentLabeler | Mapping[str, Iterable[Sequence[Any]]]) -> None:
        """Take another vocabulary of part states, with fresh classifiers of the part groups for it.

        Args:
            vocabulary: A labeler, or what its `to_dict` gives.

        Raises:
            ValueError: If a group has no label, or the vocabulary is malformed.
        """
        labeler = vocabulary if isinstance(vocabulary, SegmentLabeler) else SegmentLabeler(vocabulary)
        sizes = _sizes(labeler)
        self.labeler, self.sizes = labeler, sizes
        if self.shared:
            self.part_nets.reset_classifier(sum(sizes.values()))
        else:
            for group, count in sizes.items():
                self.part_nets[group].reset_classifier(count)
        self._note({"vocabulary": labeler.to_dict()})

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the channel-separated networks in the backward pass: less memory, more time."""
        for net in (self.video_net, *self._networks()):
            net.set_grad_checkpointing(enable)

    def _networks(self) -> list[CSN]:
        return [self.part_nets] if isinstance(self.part_nets, CSN) else list(self.part_nets.values())

    def forward_features(self, clips: Tensor) -> Tensor:
        """The last map of the network of actions: `(B, 3, T, H, W)` -> `(B, D, t, h, w)`."""
        return self.video_net.forward_features(clips)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """That map -> `(B, K)` logits of the actions, or what the classifier takes."""
        return self.video_net.forward_head(x, pre_logits)

    def part_logits(self, clips: Tensor) -> tuple[Tensor, ...]:
        """Logits of every part group, in the order of `PART_GROUPS`: `(B, 3, T, H, W)` -> six `(B, K_group)`."""
        if self.shared:
            return self.part_nets(clips).split(list(self.sizes.values()), 1)
        return tuple(self.part_nets[group](clips) for group in PART_GROUPS)

    def forward(self, clips: Tensor) -> PCFOutput:
        """Action and part states of clips: `(B, 3, T, H, W)`, normalised as `pretrained_cfg` says.

        Raises:
            ValueError: If `clips` is not `(B, 3, T, H, W)`.
        """
        return PCFOutput(self.video_net(clips), *self.part_logits(clips))

    def dotted_crop(self, frame: Tensor, box: Tensor, keypoints: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """What the part detector sees of a person, see `actionzoo.models.part_people.dotted_crop`."""
        return cut_dotted(frame, box, keypoints, self.dots)

    @torch.no_grad()
    def detect(self, frames: Tensor) -> list[PartPeople]:
        """Find people, joints and parts in frames (section II-B).

        Args:
            frames: `(F, 3, H, W)` in `[0, 1]`.

        Returns:
            The people of every frame.

        Raises:
            ValueError: If the frames are not `(F, 3, H, W)`.
            TypeError: If they are not float32: coordinates are lost in less, and the detectors take no more.
        """
        if frames.ndim != 4 or frames.shape[1] != 3:
            raise ValueError(f"PCF expects frames (F, 3, H, W) in [0, 1], got shape {tuple(frames.shape)}")
        if frames.dtype != torch.float32:
            hint = ".float()" if frames.is_floating_point() else ".float() / 255"
            raise TypeError(f"PCF expects float32 frames in [0, 1], got {frames.dtype}; call {hint} first")
        found = self.person_detector(list(frames)) if len(frames) else []
        return find_part_people(
            list(frames),
            found,
            pose=self.pose,
            grower=self.grower,
            dots=self.dots,
            part_detector=self.part_detector,
            threshold=self.threshold,
            max_people=self.max_people,
        )

    def view_frames(self, length: int, clips: int | None = None) -> list[tuple[int, ...]]:
        """Numbers of the T frames of every clip that `views` takes from a part of `length` frames.

        The views of such a clip alone, a part of T frames, are those of the whole part that come from it.

        Args:
            length: Frames of the part.
            clips: How many clips; those of a segment if None.

        Raises:
            ValueError: If a number is below 1.
        """
        cfg: dict[str, Any] = self.pretrained_cfg
        clips = self.clips if clips is None else clips
        if clips < 1:
            raise ValueError(f"clips is at least 1, got {clips}")
        places = ((k + 0.5) / clips for k in range(clips))
        return [tuple(sample_frames(length, cfg["frames"], cfg["stride"], at)) for at in places]

    def views(self, pixels: Tensor, clips: int | None = None) -> tuple[Tensor, Tensor]:
        """Clips of a part of a video that are looked at (section III-A): evenly spread over it, and crops of each.

        The shorter side is scaled to the network's, and square crops are taken along the longer one. Views that are
        the same, as of a short part, come once.

        Args:
            pixels: `(3, L, H, W)` uint8, all frames of the part.
            clips: How many clips; those of a segment if None.

        Returns:
            `(V, 3, T, S, S)`, normalised and in the dtype of the network of actions, and `(V,)` how much every view
            counts, in sum 1.

        Raises:
            ValueError: If the pixels are not `(3, L, H, W)` with a frame at least.
            TypeError: If they are not uint8.
        """
        views, weights = zip(*self.view_batches(pixels, clips))
        return torch.cat(views), torch.cat(weights)

    def view_batches(self, pixels: Tensor, clips: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """What `views` gives, a few views at a time, so that the others take no memory; arguments and errors alike."""
        check_pixels(pixels)
        samples = self.view_frames(pixels.shape[1], clips)
        return clip_views(pixels, samples, self.crops, self.pretrained_cfg, next(self.video_net.parameters()))

    @torch.no_grad()
    def recognise(self, pixels: Tensor) -> dict[str, Tensor]:
        """Probabilities of every part group's labels in a segment, the mean over its views (section II-C).

        Args:
            pixels: `(3, L, H, W)` uint8, the frames of the segment.

        Returns:
            `(K_group,)` by group.

        Raises:
            ValueError: If the pixels are not such.
            TypeError: If they are not uint8.
            RuntimeError: If the model is in training mode.
        """
        return dict(zip(PART_GROUPS, self.averaged(self.part_logits, self.view_batches(pixels))))

    @torch.no_grad()
    def recognise_video(self, pixels: Tensor) -> Tensor:
        """Probabilities `(K,)` of the actions of a video, the mean over its views; as `recognise`."""
        return self.averaged(lambda x: (self.video_net(x),), self.view_batches(pixels, self.video_clips))[0]

    def averaged(
        self, logits_of: Callable[[Tensor], Iterable[Tensor]], batches: Iterable[tuple[Tensor, Tensor]]
    ) -> list[Tensor]:
        """Weighted mean of the probabilities of views, of each of several classifiers.

        Args:
            logits_of: `(v, 3, T, S, S)` views -> `(v, K)` logits of every classifier, such as `part_logits`.
            batches: As `view_batches` gives them.

        Returns:
            `(K,)` of every classifier.

        Raises:
            RuntimeError: If a network of clips is in training mode.
        """
        if any(net.training for net in (self.video_net, *self._networks())):
            raise RuntimeError("this PCF is in training mode, in which it drops features at random; call .eval() first")
        parts = [
            [(logits.float().softmax(1) * weights[:, None]).sum(0) for logits in logits_of(views)]
            for views, weights in batches
        ]
        return [torch.stack(each).sum(0) for each in zip(*parts)]

    def decide(self, probabilities: Mapping[str, Tensor], action: str | None = None) -> dict[str, PartState]:
        """What every part does: the likeliest label of its group.

        Args:
            probabilities: By group, as `recognise` gives them.
            action: Rule out the labels of all other actions; a group that has none of this action is read as if it
                were None.

        Returns:
            By the part's name; the score is the label's probability, among those of the action if it is given.

        Raises:
            RuntimeError: If the model has no vocabulary.
        """
        labeler, states = self.known_labels(), {}
        for group, p in probabilities.items():
            if action is not None and bool((known := labeler.of_action(group, action).to(p.device)).any()):
                p = p / torch.where(known, p, 0.0).sum().clamp(min=1e-12)
                # where all of the action's labels have probability 0, the others have none that counts
                p = torch.where(known, p, -1.0)
            best = int(p.argmax())
            label: SegmentLabel = labeler.decode(group, best)
            states |= {part: PartState(state, float(p[best])) for part, state in label.parts().items()}
        return states

    def known_labels(self) -> SegmentLabeler:
        """The vocabulary.

        Raises:
            RuntimeError: If there is none.
        """
        if self.labeler is None:
            raise RuntimeError(
                "this PCF has no vocabulary, so that its labels mean nothing; train it, load weights that have one, or "
                "call set_vocabulary(SegmentLabeler.from_segments(…)), from actionzoo.models import SegmentLabeler"
            )
        return self.labeler

    def parse(self, pixels: Tensor, fps: float) -> ParsedVideo:
        """Parse a video that is in memory (section II-A); `actionzoo.pipeline` takes files of any length.

        Args:
            pixels: `(3, L, H, W)` uint8.
            fps: Frames per second.

        Raises:
            ValueError: If the pixels are not such, or `fps` is not positive.
            TypeError: If they are not uint8.
            RuntimeError: If the model has no vocabulary, its classes have no names, or it is in training mode.
        """
        check_pixels(pixels)
        self.check_settings()
        self.known_labels()
        names = self.action_names()
        bounds = segment_bounds(pixels.shape[1], fps, self.seconds)
        scores = self.recognise_video(pixels).cpu()
        action = names[int(scores.argmax())]
        known = action if self.coarse == "conditioned" else None
        segments = [ParsedSegment(a, b, self.decide(self.recognise(pixels[:, a:b]), known)) for a, b in bounds]
        device = next(self.video_net.parameters()).device
        people = {
            t: self.detect(pixels[None, :, t].to(device).float() / 255)[0].to("cpu")
            for t in range(0, pixels.shape[1], self.every)
        }
        return ParsedVideo(action, scores, segments, people)

    def action_names(self) -> list[str]:
        """Names of the classes.

        Raises:
            RuntimeError: If they are not known.
        """
        names = self.pretrained_cfg.get("classes") or ()
        if not names or len(names) != self.num_classes:
            raise RuntimeError(
                f"the names of this PCF's {self.num_classes} actions are not known; set "
                'model.pretrained_cfg["classes"], or load weights that name them'
            )
        return list(names)


def _sizes(labeler: SegmentLabeler) -> dict[str, int]:
    sizes = {group: len(labeler.vocabulary[group]) for group in PART_GROUPS}
    if empty := [group for group, count in sizes.items() if not count]:
        raise ValueError(
            f"the vocabulary has no label of {', '.join(empty)}; of a part that nobody shows it has 'none'"
        )
    return sizes


_ENTRY: dict[str, Any] = {
    "task": "part-level action parsing",
    "paper": "Part-level action parsing via a pose-guided coarse-to-fine framework",
    "num_classes": 24,
    "config": {"classifier": "video_net.classifier", "first_conv": "video_net.stem.conv"},
}


@register_model(**_ENTRY, input_size=(3, 32, 256, 256), aliases=("pcf",), params=414_416_689, macs=761_546_487_808)
def pcf_ipcsn152(**kwargs: Any) -> PCF:
    """Two YOLOF-R101, HRNet-W48 and seven ip-CSN-152: the paper's part-level action parser."""
    if "part_detector" not in kwargs:
        # a person has one part of each kind
        kwargs["part_detector_args"] = {"detections_per_class": 1, **(kwargs.get("part_detector_args") or {})}
    return PCF(**kwargs)


PARTS_TINY: dict[str, Any] = {
    "min_size": 160,
    "max_size": 240,
    # a hand of somebody who fills the crop is smaller than a cell of 16 pixels
    "anchor_scales": (0.75, 1.25, 2.0, 3.5, 6.0),
    "detections_per_class": 1,
}
"""Arguments of the small detector of parts, which looks at crops of people."""


@register_model(**_ENTRY, input_size=(3, 4, 112, 112), params=4_637_136, macs=229_079_936)
def pcf_tiny(**kwargs: Any) -> PCF:
    """The same three stages with small detectors, a small pose net and two small ip-CSNs: trains on a CPU."""
    settings: dict[str, Any] = {
        "person_detector": "yolof_tiny",
        "part_detector": "yolof_tiny",
        "part_detector_args": PARTS_TINY,
        "pose": "pose_tiny",
        "video_net": "ipcsn_tiny",
        "part_net": "ipcsn_tiny",
        "shared": True,
        "seconds": 0.75,
        "clips": 3,
    }
    return PCF(**{**settings, **kwargs})
