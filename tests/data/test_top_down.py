import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.testing import assert_close
from torch.utils.data import DataLoader, default_collate

from actionzoo.data import FolderPeople, PersonExample, PersonImages, PersonInput, TopDown, mix
from actionzoo.data.top_down import apply_affine, crop_matrix, crop_person, invert_affine
from actionzoo.layers.heatmaps import COCO_FLIP_PAIRS, decode_heatmaps, encode_heatmaps

BOX = torch.tensor([30.0, 20.0, 90.0, 120.0])
ZERO_ONE = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def points(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def hrnet_matrix(center, side, rotation, size):
    """HRNet's map from three pairs of points: the centre, the top of the window, and a third at a right angle."""
    height, width = size
    angle = math.radians(rotation)
    up = np.array([math.sin(angle), -math.cos(angle)]) * side / 2
    source = [np.array(center), center + up]
    target = [np.array([width / 2, height / 2]), np.array([width / 2, height / 2 - width / 2])]
    for three in (source, target):
        a, b = three
        three.append(b + np.array([-(a - b)[1], (a - b)[0]]))
    return torch.tensor(np.linalg.solve(np.c_[source, np.ones(3)], np.array(target)).T)


def person(joints=None, label=2, head_size=12.0, box=BOX, image=None):
    if joints is None:
        joints = torch.cat([torch.rand(16, 2) * 60 + torch.tensor([30.0, 30.0]), torch.full((16, 1), 2.0)], 1)
    return PersonExample(image or Image.new("RGB", (160, 140)), box, joints, label, head_size)


def noise(width=160, height=140):
    coarse = np.random.default_rng(0).integers(0, 256, (14, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


class TestCropMatrix:
    def test_the_whole_picture_unpadded_is_the_identity(self):
        matrix = crop_matrix(torch.tensor([0.0, 0.0, 40.0, 30.0]), (30, 40), padding=1.0)
        assert matrix.dtype == torch.float64
        assert_close(matrix, points([1, 0, 0], [0, 1, 0]))

    @pytest.mark.parametrize(
        ("box", "size", "window"),
        [
            ((30, 20, 90, 120), 64, (10, 20, 110, 120)),
            ((30, 20, 90, 40), 64, (30, 0, 90, 60)),
            ((30, 20, 90, 120), (96, 48), (30, 10, 90, 130)),
            ((30, 20, 90, 50), (48, 96), (30, 20, 90, 50)),
        ],
        ids=["tall-square", "wide-square", "to-1:2", "to-2:1"],
    )
    def test_the_box_grows_to_the_aspect_about_its_centre(self, box, size, window):
        height, width = (size, size) if isinstance(size, int) else size
        matrix = crop_matrix(torch.tensor(box, dtype=torch.float32), size, padding=1.0)
        x1, y1, x2, y2 = window
        # outer corners lie half a pixel before the first and after the last centre
        corners = points([x1, y1], [x2, y2]) - 0.5
        assert_close(apply_affine(corners, matrix), points([-0.5, -0.5], [width - 0.5, height - 0.5]))

    @pytest.mark.parametrize("rotation", [0, 30, -75, 180])
    @pytest.mark.parametrize("size", [(64, 64), (96, 72)], ids=str)
    @pytest.mark.parametrize("scale", [0.75, 1.0, 1.25])
    def test_it_is_hrnets_moved_by_half_a_pixel(self, rotation, size, scale):
        x1, y1, x2, y2 = BOX.tolist()
        center = ((x1 + x2 - 1) / 2, (y1 + y2 - 1) / 2)
        side = max(x2 - x1, (y2 - y1) * size[1] / size[0]) * 1.25 * scale
        expected = hrnet_matrix(center, side, rotation, size)
        expected[:, 2] -= 0.5
        assert_close(crop_matrix(BOX, size, rotation=rotation, scale=scale), expected)

    def test_padding_and_scale_multiply(self):
        assert_close(crop_matrix(BOX, 64, 1.5, scale=1.2), crop_matrix(BOX, 64, 1.8))

    @pytest.mark.parametrize("rotation", [0, 40])
    def test_a_flip_mirrors_the_finished_crop(self, rotation):
        plain, flipped = (crop_matrix(BOX, (64, 48), rotation=rotation, flip=flip) for flip in (False, True))
        assert_close(flipped[0], torch.tensor([0.0, 0.0, 47.0]).double() - plain[0])
        assert_close(flipped[1], plain[1])

    @pytest.mark.parametrize(
        ("box", "arguments", "message"),
        [
            ([1.0, 1.0, 1.0, 5.0], {"size": 8}, "no area"),
            ([1.0, 1.0, 5.0], {"size": 8}, r"shape \(4,\)"),
            ([0.0, 0.0, 5.0, 5.0], {"size": 0}, "positive"),
            ([0.0, 0.0, 5.0, 5.0], {"size": 8, "padding": 0}, "positive"),
            ([0.0, 0.0, 5.0, 5.0], {"size": 8, "scale": -1}, "positive"),
        ],
    )
    def test_bad_input(self, box, arguments, message):
        with pytest.raises(ValueError, match=message):
            crop_matrix(torch.tensor(box), **arguments)


class TestAffine:
    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("rotation", [0, 25, -110])
    def test_the_inverse_leads_back(self, rotation, flip):
        matrix = crop_matrix(BOX, (96, 72), rotation=rotation, scale=0.8, flip=flip)
        last = points([0, 0, 1])
        inverse = invert_affine(matrix)
        assert_close(torch.cat([matrix, last]) @ torch.cat([inverse, last]), torch.eye(3, dtype=torch.float64))
        xy = torch.rand(5, 7, 2)
        assert_close(apply_affine(apply_affine(xy, matrix), inverse), xy, atol=1e-5, rtol=0)

    def test_a_batch_is_one_by_one(self):
        matrices = torch.stack([crop_matrix(BOX, 64, rotation=r) for r in (0, 10, 20)])
        xy = torch.rand(3, 5, 2) * 100
        expected = torch.stack(
            [torch.stack([m[:, :2].float() @ p + m[:, 2].float() for p in r]) for r, m in zip(xy, matrices)]
        )
        assert_close(apply_affine(xy, matrices), expected, atol=1e-4, rtol=0)
        assert_close(invert_affine(matrices), torch.stack([invert_affine(m) for m in matrices]))
        assert apply_affine(xy[0, 0], matrices[0]).shape == (2,)

    def test_bad_input(self):
        with pytest.raises(ValueError, match="without an inverse"):
            invert_affine(torch.zeros(2, 3))
        with pytest.raises(ValueError, match=r"shape \(\.\.\., 2, 3\), got \(3, 3\)"):
            invert_affine(torch.eye(3))
        for xy, matrix in ((torch.zeros(4, 3), torch.zeros(2, 3)), (torch.zeros(4, 2), torch.zeros(4, 2, 3))):
            with pytest.raises(ValueError, match=r"expected points \(\.\.\., 2\)"):
                apply_affine(xy, matrix)


class TestCropPerson:
    @pytest.mark.parametrize("flip", [False, True], ids=["plain", "flip"])
    @pytest.mark.parametrize("size", [(128, 128), (96, 64), (32, 32), (16, 12)], ids=str)
    @pytest.mark.parametrize("rotation", [0, 33, -90, 170])
    def test_a_bright_dot_lands_where_the_matrix_says(self, rotation, size, flip):
        matrix = crop_matrix(BOX, size, rotation=rotation, flip=flip)
        zoom = matrix[:, :2].det().abs().sqrt().item()
        dot, sigma = (66.3, 61.8), max(2.0, 1.2 / zoom)
        y, x = np.mgrid[:140, :160]
        bright = 255 * np.exp(-((x - dot[0]) ** 2 + (y - dot[1]) ** 2) / (2 * sigma**2))
        image = Image.fromarray(bright.round().astype(np.uint8)).convert("RGB")
        crop = np.asarray(crop_person(image, matrix, size), dtype=np.float64)[..., 0]
        assert crop.shape == size
        rows, columns = np.mgrid[: size[0], : size[1]]
        found = points([(crop * columns).sum(), (crop * rows).sum()])[0] / crop.sum()
        # half a pixel of either side would show: 0.5 in the crop, 0.5 * zoom of the picture
        assert_close(found, apply_affine(points(dot), matrix)[0], atol=0.08, rtol=0)

    @pytest.mark.parametrize("rotation", [0, 20])
    def test_values_are_bilinear(self, rotation):
        image, size = noise(), (60, 80)
        matrix = crop_matrix(BOX, size, rotation=rotation, padding=0.6)
        rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
        source = apply_affine(torch.stack([columns, rows], -1), invert_affine(matrix))
        grid = source / torch.tensor([159.0, 139.0]) * 2 - 1
        pixels = torch.from_numpy(np.array(image)).float().permute(2, 0, 1)[None]
        expected = F.grid_sample(pixels, grid[None], align_corners=True)[0]
        found = torch.from_numpy(np.array(crop_person(image, matrix, size))).float().permute(2, 0, 1)
        assert_close(found, expected, atol=1.01, rtol=0)

    @pytest.mark.parametrize("rotation", [0, 2, 9, 33, 77])
    @pytest.mark.parametrize("size", [64, 56, 30], ids=["half", "2.3", "4.3"])
    def test_fine_stripes_turn_grey_when_they_shrink(self, size, rotation):
        stripes = np.zeros((256, 256, 3), dtype=np.uint8)
        stripes[:, 1::2] = 255
        matrix = crop_matrix(torch.tensor([0.0, 0.0, 256.0, 256.0]), size, rotation=rotation, padding=0.5)
        crop = np.asarray(crop_person(Image.fromarray(stripes), matrix, size))
        # without the averaging the values would reach from 0 to 255
        assert np.ptp(crop) < 3
        assert abs(crop.mean() - 127.5) < 1.5

    def test_a_shrunk_picture_keeps_its_means(self):
        image = noise(320, 280)
        matrix = crop_matrix(torch.tensor([0.0, 0.0, 320.0, 280.0]), (28, 32), padding=1.0)
        # Pillow rounds the means and cuts off what comes after the interpolated values' point
        blocks = np.asarray(image, dtype=np.float64).reshape(28, 10, 32, 10, 3).mean((1, 3))
        assert_close(np.asarray(crop_person(image, matrix, (28, 32)), dtype=np.float64), blocks, atol=1.6, rtol=0)

    @pytest.mark.parametrize("rotation", [0, 27, 180])
    @pytest.mark.parametrize("axis", [0, 1])
    def test_a_shrunk_ramp_is_right_up_to_the_crops_border(self, axis, rotation):
        ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (256, 256))
        image = Image.fromarray(np.ascontiguousarray(ramp if axis else ramp.T)).convert("RGB")
        matrix = crop_matrix(torch.tensor([90.0, 77.0, 171.0, 158.0]), 9, rotation=rotation)
        rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
        expected = apply_affine(torch.stack([columns, rows], -1), invert_affine(matrix))[..., axis]
        found = torch.from_numpy(np.array(crop_person(image, matrix, 9))[..., 0]).float()
        assert_close(found, expected, atol=1.6, rtol=0)

    @pytest.mark.parametrize("size", [40, 10], ids=["same-scale", "reduced"])
    def test_black_outside_the_picture(self, size):
        white = Image.new("RGB", (40, 40), (255, 255, 255))
        matrix = crop_matrix(torch.tensor([20.0, 20.0, 60.0, 60.0]), size, padding=1.0)
        crop = np.asarray(crop_person(white, matrix, size))
        assert (crop[: size // 2, : size // 2] == 255).all()
        assert (crop[size // 2 :] == 0).all()
        assert (crop[:, size // 2 :] == 0).all()

    @pytest.mark.parametrize("size", [40, 10], ids=["same-scale", "reduced"])
    def test_a_box_beyond_the_picture_is_all_black(self, size):
        white = Image.new("RGB", (40, 40), (255, 255, 255))
        crop = crop_person(white, crop_matrix(torch.tensor([100.0, 0.0, 140.0, 40.0]), size, padding=1.0), size)
        assert crop.size == (size, size)
        assert not np.asarray(crop).any()

    def test_one_pixel_of_a_huge_window(self):
        crop = crop_person(noise(), crop_matrix(torch.tensor([0.0, 0.0, 160.0, 160.0]), 1, padding=1.0), 1)
        assert crop.size == (1, 1)


class TestTopDown:
    def test_cells_times_the_stride_are_crop_pixels(self):
        example = person()
        out = TopDown(128, 32)(example)
        matrix = crop_matrix(BOX, 128)
        assert_close(out.matrix, matrix.float())
        assert out.joints.dtype == torch.float32
        assert_close(out.joints[:, :2] * 4, apply_affine(example.joints[:, :2], matrix))
        back = apply_affine(out.joints[:, :2] * 4, invert_affine(out.matrix))
        assert_close(back, example.joints[:, :2], atol=1e-4, rtol=0)
        assert (out.joints[:, 2] == 2).all()

    def test_decoded_targets_lead_back_to_the_picture(self):
        example = person()
        out = TopDown((128, 96), (32, 24))(example)
        heatmaps, weights = encode_heatmaps(out.joints[None], (32, 24))
        assert (weights == 1).all()
        decoded = decode_heatmaps(heatmaps)[..., :2]
        back = apply_affine(decoded * 4, invert_affine(out.matrix)[None])[0]
        # a cell is 4 crop pixels wide and rounding costs half of one
        limit = 2 / out.matrix[:, :2].det().sqrt().item() + 1e-3
        assert (back - example.joints[:, :2]).abs().max() <= limit

    def test_the_crop_is_normalised(self):
        image = Image.new("RGB", (160, 140), (255, 51, 0))
        out = TopDown(16, 4, padding=0.5, mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 0.1))(person(image=image))
        assert out.image.is_contiguous()
        assert_close(out.image, torch.tensor([1.0, -1.0, -3.0])[:, None, None].expand(3, 16, 16), atol=1e-5, rtol=1e-5)

    def test_flags_of_unannotated_hidden_and_lost_joints(self):
        joints = torch.tensor([[60.0, 70, 2], [60, 70, 1], [0, 0, 0], [500, 70, 2], [60, -90, 1], [7, 9, 0]])
        out = TopDown(64, 16, flip_pairs=())(person(joints))
        assert out.joints[:, 2].tolist() == [2, 1, 0, 0, 0, 0]
        assert_close(out.joints[[2, 5], :2], torch.zeros(2, 2))
        assert_close(out.joints[3, :2] * 4, apply_affine(joints[3, :2], crop_matrix(BOX, 64)))

    def test_the_crop_ends_half_a_pixel_after_its_last_centre(self):
        edge = invert_affine(crop_matrix(BOX, 64))
        xy = apply_affine(points([-0.4, 5], [-0.6, 5], [63.4, 63.4], [5, 63.6], [63.6, 5]), edge)
        joints = torch.cat([xy.float(), torch.full((5, 1), 2.0)], 1)
        assert TopDown(64, 16, flip_pairs=())(person(joints)).joints[:, 2].tolist() == [2, 0, 2, 0, 0]

    def test_no_pose_stays_no_pose(self):
        out = TopDown(64, 16, rotation=30, hflip=1.0)(person(torch.full((16, 3), -1.0), head_size=math.nan))
        assert_close(out.joints, torch.full((16, 3), -1.0))
        assert out.head_size.isnan()

    @pytest.mark.parametrize("scale", [0.0, 0.25])
    def test_the_head_size_shrinks_with_the_person(self, scale):
        out = TopDown(64, 16, scale=scale, rotation=40, hflip=0.5)(person(head_size=12.0))
        zoom = out.matrix[:, :2].det().abs().sqrt()
        assert_close(out.head_size, 12.0 * zoom / 4)
        if not scale:
            assert_close(zoom, torch.tensor(64 / 125))

    def test_a_flip_mirrors_the_crop_and_swaps_left_and_right(self):
        example = person(image=noise())
        plain, flipped = TopDown(64, 16, **ZERO_ONE)(example), TopDown(64, 16, hflip=1.0, **ZERO_ONE)(example)
        assert_close(flipped.image, plain.image.flip(-1), atol=1.01 / 255, rtol=0)
        order = [5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 15, 14, 13, 12, 11, 10]
        assert_close(flipped.joints[:, 0], 63 / 4 - plain.joints[order, 0])
        assert_close(flipped.joints[:, 1], plain.joints[order, 1])

    def test_flags_go_with_their_joints_in_a_flip(self):
        example = person()
        example.joints[0] = 0
        assert TopDown(64, 16, hflip=1.0)(example).joints[:, 2].tolist() == [2] * 5 + [0] + [2] * 10

    def test_draws_are_hrnets(self):
        transform = TopDown(8, 2, rotation=30, scale=0.25, hflip=0.5)
        example = person(image=Image.new("RGB", (16, 16)))
        matrices = torch.stack([transform(example).matrix for _ in range(600)]).double()
        determinants = matrices[:, :2, :2].det()
        flipped = determinants < 0
        factors = (8 / 125) / determinants.abs().sqrt()
        angles = torch.rad2deg(torch.atan2(-matrices[:, 1, 0], matrices[:, 1, 1]))
        assert abs(flipped.double().mean() - 0.5) < 0.08
        # clipped at one standard deviation: 16 % on either side
        assert factors.min() > 0.75 - 1e-4
        assert factors.max() < 1.25 + 1e-4
        assert abs((factors > 1.25 - 1e-4).double().mean() - 0.16) < 0.06
        turned = angles.abs() > 1e-3
        assert abs(turned.double().mean() - 0.6) < 0.08
        assert angles.abs().max() < 60 + 1e-3
        assert abs(angles[turned].std() - 29) < 3.5

    def test_seeding_torch_repeats_every_draw(self):
        transform = TopDown(32, 8, rotation=30, scale=0.25, hflip=0.5, color_jitter=0.4)
        example = person(image=noise())
        runs = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            runs.append(default_collate([transform(example) for _ in range(4)]))
        assert_close(runs[0], runs[1], rtol=0, atol=0)
        assert not torch.equal(runs[0].image, runs[2].image)

    def test_without_randomness_no_random_number_is_drawn(self):
        example, state = person(), torch.get_rng_state()
        TopDown(32, 8)(example)
        assert torch.equal(state, torch.get_rng_state())

    def test_color_jitter_leaves_the_joints_alone(self):
        example = person(image=noise())
        plain, jittered = TopDown(32, 8)(example), TopDown(32, 8, color_jitter=0.5)(example)
        assert not torch.equal(plain.image, jittered.image)
        assert_close(plain.joints, jittered.joints)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"size": 64, "heatmap_size": (16, 12)},
            {"size": 0},
            {"hflip": 1.5},
            {"scale": 1.0},
            {"rotation": -1},
            {"color_jitter": -0.1},
        ],
        ids=str,
    )
    def test_bad_settings(self, arguments):
        with pytest.raises(ValueError, match=r"aspect ratio|expected hflip"):
            TopDown(**arguments)

    @pytest.mark.parametrize(
        ("joints", "arguments", "message"),
        [
            (torch.zeros(16, 2), {}, r"shape \(J, 3\), got \(16, 2\)"),
            (torch.zeros(17, 3), {"hflip": 0.5}, "flip pairs of 16 joints for a person of 17"),
            (torch.zeros(16, 3), {"hflip": 0.5, "flip_pairs": COCO_FLIP_PAIRS}, "of 17 joints for a person of 16"),
            (torch.zeros(3, 3), {"hflip": 0.5, "flip_pairs": [(0, 3)]}, "at least 4 joints for a person of 3"),
        ],
    )
    def test_joints_that_do_not_fit(self, joints, arguments, message):
        with pytest.raises(ValueError, match=message):
            TopDown(64, 16, **arguments)(person(joints))


class People:
    """A source of one example, many times."""

    def __init__(self, count, **kind):
        self.count, self.kind = count, kind

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return person(**self.kind)


class TestMix:
    def test_pose_and_action_people_share_a_batch(self, tmp_path):
        Image.new("RGB", (50, 40), (9, 9, 9)).save(tmp_path / "a.png")
        poses = PersonImages(People(3, label=-1), TopDown(32, 8, rotation=90, scale=0.25, hflip=0.5))
        actions = PersonImages(FolderPeople([(tmp_path / "a.png", 7)] * 2), TopDown(32, 8, rotation=10))
        joined = mix([poses, actions])
        assert len(joined) == 5
        batch = next(iter(DataLoader(joined, batch_size=5)))
        assert isinstance(batch, PersonInput)
        assert [tuple(part.shape) for part in batch] == [(5, 3, 32, 32), (5, 16, 3), (5,), (5,), (5, 2, 3)]
        assert batch.label.tolist() == [-1, -1, -1, 7, 7]
        assert batch.label.dtype == torch.int64
        assert {part.dtype for part in (batch.image, batch.joints, batch.head_size, batch.matrix)} == {torch.float32}
        assert (batch.joints == -1).all(2).all(1).tolist() == [False] * 3 + [True] * 2

    def test_multi_label_sets_mix(self):
        sets = [PersonImages(People(1, label=torch.tensor(row)), TopDown(32, 8)) for row in ([0.0, 1.0], [-1.0, -1.0])]
        assert_close(default_collate(list(mix(sets))).label, torch.tensor([[0.0, 1.0], [-1.0, -1.0]]))

    def test_a_look_draws_no_random_number(self):
        state = torch.get_rng_state()
        mix([PersonImages(People(2), TopDown(32, 8, rotation=30, scale=0.25, hflip=0.5))] * 2)
        assert torch.equal(state, torch.get_rng_state())

    @pytest.mark.parametrize(
        "other",
        [
            PersonImages(People(1, joints=torch.zeros(17, 3)), TopDown(32, 8)),
            PersonImages(People(1, label=torch.zeros(26)), TopDown(32, 8)),
            PersonImages(People(1), TopDown(64, 16)),
        ],
        ids=["joints", "labels", "size"],
    )
    def test_sets_that_do_not_go_together(self, other):
        with pytest.raises(ValueError, match="data set 1 does not go with the first"):
            mix([PersonImages(People(1), TopDown(32, 8)), other])

    def test_nothing_to_mix(self):
        with pytest.raises(ValueError, match="nothing to mix"):
            mix([])
        with pytest.raises(ValueError, match="data set 1 of the mix is empty"):
            mix([PersonImages(People(1), TopDown(32, 8)), PersonImages(People(0), TopDown(32, 8))])
