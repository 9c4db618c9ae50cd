"""The plain words of the report: what each measure, method and role is called, with one sentence on what it means."""

from __future__ import annotations

from pellucid.core.numbers import large_count, number_of_bytes, three_figures
from pellucid.core.records import ROLES, Measurement

# name: (what the page calls it, one sentence that explains it on the spot)
MEASURES: dict[str, tuple[str, str]] = {
    "balanced_accuracy": ("Balanced accuracy", "The share of right answers in each class, averaged over the classes, so that a rare class counts as much as a common one."),
    "accuracy": ("Accuracy", "The share of test images whose class was named rightly."),
    "macro_f1": ("Macro F1", "For each class the balance of finding its images and not crying wolf, averaged over the classes."),
    "auc": ("AUC", "The chance that an image of a class gets a higher score for that class than an image of another one; 0.5 is guessing."),
    "cross_entropy": ("Cross-entropy", "How surprised the network is by the truth; confident errors cost most. Lower is better."),
    "ece": ("Calibration error", "How far stated confidence lies from the share that is right (ECE, 15 bins). Lower is better."),
    "ece_scaled": ("Calibration error, rescaled", "The same after one temperature, fitted on the validation images, has softened or sharpened all answers."),
    "sensitivity_at_specificity": ("Sensitivity at fixed specificity", "How much of a class is found when the threshold lets through only a set share of false alarms."),
    "agreement": ("Agreement with the teacher", "The share of images on which both name the same class, right or wrong."),
    "kl_teacher": ("Distance to the teacher", "How far the class probabilities lie from the teacher's (Kullback-Leibler, in nats). 0 is the same."),
    "subject_accuracy": ("Accuracy per subject", "The share of subjects named rightly when the logits of all their images are averaged."),
    "recall": ("Recall", "Of the images of this class, the share that was found."),
    "precision": ("Precision", "Of the images given this class, the share that belongs to it."),
    "f1": ("F1", "The balance (harmonic mean) of precision and recall."),
    "similarity": ("Similarity of maps", "Rank correlation (Spearman) of two maps over their places: 1 ranks all places alike, 0 is unrelated. Twin is a second teacher of another seed; shuffled and centre are anchors: the teacher's map of another image, and its mean map over training images."),
    "similarity_top20": ("Overlap of the hottest 20 %", "The hottest 20 % of the places of both maps: shared area over joint area (IoU); 0.11 by chance."),
    "similarity_cosine": ("Cosine of maps", "The cosine between two maps: 1 is the same but for strength."),
    "transferred": ("Transferred", "How much more the student's maps resemble the teacher's than the base's do. Above 0: distillation passed on where to look."),
    "transfer_gain": ("Transfer gain", "Transferred as a share of what a second teacher of another seed (the twin) is more alike than the base: 1 is as like the teacher as another teacher, 0 no more than the base."),
    "cross_deletion": ("Cross-deletion", "How far the class's probability drops when the hottest 20 % of a map are blurred. By the other network's map it should drop as by the network's own; by a random map is what any blur costs."),
    "randomisation": ("After randomisation", "Rank correlation of a map with the same map when all layers have random weights. It should be near 0: a map that stays shows the image, not what was learnt."),
    "randomisation_area": ("Randomisation, whole cascade", "The mean of that correlation while layers get random weights one group after another, from the logits down. Low is good; a map read below the layers that are random can't fall yet."),
    "pointing_game": ("Pointing game", "The share of images whose hottest place lies on the finding."),
    "relevance_mass": ("Relevance mass", "The share of the map's weight that lies on the finding; compare it with the share of the image that the finding covers."),
    "relevance_rank": ("Relevance rank", "Of the map's hottest places, as many as the finding is large, the share that lies on it; compare it with the share of the image that the finding covers."),
    "iou": ("Overlap at equal area", "The hottest places, as many as the finding is large, against the finding itself: shared area over joint area (IoU)."),
    "mask_share": ("Share of the image covered", "How much of the image the finding covers: what a map that looks everywhere would score as relevance mass."),
    "mask_fidelity": ("Mask-fidelity", "Everything the map leaves dark is blurred away; 1 means the network's answer stays as sure as before. Read it beside the area."),
    "mask_fidelity_agreement": ("Same class after masking", "The share of images that keep their class when all that the map leaves dark is blurred."),
    "mask_fidelity_area": ("Area kept", "The mean of the map: how much of the image it keeps. A map that keeps everything is faithful without saying anything."),
    "mask_fidelity_gain": ("Mask-fidelity beyond a random map's", "What the hottest 20 % of the map keep of the answer beyond what 20 % by chance keep in the same network. Some networks bear blurring better than others; this takes that out."),
    "mask_fidelity_top20": ("Mask-fidelity at 20 % area", "The same with only the hottest 20 % of the pixels kept, so that all maps may keep equally much."),
    "insertion_auc": ("Insertion", "The class's probability while the image's pixels are put into its blurred copy, the map's hottest first, mean over the way. Higher is better: what matters came early."),
    "deletion_auc": ("Deletion", "The class's probability while pixels are blurred away, the map's hottest first, mean over the way. Lower is better: what mattered went early."),
    "insertion_auc_mean": ("Insertion over the mean colour", "As insertion, with the image's mean colour where its pixels don't stand yet."),
    "deletion_auc_mean": ("Deletion to the mean colour", "As deletion, with the image's mean colour where its pixels have gone."),
    "insertion_curve": ("Insertion", "It should rise early: the map's hottest pixels bring the class."),
    "deletion_curve": ("Deletion", "It should fall early: without the map's hottest pixels the class is gone."),
    "road": ("ROAD", "Pixels are removed and filled in from their neighbours. How much surer of the class the network stays when the coldest go than when the hottest go, mean over five shares. A map that knows nothing gets about 0."),
    "road_morf": ("ROAD, hottest first", "The class's probability with the map's hottest pixels removed and filled in. Lower is better."),
    "road_lerf": ("ROAD, coldest first", "The class's probability with the map's coldest pixels removed and filled in. Higher is better."),
    "road_morf_curve": ("ROAD, hottest first", "It should fall early."),
    "road_lerf_curve": ("ROAD, coldest first", "It should stay high for long."),
    "met": ("Time for one map", "The wait for one explanation of one image by itself (MET), up to a map of the image's size."),
    "met_p50": ("Time for one map, median", "Half of the explanations take no longer."),
    "met_p95": ("Time for one map, 95th percentile", "95 of 100 explanations take no longer."),
    "met_ratio": ("Time for one map, ratio", "How many times as long one takes as the other: medians over the same images, timed in turns."),
    "completeness_gap": ("Completeness gap", "SHAP's values should add up to what sets the network's output apart from its output on baseline images; by which share of that they miss it, median over images. 0 is exact, and doesn't yet say that the map is right: KernelSHAP's is near 0 by its making."),
    "parameters": ("Parameters", "Numbers the network has learnt; what has to be stored."),
    "multiply_adds": ("Multiply-adds", "Multiplications with addition for one image; what has to be computed."),
    "file_size": ("File size", "The saved network on disk."),
    "latency_p50": ("Latency, median", "Time for one image by itself; half of the calls are faster."),
    "latency_p95": ("Latency, 95th percentile", "Time for one image by itself; 95 of 100 calls are faster."),
    "throughput": ("Throughput", "Images per second when many come at once."),
    "peak_memory": ("Peak memory", "The most memory one pass takes beyond the resting state."),
}  # fmt: skip

