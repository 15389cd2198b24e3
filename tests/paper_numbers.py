"""Every number that the papers print and that can be checked here, in one table for the tests and the docs.

`python tests/paper_numbers.py` rewrites the tables between the `paper-numbers` marks of docs/papers/*.md.
"""

import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

DOCS = Path(__file__).parents[1] / "docs" / "papers"
MARKS = re.compile(r"(<!-- paper-numbers:(\w+) -->\n).*?(<!-- /paper-numbers -->)", re.DOTALL)


@dataclass(frozen=True)
class PaperNumber:
    """One number of a paper: where it is printed, and how it is checked or why it is not."""

    key: str
    """Name that the tests know the check by."""
    paper: str
    place: str
    """Table, section or equation."""
    row: str
    quantity: str
    value: float | tuple[float, ...]
    unit: str
    status: Literal["checked", "derived", "cell", "not asserted"]
    """Printed and checked; not printed, but follows from it; only read by other rows; or not asserted."""
    how: str
    """How it is checked, or why it is not."""
    tolerance: float = 1e-9
    """Largest difference from `value`, in its unit."""


_NEEDS_DATA = "needs the paper's data set and a full training; read by the gaps below"
_TABLE2 = {
    "ppmi_gspm_play": ("GSPM", "play instrument, accuracy", 92.90),
    "ppmi_tlhar": ("TL HAR", "PPMI-24 accuracy", 74.00),
    "ppmi_tlhar_map": ("TL HAR", "PPMI-24 mAP", 89.64),
    "ppmi_vlad": ("VLAD", "PPMI-24 accuracy", 81.30),
    "ppmi_rfcn": ("R-FCN", "PPMI-24 accuracy", 83.40),
    "ppmi_play": ("Proposed", "play instrument, accuracy", 94.50),
    "ppmi": ("Proposed", "PPMI-24 accuracy", 89.57),
    "ppmi_map": ("Proposed", "PPMI-24 mAP", 93.22),
}
_TABLE3 = {
    "dar_detectron1": ("Detectron V1", "DAR-4 accuracy", 56.29),
    "dar_tlhar": ("TL HAR", "DAR-4 accuracy", 58.87),
    "dar": ("Proposed", "DAR-4 accuracy", 60.20),
}


def _cells(place: str, cells: dict[str, tuple[str, str, float]]) -> list[PaperNumber]:
    return [
        PaperNumber(key, "prfnet", place, row, quantity, value, "%", "cell", _NEEDS_DATA)
        for key, (row, quantity, value) in cells.items()
    ]


def _gap(key: str, place: str, quantity: str, value: float, cells: str) -> PaperNumber:
    how = f"recomputed from the cells: {cells}"
    # the cells have two decimals, so their difference is exact to them
    return PaperNumber(key, "prfnet", place, "Proposed", quantity, value, "points", "checked", how, 1e-6)


def _row(
    paper: str,
    key: str,
    place: str,
    row: str,
    quantity: str,
    value: float | tuple[float, ...],
    unit: str,
    status: Literal["checked", "derived", "cell", "not asserted"],
    how: str,
    tolerance: float = 1e-9,
) -> PaperNumber:
    return PaperNumber(key, paper, place, row, quantity, value, unit, status, how, tolerance)


_prfnet, _bodypart = partial(_row, "prfnet"), partial(_row, "bodypart")
_convit, _tahnet, _pcf = partial(_row, "convit_har"), partial(_row, "tahnet"), partial(_row, "pcf")

