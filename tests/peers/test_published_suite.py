"""The published package's own tests, read from its sdist and run against this package.

The 64 cases are those of its suite that concern what Birder has: plain ViTs and EfficientNet-Lite0, the registry, the
loaders and helpers, `infer_batch`, and the classification transform. They run in a process of their own, started by
published_suite.py, which says what it puts in place of what is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

NETWORKS = ["efficientnet_lite0", "vit_s32", "vit_s16_pn"]
OF_NETWORKS = {
    "TestNet": [
        "test_net",
        "test_net_meta",
        "test_net_backward",
        "test_strip_for_forward_features",
        "test_net_pt2",
        "test_detection_backbone",
        "test_detection_backbone_backward",
        "test_pre_training_encoder_retention",
    ],
    "TestNonSquareNet": ["test_non_square_net"],
}
OF_VITS = {
    "TestNet": ["test_pre_training_encoder_omission"],
    "TestDynamicSize": ["test_dynamic_size", "test_dynamic_size_backward"],
}
OF_ONE_VIT = {
    "TestNet": ["test_grad_checkpointing"],
    "TestSpecialFunctions": [
        "test_vit_forward_features_return_input_embedding",
        "test_vit_forward_features_attention_mask",
        "test_set_causal_attention",
    ],
}
OTHERS = """
test_common.TestLib.test_lib
test_common.TestFSOps.test_fs_ops
test_common.TestFSOps.test_list_checkpoints
test_common.TestTrainingUtils.test_group_by_regex
test_common.TestTrainingUtils.test_freeze_layers_by_block_group_regex
test_model_registry.TestRegistry.test_group_sort
test_model_registry.TestRegistry.test_registry_nets
test_model_registry.TestRegistry.test_no_duplicates
test_model_registry.TestModelRegistry.test_model_registry
test_model_registry.TestModelRegistry.test_name_alias_resolution
test_model_registry.TestModelRegistry.test_name_alias_restrictions
test_net.TestBase.test_make_divisible
test_net.TestBase.test_stochastic_depth_rates
test_net.TestBase.test_staged_stochastic_depth_rates
test_net.TestBase.test_get_signature
test_net.TestBase.test_adjust_input_channels
test_net.TestBase.test_base_net
test_net.TestBase.test_base_net_mlp_head
test_net.TestBase.test_config_override_does_not_mutate_registered_config
test_net.TestSpecialFunctions.test_vit_encoder_out_indices
test_net.TestSpecialFunctions.test_vit_grad_checkpointing_and_attention_are_exclusive
test_inference.TestInference.test_infer_batch_default_behavior
test_inference.TestInference.test_infer_batch_return_embedding
test_inference.TestInference.test_infer_batch_tta
test_inference.TestInference.test_infer_batch_return_logits
test_inference.TestInference.test_structured_dataloader_input
test_transforms.TestTransforms.test_classification
"""

# What does not pass, and why: each is a part of the published package that Birder does not have.
MASKS = "masked encoding is for pre-training, which Birder does not do"
KNOWN = {f"test_net.TestNet.test_pre_training_encoder_retention[{network}]": MASKS for network in NETWORKS} | {
    "test_net.TestNet.test_pre_training_encoder_omission[vit_s32]": MASKS,
    "test_net.TestNet.test_pre_training_encoder_omission[vit_s16_pn]": MASKS,
    "test_net.TestSpecialFunctions.test_vit_grad_checkpointing_and_attention_are_exclusive": (
        "attention maps are not kept: Encoder has no set_need_attn"
    ),
    "test_inference.TestInference.test_structured_dataloader_input": "no networks of native aspect ratio (NaFlex)",
    "test_transforms.TestTransforms.test_classification": "most of it is augmentation for training",
}


def cases() -> list[str]:
    def of(table: dict[str, list[str]], networks: list[str]) -> list[str]:
        return [f"test_net.{group}.{name}[{net}]" for group in table for name in table[group] for net in networks]

    return [*of(OF_NETWORKS, NETWORKS), *of(OF_VITS, NETWORKS[1:]), *of(OF_ONE_VIT, ["vit_s32"]), *OTHERS.split()]


@pytest.fixture(scope="module")
def suite(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite, unpacked; the sdist is fetched from the package index once."""
    kept = pytestconfig.cache.mkdir("published-suite")
    sdist = kept / "birder-0.8.4.tar.gz"
    if not sdist.exists():
        fetch = ["pip", "download", "birder==0.8.4", "--no-deps", "--no-binary", ":all:", "--dest", str(kept)]
        subprocess.run([sys.executable, "-m", *fetch], check=True, capture_output=True)
    folder = tmp_path_factory.mktemp("published")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / "birder-0.8.4" / "tests"


@pytest.mark.slow
def test_the_published_suites_cases_pass(suite: Path) -> None:
    chosen = cases()
    assert len(chosen) == len(set(chosen)) == 64
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("published_suite.py"), suite],
        input="\n".join(chosen),
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "SLOW_TESTS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    outcomes: dict[str, str | None] = json.loads(done.stdout)
    assert list(outcomes) == chosen
    failed = {case: why for case, why in outcomes.items() if why is not None}
    for case, why in failed.items():
        print(f"{case}: {why} ({KNOWN.get(case, 'UNEXPECTED')})")
    print(f"{len(chosen) - len(failed)} of {len(chosen)} passed")
    assert set(failed) == set(KNOWN), failed
    assert len(chosen) - len(failed) >= 55
