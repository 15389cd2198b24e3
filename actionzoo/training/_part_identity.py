"""What tells annotated videos from others, for the detectors of part-level action parsing."""

import hashlib
import json
from collections.abc import Mapping

from ..data.part_videos import FigurePartVideos, PartVideos


def digest_videos(splits: Mapping[str, PartVideos]) -> str:
    """A digest of all videos' names, actions and annotations; of figures, whose truth they are made from, of these."""
    digest = hashlib.sha256()
    for split, videos in sorted(splits.items()):
        digest.update(f"{split}\n".encode())
        drawn = isinstance(videos, FigurePartVideos)
        if drawn:
            digest.update(repr(videos).encode())
        for i in range(len(videos)):
            truth = None if drawn else videos.annotations(i)
            row = [videos.name(i), videos.action(i), truth]
            digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()
