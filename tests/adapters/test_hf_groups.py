"""`lr_by` and `weight_decay_by`: groups by patterns of parameter names, inside the Trainer's own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from scirs2_adapters.hf import LayerDecay, optim, register, with_optimizer
from tests.adapters.hf_support import NAMES, arguments, bert, gpt2, same_bits, trainer, weights

pytestmark = pytest.mark.usefixtures("one_thread")
each_name = pytest.mark.parametrize("name", NAMES)
#: The same groups by each way: two rates, of which the first that matches counts, and a decay.
HYPER = {"lr_by": {"wte": 1e-3, r"\.w|h\.0": 2e-3}, "weight_decay_by": {"mlp": 0.5}}
TEXT = r"lr_by=wte:1e-3;\.w|h\.0:2e-3,weight_decay_by=mlp:0.5"


@pytest.fixture
def args(tmp_path: Path) -> TrainingArguments:
    return arguments(tmp_path, weight_decay=0.1)


def by_pair(name: str, args: TrainingArguments, **hyper: Any) -> Trainer:
    return trainer(gpt2(), args, optimizer_cls_and_kwargs=optim(name, args, **hyper))


def by_class(name: str, args: TrainingArguments, **hyper: Any) -> Trainer:
    return trainer(gpt2(), args, with_optimizer(Trainer, name, **hyper))


def by_text(name: str, args: TrainingArguments, **_: Any) -> Trainer:
    register()
    changes = {"optim": f"scirs2_{name}", "optim_args": TEXT, "weight_decay": args.weight_decay}
    return trainer(gpt2(), arguments(Path(args.output_dir), **changes))


def expected(made: Trainer, name: str) -> tuple[float, float]:
    """The rate and the decay of a parameter of this name."""
    rate = 1e-3 if "wte" in name else 2e-3 if ".w" in name or "h.0" in name else made.args.learning_rate
    decayed = name in made.get_decay_parameter_names(made.model)
    return rate, (0.5 if "mlp" in name else made.args.weight_decay) if decayed else 0.0


@each_name
@pytest.mark.parametrize("way", [by_pair, by_class, by_text])
def test_each_parameter_has_the_rate_and_the_decay_of_its_name(name: str, way: Any, args: TrainingArguments) -> None:
    made = way(name, args, **HYPER)
    frozen = made.model.transformer.h[0].mlp.c_proj.weight.requires_grad_(False)
    groups = made.create_optimizer().param_groups
    settings = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(settings)
    trained = {id(p): expected(made, n) for n, p in made.model.named_parameters() if p is not frozen}
    assert settings == trained
    assert len({group["name"] for group in groups}) == len(groups)


def test_steps_have_these_rates(tmp_path: Path) -> None:
    args = arguments(tmp_path, max_steps=1, max_grad_norm=0.0, lr_scheduler_type="constant")
    ends = {}
    for rate in (0.0, 4e-3, 8e-3):
        made = by_pair("sgd", args, lr_by={"wte": rate})
        before = weights(made.model)
        made.train()
        ends[rate] = {k: p.detach() - before[k] for k, p in made.model.named_parameters()}
    still, once, twice = ends.values()
    word = "transformer.wte.weight"
    assert not still[word].any()
    assert once[word].any()
    torch.testing.assert_close(twice[word], 2 * once[word], rtol=1e-3, atol=1e-7)
    assert all(torch.equal(still[k], once[k]) for k in once if k != word)


def test_a_schedule_acts_on_every_group_and_the_trainers_own_rate_is_logged(args: TrainingArguments) -> None:
    made = by_class("lion", args, lr_by={"wte": 1e-2})
    made.train()
    assert set(made.lr_scheduler.base_lrs) == {4e-3, 1e-2}
    assert {group["lr"] for group in made.optimizer.param_groups} == {0.0}
    logged = [row["learning_rate"] for row in made.state.log_history if "learning_rate" in row]
    assert logged == pytest.approx([4e-3, 3e-3, 2e-3, 1e-3])


@pytest.mark.parametrize(("schedule", "word"), [("cosine_with_min_lr", "min_lr"), ("polynomial", "lr_end")])
def test_a_lowest_rate_is_that_of_the_trainers_own_rate(schedule: str, word: str, tmp_path: Path) -> None:
    """Transformers divides it by the optimizer's default rate, and each group ends at this share of its own."""
    args = arguments(tmp_path, lr_scheduler_type=schedule, lr_scheduler_kwargs={word: 4e-4})
    made = by_class("lion", args, lr_by={"wte": 1e-2})
    made.train()
    ends = {group["initial_lr"]: group["lr"] for group in made.optimizer.param_groups}
    assert ends == pytest.approx({4e-3: 4e-4, 1e-2: 1e-3})


