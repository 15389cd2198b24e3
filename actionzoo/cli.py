"""The command line: `actionzoo list | info | predict | train | eval | verify`."""

import argparse
import ast
import glob
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"
DEFAULT_PICTURE = ASSETS / "weightlifter_public_domain.jpg"
DEFAULT_MODEL = "prfnet_tiny.sports20"
DRAWN = ("_actionzoo", "_attention")
"""What the names of annotated copies end in."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments, those of the process if None.

    Returns:
        The exit status: 0, or 1 after one line on standard error that says what went wrong.
    """
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("actionzoo: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our output, such as `head`, has seen enough; nothing more may be flushed to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, RuntimeError, OSError, ImportError, FloatingPointError) as error:
        print(f"actionzoo: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="actionzoo", description="Human action recognition.")
    commands = parser.add_subparsers(title="commands", required=True)

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="print JSON")
        sub.set_defaults(run=run)
        return sub

    sub = command("list", _list, "List the models.")
    sub.add_argument("pattern", nargs="?", default="*", help="shell-style pattern of the name")
    sub.add_argument("--pretrained", action="store_true", help="only models with whole-model weights")

    sub = command("info", _info, "Say what is known of a model.")
    sub.add_argument("model")

    sub = command("predict", _predict, "Label pictures and write annotated copies.")
    sub.add_argument("inputs", nargs="*", help="files, folders or patterns; the bundled picture if none")
    _add_model(sub)
    sub.add_argument("--top", type=int, default=5, help="how many actions to show")
    sub.add_argument("--output", type=Path, default=Path("."), help="folder of the annotated pictures")
    sub.add_argument("--no-draw", action="store_true", help="write no pictures")
    sub.add_argument("--attention", action="store_true", help="also write the attention heat map")
    sub.add_argument("--device", help="cpu, cuda, …")

    sub = command("train", _train, "Train a model on labelled pictures.")
    _add_data(sub)
    sub.add_argument("--model", default="prfnet_tiny")
    sub.add_argument("--model-args", nargs="*", default=[], metavar="KEY=VALUE", help="arguments of the model")
    sub.add_argument("--pretrained", action="store_true", help="start from the published weights")
    sub.add_argument("--weights", help="start from this checkpoint or tag")
    sub.add_argument("--recipe", help="scratch or people (pose and action), or a paper's: prfnet, bodypart")
    sub.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="other fields of the recipe")
    sub.add_argument("--epochs", type=int)
    sub.add_argument("--batch-size", type=int)
    sub.add_argument("--lr", type=float)
    sub.add_argument("--output", type=Path, required=True, help="folder to write")
    sub.add_argument("--resume", action="store_true", help="go on with the run in --output")
    sub.add_argument("--amp", choices=("no", "bf16", "fp16"), default="no", help="mixed precision")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--val-fraction", type=float, default=0.0, help="part of train held out and scored each epoch")

    sub = command("eval", _eval, "Score a model on labelled pictures.")
    _add_data(sub)
    _add_model(sub)
    sub.add_argument("--split", default="test")
    sub.add_argument("--batch-size", type=int, default=64)
    sub.add_argument("--output", type=Path, help="folder for scores and the PR, ROC and confusion pictures")
    sub.add_argument("--device", default="cpu")

    sub = command("verify", _verify, "Check the sha256 of bundled and cached weights.")
    sub.add_argument("pattern", nargs="?", default="*", help="shell-style pattern of the weights' name")
    return parser


