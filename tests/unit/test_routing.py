"""Which rule steps a parameter: by its own layer's name, its form and its memory, and never without a word."""

from __future__ import annotations

import logging
import pickle
import re
from typing import Any

import numpy as np
import pytest

import scirs2_adapters
from scirs2_adapters.core import HostOptimizer, Lookahead, Muon, Wrapper
from scirs2_adapters.core.matrix import INPUTS_FIRST, Matrix
from scirs2_adapters.core.program.recorded import needs_whole, record
from scirs2_adapters.core.slots import Leaf

#: Derived: those that may hand a parameter to another rule.
ROUTING = [n for n in scirs2_adapters.names() if scirs2_adapters.get(n)().routes] + ["lookahead"]

OUTER = [
    "lm_head.weight",
    "lm_head_2.weight",
    "wte",
    "transformer.wte.weight",
    "model/embedding/embeddings",
    "Embed_0.embedding",
    "params.embed_1.embedding",
    "_orig_mod.lm_head.weight",
    "_fsdp_wrapped_module.lm_head.weight",
    "module.lm_head.weight",
    "lm_head.parametrizations.weight.original",
    "classifier.weight",
    "classifier.modules_to_save.default.weight",
    "lm_head/kernel:0",
    "head.kernel.value",
    "['classifier']['kernel']",
]
HIDDEN = [
    "digit_classifier/dense/kernel",
    "shared/dense/kernel",
    "classifier.0.weight",
    "params.classifier.Dense_0.kernel",
    "classifier.out_proj.weight",
    "embeddings.projection.weight",
    "multi_head_attention.in_proj_weight",
    "value/kernel",
    "0.weight",
    "",
]


def rule(name: str) -> Any:
    return Lookahead("muon") if name == "lookahead" else scirs2_adapters.get(name)()


@pytest.mark.parametrize("name", ROUTING)
@pytest.mark.parametrize("path", OUTER)
def test_the_own_layer_says_that_a_matrix_is_an_embedding_or_a_head(name: str, path: str) -> None:
    assert rule(name).reason(Leaf((4, 3), name=path)) == "embedding or head"


@pytest.mark.parametrize("name", ROUTING)
@pytest.mark.parametrize("path", HIDDEN)
def test_a_container_further_up_says_nothing(name: str, path: str) -> None:
    assert rule(name).reason(Leaf((4, 3), name=path)) == ""


@pytest.mark.parametrize("name", ROUTING)
@pytest.mark.parametrize(("was", "now"), [("hidden.weight", "lm_head.weight"), ("lm_head.weight", ""), ("x", "embed")])
def test_memory_settles_who_steps_a_parameter_under_any_name(name: str, was: str, now: str) -> None:
    made = rule(name)
    first = Leaf((4, 3), name=was)
    held = [s.name for s in made.route(first).slots(first)]
    later = Leaf((4, 3), name=now).holding(held)
    assert [s.name for s in made.route(later).slots(later)] == held


@pytest.mark.parametrize("name", scirs2_adapters.names())
def test_a_rule_that_does_not_route_steps_everything(name: str) -> None:
    made = scirs2_adapters.get(name)()
    leaf = Leaf((4, 3), name="lm_head.weight")
    assert made.routes == (made.route(leaf) is not made)


@pytest.mark.parametrize("name", scirs2_adapters.names())
def test_a_rule_that_looks_at_whole_parameters_is_found_by_its_program(name: str) -> None:
    made = scirs2_adapters.get(name)()
    sums = any(n.reduces for shape in ((), (4,), (4, 3)) for n in record(made.route(Leaf(shape)), Leaf(shape)).nodes)
    assert needs_whole(made) == (sums or made.per_parameter or made.looks_at_names)


MATRICES = [
    (Leaf((8, 3, 5, 5), name="conv.weight"), (75, 8)),
    (Leaf((5, 5, 3, 8), name="conv/kernel", layout=INPUTS_FIRST), (75, 8)),
    (Leaf((3, 5, 5, 2), name="depthwise_conv2d/kernel", layout=INPUTS_FIRST), (15, 10)),
    (Leaf((6, 4, 2), name="attention/query/kernel", layout=INPUTS_FIRST), (6, 8)),
    (Leaf((4, 2, 6), name="attention/attention_output/kernel", layout=INPUTS_FIRST), (8, 6)),
    (Leaf((7, 8, 6), name="mlp.experts.w1"), (6, 8)),
    (Leaf((7, 6, 8), name="experts.kernel", layout=INPUTS_FIRST), (6, 8)),
    (Leaf((7, 6, 8), matrix=Matrix((-3, -1), (-2,))), (56, 6)),
]


@pytest.mark.parametrize(("leaf", "sides"), MATRICES, ids=lambda x: getattr(x, "name", "") or None)
def test_a_kernel_is_a_matrix_of_its_outputs_by_its_inputs(leaf: Leaf, sides: tuple[int, int]) -> None:
    assert Muon().reason(leaf) == ""
    assert Muon().matrix(leaf).sides(leaf.shape) == sides


@pytest.mark.parametrize(
    ("leaf", "why"),
    [
        (Leaf((4, 2), name="query/bias"), "bias or gain"),
        (Leaf((3, 4, 4), name="norm.weight"), "bias or gain"),
        (Leaf((1, 1, 8), name="cls_token"), "vector with axes of length 1"),
        (Leaf((8,), name="x"), "fewer than two axes"),
        (Leaf((4, 3), name="x", matrix=Matrix()), "its dimension numbers make it no matrix"),
    ],
)
def test_what_is_no_hidden_matrix_is_stepped_by_adamw_and_says_why(leaf: Leaf, why: str) -> None:
    assert Muon().reason(leaf) == why