def test_a_resumed_run_keeps_its_groups(tmp_path: Path) -> None:
    args = arguments(tmp_path, save_strategy="steps", save_steps=2, weight_decay=0.1)
    whole, resumed = (by_class("adamw", args, **HYPER) for _ in range(2))
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert same_bits(whole.model, resumed.model)
    names = [[group["name"] for group in made.optimizer.param_groups] for made in (whole, resumed)]
    assert names[0] == names[1]


def test_a_run_is_not_resumed_with_other_groups(tmp_path: Path) -> None:
    """Nor where their sizes and shapes are the same: memory of one parameter would go to another."""
    args = arguments(tmp_path, save_strategy="steps", max_steps=1, save_steps=1)
    by_class("adamw", args, lr_by={"ln_1": 1e-3}).train()
    saved = torch.load(tmp_path / "checkpoint-1" / "optimizer.pt", weights_only=True)
    by_class("adamw", args, lr_by={"ln_1": 2e-3}).create_optimizer().load_state_dict(saved)
    for later in ({"ln_2": 1e-3}, {"ln_1|ln_2": 1e-3}, {}):
        made = by_class("adamw", args, lr_by=later).create_optimizer()
        with pytest.raises(ValueError, match=r"`AdamW.load_state_dict\(state_dict=...\)` must have .* groups"):
            made.load_state_dict(saved)


