"""The scores of part-level action parsing, box by box and threshold by threshold."""

from itertools import permutations


def part_state_correctness(ground_truth, prediction):
    return {
        video: video_correctness(frames, prediction["parts"][video]) for video, frames in ground_truth["parts"].items()
    }


def part_state_roc(ground_truth, prediction):
    """Area under the curve, added up over all thresholds but 0."""
    correctness, area = part_state_correctness(ground_truth, prediction), 0.0
    for t in range(1, 10_000):
        right = 0
        for video, label in ground_truth["action"].items():
            if prediction["action"][video] == label and correctness[video] >= t / 10_000:
                right += 1
        area += right / len(ground_truth["action"]) / 10_000
    return area


def video_correctness(truth, found):
    scores = []
    for name, content in truth.items():
        people = content["humans"]
        if len(people) == 0:
            continue
        if name not in found:
            scores.append(0.0)
            continue
        matches, parts = match(people, found[name]["humans"]), []
        for i, person in enumerate(people):
            for part, label in person["parts"].items():
                parts.append(part_score(label, matches[i]["parts"].get(part)) if i in matches else 0.0)
        if parts:
            scores.append(sum(parts) / len(parts))
    return sum(scores) / len(scores) if scores else 1.0


def part_score(label, found):
    if found is None:
        return 0.0
    for box, state in zip(found["box"], found["verb"]):
        if state == label["verb"] and iou(label["box"], box) >= 0.3:
            return 1 / len(found["box"])
    return 0.0


def match(people, found):
    """Predicted person of every true one that is found, after trying every way to pair as many as can be."""
    best, total = {}, float("-inf")
    count = min(len(people), len(found))
    for rows in permutations(range(len(people)), count) if len(people) > len(found) else [range(len(people))]:
        for columns in permutations(range(len(found)), count):
            pairs = [(i, found[j], iou(people[i]["box"], found[j]["box"])) for i, j in zip(rows, columns)]
            if sum(overlap for _, _, overlap in pairs) > total:
                total = sum(overlap for _, _, overlap in pairs)
                best = {i: person for i, person, overlap in pairs if overlap > 0.5}
    return best


def iou(a, b):
    """Counting the last pixel in; -1 where the boxes are apart."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]) + 1, min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return -1.0
    first, second = ((x2 - x1 + 1) * (y2 - y1 + 1) for x1, y1, x2, y2 in (a, b))
    return width * height / (first + second - width * height)
