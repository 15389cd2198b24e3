import io
import os
import sys
import threading
import types
import weakref
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from actionzoo.data import clip_info, clips, frame_stream, iter_frames, read_clip, write_clip
from tests.data.videos import make_video, noise, numbers, picture, turned

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "data" / "clips"

# 30 frames each; B-frames are not stored in the order of display
KINDS = {
    "mp4-mpeg4": ("a.mp4", {}),
    "mp4-mpeg4-b": ("a.mp4", {"b_frames": 2}),
    "mp4-h264": ("a.mp4", {"codec": "libx264", "options": {"bf": "3", "sc_threshold": "0"}}),
    "mp4-h264-open-gop": ("a.mp4", {"codec": "libx264", "options": {"x264-params": "open-gop=1:bframes=3:scenecut=0"}}),
    "mkv-h264": ("a.mkv", {"codec": "libx264"}),
    "ts-h264": ("a.ts", {"codec": "libx264"}),
    "raw-h264": ("a.h264", {"codec": "libx264"}),
    "avi-mjpeg": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "mkv-mjpeg": ("a.mkv", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    "avi-mpeg4-b": ("a.avi", {"b_frames": 2}),
    "mp4-one-key-frame": ("a.mp4", {"gop": 1000}),
    "mp4-odd-size": ("a.mp4", {"codec": "libx264", "size": (33, 51), "pix_fmt": "yuv444p"}),
    "mp4-odd-size-mpeg4": ("a.mp4", {"size": (33, 51)}),
    "mp4-grey": ("a.mp4", {"codec": "libx264", "pix_fmt": "gray"}),
    "avi-sound": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "audio": True}),
    "mp4-variable-rate": ("a.mp4", {"b_frames": 1, "times": [i + 3 * (i > 9) + 40 * (i > 20) for i in range(30)]}),
}
kinds = pytest.mark.parametrize("video", KINDS, indirect=True)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Make each kind of video once."""
    made = {}

    def make(kind):
        if kind not in made:
            name, options = KINDS[kind]
            made[kind] = make_video(tmp_path_factory.mktemp(kind) / name, **options)
        return made[kind]

    return make


@pytest.fixture
def video(request, videos):
    return videos(request.param)


@pytest.fixture
def plain(videos):
    return videos("mp4-mpeg4")


def whole(path):
    return torch.stack([frame.pixels for frame in iter_frames(path)], 1)


class TestReadClip:
    @kinds
    def test_every_frame_is_the_one_asked_for(self, video):
        """Seeking or not: the same pixels as decoding all of it, and the numbers that the pictures show."""
        everything = whole(video)
        assert numbers(everything) == list(range(30))
        for frames, stride, start in [(30, 1, 0), (4, 1, 0), (3, 2, 7), (3, 1, 8), (1, 1, 29), (5, 3, 15), (2, 1, 17)]:
            clip = read_clip(video, frames, stride, start)
            assert torch.equal(clip, everything[:, start : start + frames * stride : stride])
            assert clip.dtype == torch.uint8
            assert clip.is_contiguous()

    @pytest.mark.parametrize(
        ("frames", "stride", "first"), [(4, 1, 13), (5, 1, 12), (8, 2, 7), (30, 1, 0), (29, 1, 0), (10, 3, 1)]
    )
    def test_the_middle_by_default(self, plain, frames, stride, first):
        assert numbers(read_clip(plain, frames, stride)) == list(range(first, first + frames * stride, stride))

    def test_anywhere_at_random(self, plain):
        torch.manual_seed(0)
        starts = [numbers(read_clip(plain, 9, 3, "random"))[0] for _ in range(30)]
        torch.manual_seed(0)
        assert starts[:3] == [numbers(read_clip(plain, 9, 3, "random"))[0] for _ in range(3)]
        # 25 frames long, so 0 to 5
        assert set(starts) == set(range(6))

    @pytest.mark.parametrize(
        ("frames", "stride", "start", "found"),
        [(40, 1, None, range(30)), (8, 5, None, range(0, 30, 5)), (6, 2, 25, [25, 27, 29]), (9, 1, 29, [29])],
    )
    def test_a_video_that_is_too_short(self, plain, frames, stride, start, found):
        found = list(found)
        assert numbers(read_clip(plain, frames, stride, start)) == found
        last = [*found, *[found[-1]] * frames][:frames]
        assert numbers(read_clip(plain, frames, stride, start, pad="last")) == last
        assert numbers(read_clip(plain, frames, stride, start, pad="loop")) == (found * frames)[:frames]

    @pytest.mark.parametrize("pad", ["none", "last", "loop"])
    def test_a_clip_that_fits_is_not_padded(self, plain, pad):
        assert numbers(read_clip(plain, 5, 2, 3, pad=pad)) == [3, 5, 7, 9, 11]

    def test_decoding_starts_at_the_key_frame(self, videos, monkeypatch):
        decoded = []

        def counting(*args):
            for frame in decode(*args):
                decoded.append(frame)
                yield frame

        decode = clips.decode
        monkeypatch.setattr(clips, "decode", counting)
        # key frames at 0, 8, 16, 24
        for start, count in ((24, 3), (17, 4), (8, 3), (7, 10)):
            decoded.clear()
            assert numbers(read_clip(videos("mp4-mpeg4"), 3, 1, start)) == [start, start + 1, start + 2]
            assert len(decoded) == count

    def test_a_seek_that_ends_elsewhere_is_noticed(self, videos, monkeypatch):
        """Then frames are counted from the start."""
        index = clips.read_index

        def wrong(*args):
            found = index(*args)
            # 20 is none, so FFmpeg goes to the one before
            return found._replace(keys=[found.times[20]])

        monkeypatch.setattr(clips, "read_index", wrong)
        assert numbers(read_clip(videos("mp4-h264"), 4, 1, 22)) == [22, 23, 24, 25]

    def test_threads_change_nothing(self, videos):
        path = videos("mp4-h264")
        assert torch.equal(read_clip(path, 9, 2, 5, threads=2), read_clip(path, 9, 2, 5))
        assert torch.equal(read_clip(path, 9, 2, 5, threads=0), read_clip(path, 9, 2, 5))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"frames": 0}, "frames is a whole number of at least 1, got 0"),
            ({"frames": 2.0}, "frames is a whole number of at least 1, got 2.0"),
            ({"stride": 0}, "stride is a whole number of at least 1, got 0"),
            ({"start": -1}, "start is a whole number of at least 0, got -1"),
            ({"start": "middle"}, "start is a whole number of at least 0, got 'middle'"),
            ({"start": 30}, "has 30 frames; a clip cannot start at number 30"),
            ({"pad": "zeros"}, "pad is one of none, last, loop, got 'zeros'"),
            ({"threads": -1}, "threads is a whole number of at least 0, got -1"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_wrong_arguments(self, plain, arguments, message):
        with pytest.raises(ValueError, match=message):
            read_clip(plain, **{"frames": 4, **arguments})

    def test_pictures_that_change_their_size(self, tmp_path):
        for i, size in enumerate([(32, 48), (64, 64)]):
            make_video(tmp_path / f"{i}.h264", 4, "libx264", size)
        path = tmp_path / "both.h264"
        path.write_bytes((tmp_path / "0.h264").read_bytes() + (tmp_path / "1.h264").read_bytes())
        with pytest.raises(RuntimeError, match=r"change their size \(48 x 32, 64 x 64\); use iter_frames"):
            read_clip(path, 8)
        assert [tuple(frame.pixels.shape[1:]) for frame in iter_frames(path)] == [(32, 48)] * 4 + [(64, 64)] * 4


# a point (x, y) is shown at (a x + c y, b x + d y)
TURNS = {
    "upright": ((1, 0, 0, 1), lambda clip: clip),
    "quarter-clockwise": ((0, 1, -1, 0), lambda clip: torch.rot90(clip, -1, (2, 3))),
    "half": ((-1, 0, 0, -1), lambda clip: torch.rot90(clip, 2, (2, 3))),
    "quarter-counter-clockwise": ((0, -1, 1, 0), lambda clip: torch.rot90(clip, 1, (2, 3))),
    "mirrored": ((-1, 0, 0, 1), lambda clip: clip.flip(3)),
    "upside-down": ((1, 0, 0, -1), lambda clip: clip.flip(2)),
    "transposed": ((0, 1, 1, 0), lambda clip: clip.transpose(2, 3)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_pictures_are_turned_upright(plain, tmp_path, turn):
    matrix, function = TURNS[turn]
    path = turned(plain, tmp_path / "turned.mp4", matrix)
    want = function(read_clip(plain, 3))
    assert torch.equal(read_clip(path, 3), want)
    assert torch.equal(whole(path)[:, 13:16], function(whole(plain))[:, 13:16])
    info = clip_info(path)
    assert (info.height, info.width) == tuple(want.shape[2:])


class TestClipInfo:
    @kinds
    def test_counts_frames(self, video):
        info = clip_info(video)
        assert info.frames == 30
        assert (info.height, info.width) == tuple(read_clip(video, 1).shape[2:])

    @pytest.mark.parametrize("video", ["mp4-mpeg4", "mp4-mpeg4-b", "mkv-h264", "avi-mjpeg", "ts-h264"], indirect=True)
    def test_rate_and_duration(self, video):
        info = clip_info(video)
        assert info.fps == pytest.approx(10)
        assert info.duration == pytest.approx(3)

    def test_variable_rate(self, videos):
        info = clip_info(videos("mp4-variable-rate"))
        # the last of 30 frames comes after 7.2 seconds
        assert info.duration == pytest.approx(7.2 * 30 / 29)
        assert info.fps == pytest.approx(30 / info.duration, rel=0.05)

    def test_one_frame(self, tmp_path):
        info = clip_info(make_video(tmp_path / "one.mp4", 1))
        assert (info.frames, info.fps, info.duration) == (1, 10, pytest.approx(0.1))


def wipe(source, target, frames, part=0.0):
    """A copy of a video whose packets of the numbers `frames` are all zeros from the given part on."""
    with av.open(str(source)) as container:
        packets = sorted((p.pts, p.pos, p.size) for p in container.demux(video=0) if p.size)
    data = bytearray(source.read_bytes())
    for _, position, size in (packets[i] for i in frames):
        # AVI and Matroska count the header of a packet too
        first = position + (0 if source.suffix == ".mp4" else 16) + int(part * size)
        data[first : position + size] = bytes(position + size - first)
    target.write_bytes(data)
    return target


class TestDamage:
    def test_a_frame_with_errors(self, videos, tmp_path):
        path = wipe(videos("avi-mjpeg"), tmp_path / "bad.avi", frames=[15], part=0.7)
        with pytest.warns(RuntimeWarning, match=r"bad.avi is damaged \(.*: 1\); the clip has \d+ of the 30") as caught:
            clip = read_clip(path, 30)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert clip.shape[1] >= 29
        with pytest.warns(RuntimeWarning, match="bad.avi is damaged") as caught:
            assert len(list(iter_frames(path))) == clip.shape[1]
        assert len(caught) == 1
        assert caught[0].filename == __file__
        # the frames before are whole
        assert numbers(read_clip(path, 5, 1, 3)) == [3, 4, 5, 6, 7]

    def test_frames_lost_within_a_clip(self, videos, tmp_path):
        """The others keep their numbers, as the packets have times; in AVI, which has none, they move up."""
        for kind, suffix, want in (
            ("mkv-mjpeg", "mkv", [17, 20, 21, 22, 23, 24]),
            ("avi-mjpeg", "avi", [17, 20, 21, 22, 23, 24, 25, 26]),
        ):
            path = wipe(videos(kind), tmp_path / f"bad.{suffix}", frames=[18, 19])
            wanted = rf"that cannot be decoded: 2\); the clip has {len(want)} of the 8 frames wanted"
            with pytest.warns(RuntimeWarning, match=wanted):
                assert numbers(read_clip(path, 8, 1, 17)) == want
            assert numbers(read_clip(path, 4, 1, 12)) == [12, 13, 14, 15]

    def test_decoding_goes_on_behind_the_damage(self, videos, tmp_path):
        path = wipe(videos("mp4-mpeg4"), tmp_path / "bad.mp4", frames=range(9, 16))
        with pytest.warns(RuntimeWarning, match=r"bad.mp4 is damaged"):
            clip = read_clip(path, 30)
        assert numbers(clip)[:9] == list(range(9))
        assert numbers(clip)[-14:] == list(range(16, 30))
        assert numbers(read_clip(path, 6, 1, 20)) == list(range(20, 26))

    @pytest.mark.parametrize("kind", ["avi", "mp4"])
    def test_a_file_cut_short(self, videos, tmp_path, kind):
        """An MP4 file that is cut short is of use only if its index comes first."""
        source = videos("avi-mjpeg")
        if kind == "mp4":
            source = make_video(tmp_path / "whole.mp4", container_options={"movflags": "faststart"})
        path, data = tmp_path / f"cut.{kind}", source.read_bytes()
        first = data.index(b"mdat" if kind == "mp4" else b"movi")
        path.write_bytes(data[: (first + 2 * len(data)) // 3])
        with pytest.warns(RuntimeWarning, match=r"is damaged \(.*cut short\); it holds \d+ frames") as caught:
            there = clip_info(path).frames
        assert len(caught) == 1
        assert 10 < there < 29
        with pytest.warns(RuntimeWarning, match=r"damaged \(.*cut short\); the clip has \d+ of the \d+ frames wanted"):
            clip = read_clip(path, 30)
        assert numbers(clip)[:10] == list(range(10))
        assert there - 1 <= clip.shape[1] <= there
        with pytest.warns(RuntimeWarning, match=r"damaged \(.*cut short\); it gave \d+ frames"):
            assert len(list(iter_frames(path))) == clip.shape[1]

    @pytest.mark.parametrize("part", [0.0, 0.3])
    def test_nothing_left_to_decode(self, plain, tmp_path, part):
        path, data = tmp_path / "cut.mp4", plain.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])
        for function in (clip_info, lambda p: read_clip(p, 4), lambda p: list(iter_frames(p))):
            with pytest.raises(RuntimeError, match=r"cut.mp4 cannot be read as a video \(Invalid data found"):
                function(path)

    def test_packets_all_lost(self, plain, tmp_path):
        data = bytearray(plain.read_bytes())
        start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
        data[start:end] = bytes(end - start)
        path = tmp_path / "zeros.mp4"
        path.write_bytes(data)
        with pytest.raises(RuntimeError, match=r"zeros.mp4 is damaged: none of the frames 13 to 16 can be decoded"):
            read_clip(path, 4)
        for function in (clip_info, lambda p: list(iter_frames(p))):
            with pytest.raises(RuntimeError, match=r"zeros.mp4 holds no pictures that can be decoded"):
                function(path)


class TestNoVideo:
    FUNCTIONS = (clip_info, lambda path: read_clip(path, 4), lambda path: list(iter_frames(path)))

    @pytest.mark.parametrize("name", ["notes.txt", "notes.mp4", "table.csv", "weights.bin"])
    def test_text(self, tmp_path, name):
        (tmp_path / name).write_text("no video at all\n" * 100)
        for function in self.FUNCTIONS:
            with pytest.raises(RuntimeError, match=f"{name} (cannot be read as a|is no) video"):
                function(tmp_path / name)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp"])
    def test_a_picture(self, tmp_path, suffix):
        path = tmp_path / f"photo.{suffix}"
        Image.fromarray(picture(5)).save(path)
        for function in self.FUNCTIONS:
            with pytest.raises(RuntimeError, match=f"photo.{suffix} is no video but a single picture"):
                function(path)

    def test_sound(self, tmp_path):
        path = tmp_path / "sound.wav"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            stream.layout = "mono"
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux([*stream.encode(frame), *stream.encode()])
        for function in self.FUNCTIONS:
            with pytest.raises(RuntimeError, match=r"sound.wav has no pictures, only \['audio'\]"):
                function(path)

    def test_a_folder_is_no_clip(self, tmp_path):
        for function in self.FUNCTIONS[:2]:
            with pytest.raises(RuntimeError, match="cannot be read as a video"):
                function(tmp_path)

    def test_no_file(self, tmp_path):
        for function in self.FUNCTIONS:
            with pytest.raises(FileNotFoundError, match=r"no such video: .*nowhere.mp4"):
                function(tmp_path / "nowhere.mp4")


class Pipe(io.RawIOBase):
    """Bytes that can be read once, and how many have been."""

    def __init__(self, data):
        self.data, self.taken = data, 0

    def readable(self):
        return True

    def seekable(self):
        return False

    def readinto(self, buffer):
        chunk = self.data[self.taken : self.taken + len(buffer)]
        buffer[: len(chunk)] = chunk
        self.taken += len(chunk)
        return len(chunk)


class TestIterFrames:
    @kinds
    def test_numbers_and_strides(self, video):
        for stride in (1, 4, 40):
            found = list(iter_frames(video, stride))
            want = list(range(0, 30, stride))
            assert [frame.number for frame in found] == want
            assert numbers(torch.stack([frame.pixels for frame in found], 1)) == want

    @kinds
    def test_times(self, video, request):
        name = request.node.callspec.params["video"]
        want = KINDS[name][1].get("times", list(range(30)))
        found = [time for _, time, _ in iter_frames(video, 3)]
        if name == "raw-h264":
            # such a stream stores neither times nor a rate
            assert found == sorted(found)
        else:
            assert found == pytest.approx([t / 10 for t in want][::3], abs=1e-3)

    def test_file_objects(self, plain):
        want = whole(plain)
        with plain.open("rb") as file:
            assert torch.equal(whole(file), want)
        assert torch.equal(whole(io.BytesIO(plain.read_bytes())), want)

    @pytest.mark.parametrize("kind", ["mkv-h264", "ts-h264", "avi-mjpeg"])
    def test_pipes(self, videos, kind):
        path = videos(kind)
        assert numbers(whole(io.BufferedReader(Pipe(path.read_bytes())))) == list(range(30))

    def test_a_true_pipe(self, videos):
        data = videos("mkv-h264").read_bytes()
        read_end, write_end = os.pipe()

        def send():
            with open(write_end, "wb") as file:
                file.write(data)

        thread = threading.Thread(target=send)
        thread.start()
        with open(read_end, "rb") as file:
            assert numbers(whole(file)) == list(range(30))
        thread.join()

    def test_standard_input(self, videos, monkeypatch):
        stream = io.BufferedReader(Pipe(videos("mkv-h264").read_bytes()))
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=stream))
        assert numbers(whole("-")) == list(range(30))
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"no video")))
        with pytest.raises(RuntimeError, match="standard input cannot be read as a video"):
            list(iter_frames("-"))

    def test_formats_that_are_not_recognised(self, videos):
        data = videos("raw-h264").read_bytes()
        assert len(list(iter_frames(io.BytesIO(data), format="h264"))) == 30

    def test_frames_come_while_the_source_is_read(self, tmp_path):
        """Ten thousand frames never are in memory: the first ones are there when a part of the bytes is."""
        path = make_video(tmp_path / "long.avi", 64, "mjpeg", (64, 96), pix_fmt="yuvj420p")
        pipe = Pipe(path.read_bytes() + bytes(10_000_000))
        frames = iter_frames(io.BufferedReader(pipe))
        assert [frame.number for frame in islice(frames, 3)] == [0, 1, 2]
        assert pipe.taken < 1_000_000
        frames.close()

    def test_closing_closes_the_file(self, plain, monkeypatch):
        opened = []
        open_video = av.open

        def remember(*args, **kwargs):
            opened.append(open_video(*args, **kwargs))
            return opened[-1]

        monkeypatch.setattr(av, "open", remember)
        frames = iter_frames(plain)
        assert opened == []
        next(frames)
        frames.close()
        with pytest.raises(AssertionError, match="not open"):
            opened[0].seek(0)

    def test_a_folder_of_pictures(self, tmp_path):
        for number, name in enumerate(["a2.png", "a10.png", "a11.PNG", "b.png", "c1.png"]):
            Image.fromarray(picture(number)).save(tmp_path / name, format="png")
        (tmp_path / "notes.txt").write_text("no picture")
        (tmp_path / ".hidden.png").write_text("no picture")
        (tmp_path / "sub.png").mkdir()
        (tmp_path / "more").mkdir()
        found = list(iter_frames(tmp_path, 2, fps=10))
        assert [frame.number for frame in found] == [0, 2, 4]
        assert [frame.time_s for frame in found] == pytest.approx([0, 0.2, 0.4])
        assert numbers(torch.stack([frame.pixels for frame in found], 1)) == [0, 2, 4]
        assert torch.equal(found[1].pixels, torch.from_numpy(picture(2)).permute(2, 0, 1))

    def test_a_folder_with_a_bad_picture(self, tmp_path):
        Image.fromarray(picture(0)).save(tmp_path / "1.png")
        (tmp_path / "2.png").write_text("no picture")
        frames = iter_frames(tmp_path)
        next(frames)
        with pytest.raises(RuntimeError, match=r"2.png cannot be read as a picture"):
            next(frames)

    def test_cameras(self, monkeypatch):
        monkeypatch.setattr(sys, "platform", "linux")
        assert frame_stream._camera(2) == ("/dev/video2", "v4l2")
        with pytest.raises((RuntimeError, FileNotFoundError), match="camera 97"):
            next(iter_frames(97))
        monkeypatch.setattr(sys, "platform", "darwin")
        assert frame_stream._camera(0) == ("0", "avfoundation")
        monkeypatch.setattr(sys, "platform", "win32")
        with pytest.raises(ValueError, match="cameras have no numbers on win32"):
            iter_frames(0)

    @pytest.mark.parametrize(
        ("source", "options", "error", "message"),
        [
            ("a.mp4", {"stride": 0}, ValueError, "stride is a whole number of at least 1, got 0"),
            ("a.mp4", {"fps": 0}, ValueError, "fps is a positive number of frames per second, got 0"),
            (-1, {}, ValueError, "cameras are numbered from 0, got -1"),
            (None, {}, TypeError, "a source is a file, a folder, .*got NoneType"),
            (True, {}, TypeError, "a source is a file, .*got bool"),
            ("", {}, ValueError, "has no pictures"),
        ],
        ids=["stride", "fps", "camera", "none", "bool", "empty-folder"],
    )
    def test_wrong_arguments_at_once(self, tmp_path, monkeypatch, source, options, error, message):
        monkeypatch.setattr(sys, "platform", "linux")
        with pytest.raises(error, match=message):
            iter_frames(tmp_path if source == "" else source, **options)


class TestWriteClip:
    @pytest.mark.parametrize("name", ["a.mp4", "a.MOV", "a.mkv", "a.avi"])
    @pytest.mark.parametrize("size", [(48, 64), (47, 65)], ids=["even", "odd"])
    def test_round_trip(self, tmp_path, name, size):
        clip = noise(12, *size)
        path = write_clip(tmp_path / name, clip, 24, quality=10)
        assert path == tmp_path / name
        assert os.listdir(tmp_path) == [name]
        info = clip_info(path)
        assert info[:4] == (12, pytest.approx(24), size[1], size[0])
        assert (read_clip(path, 12).float() - clip.float()).abs().mean() < 3

    def test_another_encoder(self, tmp_path):
        path = write_clip(tmp_path / "a.mp4", noise(5, 32, 48), codec="mpeg4")
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.name == "mpeg4"
        assert clip_info(path).fps == 25

    def test_quality(self, tmp_path):
        sizes = [write_clip(tmp_path / "a.mp4", noise(5, 64, 64), quality=q).stat().st_size for q in (5, 45)]
        assert sizes[0] > 2 * sizes[1]

    @pytest.mark.parametrize("fps", [15, 29.97, Fraction(30000, 1001)], ids=str)
    def test_rates(self, tmp_path, fps):
        path = write_clip(tmp_path / "a.mp4", noise(7, 16, 16), fps)
        assert clip_info(path).fps == pytest.approx(float(fps))
        assert [frame.time_s for frame in iter_frames(path)] == pytest.approx(
            [i / float(fps) for i in range(7)], abs=1e-3
        )

    def test_frames_are_taken_one_at_a_time(self, tmp_path):
        """Reading and writing at once, as an overlay does."""
        source = make_video(tmp_path / "in.mp4")
        seen = []

        def overlay():
            for frame in iter_frames(source):
                seen.append(frame.number)
                yield frame.pixels.flip(2)
                # frames that are written live no longer than the next one
                seen_alive.append(sum(pixels() is not None for pixels in alive))
                alive.append(weakref.ref(frame.pixels))

        alive, seen_alive = [], []
        path = write_clip(tmp_path / "out.mp4", overlay(), 10)
        assert seen == list(range(30))
        assert max(seen_alive) <= 2
        assert numbers(read_clip(path, 30).flip(3)) == seen

    def test_nothing_is_left_of_a_failure(self, tmp_path):
        path = write_clip(tmp_path / "a.mp4", noise(4, 16, 16))
        before = path.read_bytes()

        def broken():
            yield from noise(4, 16, 16).unbind(1)
            raise KeyError("frame 4")

        for frames, error in (
            (broken(), KeyError),
            ([], ValueError),
            (torch.zeros(3, 0, 8, 8, dtype=torch.uint8), ValueError),
        ):
            with pytest.raises(error):
                write_clip(path, frames)
            assert path.read_bytes() == before
            assert os.listdir(tmp_path) == ["a.mp4"]

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"frames": torch.zeros(3, 4, 8, 8)}, TypeError, "frames are uint8 tensors, got torch.float32 for frame 0"),
            ({"frames": [np.zeros((3, 8, 8), np.uint8)]}, TypeError, "frames are uint8 tensors, got ndarray"),
            ({"frames": noise(4, 8, 8)[0]}, ValueError, r"a clip has the shape \(3, T, H, W\), got \(4, 8, 8\)"),
            ({"frames": noise(4, 8, 8)[:1]}, ValueError, r"frames are \(3, H, W\).*frame 0 is \(1, 8, 8\)"),
            (
                {"frames": [noise(1, 8, 8)[:, 0], noise(1, 8, 9)[:, 0]]},
                ValueError,
                r"all of one size; frame 1 is \(3, 8, 9\)",
            ),
            ({"frames": []}, ValueError, "no frames to write"),
            ({"path": "a.gifv"}, ValueError, "ends in .mp4, .mov, .mkv, .avi, got 'a.gifv'"),
            ({"fps": 0}, ValueError, "fps is a positive number of frames per second, got 0"),
            ({"fps": float("nan")}, ValueError, "fps is a positive number"),
            ({"path": "nowhere/a.mp4"}, FileNotFoundError, "no such folder: .*nowhere; make it first"),
            ({"codec": "libnothing"}, RuntimeError, "no encoder libnothing; give another as codec"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_wrong_input(self, tmp_path, arguments, error, message):
        given = {"path": "a.mp4", "frames": noise(4, 8, 8), **arguments}
        given["path"] = tmp_path / given["path"]
        with pytest.raises(error, match=message):
            write_clip(**given)
        assert os.listdir(tmp_path) == []


def test_av_is_an_extra(plain, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    functions = (clip_info, lambda p: read_clip(p, 4), lambda p: next(iter_frames(p)))
    for function in (*functions, lambda _: write_clip(tmp_path / "a.mp4", noise(1, 8, 8))):
        with pytest.raises(ImportError, match=r'PyAV: pip install "actionzoo\[video\]"'):
            function(plain)
    Image.fromarray(picture(0)).save(tmp_path / "0.png")
    assert len(list(iter_frames(tmp_path))) == 1


@pytest.mark.data
@pytest.mark.skipif(not CLIPS.is_dir(), reason="needs ../shared/data/clips beside the repository")
@pytest.mark.parametrize(
    ("name", "frames", "size"),
    [
        ("arm_wrestling.mp4", 280, (256, 340)),
        ("basketball.mp4", 300, (240, 426)),
        ("eye_makeup.avi", 164, (240, 320)),
        ("pool_cleaning.mp4", 300, (256, 340)),
    ],
)
def test_real_clips(name, frames, size):
    """The AVI file has B-frames packed with others, so its own times are wrong."""
    path = CLIPS / name
    info = clip_info(path)
    assert (info.frames, info.height, info.width) == (frames, *size)
    found = list(iter_frames(path))
    assert len(found) == frames
    times = [frame.time_s for frame in found]
    assert np.diff(times) == pytest.approx(np.full(frames - 1, 1 / info.fps), abs=1e-6)
    for start, stride in ((None, 4), (61, 2), (frames - 9, 4)):
        clip = read_clip(path, 3, stride, start)
        first = (frames - 9) // 2 if start is None else start
        assert torch.equal(clip, torch.stack([frame.pixels for frame in found[first : first + 3 * stride : stride]], 1))
