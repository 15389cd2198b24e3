"""Annotated frames of videos, for detectors of people."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .part_videos import PartVideos, frame_number, true_people
from .people_in_pictures import PeopleInPicture

__all__ = ["FrameTruth", "PartFrames", "annotated_frames", "fixed_frames"]


class FrameTruth(NamedTuple):
    """One annotated frame: n people and their parts."""

    video: int
    frame: int
    """Its number, the first of a video is 0."""
    boxes: Tensor
    """`(n, 4)` xyxy in pixels, half-open."""
    parts: Tensor
    """`(n, 10, 4)` likewise, in the order of `PARTS`; all 0 where a part is not annotated."""


def annotated_frames(videos: PartVideos, i: int) -> list[FrameTruth]:
    """The annotated frames of video `i`, the first first."""
    found = {frame_number(name) - 1: content for name, content in videos.annotations(i).items()}
    return [FrameTruth(i, frame, *true_people(found[frame])) for frame in sorted(found)]


def fixed_frames(count: int, video: int, number: int) -> list[int]:
    """Which of the annotated frames of a video stand for it where they have to be always the same.

    Args:
        count: Annotated frames of the video.
        video: Number of the video, so that not all videos are looked at in the same places.
        number: How many are wanted.

    Returns:
        Rising indices, `number` of them or as many as there are, evenly spread.
    """
    number = min(number, count)
    return sorted((video * 7 + k * count // number) % count for k in range(number))


class PartFrames(Dataset):
    """Annotated frames of videos with the boxes of the people in them, as pictures for a detector.

    The annotations of all videos are looked through once, when the first frame or their number is asked for. A video
    without an annotated frame is left out.
    """

    def __init__(self, videos: PartVideos, frames_per_video: int = 1, random_frame: bool = False) -> None:
        """Wrap videos.

        Args:
            videos: The videos.
            frames_per_video: Frames of every video that an epoch shows.
            random_frame: Draw another annotated frame of the video every time, by torch's generator, for training;
                else an item shows always the same.

        Raises:
            ValueError: If no frame of a video is to be shown.
        """
        if frames_per_video < 1:
            raise ValueError(f"frames_per_video is at least 1, got {frames_per_video}")
        self.videos, self.frames_per_video, self.random_frame = videos, frames_per_video, random_frame
        self._frames: list[list[FrameTruth]] | None = None
        self._items: list[tuple[int, int]] = []

    def _load(self) -> list[list[FrameTruth]]:
        if self._frames is None:
            self._frames = [annotated_frames(self.videos, i) for i in range(len(self.videos))]
            self._items = [
                (i, k)
                for i, frames in enumerate(self._frames)
                for k in (fixed_frames(len(frames), i, self.frames_per_video) if frames else ())
            ]
        return self._frames

    def drawing(self, random_frame: bool) -> "PartFrames":
        """The same frames, drawn at random or always the same, without another look through the annotations."""
        self._load()
        other = copy.copy(self)
        other.random_frame = random_frame
        return other

    def __len__(self) -> int:
        """Number of frames that an epoch shows."""
        self._load()
        return len(self._items)

    def __getitem__(self, i: int) -> PeopleInPicture:
        """Read a frame.

        Raises:
            IndexError: If there is no such item.
        """
        frames = self._load()
        video, k = self._items[i]
        if self.random_frame:
            k = int(torch.randint(len(frames[video]), ()))
        truth = frames[video][k]
        pixels = self.videos.read(video, [truth.frame])[:, 0]
        return PeopleInPicture(pixels, truth.boxes, torch.zeros(len(truth.boxes), 17, 3))

    def __repr__(self) -> str:
        """What tells these frames from others."""
        return f"PartFrames({self.videos!r}, frames_per_video={self.frames_per_video})"
