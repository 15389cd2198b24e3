"""What the action of a video is told from: clips all over it, or one segment after the other."""

import torch
from torch import Tensor

from ..models.pcf import PCF


class VideoViews:
    """The frames that the action of a video of known length is told from, scaled down, and no others."""

    def __init__(self, model: PCF, length: int) -> None:
        """Choose the frames as `model.recognise_video` does."""
        self.model, self.samples = model, model.view_frames(length, model.video_clips)
        self.wanted = {index for sample in self.samples for index in sample}
        self.kept: dict[int, Tensor] = {}
        self._last: tuple[int, Tensor] | None = None

    def add(self, index: int, frame: Tensor) -> None:
        """Keep frame number `index`, `(3, 1, h, w)`, if it is wanted."""
        if index in self.wanted:
            self.kept[index] = frame
        self._last = index, frame

    def recognise(self, device: torch.device) -> Tensor:
        """`(K,)` probabilities of the actions; in place of frames that never came stands the last that did.

        Raises:
            RuntimeError: If there are no frames.
        """
        if self._last is None:
            raise RuntimeError("the clip has no frames")
        last, end = self._last
        clips = [tuple(min(index, last) for index in sample) for sample in self.samples]
        scores = torch.zeros(self.model.num_classes)
        for clip in dict.fromkeys(clips):
            pixels = torch.cat([self.kept.get(index, end) for index in clip], 1)
            scores += clips.count(clip) / len(clips) * self.model.recognise_video(pixels.to(device)).cpu()
        return scores


class MeanAction:
    """Probabilities of the actions, mean over the segments so far, each by its frames."""

    def __init__(self) -> None:
        self.scores, self._frames = torch.zeros(()), 0

    def add(self, action: Tensor, frames: int) -> None:
        """Add the probabilities `(K,)` in a segment of so many frames."""
        self._frames += frames
        self.scores = torch.lerp(self.scores.expand_as(action), action, frames / self._frames)