ACCURACY = ("balanced_accuracy", "accuracy", "macro_f1", "auc", "cross_entropy", "ece", "ece_scaled", "sensitivity_at_specificity",
            "subject_accuracy", "agreement", "kl_teacher")  # fmt: skip
PER_CLASS = ("recall", "precision", "f1", "auc")
LOCALISATION = ("pointing_game", "relevance_mass", "relevance_rank", "iou", "mask_share")
FAITHFULNESS = ("mask_fidelity", "mask_fidelity_area", "mask_fidelity_top20", "mask_fidelity_gain", "mask_fidelity_agreement",
                "insertion_auc", "deletion_auc", "road")  # fmt: skip
# Figures at each share of the pixels, which stands in their stratum; and what the share is of.
CURVES = {"insertion_curve": "% of the pixels that stand", "deletion_curve": "% of the pixels that are gone",
          "road_morf_curve": "% of the pixels removed", "road_lerf_curve": "% of the pixels removed"}  # fmt: skip
CONTROLS = ("random_smooth", "centre_prior")  # maps that know nothing of the image, in the place of a method
# What says whether the student is easier to explain; more of it is easier.
EASIER = (("mask_fidelity_gain_difference", "student - teacher"), ("met_ratio", "teacher / student"),
          ("pointing_game_difference", "student - teacher"), ("iou_difference", "student - teacher"))  # fmt: skip
COST = ("parameters", "multiply_adds", "file_size", "latency_p50", "latency_p95", "throughput", "peak_memory")

