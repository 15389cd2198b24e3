"""Find people in frames of annotated videos: the first detector of part-level action parsing (PCF section II-B)."""

from collections.abc import Mapping

from torch.utils.data import Dataset

from ..data.part_frames import PartFrames
from ..data.part_videos import PartVideos
from ..data.people_in_pictures import PeopleTransform, TransformedPeople, collate_people_in_pictures
from ._part_identity import digest_videos
from .detection import PeopleDetection


class FramePeopleTask(PeopleDetection):
    """Train a YOLOF of one class, or another person detector, on frames of annotated videos."""

    collate = staticmethod(collate_people_in_pictures)

    def __init__(
        self,
        splits: Mapping[str, PartVideos],
        name: str,
        *,
        frames_per_video: int = 1,
        freeze_trunk: bool = False,
    ) -> None:
        """Describe the data.

        Args:
            splits: Videos of `train`, and of `val` and `test` where there are.
            name: The data in one string, which a resumed run must have in common with the one it goes on with.
            frames_per_video: Frames of every video that an epoch shows: in training others every time, in scoring
                always the same.
            freeze_trunk: Leave the trunk as it is; otherwise see `prepare_trunk`.

        Raises:
            ValueError: If there is no frame to look at.
        """
        super().__init__(freeze_trunk)
        self.videos, self.name, self.splits, self.frames_per_video = dict(splits), name, tuple(splits), frames_per_video
        # kept, since looking through the annotations takes a while
        self._frames = {split: PartFrames(videos, frames_per_video) for split, videos in splits.items()}

    def describe(self) -> str:
        """Counts of videos and frames."""
        counts = ", ".join(f"{len(videos)} {split}" for split, videos in self.videos.items())
        return f"people in frames: {counts} videos, {self.frames_per_video} frames of each"

    def identity(self) -> str:
        """The data's name, every video with its action and annotations, and how many frames are shown."""
        return f"{self.name} {self.describe()} {digest_videos(self.videos)}"

    def dataset(self, split: str, train: bool) -> Dataset:
        """Frames in `[0, 1]` and boxes of a split.

        Raises:
            ValueError: If there is no such split.
        """
        if split not in self._frames:
            raise ValueError(f"the data has no {split} split; it has {', '.join(self.splits) or 'none'}")
        frames = self._frames[split].drawing(train)
        return TransformedPeople([frames], PeopleTransform(**(self.augmentation if train else {})))