_PRFNET = (
    _prfnet("size", "Table 4", "Proposed", "“Parameter (Mb)”: bytes of the state dict / 10⁶, K = 24", 198.4, "MB",
            "checked", "bytes that `torch.save(state_dict)` writes", 0.3),
    _prfnet("parameters", "Table 4", "Proposed", "float32 values in 198.4 MB", 49.6e6, "",
            "derived", "parameters of `create(\"prfnet\")`: 49,505,440", 0.005 * 49.6e6),
    _prfnet("shapes", "section 4.2", "ResNet-50, 256x256", "X₃, X₄, X₅ as CxHxW",
            (512, 32, 32, 1024, 16, 16, 2048, 8, 8), "", "derived", "`forward_intermediates` on the meta device"),
    _prfnet("macs", "section 4.2", "256x256, K = 24", "multiply-accumulates of one inference (not printed)",
            6.81, "G", "derived", "`count_macs(model, x, ops=\"all\")`", 0.005),
    _prfnet("trunk_macs", "section 4.2", "ResNet-50, 256x256", "multiply-accumulates of the convolutions (not printed)",
            5.34, "G", "derived", "`count_macs(model.backbone, x)`", 0.005),
    _prfnet("stages", "section 3.1", "S = 3", "steps per iteration, S + 1", 4, "",
            "checked", "losses of one `progressive_step`"),
    _prfnet("recipe", "section 4.2", "SGD", "lr, momentum, weight decay, epochs, batch",
            (0.002, 0.9, 5e-4, 100, 32), "", "checked", "`recipes[\"prfnet\"]`"),
    _prfnet("resize", "section 4.2", "images", "resize, crop", (260, 256), "pixels",
            "checked", "`crop_pct` and `input_size` of the model"),
    _prfnet("mixture_mean", "Eq. 3", "losses 2, 1, 0.5", "w, last divisor read as S",
            (7 / 6, 11 / 6, 13 / 6), "", "derived", "`mixture_weights(losses, \"mean\")`", 1e-6),
    _prfnet("mixture_ratio", "Eq. 3", "losses 2, 1, 0.5", "w, last divisor read as Lᵢ",
            (1.75, 25 / 6, 8.0), "", "derived", "`mixture_weights(losses, \"ratio\")`", 1e-5),
    _prfnet("mixture_share", "Eq. 3", "losses 2, 1, 0.5", "w, last divisor read as ΣL", (1.0, 5 / 3, 2.0), "",
            "derived", "`mixture_weights(losses, \"share\")`", 1e-6),
    _prfnet("mixture_equal", "Eq. 3", "losses 0.7, 0.7, 0.7", "w, last divisor read as S", (1.7, 1.7, 1.7), "",
            "derived", "`mixture_weights(losses, \"mean\")`", 1e-6),
    _prfnet("ppmi_images", "section 4.1", "PPMI-24", "24 classes · 100 images · 2 splits", 4800, "images",
            "checked", "arithmetic, and Table 1's 2400 + 2400"),
    _prfnet("dar_images", "section 4.1", "DAR-4", "2164 drinking + 2524 reading", 4688, "images",
            "checked", "arithmetic, and Table 1's 3728 + 480 + 480"),
    *_cells("Table 2", _TABLE2),
    *_cells("Table 3", _TABLE3),
    _gap("gap_ppmi", "section 4.3.1", "over TL HAR, PPMI-24", 15.57, "89.57 - 74.00"),
    _gap("gap_play", "section 4.3.1", "over GSPM, play instrument", 1.6, "94.50 - 92.90"),
    _gap("gap_map", "section 4.3.1", "over TL HAR, mAP", 3.58, "93.22 - 89.64"),
    _gap("gap_vlad", "section 4.3.1", "over VLAD", 8.27, "89.57 - 81.30"),
    _gap("gap_rfcn", "section 4.3.1", "over R-FCN", 6.17, "89.57 - 83.40"),
    _gap("gap_dar", "section 4.3.2", "over TL HAR, DAR-4", 1.33, "60.20 - 58.87"),
    _gap("gap_detectron", "section 4.3.2", "over Detectron V1", 3.91, "60.20 - 56.29"),
    _prfnet("kappa_ppmi", "section 4.3.1", "PPMI-24", "Cohen's kappa at 89.57 % of 24 balanced classes", 0.89, "",
            "checked", "`cohen_kappa` on labels with that accuracy: 0.891", 0.005),
    _prfnet("ablation_ppmi", "Table 5", "base, +attention, +Rfg, +mixture", "PPMI-24 accuracy",
            (75.33, 86.21, 88.03, 89.57), "%", "checked", "every addition raises it; the last is Table 2's"),
    _prfnet("ablation_dar", "Table 5", "base, +attention, +Rfg, +mixture", "DAR-4 accuracy",
            (53.95, 57.43, 59.54, 60.20), "%", "checked", "every addition raises it; the last is Table 3's"),
    _prfnet("kappa_dar", "section 4.3.2", "DAR-4", "Cohen's kappa at 60.20 % of 4 balanced classes", 0.50, "",
            "not asserted", "that accuracy gives 0.469"),
    _prfnet("speedup", "section 4.6", "DELVS, Detectron V1", "“approximate 8x speedup”", 8.0, "x",
            "not asserted", "Table 4's 42.2 and 40.5 ms over 5.6 ms are 7.5 and 7.2"),
    _prfnet("counts_ppmi", "Tables 2 and 5", "Proposed, +Rfg", "PPMI-24 accuracy", (89.57, 88.03), "%",
            "not asserted", "no k/2400 rounds to either, so neither is the count of a single run"),
    _prfnet("counts_dar", "Table 5", "+attention, +Rfg", "DAR-4 accuracy", (57.43, 59.54), "%",
            "not asserted", "no k/480 rounds to either, so neither is the count of a single run"),
    _prfnet("runtime", "Table 4", "Proposed", "runtime", 5.6, "ms",
            "not asserted", "depends on the GPU, the batch and the software"),
)  # fmt: skip

