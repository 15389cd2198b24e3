"""Body parts looked for in the people of several frames together, and pose crops of all at once."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

import actionzoo
from actionzoo.data.figures import ActingFigures
from actionzoo.data.top_down import crop_matrix, invert_affine
from actionzoo.layers import BoxGrower
from actionzoo.models._part_search import find_parts
from actionzoo.models.part_people import find_part_people, keypoints_in_frames, person_crops, pose_keypoints
from tests.parsing import DETECTOR, Finds, Joints, found, smooth

BOXES = [torch.tensor([[4.0, 3, 30, 40], [28, 10, 63, 47]]), torch.zeros(0, 4), torch.tensor([[5.0, 5, 20, 44]])]


def frames_of(count=3, size=(48, 64)):
    return [smooth(*size, seed) for seed in range(count)]


class Padding(Finds):
    """Says how many pictures it was given at a time; as torchvision's detectors it pads them."""

    def __init__(self, script):
        super().__init__(script)
        self.calls = []
        self.transform = actionzoo.create("yolof_tiny", **DETECTOR).transform

    def forward(self, images):
        self.calls.append(len(images))
        return super().forward(images)


class TestPoses:
    def test_people_of_all_frames_go_through_the_pose_net_together(self):
        pose, frames = Joints(), frames_of()
        together = keypoints_in_frames(pose, frames, BOXES)
        assert [len(images) for images in pose.seen] == [3]
        for frame, boxes, joints in zip(frames, BOXES, together):
            assert_close(joints, pose_keypoints(pose, frame, boxes), rtol=0, atol=1e-3)

    def test_no_more_at_a_time_than_fit(self, monkeypatch):
        monkeypatch.setattr("actionzoo.models.part_people._POSES_AT_A_TIME", 2)
        pose = Joints()
        keypoints_in_frames(pose, frames_of(), BOXES)
        assert [len(images) for images in pose.seen] == [2, 1]

    @pytest.mark.parametrize("most", [1, 2**24], ids=["one-by-one", "together"])
    def test_crops_are_those_of_one_person_at_a_time(self, most, monkeypatch):
        """On a figure, by a grid in double precision; boxes that shrink to the crop by one, two and four."""
        monkeypatch.setattr("actionzoo.models.part_people._SAMPLES_AT_A_TIME", most)
        frame = ActingFigures("crowd", "test", 1, 200, frames=1).read(0, [0])[:, 0] / 255
        boxes = torch.tensor([[3.0, 5, 60, 80], [20, 10, 199, 190], [90, 90, 110, 130], [0, 0, 100, 100], [1, 2, 9, 8]])
        back = invert_affine(torch.stack([crop_matrix(box, (64, 48)) for box in boxes]))
        crops = person_crops(frame, back, (64, 48))
        for crop, matrix in zip(crops, back):
            finer = max(1, int(torch.ceil(matrix[0, :2].norm() - 0.25)))
            y, x = torch.meshgrid(torch.arange(64 * finer), torch.arange(48 * finer), indexing="ij")
            points = (torch.stack([x, y], -1).double() + 0.5) / finer - 0.5
            there = points @ matrix[:, :2].T + matrix[:, 2]
            grid = (2 * there + 1) / torch.tensor([200.0, 200.0]).double() - 1
            expected = F.grid_sample(frame[None].double(), grid[None], align_corners=False)
            assert_close(crop, F.avg_pool2d(expected, finer)[0].float(), rtol=0, atol=1e-4)

    def test_joints_are_those_of_a_trained_net_one_by_one(self):
        pose = actionzoo.create("pose_tiny", True).eval()
        figures = ActingFigures("crowd", "test", 1, 200, frames=2)
        frames, truth = list(figures.read(0, [0, 1]).transpose(0, 1) / 255), figures.describe(0)["boxes"]
        boxes = [truth[:, t] for t in range(2)]
        for frame, rows, joints in zip(frames, boxes, keypoints_in_frames(pose, frames, boxes)):
            for row, one in zip(rows, joints):
                assert_close(one, pose_keypoints(pose, frame, row[None])[0], rtol=0, atol=1e-3)


class TestParts:
    def search(self, detector, frames, script):
        settings = {"pose": Joints(), "grower": BoxGrower(), "dots": None, "threshold": 0.0, "max_people": 10}
        return find_part_people(frames, [script] * len(frames), part_detector=detector, **settings)

    def test_people_of_alike_frames_go_together(self):
        detector, script = Padding(lambda image: found([3, 0.5, 1, 2, 3, 4])), found([1, 0.9, 4, 5, 40, 44])
        people = self.search(detector, [frames_of(1)[0]] * 3, script)
        assert detector.calls == [3]
        assert [p.part_scores[0, 2].item() for p in people] == [0.5] * 3

    def test_frames_do_not_influence_one_another(self):
        """Crops of several shapes, which a detector pads: the same as frame by frame, to rounding."""
        torch.manual_seed(3)
        detector = actionzoo.create("yolof_tiny", num_classes=10, **{**DETECTOR, "score_thresh": 0.0}).eval()
        torch.nn.init.normal_(detector.head.class_logits.weight)
        frame, places = smooth(96, 128), [(0, 0, 60, 90), (10, 5, 120, 40), (3, 3, 64, 92), (40, 0, 60, 80)]
        crops = [[(frame[:, y1:y2, x1:x2], (x1, y1))] for x1, y1, x2, y2 in places]
        with torch.no_grad():
            together = find_parts(detector, crops, [frame] * 4)
            for own, (boxes, scores) in zip(crops, together):
                ((alone, sure),) = find_parts(detector, [own], [frame])
                assert_close(boxes, alone, rtol=1e-4, atol=1e-3)
                assert_close(scores, sure, rtol=1e-4, atol=1e-5)

    def test_no_more_at_a_time_than_fit(self):
        detector, script = Padding(lambda image: found()), found(*[[1, 0.9, 4, 5, 40, 44]] * 6)
        self.search(detector, [frames_of(1)[0]] * 5, script)
        assert detector.calls == [12, 12, 6]

    def test_of_equal_scores_the_first(self):
        crops = [[(torch.zeros(3, 9, 9), (10, 20)), (torch.zeros(3, 9, 9), (0, 0))], []]
        rows = [[2, 0.5, 1, 1, 2, 2], [2, 0.5, 3, 3, 4, 4], [10, 0.1, 0, 0, 1, 1], [10, 0.2, 0, 0, 5, 5]]
        (boxes, scores), (nothing, _) = find_parts(
            Finds(lambda image: found(*rows)), crops, [torch.zeros(3, 50, 50)] * 2
        )
        assert boxes[0, 1].tolist() == [11, 21, 12, 22]
        assert boxes[1, 1].tolist() == [1, 1, 2, 2]
        assert boxes[0, 9].tolist() == [10, 20, 15, 25]
        assert scores[0].nonzero()[:, 0].tolist() == [1, 9]
        assert nothing.shape == (0, 10, 4)
