"""Link people through a clip by their keypoints, one pair and one joint at a time."""

import math


def link_keypoints(keypoints, boxes=None, *, method="hungarian", gate=0.5, patience=5, min_score=0.0):
    """For each frame a list of track ids. Tries every assignment, so a handful of people at most."""
    tracks, next_id, result = [], 0, []
    for t, frame in enumerate(keypoints):
        people = []
        for n, joints in enumerate(frame.tolist()):
            seen = {
                j: (x, y)
                for j, (x, y, score) in enumerate(joints)
                if score > min_score and math.isfinite(x) and math.isfinite(y)
            }
            box = boxes[t][n].tolist() if boxes is not None else [math.nan]
            if not all(map(math.isfinite, box)):
                box = extent(seen)
            people.append({"joints": seen, "box": box})

        links = choose(method, costs(tracks, people, gate))
        ids = []
        for n, person in enumerate(people):
            track = next((m for m, linked in links if linked == n), None)
            if track is None:
                ids.append(next_id)
                next_id += 1
            else:
                ids.append(tracks[track]["id"])
            person["id"], person["missed"] = ids[-1], 0
        result.append(ids)

        linked_tracks = {m for m, _ in links}
        waiting = [{**track, "missed": track["missed"] + 1} for m, track in enumerate(tracks) if m not in linked_tracks]
        tracks = [track for track in waiting if track["missed"] <= patience] + people
    return result


def extent(joints):
    """The box round the joints, None if there are none."""
    if not joints:
        return None
    xs, ys = zip(*joints.values())
    return [min(xs), min(ys), max(xs), max(ys)]


def costs(tracks, people, gate):
    """{(track, person): (cost, gate in pixels)} of the pairs within their gate."""
    found = {}
    for m, track in enumerate(tracks):
        for n, person in enumerate(people):
            if track["box"] is None or person["box"] is None:
                continue
            shared = [j for j in track["joints"] if j in person["joints"]]
            if shared:
                cost = sum(math.dist(track["joints"][j], person["joints"][j]) for j in shared) / len(shared)
            else:
                cost = math.dist(centre(track["box"]), centre(person["box"]))
            limit = gate * max(diagonal(track["box"]), diagonal(person["box"]))
            if cost <= limit:
                found[m, n] = (cost, limit)
    return found


def centre(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def diagonal(box):
    return math.hypot(max(box[2] - box[0], 1), max(box[3] - box[1], 1))


def choose(method, pairs):
    """The pairs that are linked, as a list of (track, person)."""
    by_cost = sorted(pairs, key=lambda pair: (pairs[pair][0], pair))
    if method == "greedy":
        links = []
        for m, n in by_cost:
            if all(m != other_m and n != other_n for other_m, other_n in links):
                links.append((m, n))
        return links
    if method == "printed":
        wishes = {}
        for m, n in by_cost:
            wishes.setdefault(m, n)
        links = {}
        for n in set(wishes.values()):
            rivals = [other for other in wishes if wishes[other] == n]
            links[min(rivals, key=lambda track: (pairs[track, n][0], track))] = n
        return list(links.items())

    price = max((limit for _, limit in pairs.values()), default=0)
    if math.isinf(price):
        price = sum(cost for cost, _ in pairs.values()) + 1
    return cheapest(pairs, price, sorted({n for _, n in pairs}), set())[1]


def cheapest(pairs, price, people, taken):
    """(gain over leaving everybody apart, links) of the best assignment of `people` to tracks not taken."""
    if not people:
        return 0, []
    n, *others = people
    best = cheapest(pairs, price, others, taken)
    for m in {m for m, person in pairs if person == n} - taken:
        gain, links = cheapest(pairs, price, others, {*taken, m})
        best = max(best, (gain + price - pairs[m, n][0], [(m, n), *links]))
    return best