_COLUMNS = "Head, Shoulder, Elbow, Wrist, Hip, Knee, Ankle, Mean"
_TABLE2_POSE = {
    "bp_pckh_w32": ("pose_hrnet_w32", (97.1, 95.9, 90.3, 86.4, 89.1, 87.1, 83.3, 90.3)),
    "bp_pckh_aug90": ("pose_hrnet_w32_aug90", (97.3, 96.1, 90.9, 86.2, 89.2, 87.0, 82.8, 90.4)),
    "bp_pckh": ("proposed_method", (96.7, 95.4, 88.7, 83.3, 87.5, 84.4, 79.4, 88.5)),
}
_STREAMS = "image, attention, part"
_BODYPART = (
    _bodypart("bp_parameters", "section 3.5", "K = 40", "parameters (not printed)", 56_549_798, "",
              "derived", "`create(\"bodypart\")`, and by hand from Table 1's layers and HRNet-W32"),
    _bodypart("bp_parameters_26", "section 3.5", "K = 26", "parameters (not printed)", 56_485_230, "",
              "derived", "`create(\"bodypart\", num_classes=26)`, and by hand likewise"),
    _bodypart("bp_macs", "section 4.1", "256x256 input, 512x512 base, K = 40",
              "multiply-accumulates of one inference (not printed)", 20.707, "G",
              "derived", "`count_macs(model, x, ops=\"all\")`", 0.0005),
    _bodypart("bp_input", "section 4.1", "images", "input, crop base, part crops", (256, 512, 256), "pixels",
              "checked", "`input_size` and `base_scale` of the model, and its crops"),
    _bodypart("bp_shapes", "section 3.1", "HRNet-W32, 256x256", "F₁, F₂, F₃, F₄ as CxHxW",
              (32, 64, 64, 64, 32, 32, 128, 16, 16, 256, 8, 8), "", "derived", "the trunk's maps on the meta device"),
    _bodypart("bp_heatmap_shapes", "sections 3.1 and 4.2.1", "16 joints", "heat maps as CxHxW", (16, 64, 64), "",
              "derived", "the output's heat maps on the meta device"),
    _bodypart("bp_features", "Table 1", "ResNet-18", "f_img, f_att, f_part, and all of them",
              (256, 512, 1536, 2304), "", "derived", "`stream_features` and the concat head's weights"),
    _bodypart("bp_classes", "section 4.2.2", "Stanford 40 Actions", "classes", 40, "",
              "checked", "rows of every head of `create(\"bodypart\")`"),
    _bodypart("bp_eq2", "Eq. 2", "joints from (0, 0) to (300, 400)", "l, side of the patch", (125, 250), "pixels",
              "derived", "`part_boxes`"),
    _bodypart("bp_lambda", "section 4.1", "λ", "weight of the action loss", 0.00075, "",
              "checked", "`MultitaskAwareLoss()` and `recipes[\"bodypart\"]`"),
    _bodypart("bp_recipe", "section 4.1", "Adam", "lr, batch, epochs, drops by 0.1 after",
              (1e-5, 16, 210, 170, 200), "", "checked", "`recipes[\"bodypart\"]`"),
    _bodypart("bp_augment", "section 4.1", "augmentation", "rotation of MPII and of Stanford 40, scale",
              (90, 10, 0.25), "", "checked", "`recipes[\"bodypart\"]`"),
    _bodypart("bp_mpii", "section 4.2.1", "MPII", "people: 28,821 for training + 11,701 for testing", 40_522, "people",
              "checked", "arithmetic"),
    _bodypart("bp_vcoco", "section 4.2.3", "V-COCO", "images: 2533 + 2867 + 4946", 10_346, "images",
              "checked", "arithmetic"),
    *(_bodypart(key, "Table 2", row, _COLUMNS, value, "%", "cell", _NEEDS_DATA)
      for key, (row, value) in _TABLE2_POSE.items()),
    _bodypart("bp_pckh_drops", "Table 2", "proposed_method", f"points below pose_hrnet_w32_aug90: {_COLUMNS}",
              (0.6, 0.7, 2.2, 2.9, 1.7, 2.6, 3.4, 1.9), "points", "derived",
              "recomputed from the cells; every column drops, the Mean by 90.4 - 88.5", 1e-6),
    _bodypart("bp_table3", "Table 3", f"{_STREAMS}, concat, ensemble", "Stanford 40 mAP",
              (85.57, 85.38, 84.27, 91.76, 91.91), "%", "checked",
              "every stream is below the concat head, that below the ensemble; the last is Table 4's"),
    _bodypart("bp_table4", "Table 4", "seven other methods, proposed", "Stanford 40 mAP",
              (75.4, 77.8, 80.6, 81.2, 82.6, 89.3, 91.2, 91.91), "%", "checked",
              "rising; the last is Table 3's"),
    _bodypart("bp_table5", "Table 5", f"{_STREAMS}, ensemble", "V-COCO mAP", (64.59, 66.30, 62.50, 72.36), "%",
              "checked", "every stream is below the ensemble, which is Table 6's Proposed"),
    _bodypart("bp_table6", "Table 6", "Baseline 1, Baseline 2, proposed", "V-COCO mAP", (68.08, 69.15, 72.36), "%",
              "checked", "rising with every stream; the last is Table 5's"),
    _bodypart("bp_vcoco_people", "section 4.2.3", "V-COCO", "people: 3932 + 4499 + 7768", 16_119, "people",
              "not asserted", "the three splits sum to 16,199"),
    _bodypart("bp_baseline", "section 4.5", "“Baseline 1”, with the part stream", "V-COCO mAP", 69.15, "%",
              "not asserted", "Table 6 gives 68.08 to Baseline 1, without the part stream; 69.15 is Baseline 2's"),
    _bodypart("bp_stride", "section 3.5", "attention stream", "stride of the first block in each layer", 2, "",
              "not asserted", "Layer 1 must have stride 1: F₁ is 64x64, and with stride 2 its output would be 32x32"),
    _bodypart("bp_mean", "Table 2", "Mean of the three rows", "PCKh@0.5 in percent", (90.3, 90.4, 88.5), "",
              "not asserted", "weighted by how often a joint is visible, which is not printed; were all visible "
              "alike, the columns would give at most 90.09, 90.12 and 88.15, as `pckh_groups` does"),
)  # fmt: skip

