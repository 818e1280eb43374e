"""Two processes over gloo are equal to one: data parallel, sharded, with divided memory, and over checkpoints."""

import copy
import json
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from scirs2_adapters.core import get
from scirs2_adapters.core.program.recorded import needs_whole, record
from scirs2_adapters.core.slots import Leaf
from tests.adapters.torch_spread import LAYOUTS, SHAPES, alone, made, memory_gap, rounding, walk
from tests.adapters.torch_support import ALL, ours
from tests.adapters.two_ranks import reports
from tests.conformance.cells import by_library
from tests.sampling import asked_for

pytestmark = pytest.mark.sampled_together

#: torch spreads no sparse gradients, and makes fresh memory by dense ones.
DENSE = [name for name in ALL if get(name.casefold()).sparse != "rows"]
each_dense = pytest.mark.parametrize("name", DENSE)
each_layout = pytest.mark.parametrize("layout", LAYOUTS)
Report = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def by_optimizer(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Report:
    """What the first rank reports, by optimizer and check; the second must report the same."""
    first, second = reports("tests.adapters.torch_ranks", tmp_path_factory.mktemp("ranks"), asked_for(request, DENSE))
    assert _shared(first) == _shared(second)
    return first


def _shared(report: Report) -> Any:
    """What both ranks must find alike: all but what is gathered on the first."""
    return json.loads(json.dumps(report), object_hook=lambda d: {k: v for k, v in d.items() if k != "memory gap"})


def near(name: str, measured: Any, share: float = 1e-4) -> bool:
    """Whether a gap is none, or one of rounding: of a formula that adds up numbers of several ranks, or that multiplies
    matrices, which a path of one rank rounds otherwise than a path of several.
    """
    if _adds_up(name):
        return bool(measured <= share)
    return bool(measured <= (1e-6 if by_library(name.casefold()) else 0.0))


def _rules(name: str) -> list[tuple[Any, Leaf]]:
    rule = get(name.casefold())()
    leaves = [Leaf(shape, name=label) for label, shape in SHAPES.items()]
    return [(rule.route(leaf), leaf) for leaf in leaves]


def _adds_up(name: str) -> bool:
    return any(node.reduces for rule, leaf in _rules(name) for node in record(rule, leaf).nodes)


@pytest.mark.slow
@each_layout
@each_dense
def test_a_step_is_the_same_however_parameters_are_spread(name: str, layout: str, by_optimizer: Report) -> None:
    assert near(name, by_optimizer[name]["laid_out"][layout]["gap"])


@pytest.mark.slow
@each_layout
@each_dense
def test_memory_is_spread_as_its_parameter(name: str, layout: str, by_optimizer: Report) -> None:
    assert by_optimizer[name]["laid_out"][layout]["memory lies as its parameter"]


@pytest.mark.slow
@each_dense
def test_parts_may_move_and_gradients_may_await_their_sum(name: str, by_optimizer: Report) -> None:
    assert near(name, by_optimizer[name]["replaced"])


@pytest.mark.slow
@each_dense
def test_gradients_that_are_spread_are_clipped_by_their_whole_norm(name: str, by_optimizer: Report) -> None:
    # The norm is of sums in another order, and Newton and Schulz make more of that.
    assert by_optimizer[name]["clipped"] <= 1e-3


@pytest.mark.slow
@each_dense
def test_what_overflows_on_one_rank_is_no_step_on_any(name: str, by_optimizer: Report) -> None:
    assert by_optimizer[name]["overflown"]


@pytest.mark.slow
@each_dense
def test_a_step_that_one_rank_would_leave_out_is_left_out_and_counted_by_all(name: str, by_optimizer: Report) -> None:
    for measured, count in by_optimizer[name]["left_out"].values():
        assert measured <= 1e-3  # as where gradients are clipped
        assert count == 3


@pytest.mark.slow
@pytest.mark.parametrize("way", ["data_parallel", "fully_sharded"])
@each_dense
def test_training_on_two_ranks_is_training_on_one(name: str, way: str, by_optimizer: Report) -> None:
    assert by_optimizer[name][way] <= rounding(name)


@pytest.mark.slow
@each_dense
def test_sharded_parameters_are_stepped_in_the_backward_pass(name: str, by_optimizer: Report) -> None:
    assert by_optimizer[name]["in_backward"] <= rounding(name)


@pytest.mark.slow
@each_dense
def test_pieces_without_a_shape_are_stepped_or_refused(name: str, by_optimizer: Report) -> None:
    if needs_whole(get(name.casefold())()):
        assert "fully_shard" in by_optimizer[name]["flat"]
        assert f"`{name}`" in by_optimizer[name]["flat"]
    else:
        assert by_optimizer[name]["flat"] <= 1e-9


@pytest.mark.slow
@each_dense
def test_divided_memory_is_that_of_one_process_or_refused(name: str, by_optimizer: Report) -> None:
    divided = by_optimizer[name]["divided"]
    rule = get(name.casefold())()
    if rule.model_slots() or rule.numbered:
        assert "fully_shard" in divided
        assert f"`{name}(params=...)`" in divided
    else:
        assert divided == {"gap": 0.0, "memory gap": 0.0}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["None to rows", "rows to None", "rows to columns"])
