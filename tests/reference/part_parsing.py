"""Part-level action parsing (PCF, section II): people, dots, parts, views and states, one number at a time."""

import math

import numpy as np
import torch

from tests.reference import heatmaps
from tests.reference.box_grower import grow_boxes
from tests.reference.pose_dots import pose_dots

PARTS = (
    "head", "hip", "left_arm", "right_arm", "left_foot", "right_foot", "left_hand", "right_hand", "left_leg",
    "right_leg",
)  # fmt: skip


def pixel(frame, x, y):
    """Colour at a point that counts from the centre of the first pixel, between pixels; black outside."""
    colour = [0.0] * 3
    column, row = math.floor(x), math.floor(y)
    for j, weight_y in ((row, 1 - (y - row)), (row + 1, y - row)):
        for i, weight_x in ((column, 1 - (x - column)), (column + 1, x - column)):
            if 0 <= j < frame.shape[1] and 0 <= i < frame.shape[2]:
                for c in range(3):
                    colour[c] += weight_x * weight_y * frame[c, j, i]
    return colour


def pose_crop(frame, box, size):
    """What a pose net sees of a person, `(3, h, w)`; and the crop's left and top edge and pixels of the frame per its
    own.
    """
    height, width = size
    x1, y1, x2, y2 = map(float, box)
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    window = 1.25 * max(x2 - x1, (y2 - y1) * width / height)
    step = window / width
    left, top = (x1 + x2 - window) / 2, (y1 + y2 - window * height / width) / 2
    finer = max(1, math.ceil(step - 0.25))
    frame, crop = frame.double().numpy(), np.zeros((3, height, width))
    for v in range(height):
        for u in range(width):
            for j in range(finer):
                for i in range(finer):
                    x = left + (u + (i + 0.5) / finer) * step - 0.5
                    y = top + (v + (j + 0.5) / finer) * step - 0.5
                    crop[:, v, u] += np.array(pixel(frame, x, y)) / finer**2
    return torch.from_numpy(crop).float(), (left, top, step)


def pose_keypoints(pose, frame, boxes):
    """Joints `(n, J, 3)` of every person, from the centre of the first pixel."""
    config, rows = pose.pretrained_cfg, []
    for box in boxes:
        crop, (left, top, step) = pose_crop(frame, box, config["input_size"][1:])
        for c in range(3):
            crop[c] = (crop[c] - config["mean"][c]) / config["std"][c]
        with torch.no_grad():
            (joints,) = heatmaps.decode(pose(crop[None]), True)
        cell = pose.heatmap_stride
        rows.append(
            [
                [left + (x * cell + 0.5) * step - 0.5, top + (y * cell + 0.5) * step - 0.5, score]
                for x, y, score in joints.tolist()
            ]
        )
    return torch.tensor(rows).reshape(len(boxes), config["num_joints"], 3)


def whole_pixels(box, size):
    """Pixels that a box touches: of those in no strip longer than 16 times its width."""
    spans = []
    for low, high, limit in ((box[0], box[2], size[1]), (box[1], box[3], size[0])):
        touched = [k for k in range(limit) if k < high and k + 1 > low]
        spans.append(touched or [min(max(math.floor(low), 0), limit - 1)])
    longest = max(map(len, spans))
    for span, limit in zip(spans, size[::-1]):
        while 16 * len(span) < longest and len(span) < limit:
            span.append(span[-1] + 1) if span[-1] + 1 < limit else span.insert(0, span[0] - 1)
    columns, rows = spans
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def dotted_crop(frame, box, keypoints, colors, settings=(0.3, 30, 3)):
    """The person cut out of the frame after the dots were painted on it; and where the cut begins."""
    x1, y1, x2, y2 = whole_pixels(box.tolist(), frame.shape[1:])
    crop = torch.tensor([[[x1, y1, x2, y2]]], dtype=torch.float)
    painted = pose_dots(frame[None], (keypoints + torch.tensor([0.5, 0.5, 0]))[None, None], crop, colors, *settings)
    return painted[0][:, y1:y2, x1:x2], (x1, y1)