_MODELS = "ResNet50, ConViT, human branch, both"
_CONVIT_HAR = (
    _convit("cv_parameters", "section 3", "ConViT, K = 40", "parameters (not printed)", 66_100_328, "",
            "derived", "`create(\"convit_har\")`, and by hand from ResNet-50's 23,508,032"),
    _convit("cv_parameters_10", "section 3", "ConViT, K = 10", "parameters (not printed)", 66_038_858, "",
            "derived", "`create(\"convit_har\", num_classes=10)`, and by hand likewise"),
    _convit("cv_human", "section 3.4", "human branch, K = 40 and 10", "parameters (not printed)",
            (42_244_136, 42_182_666), "", "derived", "`human` of the network below, and by hand"),
    _convit("cv_both", "section 3.5", "ConViT and human branch, K = 40 and 10", "parameters (not printed)",
            (108_344_464, 108_221_524), "", "derived", "`create(\"convit_har_person_resnet50\")`, and by hand"),
    _convit("cv_vits", "sections 3.3 and 3.4", "ViT 14x14, 7x7, 10x6, 5x3", "parameters of each (not printed)",
            (21_405_696, 21_104_640, 21_127_168, 21_035_008), "", "derived",
            "the four `FeatureMapViT`s of that network, and by hand"),
    _convit("cv_wide", "section 4.2", "heads of a quarter, MLPs of four times the width: ConViT, both",
            "parameters (not printed)", (225_508_456, 427_160_720), "", "derived",
            "`create(\"convit_har_person_resnet50\", head_dim=None, mlp_dim=8192)`, and by hand"),
    _convit("cv_detector", "section 3.4", "Faster R-CNN with PANet, people only", "parameters (not printed)",
            44_892_761, "", "derived", "`create(\"person_resnet50\")`: torchvision's with two classes and six 3x3 "
            "convolutions of 256 channels"),
    _convit("cv_macs", "section 3", "448x448, K = 40: ConViT, and each person besides",
            "multiply-accumulates of one inference (not printed)", (21.528, 1.577), "G",
            "derived", "`count_macs(model, images, boxes, ops=\"all\")` with one and two boxes", 0.0005),
    _convit("cv_depth", "section 4.2", "each ViT", "depth, heads", (2, 4), "",
            "checked", "blocks and heads of all four"),
    _convit("cv_tokens", "section 3.3", "ViT 14x14, 7x7", "regions that each receives", (196, 49), "",
            "checked", "positions of each, and tokens on the meta device"),
    _convit("cv_human_tokens", "section 3.4", "ViT 10x6, 5x3", "regions that each receives (not printed)", (60, 15), "",
            "derived", "likewise"),
    _convit("cv_input", "sections 3.3 and 4.4", "a map of 14x14 from ResNet-50's stride 32", "side of the images",
            448, "pixels", "derived", "`input_size` of the model; 224 would leave 7x7"),
    _convit("cv_shapes", "sections 3.3 and 4.4", "448x448", "ResNet-50's last map and ConViT's as CxHxW",
            (2048, 14, 14, 2048, 7, 7), "", "derived", "`forward_backbone`, `forward_features` on the meta device"),
    _convit("cv_human_shapes", "section 3.4", "one person", "map of the person and last map as CxHxW",
            (2048, 10, 6, 2048, 5, 3), "", "derived", "`human.crop`, `human.forward_features` on the meta device"),
    _convit("cv_heatmap", "section 4.4", "Fig. 9", "heat map of ConViT", (7, 7), "cells",
            "checked", "`heat_map` and `class_activation_map` on the meta device"),
    _convit("cv_classes", "section 4.1", "Stanford40, PASCAL VOC 2012 Action", "classes", (40, 10), "",
            "checked", "rows of both heads"),
    _convit("cv_recipe", "section 4.2", "SGD", "lr, momentum, weight decay, batch, epochs between drops by 0.1",
            (1e-3, 0.9, 3e-5, 16, 10), "", "checked", "`recipes[\"convit_har\"]`"),
    _convit("cv_keep", "section 4.2", "random crop", "share of the person's box that is preserved", 0.7, "",
            "checked", "`recipes[\"convit_har\"]` and the default of `keep_person_crop`"),
    _convit("cv_mixup", "section 4.2", "mixup", "alpha", 0.4, "", "checked", "`recipes[\"convit_har\"]`"),
    _convit("cv_fusion_stanford", "section 4.3", "Stanford40", "weights of ConViT and human branch", (0.83, 0.17), "",
            "checked", "`FUSION_WEIGHTS`, and the scores of a network built with them; they sum to 1", 1e-6),
    _convit("cv_fusion_voc", "section 4.3", "PASCAL VOC 2012", "weights of ConViT and human branch", (0.30, 0.70), "",
            "checked", "likewise", 1e-6),
    _convit("cv_stanford", "section 1", "ConViT, both", "Stanford40 mAP", (95.2, 95.5), "%", "cell", _NEEDS_DATA),
    _convit("cv_voc", "section 1", "ConViT, both", "VOC 2012 test mAP", (87.9, 91.5), "%", "cell", _NEEDS_DATA),
    _convit("cv_gain_stanford", "section 4.3", "both", "over ConViT, Stanford40 mAP", 0.3, "points",
            "checked", "recomputed from section 1's scores: 95.5 - 95.2", 1e-6),
    _convit("cv_gain_voc", "section 4.3", "human branch, both", "over ConViT, over the human branch, VOC 2012 mAP",
            (2.7, 0.9), "points", "checked", "together section 1's 91.5 - 87.9", 1e-6),
    _convit("cv_human_voc", "Table 2", "human branch", "VOC 2012 test mAP in percent", 90.6, "",
            "derived", "87.9 + 2.7 and 91.5 - 0.9", 1e-6),
    _convit("cv_table3_stanford", "Table 3", _MODELS, "Stanford40 mAP in percent", (93.0, 95.2, 93.1, 95.5), "",
            "checked", "each branch is above ResNet50, both together above each; ConViT and both are section 1's"),
    _convit("cv_table3_voc", "Table 3", _MODELS, "VOC 2012 mAP in percent", (86.2, 87.6, 89.0, 90.0), "",
            "checked", "the same order, but that the human branch is above ConViT"),
    _convit("cv_voc_images", "section 4.1", "PASCAL VOC 2012 Action", "trained on, 2296 + 2292 (not printed)",
            4588, "images", "derived", "arithmetic"),
    _convit("cv_test_images", "section 4.1", "Stanford40", "test images", 5352, "images",
            "not asserted", "9,532 - 4,000 are 5,532"),
    _convit("cv_voc_split", "Table 3", "ConViT, human branch, both", "VOC 2012 mAP in percent", (87.6, 89.0, 90.0), "",
            "not asserted", "on the test set section 4.3 has 87.9, 90.6 and 91.5, and gains of 2.7 and 0.9 points "
            "where these have 1.4 and 1.0: another split, it does not say which; most likely validation"),
)  # fmt: skip