METHODS: dict[str, tuple[str, str]] = {
    "average_feature_map": ("Average feature map", "The mean of all channels of one layer: where the network is active at all, whatever the class."),
    "grad_cam": ("Grad-CAM", "The layer's channels weighted by how strongly each moves the class: red speaks for the class, blue against it."),
    "grad_cam_pp": ("Grad-CAM++", "As Grad-CAM, but channels are weighted by their positive gradients alone, so that several objects of a class count: red is where the class is seen."),
    "hires_cam": ("HiResCAM", "Each cell of the layer times its own gradient: red speaks for the class, blue against it. Behind pooling and a linear layer it is Grad-CAM."),
    "layer_cam": ("LayerCAM", "Each cell of the layer times the positive part of its own gradient: red is where the class is seen. What speaks against it is left out."),
    "eigen_cam": ("Eigen-CAM", "What most of the layer's activity has in common (its first principal direction), whatever the class."),
    "ablation_cam": ("Ablation-CAM", "The layer's channels weighted by how far the class falls when a channel is switched off: red speaks for the class, blue against it."),
    "score_cam": ("Score-CAM", "The layer's channels weighted by how well the class is seen through each of them, laid over the image as a mask: red is where the class is seen."),
    "fem": ("FEM", "Where the layer's channels are unusually active for themselves, whatever the class."),
    "average_feature_maps": ("Average feature maps, all layers", "The same for every layer of the network, from one forward pass."),
    "gradient_shap": ("GradientSHAP", "What each pixel adds to the class against baseline images (SHAP), estimated from gradients between the two: red speaks for the class, blue against it."),
    "kernel_shap": ("KernelSHAP", "What each superpixel (a patch of like pixels) adds to the class (SHAP), estimated by covering patches at random and asking the network again: red speaks for the class, blue against it."),
    "attention_rollout": ("Attention rollout", "How much of each patch arrives at what the classifier reads, along the attention of all blocks: the class plays no part unless the gradient form is asked for."),
    "integrated_gradients": ("Integrated gradients", "What each pixel adds to the class on the way from an image of the mean colour to this one: red speaks for the class, blue against it."),
    "occlusion": ("Occlusion", "How far the class falls when a square of the image is covered with the mean colour: red speaks for the class, blue against it."),
    "random_smooth": ("Control: a random map", "Smooth noise that knows nothing of the image."),
    "centre_prior": ("Control: the centre", "A map that always looks at the middle of the image."),
}  # fmt: skip

COMPARISONS: dict[str, str] = {
    "student - teacher": "The student's figure minus the teacher's, image by image: above 0 the student's is the larger.",
    "student - base": "The student's figure minus that of the same small network without a teacher: what distillation gave.",
    "base - teacher": "The base's figure minus the teacher's: what the smaller architecture changes by itself.",
    "student - twin": "The student's figure minus the twin's: at 0 the student is as like the teacher as a second teacher is.",
    "twin - base": "The twin's figure minus the base's: the way there is to go from a small network without a teacher to a second teacher.",
    "teacher by student - teacher": "The teacher's drop by the student's map minus that by its own: at 0 the student's map finds what the teacher needs as well.",
    "teacher by student - random": "The teacher's drop by the student's map minus that by a random one: above 0 the student's map finds what the teacher needs.",
    "student by teacher - student": "The student's drop by the teacher's map minus that by its own.",
    "student by teacher - random": "The student's drop by the teacher's map minus that by a random one: above 0 the teacher's map finds what the student needs.",
    "teacher / student": "The teacher's figure over the student's: above 1 the teacher's is the larger.",
}


def measure_name(name: str) -> str:
    """Return what the page calls a measure; a measure unknown here keeps its own name in plain letters."""
    plain = name.removesuffix("_difference")
    return MEASURES[plain][0] if plain in MEASURES else plain.replace("_", " ").capitalize()


def measure_meaning(name: str) -> str:
    """Return the sentence that explains a measure, or nothing for one unknown here."""
    return MEASURES.get(name.removesuffix("_difference"), ("", ""))[1]


def method_name(method: str) -> str:
    """Return what the page calls an explainer; two of them, as ``a - b`` or ``a / b``, where a figure compares them."""
    for sign in (" - ", " / "):
        if sign in method:
            return sign.join(method_name(part) for part in method.split(sign))
    return METHODS[method][0] if method in METHODS else method.replace("_", " ").capitalize()


def method_meaning(method: str) -> str:
    """Return the sentence that explains an explainer, or nothing for one unknown here."""
    return METHODS.get(method, ("", ""))[1]


def comparison_meaning(model: str) -> str:
    """Return the sentence that explains a comparison of two networks, such as ``student - teacher``, or nothing for one unknown here."""
    return COMPARISONS.get(model, "")


def role_of(model: str) -> str:
    """Return the role that colours a row: the one a comparison starts with, or "other"."""
    first = model.split(" ")[0] if model else ""
    return first if first in ROLES else "other"


def in_unit(measurement: Measurement, value: float | None = None) -> str:
    """Print a cost, or the time of a map, in its own unit."""
    value = measurement.value if value is None else value
    assert value is not None
    if measurement.name in ("parameters", "multiply_adds"):
        return large_count(value)
    if measurement.name in ("file_size", "peak_memory"):
        return number_of_bytes(value)
    if measurement.name.startswith("latency"):
        return f"{three_figures(value)} ms"
    if measurement.name.startswith("met"):
        # An interval's ends are printed in the unit of its figure.
        return f"{three_figures(value * 1000)} ms" if (measurement.value or 0) < 0.9995 else f"{three_figures(value)} s"
    if measurement.name == "throughput":
        return f"{three_figures(value)} images/s"
    return three_figures(value)