def part_box_of_joints(joints, box, size, threshold):
    """A box round the joints of a part, as `dotted_crop`'s corners count; all 0 if it lies outside the frame."""
    sure = [joint for joint in joints if joint[2] >= threshold] or joints
    reach = math.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 1)) / 12
    x1, x2 = min(x for x, _, _ in sure) - reach, max(x for x, _, _ in sure) + reach
    y1, y2 = min(y for _, y, _ in sure) - reach, max(y for _, y, _ in sure) + reach
    x1, x2 = (min(max(x, 0), size[1]) for x in (x1, x2))
    y1, y2 = (min(max(y, 0), size[0]) for y in (y1, y2))
    return [x1, y1, x2, y2] if x2 > x1 and y2 > y1 else [0.0] * 4


def find_people(frame, found, pose, joint_parts, colors, part_detector, threshold, max_people, max_growth=1.5):
    """The people of a frame: boxes, scores, joints, part boxes and their scores."""
    size, sure = tuple(frame.shape[1:]), 0.3
    order = [i for i, label in enumerate(found["labels"].tolist()) if label == 1 and found["scores"][i] >= threshold]
    order = sorted(order, key=lambda i: -found["scores"][i])[:max_people]
    boxes = found["boxes"][order]
    keypoints = pose_keypoints(pose, frame, boxes)
    corners = keypoints + torch.tensor([0.5, 0.5, 0])
    grown = grow_boxes(boxes, corners, size, sure, max_growth)
    part_boxes, part_scores = torch.zeros(len(boxes), 10, 4), torch.zeros(len(boxes), 10)
    for p, box in enumerate(grown):
        crop, (x, y) = dotted_crop(frame, box, keypoints[p], colors)
        (output,) = part_detector([crop])
        for k, part in enumerate(PARTS):
            own = [i for i, label in enumerate(output["labels"].tolist()) if label == k + 1]
            if own:
                best = max(own, key=lambda i: output["scores"][i])
                part_scores[p, k] = output["scores"][best]
                part_boxes[p, k] = output["boxes"][best] + torch.tensor([x, y, x, y])
            else:
                joints = [corners[p, j].tolist() for j, name in enumerate(joint_parts) if name == part]
                part_boxes[p, k] = torch.tensor(part_box_of_joints(joints, box.tolist(), size, sure))
    return grown, found["scores"][order], keypoints, part_boxes, part_scores


def views(length, size, frames, stride, clips, crops, side):
    """Which frames and which square of the scaled picture every view shows: `(numbers, top, left)` in their order."""
    height, width = (max(side, round(x * side / min(size))) for x in size)
    found = []
    for k in range(clips):
        step = stride
        while step > 1 and (frames - 1) * step > length - 1:
            step -= 1
        room = max(0, length - 1 - (frames - 1) * step)
        first = round(room * (k + 0.5) / clips)
        numbers = tuple(min(first + t * step, length - 1) for t in range(frames))
        for c in range(crops):
            share = 0.5 if crops == 1 else c / 2
            found.append((numbers, int((height - side) * share), int((width - side) * share)))
    return found


def decide(probabilities, vocabulary, groups, action=None):
    """State and probability of every part, from the likeliest of a group's labels, or of those of an action."""
    states = {}
    for group, p in probabilities.items():
        labels = list(enumerate(vocabulary[group]))
        allowed = [(k, label) for k, label in labels if label[0] == action] or labels
        total = sum(float(p[k]) for k, _ in allowed) if len(allowed) < len(labels) else 1.0
        best, label = allowed[0]
        for k, other in allowed:
            if float(p[k]) > float(p[best]):
                best, label = k, other
        for part, state in zip(groups[group], label[1:]):
            states[part] = (state, float(p[best]) / total if total else 0.0)
    return states