_EIGHT_16 = "8 and 16 frames each"
_TABLE1_ROWS, _TABLE2_ROWS = f"TAHNet-v1, v4, {_EIGHT_16}", f"v2 w/o CB, v2, v3, {_EIGHT_16}"
_UCLA = "N-UCLA V³₁₂ accuracy in percent"
_TAHNET_CELLS: dict[str, tuple[str, str, str, tuple[float, ...]]] = {
    "th_cs": ("Table 1", _TABLE1_ROWS, "CS accuracy", (86.17, 86.76, 85.30, 86.15)),
    "th_cv": ("Table 1", _TABLE1_ROWS, "CV accuracy", (89.68, 90.14, 90.02, 90.64)),
    "th_others_cs": ("Table 1", "eight other methods", "CS accuracy",
                     (62.93, 80.07, 89.2, 71.3, 80.45, 86.46, 86.6, 89.5)),
    "th_others_cv": ("Table 1", "eight other methods", "CV accuracy",
                     (70.27, 87.25, 95.5, 80.2, 82.57, 88.54, 93.2, 96.6)),
    "th_ucla_12": ("Table 2", _TABLE2_ROWS, _UCLA, (81.4, 84.1, 88.4, 91.7, 89.8, 88.3)),
    "th_ucla_31": ("Table 2", _TABLE2_ROWS, "V²₃₁ accuracy", (88.9, 89.0, 82.6, 87.0, 81.8, 84.0)),
    "th_ucla_23": ("Table 2", _TABLE2_ROWS, "V¹₂₃ accuracy", (71.6, 77.4, 71.9, 75.5, 73.6, 71.9)),
    "th_glimpse": ("Table 2", "Glimpse Clouds", "accuracy on the three splits", (90.1, 89.5, 83.4)),
    "th_regions_ntu": ("Table 3", "basic, outermost", "CS accuracy", (83.89, 86.17)),
    "th_regions_ucla": ("Table 3", "basic, outermost", _UCLA, (84.6, 88.4)),
    "th_2d_3d": ("Table 4", "two Conv2D, two Conv3D, 8x14x14", "CS accuracy", (74.82, 78.44)),
    "th_fc_ntu": ("Table 4", "one to five Conv3D, two FC", "CS accuracy", (75.79, 78.44, 80.63, 80.48, 80.91)),
    "th_fc_ucla": ("Table 4", "one to five Conv3D, two FC", _UCLA, (80.2, 81.7, 83.8, 81.0, 82.8)),
    "th_gap_ntu": ("Table 5", "three Conv3D and two FC, GAP and FC", "CS accuracy", (80.63, 84.56)),
    "th_gap_ucla": ("Table 5", "three Conv3D and two FC, GAP and FC", _UCLA, (83.8, 88.9)),
    "th_plain_ntu": ("Table 5", "three to six Conv3D", "CS accuracy", (84.68, 85.65, 85.24, 85.38)),
    "th_plain_ucla": ("Table 5", "three to six Conv3D", _UCLA, (88.4, 86.4, 88.9, 86.4)),
    "th_cb_ntu": ("Table 5", "CB, three to six Conv3D", "CS accuracy", (85.41, 85.48, 86.17, 85.21)),
    "th_cb_ucla": ("Table 5", "CB, three to six Conv3D", _UCLA, (87.5, 88.4, 85.9, 84.9)),
    "th_levels4_ntu": ("Table 6", "four Conv3D on P2-P5, P2-P4, P2-P3, P2", "CS accuracy",
                       (85.48, 85.91, 86.17, 86.11)),
    "th_levels4_ucla": ("Table 6", "four Conv3D on P2-P5, P2-P4, P2-P3, P2", _UCLA, (88.4, 88.2, 88.0, 88.7)),
    "th_levels5_ntu": ("Table 6", "five Conv3D on P2-P5, P2-P4, P2-P3, P2", "CS accuracy",
                       (86.17, 85.60, 86.43, 85.82)),
    "th_levels5_ucla": ("Table 6", "five Conv3D on P2-P5, P2-P4, P2-P3, P2", _UCLA, (85.9, 86.8, 89.6, 89.3)),
    "th_dim1024_ntu": ("Table 7", "first block, three to six Conv3D", "CS accuracy", (86.20, 86.17, 86.43, 86.32)),
    "th_dim1024_ucla": ("Table 7", "first block, three to six Conv3D", _UCLA, (88.1, 88.0, 89.6, 86.7)),
    "th_dim512_ntu": ("Table 7", "second block, three to six Conv3D", "CS accuracy", (85.45, 85.54, 85.67, 85.89)),
    "th_dim512_ucla": ("Table 7", "second block, three to six Conv3D", _UCLA, (87.8, 89.8, 86.2, 87.8)),
    "th_dim512_temporal_ntu": ("Table 7", "third block, three to six Conv3D", "CS accuracy",
                               (84.00, 83.60, 83.00, 82.77)),
    "th_dim512_temporal_ucla": ("Table 7", "third block, three to six Conv3D", _UCLA, (84.6, 85.1, 82.5, 81.2)),
    "th_dim512_temporal_28_ntu": ("Table 7", "fourth block, three to six Conv3D", "CS accuracy",
                                  (85.30, 84.92, 84.38, 84.29)),
    "th_dim512_temporal_28_ucla": ("Table 7", "fourth block, three to six Conv3D", _UCLA, (81.1, 84.8, 82.8, 81.4)),
}  # fmt: skip

