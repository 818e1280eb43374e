"""`scirs2 serve`: a real process steps as this one does, also after it was killed, and says what is wrong."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import ml_dtypes
import numpy as np
import pytest

from scirs2_adapters import get, state
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.serve import Client, ServiceError
from scirs2_adapters.serve.bodies import encode
from scirs2_adapters.serve.store import Store
from tests.unit.serve_support import TOKENS, Service, gradients, parameters, same

pytestmark = pytest.mark.slow

#: Memory of every kind: by element, by rows, matrices, numbers of the model, a wrapper's, and none.
RULES = {
    "adamw": {"learning_rate": 0.1, "amsgrad": True}, "adafactor": {}, "soap": {}, "prodigy": {}, "muon": {},
    "schedulefree": {"base": "mars(lion)"}, "sgd": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("service") / "models", "--queue", "2", "--max-body", "1")
    yield running
    running.end()


@pytest.fixture
def clean(service: Service) -> Iterator[Service]:
    for model in range(len(TOKENS)):
        service.client(model).delete()
    yield service
    service.close_clients()


def test_steps_are_those_of_this_process_and_go_on_after_a_kill(clean: Service) -> None:
    ours = {name: (get(name)(**h), parameters()) for name, h in RULES.items()}
    optimizers = {name: HostOptimizer(rule, params) for name, (rule, params) in ours.items()}
    clients = {name: clean.client(i) for i, name in enumerate(RULES)}
    for name, hyperparameters in RULES.items():
        clients[name].create(name, parameters(), **hyperparameters)
    for i in range(6):
        if i == 3:
            clean.end(signal.SIGKILL)
            clean.start()
        for name, optimizer in optimizers.items():
            optimizer.step(gradients(i))
            assert same(clients[name].step(gradients(i)), ours[name][1]), (name, i)


def test_a_kill_under_load_loses_no_acknowledged_step_and_takes_none_twice(clean: Service) -> None:
    """Several clients step their models at once and do not pause while the service is killed and started again."""
    models, steps = range(4), 60
    walks: list[list[dict[str, np.ndarray]]] = [[] for _ in models]

    def walk(model: int) -> None:
        client = clean.client(model)
        client.create("adam", parameters(), learning_rate=0.01 * (model + 1))
        for i in range(steps):
            walks[model].append(client.step(gradients(i)))

    with ThreadPoolExecutor(len(models)) as pool:
        walking = [pool.submit(walk, model) for model in models]
        for least in (5, 20):
            while min(map(len, walks)) < least and not any(future.done() for future in walking):
                time.sleep(0.001)
            clean.end(signal.SIGKILL)
            for model, acknowledged in enumerate(map(len, walks)):
                assert clean.on_disk(model) - acknowledged in (0, 1), model  # 1: the answer was on its way
            clean.start()
        for future in walking:
            future.result(timeout=120)
    for model, walked in enumerate(walks):
        params = parameters()
        optimizer = HostOptimizer(get("adam")(learning_rate=0.01 * (model + 1)), params)
        for i, new in enumerate(walked):
            optimizer.step(gradients(i))
            assert same(new, params), (model, i)
        assert clean.client(model).step_count() == len(walked) == steps


def test_a_step_sent_again_is_answered_and_not_taken(clean: Service) -> None:
    client, body = clean.client(), encode("test", "grads", gradients(0))
    client.create("adam", parameters())
    client.create("adam", parameters())
    first = client._ask("POST", "/model/steps/1", body)
    assert client._ask("POST", "/model/steps/1", body) == first
    assert client.step_count() == 1
    status, _, answer = clean.ask("POST", "/model/steps/1", encode("test", "grads", gradients(1)))
    assert (status, answer["error"], answer["step"]) == (409, "step_conflict", 1)
    with pytest.raises(ServiceError, match="has a model"):
        client.create("adam", parameters())


def test_a_loss_and_bfloat16_travel(clean: Service) -> None:
    params = {"w": np.linspace(0, 1, 5).astype(ml_dtypes.bfloat16)}
    client, mine = clean.client(), {"w": params["w"].copy()}
    optimizer = HostOptimizer("momo", mine)
    client.create("momo", params)
    for loss in (0.5, 0.25):
        optimizer.step({"w": params["w"]}, value=loss)
        assert same(client.step({"w": params["w"]}, value=loss), mine)
    assert same(client.parameters(), mine)


def test_the_state_goes_into_an_optimizer(clean: Service, tmp_path: Path) -> None:
    client, params = clean.client(), parameters()
    client.create("adamw", params)
    after = client.step(gradients(0))
    client.save_state(tmp_path / "state.safetensors")
    optimizer = HostOptimizer("adamw", after)
    state.load(tmp_path / "state.safetensors", optimizer)
    optimizer.step(gradients(1))
    assert same(client.step(gradients(1)), after)


def test_a_request_without_a_place_is_told_when_to_come_again(clean: Service) -> None:
    clean.client().create("sgd", parameters())
    port = int(clean.address.rpartition(":")[2])
    head = f"POST /model/steps/1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKENS[0]}\r\nContent-Length: 9\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]  # as many as there are places
    for connection in slow:
        connection.sendall(head.encode())
    for _ in range(1000):
        status, headers, answer = clean.ask("GET", "/model")
        if status == 429:
            break
    assert (status, answer["error"], int(headers["Retry-After"]) >= 1) == (429, "queue_full", True)
    assert clean.ask("GET", "/model", token=TOKENS[1])[0] == 404  # another model has places of its own
    threading.Timer(0.2, lambda: [connection.close() for connection in slow]).start()
    assert clean.client().step_count() == 0  # a client waits and asks again


GOOD = encode("test", "grads", gradients(0))


def one(name: str, x: np.ndarray) -> bytes:
    return encode("test", "grads", {name: x})


#: What is wrong -> method, path, body, headers; status, code, and what the message has in it.
REFUSED = {
    "name": ("POST", "steps/1", one("weigth", np.ones((6, 4))), {}, 422, "invalid_gradients", "'weight'"),
    "shape": ("POST", "steps/1", one("weight", np.ones((4, 6))), {}, 422, "invalid_gradients", "(6, 4)"),
    "dtype": ("POST", "steps/1", one("weight", np.ones((6, 4), int)), {}, 422, "invalid_gradients", "int64"),
    "NaN": ("POST", "steps/1", one("bias", np.full(4, np.nan)), {}, 422, "not_finite", "'bias'"),
    "loss": ("POST", "steps/1?value=inf", GOOD, {}, 422, "not_finite", "value"),
    "no gradients": ("POST", "steps/1", encode("test", "grads", {}), {}, 422, "invalid_gradients", "none"),
    "step": ("POST", "steps/5", GOOD, {}, 409, "step_conflict", "is 1."),
    "number": ("POST", "steps/x", GOOD, {}, 422, "malformed", "`number`"),
    "content": ("POST", "steps/1", GOOD, {"Content_Type": "text/plain"}, 415, "wrong_content_type", "text/plain"),
    "body": ("POST", "steps/1", GOOD[:-1], {}, 400, "wrong_body", "safetensors"),
    "large": ("POST", "steps/1", bytes((1 << 20) + 1), {}, 413, "body_too_large", "1048576 bytes"),
    "token": ("POST", "steps/1", GOOD, {"Authorization": "Bearer x"}, 401, "unauthorized", "another token"),
    "method": ("PATCH", "", GOOD, {}, 405, "no_route", "Method Not Allowed"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_a_refused_step_says_why_and_changes_nothing(wrong: str, clean: Service) -> None:
    method, path, body, headers, *expected, words = REFUSED[wrong]
    clean.client().create("adam", parameters())
    status, _, answer = clean.ask(method, f"/model/{path}".rstrip("/"), body, **headers)
    assert [status, answer["error"]] == expected
    assert words in str(answer["message"])
    params = parameters()
    HostOptimizer("adam", params).step(gradients(0))
    assert same(clean.client().step(gradients(0)), params)


#: Optimizer, hyperparameters and parameters -> code, and what the message has in it.
UNMADE = {
    "optimizer": ("adamww", "{}", parameters(), "unknown_optimizer", "`adamw`"),
    "hyperparameter": ("adamw", '{"lr": 1}', parameters(), "invalid_hyperparameters", "`learning_rate`"),
    "no name": ("adamw", '{"self": 1}', parameters(), "invalid_hyperparameters", "`self`"),
    "value": ("adamw", '{"beta1": [2]}', parameters(), "invalid_hyperparameters", "beta1"),
    "no object": ("adamw", "[" * 5000, parameters(), "invalid_hyperparameters", "JSON object"),
    "closure": ("lbfgs", "{}", parameters(), "invalid_parameters", "evaluates the model"),
    "dtype": ("adamw", "{}", {"w": np.ones(3, int)}, "invalid_parameters", "int64"),
    "none": ("adamw", "{}", {}, "invalid_parameters", "at least one"),
    "infinite": ("adamw", "{}", {"w": np.array([np.inf])}, "not_finite", "'w'"),
}


@pytest.mark.parametrize("wrong", UNMADE)
def test_a_model_that_cannot_be_made_is_not(wrong: str, clean: Service) -> None:
    name, hyperparameters, params, code, words = UNMADE[wrong]
    path = f"/model?optimizer={name}&hyperparameters={quote(hyperparameters)}"
    status, _, answer = clean.ask("PUT", path, encode("test", "params", params))
    assert (status, answer["error"]) == (422, code)
    assert words in str(answer["message"])
    assert clean.ask("GET", "/model")[0] == 404


def test_a_damaged_file_is_reported_and_stays(clean: Service) -> None:
    clean.client(6).create("adam", parameters())
    clean.end()
    (file,) = clean.folder.glob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    clean.start()
    status, _, answer = clean.ask("GET", "/model", token=TOKENS[6])
    assert (status, answer["error"], file.read_bytes()) == (500, "damaged", whole[:-1])
    file.write_bytes(whole)
    assert clean.client(6).step_count() == 0


def test_a_folder_has_one_process(clean: Service) -> None:
    with pytest.raises(ValueError, match="no other process serves"):
        Store(clean.folder)


def test_a_client_without_a_service_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}", TOKENS[0], patience=0.1)
    with pytest.raises(ConnectionError, match=r"no answer from 127\.0\.0\.1"):
        client.describe()
    client.close()


def test_a_hyperparameter_that_cannot_travel_is_named() -> None:
    client = Client("http://127.0.0.1:1", TOKENS[0], patience=0)
    with pytest.raises(TypeError, match=r"`Client.create\(learning_rate=...\)` must be a number, "):
        client.create("adamw", parameters(), learning_rate=lambda step: 0.1)