def _add_model(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--model", help=f"name or local-dir:DIR (default {DEFAULT_MODEL})")
    sub.add_argument("--weights", help="checkpoint file or tag")


def _model_name(args: argparse.Namespace) -> str:
    """The model asked for; `--weights` alone are weights of the default's architecture."""
    return args.model or (DEFAULT_MODEL.partition(".")[0] if args.weights else DEFAULT_MODEL)


def _add_data(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--data", help="folder SPLIT/CLASS/*, CSV file with columns split and file, or figures:TASK[+TASK]"
    )
    sub.add_argument("--length", type=int, default=6000, help="figures of each task for training, a tenth for testing")
    sub.add_argument("--pose-data", metavar="FILE.json", help="people with joints for training: MPII's or COCO's file")
    sub.add_argument("--pose-test", metavar="FILE.json", help="likewise for testing")
    sub.add_argument("--pose-images", metavar="DIR", help="folder of their pictures")
    sub.add_argument("--root", help="folder of a CSV file's pictures")
    sub.add_argument("--label", help="label column of a CSV file")
    sub.add_argument("--label-map", metavar="FILE.json", help="JSON object class -> new class; or ppmi12, ppmi2")
    sub.add_argument("--img-size", type=int, help="side of the crops in pixels")
    sub.add_argument("--workers", type=int, default=0, help="processes that decode pictures")


def _list(args: argparse.Namespace) -> int:
    from . import list_models, model_info

    infos = [model_info(name) for name in list_models(args.pattern, pretrained=args.pretrained)]
    if args.json:
        print(json.dumps([_describe(info) for info in infos], indent=1))
        return 0
    for info in infos:
        weights = ", ".join(f"{entry.tag} ({entry.covers})" for entry in info.weights) or "-"
        print(f"{info.name:<28} {info.parameters / 1e6:8.2f} M  {info.task:<22} {weights}")
    return 0


def _describe(info: Any) -> dict[str, Any]:
    keys = ("name", "aliases", "description", "task", "paper", "input_size", "num_classes", "parameters", "macs")
    facts = ("name", "covers", "source", "location", "licence", "data", "num_classes", "metrics", "sha256", "revision")
    row = {key: getattr(info, key) for key in keys}
    row["weights"] = [{key: getattr(entry, key) for key in facts} for entry in info.weights]
    return row


def _info(args: argparse.Namespace) -> int:
    from . import model_info

    row = _describe(model_info(args.model))
    if args.json:
        print(json.dumps(row, indent=1))
        return 0
    for key, value in row.items():
        if key != "weights" and value not in (None, ()):
            print(f"{key:<12} {', '.join(map(str, value)) if isinstance(value, tuple) else value}")
    for entry in row["weights"]:
        print(f"weights      {entry['name']}: covers the {entry['covers']}, {entry['source']} {entry['location']}")
        for key in ("data", "licence", "metrics", "revision", "sha256"):
            if entry[key]:
                print(f"             {key}: {entry[key]}")
    if not row["weights"]:
        print("weights      none published")
    return 0


def _expand(inputs: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Files of the given files, folders and patterns, and what matched nothing."""
    from .data.folders import find_images

    files, missing = [], []
    for item in inputs:
        path = Path(item)
        if path.is_dir():
            # not the annotated copies that an earlier call left in the folder
            found = [p for p in find_images(path) if not p.stem.endswith(DRAWN)]
        else:
            found = [path] if path.exists() else [Path(name) for name in sorted(glob.glob(item, recursive=True))]
        files += found
        if not found:
            missing.append(item)
    return list(dict.fromkeys(files)), missing


def _predict(args: argparse.Namespace) -> int:
    from .pipeline import pipeline

    if args.top < 1:
        raise ValueError(f"--top is at least 1, got {args.top}")
    if args.no_draw and args.attention:
        raise ValueError("--attention writes a picture and --no-draw none; give one of them")
    files, missing = _expand(args.inputs) if args.inputs else ([DEFAULT_PICTURE], [])
    failures = [f"{item}: no such file, no picture in it, or no match" for item in missing]
    run = pipeline(_model_name(args), weights=args.weights, device=args.device)
    rows, used = [], set()
    for file in files:
        try:
            result = run(file)
            written = [] if args.no_draw else _draw(result, file, args, used)
        except (RuntimeError, OSError) as error:
            failures.append(f"{file}: {error}" if str(file) not in str(error) else str(error))
            continue
        rows.append({**result.to_dict(args.top), "written": [str(path) for path in written]})
        if not args.json:
            _print_result(file, result.top(args.top), written)
    if args.json:
        print(json.dumps(rows, indent=1))
    for failure in failures:
        print(f"actionzoo: {' '.join(failure.split())}", file=sys.stderr)
    return 1 if failures else 0


def _print_result(file: Path, top: list[tuple[str, float]], written: list[Path]) -> None:
    print(file.name if file.is_relative_to(ASSETS) else file)
    for rank, (label, score) in enumerate(top, 1):
        print(f"  {rank}  {label:<24} {100 * score:5.1f} %")
    for path in written:
        print(f"  wrote {path}")


def _draw(result: Any, file: Path, args: argparse.Namespace, used: set[Path]) -> list[Path]:
    from ._checkpoint import atomic_path

    pictures = [(DRAWN[0], result.draw(args.top))]
    if args.attention:
        pictures.append((DRAWN[1], result.draw_attention()))
    args.output.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, picture in pictures:
        path, number = args.output / f"{file.stem}{suffix}.jpg", 1
        while path in used:  # two inputs of one name from different folders
            number += 1
            path = args.output / f"{file.stem}_{number}{suffix}.jpg"
        used.add(path)
        with atomic_path(path) as temporary:
            picture.save(temporary, "JPEG", quality=92)
        written.append(path)
    return written


def _pairs(items: Sequence[str], option: str) -> dict[str, Any]:
    pairs = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"{option} takes KEY=VALUE, got {item!r}")
        if key in pairs:
            raise ValueError(f"{option} gives {key} twice")
        try:
            pairs[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            pairs[key] = value
    return pairs


def _task(args: argparse.Namespace, joints: str | None, seed: int = 0, val_fraction: float = 0.0) -> Any:
    """What the arguments of `_add_data` name, as a task to train or score; `joints` is None for classifiers."""
    from .training.people import annotated_task, figures_task
    from .training.tasks import ImageTask

    figures = (args.data or "").startswith("figures:")
    files = [name for name in (args.pose_data, args.pose_test) if name]
    if joints is None and (figures or files):
        raise ValueError("joints and figures train models that find joints: bodypart_*, pose_*")
    if not args.data and not files:
        raise ValueError("no data: give --data, --pose-data, or both")
    if figures:
        if files or args.root or args.label or args.label_map:
            raise ValueError("figures go by themselves, without --root, --label, --label-map and --pose-…")
        size = args.img_size or args.model_side
        names = args.data.removeprefix("figures:")
        return figures_task(names, length=args.length, size=size, layout=str(joints), val=val_fraction > 0)
    samples = _samples(args).hold_out(val_fraction, seed) if args.data else None
    if joints is None:
        return ImageTask(samples)
    if files and not args.pose_images:
        raise ValueError("--pose-data and --pose-test need --pose-images, the folder of their pictures")
    from .data.keypoints import read_keypoints

    pairs = {"train": args.pose_data, "test": args.pose_test}
    pose = {split: read_keypoints(name, args.pose_images, layout=joints) for split, name in pairs.items() if name}
    return annotated_task(samples, pose=pose, name=f"{args.data} {files}")


def _samples(args: argparse.Namespace) -> Any:
    """The labelled files that the arguments of `_add_data` name."""
    from .data.folders import read_samples
    from .data.labels import LABEL_MAPS

    samples = read_samples(args.data, args.root, args.label)
    if args.label_map is None:
        return samples
    if args.label_map in LABEL_MAPS:
        return samples.relabel(LABEL_MAPS[args.label_map])
    mapping = json.loads(Path(args.label_map).read_text(encoding="utf-8"))
    if not isinstance(mapping, dict):
        raise ValueError(f"{args.label_map} holds a {type(mapping).__name__}; expected an object class -> new class")
    return samples.relabel(mapping)


def _facts(name: str) -> tuple[int, str | None, bool]:
    """Side of a model's input, the order of its joints if it finds any, and whether it tells classes."""
    from . import create, model_info

    if ":" in name:
        model: Any = create(name)
        cfg, classifier = model.pretrained_cfg, bool(getattr(model, "num_classes", None))
        return cfg["input_size"][-1], cfg.get("joints"), classifier
    info = model_info(name)
    return info.input_size[-1], info.config.get("joints"), info.num_classes is not None


def _train(args: argparse.Namespace) -> int:
    from . import create
    from .training import fit, recipes
    from .training.fit import seed_everything

    args.model_side, joints, classifier = _facts(args.model)
    if args.recipe is None:
        args.recipe = "scratch" if joints is None else "people"
    if args.recipe not in recipes:
        raise ValueError(f"unknown recipe {args.recipe!r}; there are {', '.join(recipes)}")
    asked = {"epochs": args.epochs, "batch_size": args.batch_size, "lr": args.lr}
    changes = {key: value for key, value in asked.items() if value is not None}
    pairs = _pairs(args.set, "--set")
    twice = sorted(changes.keys() & pairs.keys())
    if twice:
        raise ValueError(f"{', '.join(twice)} is given by an option of its own and by --set; give one")
    recipe = recipes[args.recipe].override(**changes, **pairs)
    model_args = _pairs(args.model_args, "--model-args")
    if "num_classes" in model_args:
        raise ValueError("the data says how many classes there are; leave num_classes out of --model-args")
    task = _task(args, joints, args.seed, args.val_fraction)
    seed_everything(args.seed)
    classes = {"num_classes": len(task.classes)} if classifier else {}
    model = create(args.model, args.pretrained, weights=args.weights, **classes, **model_args)
    main_process = int(os.environ.get("RANK", "0")) == 0  # under torchrun, one of many speaks
    if main_process and not args.json:
        print(f"{args.model}: {task.describe()}")
    metrics = fit(
        model,
        task,
        recipe,
        args.output,
        input_size=args.img_size,
        seed=args.seed,
        amp=args.amp,
        workers=args.workers,
        resume=args.resume,
        card={"command": f"actionzoo {shlex.join(sys.argv[1:])}"},
        progress=not args.json,
    )
    if main_process:
        _print_metrics(metrics, args.json)
    return 0


def _eval(args: argparse.Namespace) -> int:
    from torch.utils.data import DataLoader

    from .pipeline import whole_model
    from .training import recipes

    name = _model_name(args)
    model: Any = whole_model(name, weights=args.weights)
    cfg = dict(model.pretrained_cfg)
    side = args.img_size or (cfg.get("test_input_size") or cfg["input_size"])[-1]
    cfg["input_size"] = cfg["test_input_size"] = (cfg["input_size"][0], side, side)
    args.model_side = side
    task = _task(args, cfg.get("joints"))
    if args.split not in task.splits:
        raise ValueError(f"{args.data} has no split {args.split!r}; it has {', '.join(task.splits)}")
    task.check(model)
    if cfg.get("classes"):
        task.rename(cfg["classes"])
    task.configure(cfg, recipes["scratch"].override(crop_pct=cfg.get("crop_pct", 1.0)))
    loader = DataLoader(task.dataset(args.split, train=False), args.batch_size, num_workers=args.workers)
    result = task.score(model.to(args.device), loader, args.device, not args.json)
    if args.output is not None:
        task.report(result, args.output)
    _print_metrics({"model": name, "split": args.split, **result.metrics}, args.json)
    return 0


def _print_metrics(metrics: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(metrics))
        return
    for key, value in metrics.items():
        print(f"{key:<14} {value}")


def _verify(args: argparse.Namespace) -> int:
    from .weights import verify_weights

    rows = verify_weights(args.pattern)
    bad = [row for row in rows if row["status"] in ("mismatch", "missing")]
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            print(f"{row['status']:<10} {row['name']}  {row['path']}")
    return 1 if bad else 0