_BLOCKS = "CB, three to six Conv3D"
_COUNTED = "`count_macs` of the network"
_CHANNELS = "CB's channels (512, 128, 128), which are not printed, are the nearest in powers of two"
_FOUR = "the four heads with keypoint R-CNN"
_TAHNET = (
    _tahnet("th_table1_gflops", "Table 1", _TABLE1_ROWS, "“GFLOPs”, which are multiply-accumulates",
            (145.1, 290.3, 5.3, 10.6), "G", "checked", _COUNTED, 0.05),
    _tahnet("th_table2_gflops", "Table 2", _TABLE2_ROWS, "“GFLOPs”", (105.4, 210.9, 100.8, 201.5, 25.3, 50.6), "G",
            "checked", _COUNTED, 0.05),
    _tahnet("th_dim1024_gflops", "Table 7", _BLOCKS, "“GFLOPs”, DIM_Conv 1024", (56.4, 100.8, 145.1, 189.5), "G",
            "checked", _COUNTED, 0.05),
    _tahnet("th_dim512_gflops", "Table 7", _BLOCKS, "“GFLOPs”, DIM_Conv 512", (14.2, 25.3, 36.4, 47.5), "G",
            "checked", _COUNTED, 0.05),
    _tahnet("th_dim512_temporal_gflops", "Table 7", _BLOCKS, "“GFLOPs”, CB halves time", (8.0, 13.5, 19.1, 24.6), "G",
            "checked", f"{_COUNTED}: 13.55 beside 13.5; {_CHANNELS}", 0.06),
    _tahnet("th_dim512_temporal_28_gflops", "Table 7", _BLOCKS, "“GFLOPs”, 28x28 cells and no FC",
            (5.3, 8.1, 10.8, 13.6), "G", "checked", f"{_COUNTED}: 10.85 beside 10.8; the same channels", 0.06),
    _tahnet("th_block_shapes", "Table 7", "the four blocks, 8 frames", "last map as TxHxW",
            (4, 7, 7, 4, 7, 7, 2, 7, 7, 1, 7, 7), "", "checked", "`forward_features` on the meta device, all 16 rows"),
    _tahnet("th_16_frames_shapes", "Tables 1 and 2", "v1, v2, v3, v4, 16 frames", "last map as TxHxW (not printed)",
            (8, 7, 7, 8, 7, 7, 8, 7, 7, 2, 7, 7), "", "derived", "likewise"),
    _tahnet("th_input_shapes", "Tables 1 and 2", "v1, v2, v3, v4", "person's features as TxHxW",
            (8, 14, 14, 8, 14, 14, 8, 14, 14, 8, 28, 28), "", "checked",
            "`input_size` of the heads, all of 256 channels, and what the whole networks pool for them"),
    _tahnet("th_bottleneck", "section 4.4", "CB", "channels, in order", (1024, 256, 128), "",
            "checked", "the bottlenecks of v1 and v2"),
    _tahnet("th_parameters", "Tables 1 and 2", "v1, v2, v2 w/o CB, v3, v4, K = 60", "parameters (not printed)",
            (118_466_364, 90_152_764, 93_131_836, 22_915_516, 16_435_772), "", "derived",
            "`create(\"tahnet_v1\")` and so on, and by hand"),
    _tahnet("th_parameters_10", "Table 2", "the same, K = 10", "parameters (not printed)",
            (118_415_114, 90_101_514, 93_080_586, 22_864_266, 16_410_122), "", "derived", "likewise"),
    _tahnet("th_classes", "section 4.1", "NTU RGB+D", "classes: 40 daily + 9 of health + 11 mutual actions", 60, "",
            "checked", "arithmetic, and rows of `create(\"instance_action\")`'s classifier"),
    _tahnet("th_strides", "Fig. 2", "P2, P3, P4, P5", "pixels per cell", (4, 8, 16, 32), "",
            "checked", "the pyramid's maps on the meta device, all of 256 channels; strides of the pooler"),
    _tahnet("th_padding", "section 4.4", "1280x720", "width, height after padding", (1280, 736), "pixels",
            "checked", "the network's view of such a frame"),
    _tahnet("th_threshold", "section 4.2", "people", "confidence from which they count", 0.5, "",
            "checked", "`threshold` of `create(\"instance_action\")`"),
    _tahnet("th_recipe", "section 4.2", "SGD", "lr, batch", (0.001, 4), "", "checked",
            "`recipes[\"tahnet_ntu\"]` and `recipes[\"tahnet_nucla\"]`"),
    _tahnet("th_ntu_iterations", "section 4.2", "NTU RGB+D", "iterations, and drops by 0.1 at",
            (120_000, 80_000, 100_000), "", "checked",
            "`recipes[\"tahnet_ntu\"]`, in whole epochs of 40,320 clips, which the paper does not print", 5040),
    _tahnet("th_ucla_iterations", "section 4.2", "N-UCLA, without drops", "iterations", 10_000, "", "checked",
            "`recipes[\"tahnet_nucla\"]`, in whole epochs of two thirds of the 1,475 clips", 123),
    _tahnet("th_detector", "section 3.1", "keypoint R-CNN, ResNet-50-FPN", "parameters (not printed)", 59_137_258, "",
            "derived", "`create(\"keypointrcnn_resnet50_fpn\")`, and torchvision's own with its BatchNorm fixed"),
    _tahnet("th_full", "section 3", f"{_FOUR}, K = 60", "parameters (not printed)",
            (177_603_622, 149_290_022, 82_052_774, 75_573_030), "", "derived",
            "`create(\"instance_action_tahnet_v1\")` and so on: the detector's and the head's"),
    _tahnet("th_full_macs", "section 4.4", f"{_FOUR}, 8 frames of 1280x720, one given person",
            "multiply-accumulates (not printed)", (1186, 1142, 1066, 1046), "G", "derived",
            "`count_macs(model, clips, boxes, ops=\"all\")`: eight pyramids, the head, 0.1 for pooling", 0.5),
    *(_tahnet(key, place, row, quantity, value, "%", "cell", _NEEDS_DATA)
      for key, (place, row, quantity, value) in _TAHNET_CELLS.items()),
    _tahnet("th_mean_ntu", "Table 1", _TABLE1_ROWS, "mean accuracy", (87.93, 88.45, 87.66, 88.40), "%",
            "checked", "recomputed from CS and CV", 0.0051),
    _tahnet("th_mean_others", "Table 1", "eight other methods", "mean accuracy in percent",
            (66.6, 83.66, 92.4, 75.8, 81.51, 87.50, 89.9, 93.0), "", "checked", "recomputed from CS and CV", 0.0501),
    _tahnet("th_mean_ucla", "Table 2", _TABLE2_ROWS, "mean accuracy in percent",
            (80.6, 83.5, 81.0, 84.7, 81.7, 81.4), "", "checked", "recomputed from the three splits", 0.0501),
    _tahnet("th_outermost", "section 4.4", "outermost over basic regions", "NTU-CS, N-UCLA", (2.28, 3.8), "points",
            "checked", "recomputed from Table 3", 1e-6),
    _tahnet("th_gap", "section 4.4", "GAP in place of an FC", "NTU-CS, N-UCLA", (3.93, 5.1), "points",
            "checked", "recomputed from Table 5", 1e-6),
    _tahnet("th_range_plain", "section 4.4", "three to six Conv3D without CB", "least and largest NTU-CS accuracy",
            (84.68, 85.65), "%", "checked", "recomputed from Table 5"),
    _tahnet("th_range_cb", "section 4.4", "with CB", "least and largest NTU-CS accuracy", (85.21, 86.17), "%",
            "checked", "recomputed from Table 5"),
    _tahnet("th_best_levels", "section 4.4", "of P2-P5, P2-P4, P2-P3, P2", "best NTU-CS and N-UCLA accuracy in percent",
            (86.43, 89.6), "", "checked", "recomputed from Table 6: both on P2-P3, with five Conv3D"),
    _tahnet("th_best_ucla", "section 4.4", "TAHNet-v3", "best N-UCLA accuracy in percent", 89.8, "",
            "checked", "recomputed from Table 7: four Conv3D of 512 channels"),
    _tahnet("th_drop", "section 4.4", "CB halves time", "least and largest loss, NTU-CS", (1.45, 3.12), "points",
            "checked", "recomputed from Table 7's second and third block", 1e-6),
    _tahnet("th_rise", "section 4.4", "28x28 cells and no FC", "least and largest gain, NTU-CS", (1.30, 1.52), "points",
            "checked", "recomputed from Table 7's third and fourth block", 1e-6),
    _tahnet("th_levels", "Tables 1 and 2", "v1 on NTU-CS, v2 on N-UCLA, v3 on N-UCLA, v4 on NTU-CS",
            "accuracy in percent", (86.17, 88.4, 89.8, 85.30), "", "checked",
            "v1's and v2's are Table 6's of P2-P5, v3's and v4's Table 7's of P2-P3"),
    _tahnet("th_conv2d", "section 4.4", "Conv3D over Conv2D, 8x14x14", "“the difference … is 3%”, NTU-CS", 3.0,
            "points", "not asserted", "Table 4's 78.44 - 74.82 are 3.62"),
    _tahnet("th_around_1", "section 4.3", "v2 over v2 w/o CB", "“around 1% higher”, N-UCLA", 1.0, "points",
            "not asserted", "Table 2's means differ by 0.4 with 8 frames and 1.2 with 16"),
    _tahnet("th_glimpse_mean", "Table 2", "Glimpse Clouds", "mean accuracy in percent", 87.6, "",
            "not asserted", "its three splits give 87.67"),
    _tahnet("th_samples", "section 4.1", "N-UCLA", "samples", 1475, "", "not asserted",
            "10 actions, five times each by ten subjects, from three views, are 1,500"),
    _tahnet("th_pretrained", "section 4.3", "N-UCLA", "“at least greater than 5%” by NTU's weights", 5.0, "points",
            "not asserted", "no accuracy without them is printed"),
    _tahnet("th_fps_ntu", "section 4.4", "NTU RGB+D, Tesla P40", "detector, tracker, TAHNet-v4", (13, 291, 13.25),
            "per second", "not asserted", "depends on the GPU, the number of people and the software"),
    _tahnet("th_fps_ucla", "section 4.4", "N-UCLA, Tesla P40", "detector, tracker, TAHNet-v3", (22, 288, 7.13),
            "per second", "not asserted", "likewise; the paper says “on the NTU dataset” here, too"),
)  # fmt: skip