@pytest.mark.parametrize("match", ["torch", "optax", "keras"])
def test_a_match_takes_for_matrices_what_that_framework_does(match: str) -> None:
    made = Muon(match=match)
    assert made.reason(Leaf((8, 3, 5, 5), name="conv.weight")) == "more than two axes"
    assert made.reason(Leaf((4, 3), name="lm_head.weight")) == ""
    assert bool(made.reason(Leaf((4, 3), name="my_embedding/dense/kernel"))) == (match == "keras")


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ({}, 0.015 * 0.02),
        ({"adjust": "match_rms_adamw"}, 0.02),
        ({"adamw_ratio": 0.5}, 0.01),
        ({"adamw_learning_rate": 0.3}, 0.3),
        ({"match": "optax"}, 0.02),
        ({"match": "keras"}, 0.02),
        ({"match": "torch"}, 0.015 * 0.02),
    ],
)
def test_the_adamw_part_has_a_rate_that_follows_the_learning_rate(options: dict[str, Any], rate: float) -> None:
    made = Muon(learning_rate=0.02, **options)
    assert made.other().learning_rate == pytest.approx(rate)
    assert made.replace(learning_rate=0.0).other().learning_rate == 0
    if "adamw_learning_rate" not in options:
        assert made.replace(learning_rate=0.01).other().learning_rate == pytest.approx(rate / 2)


def test_a_rate_of_its_own_stands_before_a_ratio() -> None:
    assert Muon(adamw_ratio=0.1, adamw_learning_rate=0.3).other().learning_rate == 0.3


def said(caplog: pytest.LogCaptureFixture, params: Any, made: Any) -> list[tuple[int, str]]:
    with caplog.at_level(logging.INFO, "scirs2"):
        HostOptimizer(made, params)
    return [(r.levelno, r.getMessage()) for r in caplog.records]


def test_what_another_rule_steps_is_said_once_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    ((level, text),) = said(caplog, {"hidden": np.ones((4, 3)), "lm_head": np.ones((4, 3)), "b": np.ones(3)}, Muon())
    assert level == logging.INFO
    assert "muon steps 1 of 3" in text
    assert "adamw steps 1 (embedding or head), 1 (fewer than two axes)" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("params", "made", "word"),
    [
        ([np.ones((4, 3))], Muon(), "no names.*route_all=True"),
        ({"moe": np.ones((4, 3, 2))}, Muon(), "moe may be a stack.*batch_axes=1"),
        ({"conv": np.ones((4, 3, 2, 2))}, Muon(match="torch"), "conv would be matrices.*match='torch'"),
    ],
)
def test_what_may_not_be_meant_is_a_warning_with_the_way_out(
    params: Any, made: Muon, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    ((level, text),) = said(caplog, params, made)
    assert level == logging.WARNING
    assert re.search(word, text)


def test_a_rule_that_routes_nothing_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    for name in (n for n in scirs2_adapters.names() if n not in ROUTING):
        if not isinstance(scirs2_adapters.get(name)(), Wrapper):
            assert said(caplog, [np.ones((4, 3))], scirs2_adapters.get(name)()) == []


def test_a_host_optimizer_goes_on_with_the_memory_it_loads() -> None:
    """A dict from another model, in which the array of this name was a hidden matrix, and the other a head."""
    params = {"a": np.ones((4, 3)), "lm_head": np.ones((4, 3))}
    made = HostOptimizer(Muon(), params)
    made.step(params)
    saved = made.state_dict()
    saved["state"] = {"a": saved["state"]["lm_head"], "lm_head": saved["state"]["a"]}
    loaded = HostOptimizer(Muon(), {k: p.copy() for k, p in params.items()})
    loaded.load_state_dict(saved)
    for each in (loaded, pickle.loads(pickle.dumps(loaded))):
        each.step(params)
        assert {*each.state["a"]} == {"exp_avg", "exp_avg_sq"}
        assert {*each.state["lm_head"]} == {"momentum_buffer"}
    assert "a (4, 3): adamw, it has the memory of adamw" in loaded.explain()


def test_a_refused_load_leaves_the_routes_as_they_were() -> None:
    made = HostOptimizer(Muon(), {"a": np.ones((4, 3))})
    before = made.explain()
    saved = {"rule": "muon", "steps": {"a": 1}, "model": {}, "state": {"a": {"exp_avg": np.ones(2)}}}
    with pytest.raises(ValueError, match="exp_avg"):
        made.load_state_dict(saved)
    assert made.explain() == before


def test_what_exclude_layers_and_exclude_embeddings_say() -> None:
    names = ("model.wte.weight", "blocks.0.mlp.weight", "blocks.1.mlp.weight", "lm_head.weight")
    leaves = [Leaf((4, 3), "float32", name) for name in names]
    reasons = lambda **options: [Muon(**options).reason(leaf) for leaf in leaves]  # noqa: E731
    assert reasons() == ["embedding or head", "", "", "embedding or head"]
    assert reasons(exclude_embeddings=False) == ["", "", "", "embedding or head"]
    assert reasons(exclude_layers=[r"\.1\."])[1:3] == ["", "exclude_layers"]
    assert Muon(exclude_layers=["mlp", "attention"]).doubts(leaves) == [
        "exclude_layers has 'attention', which is in no name"
    ]