def test_a_rate_falls_from_layer_to_layer(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    small = {"vocab_size": 8, "hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8}
    model = BertForSequenceClassification(BertConfig(**small, num_hidden_layers=12))
    args = arguments(tmp_path)
    by = {r"embeddings|layer\.(\d+)": LayerDecay(0.5)}
    groups = trainer(model, args, with_optimizer(Trainer, "adamw", lr_by=by)).create_optimizer().param_groups
    rates = {group["name"].removesuffix(", no decay"): group["lr"] for group in groups}
    rate = args.learning_rate
    layers = {f"layer.{i}": rate * 0.5 ** (11 - i) for i in range(12)}
    assert rates == {"others": rate, "embeddings": rate * 0.5**12, **layers}


@pytest.mark.parametrize(
    ("choice", "rate"), [(LayerDecay(0.5, lr=1.0), 1.0), (LayerDecay(1), 4e-3), (lambda layer: 7.0 + layer, 7.0)]
)
def test_a_layer_can_be_given_a_rate_of_ones_own(choice: Any, rate: float, args: TrainingArguments) -> None:
    groups = by_pair("adamw", args, lr_by={r"h\.(\d+)": choice}).create_optimizer().param_groups
    assert {group["lr"] for group in groups if group["name"].startswith("h.0")} == {rate}


def test_a_layer_decay_is_read_from_text(tmp_path: Path) -> None:
    register()
    args = arguments(tmp_path, optim="scirs2_lion", optim_args=r"lr_by=embed|layer\.(\d+):LayerDecay(0.25);cls:1")
    with pytest.raises(ValueError, match=r"`scirs2_lion\(lr_by=...\)` must match a parameter.*Received: 'cls'"):
        trainer(bert(), args).create_optimizer()
    args.optim_args = args.optim_args.replace("cls", "classifier")
    groups = trainer(bert(), args).create_optimizer().param_groups
    assert {group["name"].split(",")[0]: group["lr"] for group in groups} == {
        "others": 4e-3, "embed": 1e-3, "layer.0": 4e-3, "classifier": 1.0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        (r"h\.(\d{1,2}):LayerDecay(0.5;1e-2)", {"others": 4e-3, "h.0": 1e-2}),
        (r"(?=w[tp]e)w:1e-3;h\.(\d+):LayerDecay(0.5,lr=1e-2)", {"others": 4e-3, "(?=w[tp]e)w": 1e-3, "h.0": 1e-2}),
    ],
)
@pytest.mark.parametrize("registered", [False, True])
def test_text_may_have_what_patterns_are_made_of(
    text: str, rates: dict[str, float], registered: bool, tmp_path: Path
) -> None:
    """Commas, equals signs and colons; pairs are parted where a word and an equals sign follow a comma."""
    register()
    args = arguments(tmp_path, optim="scirs2_adamw", optim_args=f"lr_by={text},eps=1e-5")
    made = trainer(gpt2(), args) if registered else by_pair("adamw", args)
    groups = made.create_optimizer().param_groups
    assert {group["name"].removesuffix(", no decay"): group["lr"] for group in groups} == rates
    assert {group["eps"] for group in groups} == {1e-5}


def test_a_pattern_stands_in_a_text_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lr_by=...\)` must have each pattern once. Received: 'wte'"):
        optim("adamw", arguments(tmp_path, optim_args="lr_by=wte:1e-3;wte:2e-3"))


def test_the_user_wins_over_the_text(tmp_path: Path) -> None:
    args = arguments(tmp_path, optim_args="lr_by=wte:1e-3,eps=1e-4")
    groups = by_pair("adamw", args, lr_by={"wte": 2e-3}).create_optimizer().param_groups
    assert {group["lr"] for group in groups if group["name"] == "wte"} == {2e-3}
    assert {group["eps"] for group in groups} == {1e-4}


def test_a_pattern_in_the_dict_of_the_pair_is_read(args: TrainingArguments) -> None:
    cls, keywords = optim("adamw", args)
    keywords["lr_by"] = {"wte": 1e-3}
    groups = trainer(gpt2(), args, optimizer_cls_and_kwargs=(cls, keywords)).create_optimizer().param_groups
    assert 1e-3 in {group["lr"] for group in groups}


@pytest.mark.parametrize("way", [by_pair, by_class])
@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"lr_by": {"wet": 1.0}}, r"lr_by=.*must match a parameter of the model. Received: 'wet'.*`transformer.wte"),
        ({"lr_by": {"lm_head": 1.0}}, r"`lm_head.weight` is `transformer.wte.weight`, to which it is tied"),
        ({"lr_by": {"wte": 1.0, "r.wte": 2.0}}, r"that no earlier pattern matches. Received: 'r.wte'"),
        ({"lr_by": {"(": 1.0}}, r"must have regular expressions as keys"),
        ({"lr_by": {3: 1.0}}, r"must have regular expressions as keys"),
        ({"lr_by": []}, r"must be a dict from patterns of parameter names.*Received: \[\]"),
        ({"lr_by": [1.0]}, r"must be a dict from patterns of parameter names.*Received: \[1.0\]"),
        ({"lr_by": {"wte": -1.0}}, r"lr_by\['wte'\]=...\)` must be a finite number >= 0. Received: -1.0"),
        ({"lr_by": {"wte": "fast"}}, r"lr_by\['wte'\]=...\)` must be a finite number >= 0. Received: 'fast'"),
        ({"lr_by": {"wte": LayerDecay(0.5)}}, r"must have one group, of a layer's number"),
        ({"lr_by": {"(wte)": LayerDecay(0.5)}}, r"must capture the number of a layer. In `transformer.wte.weight`"),
        ({"lr_by": {r"h\.(\d+)": lambda layer: -1}}, r"\(0\)=...\)` must be a finite number >= 0. Received: -1"),
        ({"weight_decay_by": {"ln_1": 0.1}}, r"weight_decay_by.*`transformer.h.0.ln_1.weight` is not decayed by"),
        ({"weight_decay_by": {r"h\.(\d+)": LayerDecay(0.5)}}, r"must be a finite number >= 0. Received: LayerDecay"),
    ],
)
def test_bad_patterns_are_refused(hyper: dict[str, Any], message: str, way: Any, args: TrainingArguments) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        way("adamw", args, **hyper).create_optimizer()