_TSN, _OURS = "TSN on RGB, TSN on flow", "ip-CSN-152"
_GROUPS, _NO_POSE_AND_POSE = "head, arm, hand, hip, leg, foot", "without and with the pose estimator"
_PCF_CELLS: dict[str, tuple[str, str, str, tuple[float, ...]]] = {
    "pcf_roc": ("Table I", f"baseline, {_TSN}, {_OURS}", "ROC score", (29.79, 49.23, 54.33, 60.89)),
    "pcf_accuracy": ("Table I", f"{_TSN}, {_OURS}", "video accuracy", (74.03, 83.48, 96.46)),
    "pcf_person_ap": ("Table II", f"YOLOF_person {_NO_POSE_AND_POSE}", "AP", (74.60, 74.80)),
    "pcf_person_ap50": ("Table II", f"YOLOF_person {_NO_POSE_AND_POSE}", "AP50", (93.40, 93.80)),
    "pcf_part_ap": ("Table II", f"YOLOF_part {_NO_POSE_AND_POSE}", "AP", (36.40, 57.10)),
    "pcf_part_ap50": ("Table II", f"YOLOF_part {_NO_POSE_AND_POSE}", "AP50", (53.10, 79.70)),
    "pcf_frame": ("Table III", "frame by frame", f"accuracy: {_GROUPS}", (92.46, 68.11, 68.50, 84.19, 66.27, 65.47)),
    "pcf_segment_3": ("Table III", "segments of 3 s", f"accuracy: {_GROUPS}",
                      (92.46, 68.07, 68.43, 84.14, 66.14, 65.36)),
    "pcf_segment_10": ("Table III", "segments of 10 s", f"accuracy: {_GROUPS}",
                       (92.44, 67.69, 68.10, 83.99, 65.59, 65.02)),
}  # fmt: skip