@each_dense
def test_a_checkpoint_goes_on_over_another_number_of_ranks(name: str, way: str, by_optimizer: Report) -> None:
    assert near(name, by_optimizer[name]["resharded"][way])


@pytest.mark.slow
@each_dense
def test_memory_gathered_on_one_rank_is_spread_again(name: str, by_optimizer: Report) -> None:
    assert near(name, by_optimizer[name]["broadcast"])


def _bits(optimizer: Any) -> list[bytes]:
    tensors = [p.detach() for group in optimizer.param_groups for p in group["params"]]
    return [x.contiguous().view(torch.uint8).numpy().tobytes() for x in tensors]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@each_dense
def test_asking_a_fresh_optimizer_for_its_state_moves_no_parameter(name: str, dtype: torch.dtype) -> None:
    """torch has the memory made by a step with zero gradients and a learning rate of 0."""
    rates = {k: 0.5 for k in ours(name)(made(name, None)[0].parameters()).defaults if k.endswith("_lr")}
    model, optimizer = made(name, None, dtype, **rates)
    with torch.no_grad():
        for p in model.parameters():
            p.view(-1)[0] = -0.0
    before, rate = _bits(optimizer), optimizer.param_groups[0]["lr"]
    get_optimizer_state_dict(model, optimizer)
    assert _bits(optimizer) == before
    assert optimizer.param_groups[0]["lr"] == rate
    memory = {slot.name for rule, leaf in _rules(name) for slot in rule.slots(leaf)} - set(optimizer.param_groups[0])
    assert memory <= {key for held in optimizer.state.values() for key in held}


@each_dense
def test_nothing_of_the_learning_rate_0_of_such_a_step_stays(name: str) -> None:
    """Steps that follow are those that follow a step with zero gradients and the true learning rate. In an average in
    which steps weigh by their learning rate this one has no weight.
    """
    alike = {"weight_lr_power": 0.0} if "weight_lr_power" in ours(name)([torch.zeros(1)]).defaults else {}
    (model, asked), (other, stepped) = (made(name, None, **alike) for _ in range(2))
    for p in (*model.parameters(), *other.parameters()):
        p.data.zero_()  # no decay moves it
    for p in other.parameters():
        p.grad = torch.zeros_like(p)
    stepped.step()
    for p in other.parameters():
        p.data.zero_()  # nor what memory is full of at first
    get_optimizer_state_dict(model, asked)
    for each, its in ((model, asked), (other, stepped)):
        walk(each, its, None)
    assert _bits(asked) == _bits(stepped)
    assert memory_gap(model, asked, other, stepped) == 0.0


@each_dense
def test_state_set_by_torch_keeps_its_dtype_and_its_bits(name: str) -> None:
    model, optimizer = alone(name, torch.bfloat16, state_dtype="float32")
    other, fresh = made(name, None, torch.bfloat16, state_dtype="float32")
    other.load_state_dict(model.state_dict())
    set_optimizer_state_dict(other, fresh, copy.deepcopy(get_optimizer_state_dict(model, optimizer)))
    assert memory_gap(other, fresh, model, optimizer) == 0.0
    for each, its in ((model, optimizer), (other, fresh)):
        walk(each, its, None, range(4, 6))
    assert _bits(fresh) == _bits(optimizer)