@pytest.mark.parametrize(
    "text", ["lr_by=wte", "lr_by=wte:fast", "lr_by=:1", "lr_by=wte:true", "weight_decay_by=wte:1;"]
)
def test_bad_patterns_in_text_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be `pattern:number;pattern:number` in `optim_args`"):
        optim("adamw", arguments(tmp_path, optim_args=text))


@pytest.mark.parametrize("way", [by_pair, by_class])
def test_a_pattern_of_frozen_parameters_alone_is_refused(way: Any, args: TrainingArguments) -> None:
    made = way("adamw", args, lr_by={r"h\.(\d+)": LayerDecay(0.5), "wpe": 1e-3})
    made.model.transformer.h[0].mlp.requires_grad_(False)
    assert {"h.0", "wpe"} <= {group["name"] for group in made.create_optimizer().param_groups}
    made.optimizer = None
    made.model.transformer.wpe.requires_grad_(False)
    with pytest.raises(ValueError, match=r"Received: 'wpe'. `transformer.wpe.weight` is frozen"):
        made.create_optimizer()


@pytest.mark.parametrize("way", [by_pair, by_class])
@pytest.mark.parametrize(("axes", "decay"), [(2, 0.1), (1, 0.0)])
@pytest.mark.parametrize("pattern", [r"h\.(\d+)", r"(\d+)|w|ln"])
def test_groups_are_divided_where_the_trainer_decays_all_or_nothing(
    axes: int, decay: float, pattern: str, way: Any, args: TrainingArguments
) -> None:
    """As with the matrices of LoRA, or where biases alone are trained: one of the Trainer's two groups is empty."""
    made = way("adamw", args, lr_by={pattern: LayerDecay(0.5)})
    for p in made.model.parameters():
        p.requires_grad_(p.dim() == axes)
    before = weights(made.model)
    made.train()
    groups = made.optimizer.param_groups
    assert all(group["params"] for group in groups)
    assert {group["weight_decay"] for group in groups} == {decay}
    assert len({group["name"] for group in groups}) == len(groups) == 2
    moved = [n for n, p in made.model.named_parameters() if not torch.equal(before[n], p)]
    assert moved == [n for n, p in made.model.named_parameters() if p.dim() == axes]


@pytest.mark.parametrize(("factor", "lr"), [(0.0, None), (1.5, None), ("half", None), (0.5, -1.0)])
def test_a_bad_layer_decay_is_refused(factor: Any, lr: float | None) -> None:
    with pytest.raises(ValueError, match=r"`LayerDecay\((factor|lr)=...\)` must be"):
        LayerDecay(factor, lr)


def test_names_may_come_with_the_parameters(args: TrainingArguments) -> None:
    cls, keywords = with_optimizer(Trainer, "adamw", lr_by={"wte": 1e-3}).get_optimizer_cls_and_kwargs(args)
    groups = cls(gpt2().named_parameters(), **keywords).param_groups
    assert [(group["name"], group["lr"]) for group in groups] == [("others", 4e-3), ("wte", 1e-3)]
    assert [names for group in groups for names in group["param_names"]][-1] == "transformer.wte.weight"
    with pytest.raises(ValueError, match=r"lr_by.*needs the names of parameters.*named_parameters"):
        cls(gpt2().parameters(), **keywords)