_PCF = (
    _pcf("pcf_data", "section III-A", "Kinetics-TPS", "actions, body parts", (24, 10), "", "checked",
         "classes of `create(\"pcf\")` and of its detector of parts; `PARTS`"),
    _pcf("pcf_videos", "section III-A", "Kinetics-TPS", "videos for training", 3809, "", "checked",
         "arithmetic: the authors' report splits them in 3,000 and 809"),
    _pcf("pcf_groups", "section II-C", "part groups", "networks of part states, “without sharing parameters”", 6, "",
         "checked", "`part_nets` of `create(\"pcf\")`: six modules, no tensor in two of them"),
    _pcf("pcf_sampling", "section III-A", "ip-CSN-152", "T, τ, shorter side", (32, 2, 256), "", "checked",
         "`pretrained_cfg` of `create(\"pcf\")`"),
    _pcf("pcf_inference", "sections II-A and III-A", "inference", "seconds of a segment, clips, people, boxes per part",
         (3, 7, 10, 1), "", "checked", "settings of `create(\"pcf\")`; `to_challenge` of a video"),
    _pcf("pcf_detector_recipe", "section III-A", "YOLOF, SGD",
         "lr, epochs, drops by 0.1 at, iterations of warm-up, batch on four GPUs", (0.01, 24, 16, 22, 1800, 24), "",
         "checked", "`recipes[\"pcf_people\"]`, `recipes[\"pcf_parts\"]`; “a mini-batch of six on four V100 GPUs” is "
         "six on each, as in the authors' configuration"),
    _pcf("pcf_csn_recipe", "section III-A", "ip-CSN-152, SGD", "lr, epochs, drops by 0.1 at, batch on four GPUs",
         (8e-5, 58, 32, 48, 16), "", "checked", "`recipes[\"pcf_csn\"]`; four on each, likewise"),
    _pcf("pcf_sgd", "section III-A", "all models", "weight decay, Nesterov momentum", (1e-4, 0.9), "", "checked",
         "the three recipes"),
    _pcf("pcf_csn", "section III-A", "ip-CSN-152, K = 400 and 24", "parameters (not printed)",
         (33_016_592, 32_246_168), "", "derived", "`create(\"ipcsn_152\")`; the first is mmaction2's"),
    _pcf("pcf_macs", "section III-A", "ip-CSN-152, 32 frames of 256x256 and of 224x224",
         "multiply-accumulates (not printed)", (108.79, 83.29), "G", "derived",
         "`count_macs` (`tests/models/test_csn.py`)", 0.005),
    _pcf("pcf_clip_macs", "section III-A", "one clip in all seven networks", "multiply-accumulates (not printed)",
         761.55, "G", "derived", "seven times the first, `create(\"pcf\")`", 0.005),
    _pcf("pcf_seven", "section II-C", "the seven networks with as many labels as the authors' lists have",
         "parameters (not printed)", 227_950_439, "", "derived",
         "`create(\"pcf\")`, and by hand: 24 actions, and 55, 334, 276, 78, 315 and 173 labels"),
    _pcf("pcf_yolof", "section III-A", "YOLOF-R101 of people, of parts", "parameters (not printed)",
         (61_331_550, 61_538_955), "", "derived", "`create(\"pcf\")`; mmdetection's (`tests/models/test_yolof.py`)"),
    _pcf("pcf_pose", "section III-A", "HRNet-W48, 17 joints", "parameters (not printed)", 63_595_745, "", "derived",
         "`create(\"pcf\")`"),
    _pcf("pcf_parameters", "Fig. 2", "the whole of PCF", "parameters (not printed)", 414_416_689, "", "derived",
         "`create(\"pcf\")`: the seven networks, both detectors and the pose net"),
    *(_pcf(key, place, row, quantity, value, "%", "cell", _NEEDS_DATA)
      for key, (place, row, quantity, value) in _PCF_CELLS.items()),
    _pcf("pcf_gain", "abstract", _OURS, "over the baseline, ROC score", 31.10, "points", "checked",
         "recomputed from Table I: 60.89 - 29.79", 1e-6),
    _pcf("pcf_gains", "Table I", f"{_TSN}, {_OURS}", "each over the row above it, ROC score", (19.44, 5.1, 6.56),
         "points", "checked", "recomputed from the cells", 1e-6),
    _pcf("pcf_psc", "Table I", f"{_TSN}, {_OURS}",
         "part state correctness where the action is right, mean in percent (not printed)", (66.5, 65.1, 63.1), "",
         "derived", "ROC score over video accuracy, which is never below it; the same of `part_state_roc` on videos "
         "made for the test", 0.05),
    _pcf("pcf_perfect", "section III-A", "the truth as the prediction", "ROC score (not printed)", 0.9999, "",
         "derived", "`part_state_roc`: there are 9,999 thresholds; equals the public evaluation on its golden values "
         "(`tests/metrics/test_part_state.py`)"),
    _pcf("pcf_person_gains", "Table II", "YOLOF_person", "by the pose estimator: AP, AP50", (0.20, 0.40), "points",
         "checked", "recomputed from the cells", 1e-6),
    _pcf("pcf_part_gains", "Table II", "YOLOF_part", "by the pose estimator: AP, AP50", (20.7, 26.6), "points",
         "checked", "recomputed from the cells", 1e-6),
    _pcf("pcf_ap50", "section III-A", "people, parts", "AP50 in percent", (93.8, 79.7), "", "checked",
         "Table II's rows with the pose estimator"),
    _pcf("pcf_loss_3", "Table III", "segments of 3 s", f"points below frame by frame (not printed): {_GROUPS}",
         (0.0, 0.04, 0.07, 0.05, 0.13, 0.11), "", "derived", "recomputed from the cells", 1e-6),
    _pcf("pcf_loss_10", "Table III", "segments of 10 s", f"points below frame by frame (not printed): {_GROUPS}",
         (0.02, 0.42, 0.40, 0.20, 0.68, 0.45), "", "derived", "recomputed from the cells", 1e-6),
    _pcf("pcf_saving", "section III-C", "segments of 3 s", "computation saved", 68.16, "%", "checked",
         "recomputed from Table III: 1 - 11.50 / 36.12", 0.005),
    _pcf("pcf_tflops", "Table III", "frame by frame, segments of 3 s, of 10 s", "“TFLOPs”", (36.12, 11.50, 3.482), "T",
         "not asserted", "what is counted is not said; in clips of 108.8 G they are 332.0, 105.7 and 32.0"),
    _pcf("pcf_less", "section III-C", "segments of 3 s", "“decrease less than 0.1%”", 0.1, "points", "not asserted",
         "Table III's legs lose 0.13 and its feet 0.11"),
    _pcf("pcf_or_less", "section III-C", "longer segments", "“just 0.4% or less”", 0.4, "points", "not asserted",
         "of 10 s, Table III's arms lose 0.42, its feet 0.45 and its legs 0.68"),
    _pcf("pcf_warmup", "section III-A", "ip-CSN-152", "iterations of warm-up", 16, "", "not asserted",
         "the authors' configuration counts 16 epochs, and so does `recipes[\"pcf_csn\"]`"),
    _pcf("pcf_anchors", "section III-A", "YOLOF, “an anchor-free model”", "anchors per cell", 0, "", "not asserted",
         "YOLOF has five squares at every cell, as `create(\"yolof_resnet101\")` does"),
    _pcf("pcf_none", "section II-C", "a segment of hurling_sport",
         "percent of frames in which “none” is right for the heads", 97.7, "", "not asserted", "needs Kinetics-TPS"),
)  # fmt: skip

NUMBERS: tuple[PaperNumber, ...] = (*_PRFNET, *_BODYPART, *_CONVIT_HAR, *_TAHNET, *_PCF)


def number(key: str) -> PaperNumber:
    """The row of that key."""
    return next(row for row in NUMBERS if row.key == key)


def _spell_one(v: float, unit: str) -> str:
    if isinstance(v, int) and v >= 10_000:
        return f"{v:,}"
    return f"{v / 1e6:g} M" if v >= 1e6 else f"{v:.2f}" if unit == "%" else f"{v:.4g}"


def _spell(row: PaperNumber) -> str:
    values = row.value if isinstance(row.value, tuple) else (row.value,)
    if row.key.endswith("shapes"):
        return ", ".join("x".join(f"{v:g}" for v in values[i : i + 3]) for i in range(0, len(values), 3))
    words = [_spell_one(v, row.unit) for v in values]
    return " ".join([", ".join(words), row.unit]).strip()


def docs_table(paper: str) -> str:
    """The table of a paper's docs page, in Markdown; cells that other rows only read are left out."""
    lines = ["| where | what | number | how it is checked |", "|---|---|---|---|"]
    for row in NUMBERS:
        if row.paper == paper and row.status != "cell":
            how = f"**not asserted**: {row.how}" if row.status == "not asserted" else row.how
            what = ": ".join(part for part in (row.row, row.quantity) if part)
            lines.append(f"| {row.place} | {what} | {_spell(row)} | {how} |")
    return "\n".join(lines) + "\n"


def with_tables(page: str) -> str:
    """A page's text with the tables between its marks written anew."""
    return MARKS.sub(lambda match: match[1] + "\n" + docs_table(match[2]) + "\n" + match[3], page)


if __name__ == "__main__":
    for file in sorted(DOCS.glob("*.md")):
        temporary = file.with_suffix(".tmp")
        temporary.write_text(with_tables(file.read_text(encoding="utf-8")), encoding="utf-8")
        os.replace(temporary, file)
